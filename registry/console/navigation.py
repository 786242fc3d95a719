"""The sidebar: one entry for each thing a person comes for, in the order of the pipeline."""

from typing import Any

from django.urls import reverse

from registry.console.pages import Request
from registry.models import ProfileRevision, RevisionState, Role
from registry.reads.lookups import open_proposals
from registry.reads.steering import engaged_kills
from registry.reads.visibility import is_limited
from registry.services.notifications import notifications_of


def navigation(request: Request) -> list[dict[str, Any]]:
    """Groups of links for this person. What a role may not open is left out."""
    held = request.user.held_roles()
    own = [_link("Your tokens", "key", "console:tokens"), _link("Second factor", "lock", "mfa_index")]
    if is_limited(request.user):
        stop = [_link("Dashboard", "space_dashboard", "admin:index"), _link("Kill switch", "emergency_home", "console:kills")]
        return [{"title": "", "separator": False, "items": stop}, {"title": "You", "separator": True, "items": own}]
    waiting = ProfileRevision.objects.filter(state=RevisionState.SUBMITTED).count()
    kills = engaged_kills().count()
    proposed = open_proposals().count()
    unread = notifications_of(request.user).filter(read_at__isnull=True).count()
    groups: list[tuple[str, list[dict[str, Any] | None]]] = [
        (
            "",
            [
                _link("Dashboard", "space_dashboard", "admin:index"),
                _link("Notifications", "notifications", "console:notifications", badge=unread, variant="info"),
            ],
        ),
        (
            "Make",
            [
                _link("New extraction", "bolt", "console:new-extraction") if Role.AUTHOR in held else None,
                _link("Proposals", "autorenew", "console:proposals", badge=proposed, variant="info") if proposed else None,
                _link("Jobs", "manufacturing", "admin:registry_job_changelist"),
                _link("Vectors", "north_east", "admin:registry_steeringvector_changelist"),
                _link("Contrast sets", "compare_arrows", "admin:registry_contrastset_changelist"),
                _link("Eval suites", "checklist", "admin:registry_evalsuite_changelist"),
                _link("Labelled prompts", "label", "admin:registry_promptset_changelist"),
                _link("Probes", "network_ping", "admin:registry_probe_changelist"),
                _link("Base models", "deployed_code", "admin:registry_basemodel_changelist"),
            ],
        ),
        (
            "Decide",
            [
                _link("Approvals", "rule", "console:approvals", badge=waiting, variant="warning"),
                _link("Profiles", "tune", "admin:registry_profile_changelist"),
                _link("Revisions", "history", "admin:registry_profilerevision_changelist"),
                _link("Gate sets", "fence", "admin:registry_gateset_changelist"),
                _link("Risk policies", "policy", "admin:registry_riskpolicy_changelist"),
            ],
        ),
        (
            "Operate",
            [
                _link("Flags", "flag", "console:flags"),
                _link("Kill switch", "emergency_home", "console:kills", badge=kills, variant="danger"),
                _link("Fleet", "dns", "console:fleet"),
                _link("Snapshots", "verified", "admin:registry_snapshot_changelist"),
                _link("Tenants", "apartment", "admin:registry_tenant_changelist"),
                _link("Declared objects", "description", "admin:registry_declaration_changelist"),
            ],
        ),
        (
            "Record",
            [
                _link("Audit log", "receipt_long", "admin:registry_auditevent_changelist") if Role.AUDITOR in held else None,
                _link("People", "group", "admin:registry_user_changelist") if Role.ADMIN in held else None,
            ],
        ),
        ("You", [*own]),
    ]
    return [{"title": title, "separator": bool(title), "items": [link for link in links if link]} for title, links in groups if any(links)]


def _link(title: str, icon: str, view: str, *, badge: int = 0, variant: str = "") -> dict[str, Any]:
    link: dict[str, Any] = {"title": title, "icon": icon, "link": reverse(view)}
    if badge:
        link |= {"badge": str(badge), "badge_variant": variant}
    return link
