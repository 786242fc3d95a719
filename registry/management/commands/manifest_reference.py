"""manage.py manifest_reference: write docs/manifests.md, or the JSON Schema of manifests, from what the kinds declare."""

import json
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from registry.manifests.kinds import published_schema
from registry.manifests.reference_page import write_reference


class Command(BaseCommand):
    help = "Write docs/manifests.md from the schemas; with --schema print their JSON Schema instead."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--schema", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["schema"]:
            self.stdout.write(json.dumps(published_schema(), indent=2))
        else:
            (settings.BASE_DIR / "docs/manifests.md").write_text(write_reference())
