"""A serving node: follow the hub, keep what is in force, answer requests, report."""
