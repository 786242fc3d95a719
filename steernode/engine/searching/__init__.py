"""Searching: which layer and how much, where a behaviour is carried, and what several steerings do together."""
