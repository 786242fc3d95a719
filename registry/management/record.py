"""What the commands that read or change the record have in common."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from registry.errors import NotReady
from registry.web.readiness import check_migrations


class RecordCommand(BaseCommand):
    """A command that works on the record. Raises: CommandError MIGRATIONS_PENDING where there is none yet, or one of before."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            check_migrations()
        except NotReady as error:
            raise CommandError(str(error)) from error
        return super().execute(*args, **options)
