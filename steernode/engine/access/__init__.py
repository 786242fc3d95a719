"""Access: load a base model, find its blocks and sites, turn conversations into tokens, and fill batches with them."""
