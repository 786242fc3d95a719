"""Column types that mean the same thing everywhere: digests and coefficients."""

from typing import Any

from django.core.validators import RegexValidator
from django.db import models


class DigestField(models.CharField):
    """A sha256 in 64 lower-case hex digits."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("max_length", 64)
        options.setdefault("validators", [RegexValidator(r"\A[0-9a-f]{64}\Z", "want 64 lower-case hex digits")])
        super().__init__(**options)


class CoefficientField(models.DecimalField):
    """A coefficient α, or a bound of one: exact decimals, never floats."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("max_digits", 12)
        options.setdefault("decimal_places", 6)
        super().__init__(**options)
