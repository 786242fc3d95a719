"""Reads that span models, one file per question. Nothing here writes."""
