"""The commands of manage.py on a record that is not there yet."""

import pytest
from django.core.management import CommandError, call_command

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "command", [["export_trust", "trust.json"], ["publish", "--above-fleet"], ["rotate_signing_key"], ["create_user", "ada"]]
)
def test_a_command_on_a_database_without_its_tables_says_what_to_do(command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("registry.web.readiness._known_migrations", lambda: frozenset({("registry", "9999_later")}))
    with pytest.raises(CommandError, match="the database lacks registry"):
        call_command(*command)
    assert list(tmp_path.iterdir()) == []
