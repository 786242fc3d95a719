"""Engines that a serving node can steer."""
