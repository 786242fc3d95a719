"""Reads that span models."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import F, Q, QuerySet
from django.db.models.expressions import RawSQL
from django.db.models.functions import Now
from django.utils import timezone

from registry.documents import digest_components
from registry.errors import NotFound
from registry.models import (
    PROPOSAL_STATES,
    Approval,
    BaseModel,
    Component,
    Decision,
    Environment,
    EnvironmentBaseModel,
    Evaluation,
    FlagArm,
    Freeze,
    Kill,
    Operator,
    Profile,
    ProfileRevision,
    Proposal,
    ReportResult,
    RevisionState,
    RiskPolicy,
    ServingNode,
    Snapshot,
    SteeringVector,
    TenantFlag,
    TokenScope,
    Unit,
)
from registry.settled import CarriedTenant, Id, SettledFlag, carry_tenant, settle_tenants, text_of
from steerkit.snapshotrecords import STRENGTH_OPERATORS

# A node in step says so every 30 seconds; after two missed words it is silent.
SILENT_AFTER = timedelta(seconds=75)


def get_revision(profile: str, number: int) -> ProfileRevision:
    """A revision by its profile's name and its number. Raises: NotFound REVISION_NOT_FOUND."""
    revision = (
        ProfileRevision.objects.select_related("profile", "base_model", "author", "evaluation__vector")
        .filter(profile__name=profile, number=number)
        .first()
    )
    if revision is None:
        raise NotFound("REVISION_NOT_FOUND", f"no revision {number} of a profile {profile!r}", f"{profile} r{number}")
    return revision


def get_profile(name: str) -> Profile:
    profile = Profile.objects.filter(name=name).first()
    if profile is None:
        raise NotFound("PROFILE_NOT_FOUND", f"no profile {name!r}", name)
    return profile


def get_policy(name: str) -> RiskPolicy:
    """The risk policy of a risk class. Raises: NotFound POLICY_NOT_FOUND."""
    policy = RiskPolicy.objects.filter(name=name).first()
    if policy is None:
        known = ", ".join(RiskPolicy.objects.values_list("name", flat=True))
        raise NotFound("POLICY_NOT_FOUND", f"no risk policy {name!r}; there are {known}", name)
    return policy


def get_environment(name: str) -> Environment:
    environment = Environment.objects.filter(name=name).first()
    if environment is None:
        raise NotFound("ENVIRONMENT_NOT_FOUND", f"no environment {name!r}", name)
    return environment


def registered_before(base_model: BaseModel) -> BaseModel | None:
    """The fingerprint of the same name that was the newest when this one was registered."""
    return BaseModel.objects.filter(name=base_model.name, registered_at__lt=base_model.registered_at).order_by("-registered_at").first()


def flags_for(environment: Environment, base_model: BaseModel) -> QuerySet[TenantFlag]:
    """The flags that are on and offer a revision for these files, by themselves or in an arm."""
    of_arms = FlagArm.objects.filter(revision__base_model=base_model).values("flag")
    return TenantFlag.objects.filter(Q(revision__base_model=base_model) | Q(pk__in=of_arms), environment=environment, enabled=True)


def open_proposals() -> QuerySet[Proposal]:
    """What nobody has accepted or declined, for files that some environment serves: after a move back, the rest is not asked for."""
    served = EnvironmentBaseModel.objects.values("base_model")
    return Proposal.objects.filter(PROPOSAL_STATES["proposed"], base_model__in=served)


def live_revisions(environment: Environment) -> QuerySet[ProfileRevision]:
    """The single rule of which revisions may steer in an environment: approved now, not overdue for review,
    inside the limits of its risk class, and for files that it serves now."""
    # One row at most: an environment serves one fingerprint of a name.
    return ProfileRevision.objects.filter(
        is_inside_its_limits(), state=RevisionState.APPROVED, review_due_at__gt=Now(), base_model__served_in__environment=environment
    )


def is_inside_its_limits() -> Q:
    """A revision that can go no further than its risk class allows now, whatever the class allowed when it was approved."""
    caps = {f"peak_{unit}__lte": F(f"profile__risk_class__alpha_cap_{unit}") for unit in Unit.values}
    return Q(**caps, peak_share__lte=F("profile__risk_class__composition_budget"))


class NamedRevision(NamedTuple):
    """What a snapshot says of a revision that a flag points at, and what its profile is checked by."""

    profile: str
    number: int
    digest: str
    evidence_digest: str


def name_revisions(revisions: QuerySet[ProfileRevision]) -> dict[Id | None, NamedRevision]:
    columns = (text_of("pk"), "profile__name", "number", "digest", "evaluation__digest")
    rows = revisions.order_by().values_list(*columns)
    return {key: NamedRevision(profile, number, digest, evidence or "") for key, profile, number, digest, evidence in rows}


def carried_tenants(
    environment: Environment, flags: QuerySet[TenantFlag] | None = None, *, without: Collection[Id | None] = ()
) -> tuple[list[CarriedTenant], dict[Id | None, NamedRevision]]:
    """What a snapshot carries, by tenant (see `settled.carry_tenant`), and the revisions that steer there or could.

    With `flags`, of these tenants alone: all flags that they have in the environment.
    Revisions of `without` may not steer whatever the record says.
    """
    tenants = settle_tenants(environment.flags.all() if flags is None else flags)
    wanted = set[Id | None]().union(*[tenant.wanted for tenant in tenants])
    live = name_revisions(live_revisions(environment).filter(pk__in=_any_of(wanted)))
    may_steer = frozenset(live.keys() - set(without))
    # As it stands where all of it may: it knows its own hash.
    carried = [carry_tenant(tenant, tenant.wanted if tenant.wanted <= may_steer else tenant.wanted & may_steer) for tenant in tenants]
    return [tenant for tenant in carried if tenant.flags], live


def _any_of(ids: Collection[Id | None]) -> RawSQL:
    """These ids as one parameter, so that the query is the same one however many they are, and is planned once."""
    return RawSQL("SELECT unnest(%s::uuid[])", [list(ids)])


def live_flags(environment: Environment, flags: QuerySet[TenantFlag] | None = None) -> list[SettledFlag]:
    """What a snapshot carries, by tenant and route; with `flags` as for `carried_tenants`."""
    tenants, _ = carried_tenants(environment, flags)
    return [flag for tenant in tenants for flag in tenant.flags]


def flags_pointing_at(revision: ProfileRevision) -> QuerySet[TenantFlag]:
    """Flags that state this revision themselves or in an arm. Routes that inherit it from one of these are not counted again."""
    of_arms = FlagArm.objects.filter(revision=revision).values("flag")
    return TenantFlag.objects.filter(Q(revision=revision) | Q(pk__in=of_arms))


def engaged_kills(environment: Environment | None = None) -> QuerySet[Kill]:
    """Kills not lifted; with an environment, those that reach it."""
    kills = Kill.objects.filter(lifted_at__isnull=True).select_related("profile", "tenant", "environment")
    if environment is not None:
        kills = kills.filter(Q(environment__isnull=True) | Q(environment=environment))
    return kills


def freeze_in_force(environment: Environment, moment: datetime) -> Freeze | None:
    """The freeze that ends last, of those in force."""
    freezes = Freeze.objects.filter(environment=environment, starts_at__lte=moment, ends_at__gt=moment, ended_at__isnull=True)
    return freezes.select_related("environment").order_by("-ends_at").first()


def snapshots_of(environment: Environment) -> QuerySet[Snapshot]:
    """Newest first, without their payload, which is read only where the field is asked for."""
    return environment.snapshots.defer("payload_zlib").order_by("-revision")


def head_snapshot(environment: Environment) -> Snapshot | None:
    return snapshots_of(environment).first()


def convergence_of(node: ServingNode, now: datetime) -> str:
    """Where a node stands, judged as it is read: its own last word would call a dead node healthy for ever.

    NEVER (said nothing, or never applied anything), SILENT, NACKED, SYNCED, or BEHIND (an older revision, or stale by its own word).
    """
    if node.last_seen_at is None:
        return "NEVER"
    if now - node.last_seen_at > SILENT_AFTER:
        return "SILENT"
    if node.last_result == ReportResult.NACK:
        return "NACKED"
    if node.applied_revision is None:
        return "NEVER"
    in_step = node.applied_revision == node.environment.head_revision and node.last_result != ReportResult.STALE
    return "SYNCED" if in_step else "BEHIND"


def valid_approvals(revision: ProfileRevision) -> QuerySet[Approval]:
    """Approvals of the revision and the evidence as they are now; decisions on an earlier state do not count, nor do old ones."""
    evidence = revision.evaluation.digest if revision.evaluation else ""
    oldest = timezone.now() - timedelta(days=revision.demands.get("approval_valid_days", 0))
    approvals = revision.approvals.filter(decision=Decision.APPROVE, revision_digest=revision.digest, evidence_digest=evidence)
    # Once it is approved, what it was approved by stays what it was.
    return approvals.filter(decided_at__gt=oldest) if revision.state == RevisionState.SUBMITTED else approvals


def latest_evaluation(vector: SteeringVector) -> Evaluation | None:
    return vector.evaluations.order_by("-evaluated_at").first()


def evidence_of(revision: ProfileRevision) -> Evaluation | None:
    """The evaluation that covers what the revision does: of its one vector, or of its components together."""
    components = list(revision.components.select_related("vector"))
    if is_plain_addition(components):
        return latest_evaluation(components[0].vector)
    return Evaluation.objects.select_related("revision__profile").filter(components_digest=digest_components(revision)).first()


def is_plain_addition(components: Sequence[Component]) -> bool:
    """One vector, added to what is generated: what the vector's own validation covers. A schedule or a condition only takes away."""
    plain = (Operator.ADD, TokenScope.GENERATED, False)
    return [(component.operator, component.scope, component.preserve_norm) for component in components] == [plain]


def only_removes(components: Sequence[Component]) -> bool:
    return all(component.operator in STRENGTH_OPERATORS for component in components)
