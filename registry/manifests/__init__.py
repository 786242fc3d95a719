"""Declarative manifests: YAML documents that say what should be on record."""
