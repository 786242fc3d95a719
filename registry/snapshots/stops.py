"""Write the next stop statement, in the transaction of the kill or the lift that made it necessary.

It compiles nothing, and reads kills alone. `Lock.STOP` decides the sequence, so the order of commits is the order of sequences. NOTIFY
only shortens the wait of the fleet application, which looks every second anyway.
"""

import zlib
from datetime import UTC, timedelta

from django.db import connection
from django.db.models import Max
from django.utils import timezone

from registry.locks import Lock, hold
from registry.models import Kill, StopStatement
from registry.reads.reported import highest_stop_reported, surplus_reported
from registry.reads.steering import engaged_kills
from registry.snapshots.publish import CHANNEL
from registry.snapshots.sign import sign_stop
from steernode.canonical import sha256_hex
from steernode.stop.document import HUB, StoppedKill, write_stop
from steernode.stop.document import StopStatement as StopDocument

# What was lifted longer ago is released again as soon as a node says that it still obeys it.
RELEASES_ARE_NAMED_FOR = timedelta(days=7)
# Far less than a reader takes, and far more than anybody lifts in a week. Of more than these the newest are named.
MOST_RELEASES = 50_000


def issue_stop() -> StopStatement:
    """The next statement of what is killed and what was lifted. Whoever calls it has written both, in this transaction."""
    hold(Lock.STOP)
    now = timezone.now().astimezone(UTC)
    last = StopStatement.objects.aggregate(last=Max("sequence"))["last"] or 0
    # The clock is what a registry that was restored still has; whatever nodes heard from it before was not later than that.
    sequence = max(last + 1, highest_stop_reported() + 1, int(now.timestamp() * 1000))
    issued_at = now.replace(microsecond=0)
    statement = StopDocument(HUB, sequence, issued_at, _list_kills(), _list_released(), _list_adopted())
    payload = write_stop(statement)
    stop = StopStatement.objects.create(
        sequence=sequence,
        issued_at=issued_at,
        payload_zlib=zlib.compress(payload, level=1),
        signatures=sign_stop(payload),
        digest=sha256_hex(payload),
    )
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, f"stop:{sequence}"])
    return stop


def _list_kills() -> tuple[StoppedKill, ...]:
    rows = engaged_kills().order_by().values_list("kind", "environment_name", "target", "id")
    return tuple([StoppedKill(kind, "" if kind == "environment" else narrowed, target, key.hex) for kind, narrowed, target, key in rows])


def _list_released() -> frozenset[str]:
    """By their ids kills that were lifted lately, or that a node still obeys; by its digest an offline stop that nothing is left of."""
    lifted = Kill.objects.filter(lifted_at__isnull=False).order_by("-lifted_at")
    lately = lifted.filter(lifted_at__gt=timezone.now() - RELEASES_ARE_NAMED_FOR)
    rows = [*lately[:MOST_RELEASES], *lifted.filter(pk__in=surplus_reported())[:MOST_RELEASES]]
    offline = {kill.statement_digest for kill in rows if kill.issuer not in ("", HUB)}
    return frozenset({kill.pk.hex for kill in rows} | (offline - _list_adopted()))


def _list_adopted() -> frozenset[str]:
    """Offline stops of which a kill is in force."""
    of_others = engaged_kills().exclude(issuer__in=("", HUB)).order_by()
    return frozenset(of_others.values_list("statement_digest", flat=True))
