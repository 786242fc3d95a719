"""Column types that mean the same thing everywhere: digests, coefficients, and words that the record shares with nodes."""

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, TypeVar

from django.core.validators import RegexValidator
from django.db import models

from steernode.errors import AlphaError

# Names stand in addresses, references (name@3) and file names.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", re.ASCII)
ALPHA_DECIMALS = 6
_Choices = TypeVar("_Choices", bound=type[models.TextChoices])


def spelled(words: tuple[str, ...]) -> Callable[[_Choices], _Choices]:
    """Choices that are exactly these words of `steernode.words`, in their order. Here they only get names."""

    def check(choices: _Choices) -> _Choices:
        listed = tuple(choice.value for choice in choices)
        if listed != words:
            raise TypeError(f"{choices.__name__} lists {', '.join(listed)}; the words are {', '.join(words)}")
        return choices

    return check


class DigestField(models.CharField):
    """A sha256 in 64 lower-case hex digits."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("max_length", 64)
        options.setdefault("validators", [RegexValidator(r"\A[0-9a-f]{64}\Z", "want 64 lower-case hex digits")])
        super().__init__(**options)

    def deconstruct(self) -> tuple[str, str, Sequence[Any], dict[str, Any]]:
        """A migration keeps the column alone, as Django's own type: it must not change with this class."""
        name, _, args, options = super().deconstruct()
        del options["validators"]
        return name, "django.db.models.CharField", args, options


class CoefficientField(models.DecimalField):
    """A coefficient α, or a bound of one: exact decimals, never floats, and refused rather than rounded."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("max_digits", 12)
        options.setdefault("decimal_places", ALPHA_DECIMALS)
        super().__init__(**options)

    def deconstruct(self) -> tuple[str, str, Sequence[Any], dict[str, Any]]:
        """As a DigestField's."""
        name, _, args, options = super().deconstruct()
        return name, "django.db.models.DecimalField", args, options

    def get_db_prep_save(self, value: Any, connection: Any) -> Any:
        return super().get_db_prep_save(refuse_rounding(value) if isinstance(value, Decimal) else value, connection)


def refuse_rounding(alpha: Decimal) -> Decimal:
    """The coefficient, if the record can hold it exactly: what is steered must be what was written. Raises: AlphaError ALPHA_FORMAT."""
    if alpha.is_finite() and alpha != round(alpha, ALPHA_DECIMALS):
        raise AlphaError("ALPHA_FORMAT", f"coefficient {alpha} has more than {ALPHA_DECIMALS} decimals", str(alpha))
    return alpha
