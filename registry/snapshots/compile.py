"""What the nodes of one environment are told, as data. No times and no revision: the same record compiles to the same content.

Of thousands of flags a change touches one. So an entry is written and checked once and kept under everything it says:
`_write_profile` and `_write_flag` are each the one place to which a new field of their noun is added.
"""

from decimal import Decimal
from functools import lru_cache
from uuid import UUID

from registry.models import ALPHA_CAPS, BaseModel, Environment, ProfileRevision
from registry.selectors import engaged_kills, live_flags, revision_document
from steerkit.canonical import format_decimal
from steerkit.snapshotcontent import Content, Entry, write_base_model, write_flag, write_kill, write_limits, write_profile
from steerkit.snapshotrecords import Flag, Profile, required_capabilities

MAX_COMPONENTS = 8
# What nodes are told of a revision in the words of the document that was approved.
_AS_APPROVED = ("base_model", "risk_class", "stale_policy", "max_staleness_seconds", "components", "safety_override")

# What `_write_flag` is given, in its order. Tenant and route decide the order of the entries, whatever the database's collation.
# Values must be hashable: a JSON column is cast to text.
_FLAG_COLUMNS = ("tenant__name", "route", "alpha_scale")
# About a kilobyte each. With more flags than this a process writes them anew, which is slower and otherwise the same.
_KEPT_FLAGS = 2**16
_KEPT_PROFILES = 2**12


def compile_content(environment: Environment) -> Content:
    """The content of the environment's next snapshot. A flag that is off, or a revision no longer approved, is left out."""
    flags = live_flags(environment).order_by()
    profile_of = {
        key: _write_profile(key, digest, evidence_digest or "")
        for key, digest, evidence_digest in ProfileRevision.objects.order_by()
        .filter(pk__in=flags.values("revision_id"))
        .values_list("pk", "digest", "evaluation__digest")
    }
    profiles = sorted(profile_of.values(), key=lambda entry: (entry.record.id, entry.record.revision))
    return Content(
        # What the environment serves now: a node whose files are none of these refuses the snapshot, and steers nobody.
        base_models=[
            write_base_model(row)
            for row in BaseModel.objects.filter(served_in__environment=environment).order_by("name").values("name", "fingerprint")
        ],
        profiles=profiles,
        flags=[_write_flag(profile_of[key], *row) for *row, key in sorted(flags.values_list(*_FLAG_COLUMNS, "revision_id"))],
        kills=[write_kill({"kind": kind, "target": target}) for kind, target in _list_kills(environment)],
        limits=write_limits({"max_components": MAX_COMPONENTS, "alpha_cap": {str(unit): cap for unit, cap in ALPHA_CAPS.items()}}),
        capabilities=required_capabilities(entry.record for entry in profiles),
    )


@lru_cache(_KEPT_PROFILES)
def _write_profile(revision_id: UUID, digest: str, evidence_digest: str) -> Entry[Profile]:
    """One approved revision. Its digest is of everything it does, so what is read here once stays true."""
    revision = ProfileRevision.objects.select_related("profile", "base_model").get(pk=revision_id)
    document = revision_document(revision)
    return write_profile(
        {
            "id": revision.profile.name,
            "revision": revision.number,
            "revision_digest": digest,
            "evidence_digest": evidence_digest,
            **{name: document[name] for name in _AS_APPROVED if name in document},
        }
    )


@lru_cache(_KEPT_FLAGS)
def _write_flag(profile: Entry[Profile], tenant: str, route: str, alpha_scale: Decimal) -> Entry[Flag]:
    return write_flag(
        {
            "tenant": tenant,
            "route": route,
            "profile": profile.record.id,
            "revision": profile.record.revision,
            "enabled": True,
            "alpha_scale": format_decimal(alpha_scale),
        }
    )


def _list_kills(environment: Environment) -> list[tuple[str, str]]:
    return sorted((kill.kind, kill.target) for kill in engaged_kills(environment))
