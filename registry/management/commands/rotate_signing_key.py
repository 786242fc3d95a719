"""manage.py rotate_signing_key: a new signing key beside the old one for a while, or the end of one that is not to be believed any more."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from registry.management.record import RecordCommand
from registry.models import KeyPurpose
from registry.services.keys import add_signing_key, revoke_signing_key
from registry.snapshots.sign import SETTINGS
from steernode.errors import SteerError
from steernode.node.store import write_atomically


class Command(RecordCommand):
    help = (
        "Make a new signing key. Nodes are told of it by a trust document that the old key signs; during the overlap both keys sign, then "
        "the old one ends. In embedded mode the key is added to its file; in production it is written to --out, for you to append to the "
        "setting of every web process. --revoke ends a key at once."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--purpose", choices=KeyPurpose.values, default=KeyPurpose.SNAPSHOT)
        parser.add_argument("--from", dest="begins_at", metavar="TIME", help="such as 2027-01-01T00:00:00Z; now unless given")
        parser.add_argument("--days", type=int, default=730, help="how long the new key counts [730]")
        parser.add_argument("--overlap-days", type=int, default=30, help="how long the old ones go on beside it [30]")
        parser.add_argument("--out", type=Path, help="in production: the file for the new private key")
        parser.add_argument("--revoke", metavar="KEYID", help="no node believes this key from the moment it hears of it")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["revoke"]:
                row = revoke_signing_key(options["revoke"], actor="command line")
                self.stdout.write(f"revoked {row.keyid}; take it out of {SETTINGS[row.purpose]} once every node has heard of it")
            else:
                self._rotate(**options)
        except (SteerError, ValueError) as error:
            raise CommandError(str(error)) from error

    def _rotate(self, *, purpose: str, begins_at: str | None, days: int, overlap_days: int, out: Path | None, **_: Any) -> None:
        if out is None and not settings.EMBEDDED:
            raise CommandError("say --out FILE, where the new private key is written")
        target = out or settings.VAR_DIR / "keys" / {"snapshot": "signing.pem", "stop": "stop.pem"}[purpose]
        if out is not None and out.exists():
            raise CommandError(f"{out} exists; a key is never written over")
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        before = target.read_bytes() if target.exists() else b""
        # First the key, then the record of it: of a key on record that nobody has, nobody could make a signature.
        write_atomically(target, before + pem)
        try:
            row = add_signing_key(
                key.public_key(),
                purpose=purpose,
                begins_at=_read_moment(begins_at),
                life=timedelta(days=days),
                overlap=timedelta(days=overlap_days),
                actor="command line",
            )
        except SteerError:
            if before:
                write_atomically(target, before)
            else:
                target.unlink()
            raise
        where = f"append {out} to {SETTINGS[purpose]}, and" if out else "it is in its file;"
        self.stdout.write(f"{row.keyid} signs {purpose}s from {row.not_before:%F %H:%M} UTC; {where} restart the web processes")


def _read_moment(text: str | None) -> datetime:
    if text is None:
        return timezone.now().replace(microsecond=0)
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise CommandError(f"--from takes a UTC time such as 2027-01-01T00:00:00Z, not {text!r}") from error
