"""Declarative manifests: YAML documents that say what should be on record."""

from registry.manifests.apply import apply_manifests

__all__ = ["apply_manifests"]
