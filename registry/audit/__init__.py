"""The tamper-evident log: record() in, exports out. What is recorded waits in `pending` for the end of its transition."""

from registry.audit.actions import Action
from registry.audit.pending import Actor
from registry.audit.record import append_events, link_events, make_entry, record, record_all

__all__ = ["Action", "Actor", "append_events", "link_events", "make_entry", "record", "record_all"]
