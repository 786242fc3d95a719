"""manage.py setup_roles: the role that processes connect as, which owns nothing, and what it may do."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from registry.owner import as_owner, grant_to_app


class Command(BaseCommand):
    help = (
        "Make the role that DATABASE_URL names, if it is not there, and grant it what processes need: to read and write rows, and nothing "
        "else. Connects as DATABASE_MIGRATE_URL says, which owns the tables and may create roles. Running it again changes nothing."
    )
    # They would ask whether processes connect as a role that this command has not made yet.
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        role = settings.STEERHUB_APP_ROLE
        with as_owner():
            if not grant_to_app(password=settings.DATABASES["default"]["PASSWORD"]):
                raise CommandError(
                    f"{role} is the role of DATABASE_MIGRATE_URL too, or it is missing and that one may not create it. Have the two URLs "
                    f"name two roles, and if need be create it first: CREATE ROLE {role} LOGIN PASSWORD '…'"
                )
        self.stdout.write(f"{role} may read and write rows, and owns nothing")
