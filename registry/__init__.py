"""The governed record: what exists, who approved it, and what serving nodes are told."""
