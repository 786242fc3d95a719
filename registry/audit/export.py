"""Exports of the log: everything up to the event that records the export itself, streamed in the formats of `steernode.proof.export`."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC

from asgiref.sync import sync_to_async
from django.db import transaction
from django.utils import timezone

from registry.audit.actions import Action
from registry.audit.record import append_events, make_entry
from registry.models import AuditEvent, User
from steernode.proof.export import CSV_COLUMNS, csv_row, csv_text, csv_trailer, event_line, export_header, header_line

FORMATS = {"jsonl": "application/jsonl; charset=utf-8", "csv": "text/csv; charset=utf-8"}
_EVENTS_PER_CHUNK = 500


@dataclass(frozen=True, slots=True)
class AuditExport:
    """An export that is already on record. What it holds is fixed: the log only grows, and nothing in it changes."""

    format: str
    to_seq: int
    to_digest: str
    exported_at: str

    def chunks(self) -> Iterator[bytes]:
        """The whole export, a few hundred events at a time."""
        yield header_line(self._header()) if self.format == "jsonl" else csv_text(CSV_COLUMNS).encode()
        after = 0
        while after < self.to_seq:
            chunk, after = self._read_chunk(after)
            yield chunk
        if self.format == "csv":
            yield csv_text(csv_trailer(self._header())).encode()

    def _header(self) -> dict[str, object]:
        return export_header(
            from_seq=1,
            to_seq=self.to_seq,
            # Numbers have no gaps, so the last one is also the count.
            count=self.to_seq,
            head_seq=self.to_seq,
            head_digest=self.to_digest,
            exported_at=self.exported_at,
        )

    def _read_chunk(self, after: int) -> tuple[bytes, int]:
        events = list(
            AuditEvent.objects.filter(seq__gt=after, seq__lte=self.to_seq)
            .order_by("seq")
            .values_list("seq", "body", "digest", "previous_digest")[:_EVENTS_PER_CHUNK]
        )
        if not events:
            raise RuntimeError(f"audit events after {after} are gone; the export is cut here and will not verify")
        return b"".join(self._render(seq, bytes(body), digest, prev) for seq, body, digest, prev in events), events[-1][0]

    def _render(self, seq: int, body: bytes, digest: str, prev: str) -> bytes:
        if self.format == "csv":
            return csv_text(csv_row(body=body, digest=digest, prev=prev)).encode()
        return event_line(seq=seq, body=body, digest=digest, prev=prev)


def open_export(export_format: str, *, actor: User) -> AuditExport:
    """Record that `actor` takes the log away, first, so that the export ends with that event."""
    with transaction.atomic(durable=True):
        (event,) = append_events([make_entry(Action.AUDIT_EXPORTED, actor=actor, subject=actor, details={"format": export_format})])
    exported_at = timezone.now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return AuditExport(format=export_format, to_seq=event.seq, to_digest=event.digest, exported_at=exported_at)


async def stream_in_background(export: AuditExport) -> AsyncIterator[bytes]:
    """The chunks, each read in the request's own thread, whose database connection is closed with the request."""
    chunks = export.chunks()
    read = sync_to_async(lambda: next(chunks, None))
    while (chunk := await read()) is not None:
        yield chunk
