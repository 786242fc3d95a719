"""The stop statement: every kill in force, on a road of its own from the hub to the nodes."""
