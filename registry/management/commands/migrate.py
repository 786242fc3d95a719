"""manage.py migrate: Django's own, as the owner of the tables; at its end the role of processes is granted what the tables made need."""

from typing import Any

from django.core.management.commands import migrate

from registry.owner import as_owner, grant_to_app


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        with as_owner():
            super().handle(*args, **options)
            if not (options["plan"] or options["check_unapplied"]):
                grant_to_app()
