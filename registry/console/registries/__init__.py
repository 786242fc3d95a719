"""The registries: read-only lists of every record, with links between the nouns. State changes only through services."""

from registry.console.registries import governing, making, recording

__all__ = ["governing", "making", "recording"]
