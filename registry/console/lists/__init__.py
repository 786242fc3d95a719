"""The lists: read-only pages of every record, with links between the nouns. State changes only through services."""

from registry.console.lists import governing, making, recording

__all__ = ["governing", "making", "recording"]
