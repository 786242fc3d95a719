"""Version numbers of sealed records."""

from typing import Any

from django.db import models

from registry.locks import hold_numbers


def next_version(model: type[models.Model], *, field: str = "version", **same: Any) -> int:
    """One more than the highest. Two authors of one name queue for their numbers."""
    hold_numbers(f"{model._meta.label}:{sorted(same.items())}")
    highest = model._default_manager.filter(**same).aggregate(models.Max(field))[f"{field}__max"]
    return (highest or 0) + 1
