"""Talking to the hub: HTTP, tokens, and manifests as files."""
