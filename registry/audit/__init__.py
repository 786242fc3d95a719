"""The tamper-evident log: record() in, exports out."""

from registry.audit.actions import Action
from registry.audit.record import Actor, append_events, link_events, make_entry, record, record_all

__all__ = ["Action", "Actor", "append_events", "link_events", "make_entry", "record", "record_all"]
