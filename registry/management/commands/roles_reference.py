"""manage.py roles_reference: write the table of docs/roles.md from what the views of the REST API declare."""

import re
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from registry.api.urls import urlpatterns

_HEAD = "| change | roles |\n| --- | --- |\n"


class Command(BaseCommand):
    help = "Write the table of docs/roles.md from the views."

    def handle(self, **_: Any) -> None:
        page = settings.BASE_DIR / "docs/roles.md"
        page.write_text(page.read_text().partition(_HEAD)[0] + list_changes())
        self.stdout.write("Wrote docs/roles.md.")


def list_changes() -> str:
    """Every address and method that takes a role, in the order of the addresses."""
    rows = []
    for pattern in urlpatterns:
        address = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", str(pattern.pattern))
        for method, roles in getattr(getattr(pattern.callback, "view_class", None), "roles", {}).items():
            rows.append(f"| `{method} /{address}` | {', '.join(str(role) for role in roles)} |\n")
    return _HEAD + "".join(rows)
