"""A rule of the database, by its name."""

import pytest
from django.db import IntegrityError


def refuses(name: str):
    return pytest.raises(IntegrityError, match=name)
