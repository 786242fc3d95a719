"""Searching: which layer and how much, and where a behaviour is carried."""
