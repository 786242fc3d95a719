"""Transitions: the only code that changes state. One file per noun."""
