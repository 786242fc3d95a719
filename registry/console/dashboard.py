"""The dashboard: the whole pipeline at a glance, and the kill switch one click away."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.utils import timezone

from registry.console.environment_flags import FlagView, view_flags
from registry.console.forms.kills import KillForm
from registry.console.pages import Request, roles_of
from registry.console.revisions import why_not_decide
from registry.models import (
    AuditEvent,
    ContrastSet,
    Environment,
    Evaluation,
    Job,
    JobState,
    ProfileRevision,
    RevisionState,
    ServingNode,
    SteeringVector,
    Tenant,
)
from registry.reads.fleet import judge_nodes
from registry.reads.obedience import with_obedience
from registry.reads.steering import engaged_kills
from registry.reads.visibility import is_limited, visible_to
from registry.snapshots import count_steering

_LATELY = timedelta(days=1)
FLAGS_SHOWN = 12


@dataclass(frozen=True)
class EnvironmentView:
    """An environment, how many of its flags steer somebody, and some flags: those of the tenants that were changed last."""

    environment: Environment
    flags_on: int
    flags: list[FlagView]
    more: int


def view_environment(environment: Environment) -> EnvironmentView:
    latest = environment.flags.order_by("-changed_at").values_list("tenant_id", flat=True)[:FLAGS_SHOWN]
    flags = view_flags(environment, Tenant.objects.filter(pk__in=list(latest)))[:FLAGS_SHOWN]
    return EnvironmentView(environment, count_steering(environment), flags, environment.flags.count() - len(flags))


def dashboard(request: Request, context: dict[str, Any]) -> dict[str, Any]:
    """What admin/index.html shows. Reads only. Whoever is limited to some tenants is shown the way to what they may see."""
    if is_limited(request.user):
        tenants = visible_to(request.user, Tenant.objects.all(), tenant="pk")
        return {**context, "title": "Dashboard", "may": roles_of(request), "limited_to": list(tenants), "is_limited": True}
    revisions = ProfileRevision.objects.select_related("profile", "author", "evaluation")
    waiting = revisions.filter(state=RevisionState.SUBMITTED).order_by("submitted_at")
    jobs = Job.objects.select_related("vector", "contrast_set", "revision__profile")
    active = jobs.filter(state__in=[JobState.QUEUED, JobState.RUNNING])
    recent = jobs.exclude(pk__in=active).filter(finished_at__gte=timezone.now() - _LATELY).order_by("-finished_at")
    nodes = judge_nodes(ServingNode.objects.all())
    serving = [standing for standing in nodes if standing.counts]
    environments = [view_environment(environment) for environment in Environment.objects.all()]
    flags_on = sum(view.flags_on for view in environments)
    synced = sum(standing.state == "SYNCED" for standing in serving)
    stages = [
        ("Contrast sets", ContrastSet.objects.count(), "admin:registry_contrastset_changelist", ""),
        ("Jobs running", active.count(), "admin:registry_job_changelist", "wait" if active else ""),
        ("Vectors", SteeringVector.objects.count(), "admin:registry_steeringvector_changelist", ""),
        ("Evaluations", Evaluation.objects.count(), "admin:registry_evaluation_changelist", ""),
        ("Awaiting approval", waiting.count(), "console:approvals", "wait" if waiting else ""),
        ("Flags on", flags_on, "console:flags", "good" if flags_on else ""),
        ("Nodes synced", f"{synced} / {len(serving)}", "console:fleet", "good" if synced == len(serving) else "bad"),
    ]
    return {
        **context,
        "title": "Dashboard",
        "may": roles_of(request),
        "stages": stages,
        "active_jobs": active,
        "recent_jobs": recent[:5],
        "waiting": [(revision, why_not_decide(revision, request.user)) for revision in waiting],
        "environments": environments,
        "kills": with_obedience(engaged_kills().select_related("engaged_by", "reported_by")),
        "kill_form": KillForm(seen_by=request.user),
        "nodes": nodes,
        "events": AuditEvent.objects.order_by("-seq").defer("body")[:10],
    }
