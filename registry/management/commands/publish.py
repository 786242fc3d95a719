"""manage.py publish --above-fleet: bring every node along after the record was restored from a backup."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from registry.management.record import RecordCommand
from registry.models import Environment
from registry.services.restores import issue_stop_above_fleet, publish_above_fleet
from steernode.errors import SteerError


class Command(RecordCommand):
    help = "Publish in every environment a revision above all that its nodes have reported, and a stop above all that they have heard."

    def add_arguments(self, parser: CommandParser) -> None:
        # By itself the hub publishes what changes; there is no other reason to do it by hand.
        parser.add_argument("--above-fleet", action="store_true", required=True, help="above what nodes report, after a restore")

    def handle(self, *args: Any, **options: Any) -> None:
        # The stop first: it needs no environment, and trouble in one is none of the others'.
        self.stdout.write(f"stop {issue_stop_above_fleet().sequence}")
        refused = []
        for environment in Environment.objects.order_by("name"):
            try:
                revision = publish_above_fleet(environment)
            except SteerError as error:
                refused.append(f"{environment}: {error.code}: {error.message}")
            else:
                self.stdout.write(f"{environment} r{revision}")
        if refused:
            raise CommandError("\n".join(refused))
