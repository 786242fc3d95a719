"""Applying: change the residual stream while a model reads and writes, for as long as one call lasts."""
