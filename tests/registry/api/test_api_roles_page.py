"""The page of roles says what the views say."""

from pathlib import Path

from registry.management.commands.roles_reference import list_changes
from registry.models import Role

PAGE = (Path(__file__).parents[3] / "docs" / "roles.md").read_text()


def test_the_page_of_roles_lists_every_change_with_the_roles_that_its_view_takes():
    """If it does not: python manage.py roles_reference."""
    assert PAGE.endswith(list_changes())


def test_the_page_of_roles_says_what_each_is_for():
    assert [role for role in Role.values if f"| {role} | " not in PAGE] == []
