"""What may steer in an environment now: live revisions, flags, kills, freezes and the newest snapshot."""

from datetime import datetime

from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now

from registry.models import (
    BaseModel,
    CoveredForm,
    Environment,
    FlagArm,
    Freeze,
    Kill,
    ProfileRevision,
    RevisionState,
    Snapshot,
    TenantFlag,
    Unit,
)


def revisions_for(base_models: QuerySet[BaseModel]) -> QuerySet[ProfileRevision]:
    """The single rule of which revisions files may be steered by: those measured on one of them, or covering one of them as a form."""
    covering = CoveredForm.objects.filter(base_model__in=base_models).values("revision")
    return ProfileRevision.objects.filter(Q(base_model__in=base_models) | Q(pk__in=covering))


def served_in(environment: Environment) -> QuerySet[BaseModel]:
    """The files that it serves now, one fingerprint of each name."""
    return BaseModel.objects.filter(served_in__environment=environment)


def revisions_left_behind(previous: BaseModel, base_model: BaseModel) -> QuerySet[ProfileRevision]:
    """Those for the previous files that are not for these too."""
    before, after = (revisions_for(BaseModel.objects.filter(pk=each.pk)) for each in (previous, base_model))
    return before.exclude(pk__in=after.values("pk"))


def flags_left_behind(environment: Environment, previous: BaseModel, base_model: BaseModel) -> QuerySet[TenantFlag]:
    """The flags that are on and offer such a revision, by themselves or in an arm."""
    left = revisions_left_behind(previous, base_model).values("pk")
    of_arms = FlagArm.objects.filter(revision__in=left).values("flag")
    return TenantFlag.objects.filter(Q(revision__in=left) | Q(pk__in=of_arms), environment=environment, enabled=True)


def unusable_revisions(previous: BaseModel) -> QuerySet[ProfileRevision]:
    """Those for these files that no environment serves any files for."""
    served = revisions_for(BaseModel.objects.filter(served_in__isnull=False))
    return revisions_for(BaseModel.objects.filter(pk=previous.pk)).exclude(pk__in=served.values("pk"))


def live_revisions(environment: Environment) -> QuerySet[ProfileRevision]:
    """The single rule of which revisions may steer in an environment: approved now, not overdue for review,
    inside the limits of its risk class, and for files that it serves now."""
    revisions = revisions_for(served_in(environment))
    return revisions.filter(is_inside_its_limits(), state=RevisionState.APPROVED, review_due_at__gt=Now())


def is_inside_its_limits() -> Q:
    """A revision that can go no further than its risk class allows now, whatever the class allowed when it was approved."""
    caps = {f"peak_{unit}__lte": F(f"profile__risk_class__alpha_cap_{unit}") for unit in Unit.values}
    return Q(**caps, peak_share__lte=F("profile__risk_class__composition_budget"))


def flags_pointing_at(revision: ProfileRevision) -> QuerySet[TenantFlag]:
    """Flags that state this revision themselves or in an arm. Routes that inherit it from one of these are not counted again."""
    of_arms = FlagArm.objects.filter(revision=revision).values("flag")
    return TenantFlag.objects.filter(Q(revision=revision) | Q(pk__in=of_arms))


def engaged_kills(environment: Environment | None = None) -> QuerySet[Kill]:
    """Kills not lifted; with an environment, those that reach it."""
    kills = Kill.objects.filter(lifted_at__isnull=True)
    return kills if environment is None else kills.filter(environment_name__in=("", environment.name))


def freeze_in_force(environment: Environment, moment: datetime) -> Freeze | None:
    """The freeze that ends last, of those in force."""
    freezes = Freeze.objects.filter(environment=environment, starts_at__lte=moment, ends_at__gt=moment, ended_at__isnull=True)
    return freezes.select_related("environment").order_by("-ends_at").first()


def snapshots_of(environment: Environment) -> QuerySet[Snapshot]:
    """Newest first, without their payload, which is read only where the field is asked for."""
    return environment.snapshots.defer("payload_zlib").order_by("-revision")


def head_snapshot(environment: Environment) -> Snapshot | None:
    return snapshots_of(environment).first()
