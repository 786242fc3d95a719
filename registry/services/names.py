"""Names that people give to records: one form, and no two of one kind that differ only in their capitals.

A person who reads `Harbor` and `harbor` in a list, in a kill or in an emergency does not see two customers. So a new name that differs from
one on record only so is refused, at every door; names that are there already stay as they are.
"""

from django.db import models
from django.db.models.functions import Lower

from registry.errors import InvalidInput
from registry.models.fields import NAME


def check_new_name(model: type[models.Model], name: str) -> None:
    """Raises: InvalidInput NAME, NAME_CASE."""
    noun = model._meta.verbose_name
    if not NAME.fullmatch(name):
        message = f"{name[:80]!r} is no name of a {noun}: letters, digits, '-' and '_', at most 100, starting with a letter or digit"
        raise InvalidInput("NAME", message, name[:80])
    alike = set(model._default_manager.order_by().alias(lower=Lower("name")).filter(lower=name.lower()).values_list("name", flat=True))
    if alike and name not in alike:
        refuse_twin(str(noun), name, min(alike))


def refuse_twin(noun: str, name: str, other: str) -> None:
    """Raises: InvalidInput NAME_CASE."""
    raise InvalidInput("NAME_CASE", f"the {noun} {name!r} differs from {other!r} only in capitals; use that one, or another name", name)
