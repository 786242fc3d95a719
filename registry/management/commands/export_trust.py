"""manage.py export_trust FILE: the public keys a serving node should trust."""

from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from registry.management.record import RecordCommand
from registry.snapshots import trust_document
from steernode.canonical import canonical_json


class Command(RecordCommand):
    help = "Write the trust document for `steer node serve --trust`. Bring it to the node by another road than the hub's URL."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)

    def handle(self, *args: Any, **options: Any) -> None:
        options["file"].write_bytes(canonical_json(trust_document()) + b"\n")
