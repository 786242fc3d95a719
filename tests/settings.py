"""The hub's settings, connected as the owner of the tables: the test database is made, emptied and dropped by its owner.

What the role of processes may do is tested as that role: tests/registry/test_database_roles.py.
"""

from steerhub.settings import *  # noqa: F403
from steerhub.settings import DATABASES, STEERHUB_OWNER_DATABASE

DATABASES["default"] = STEERHUB_OWNER_DATABASE
