"""Profiles and their revisions: draft -> submitted -> approved / rejected -> retired. Decisions are in approvals.py."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.utils import timezone

from registry.audit import Action, record
from registry.blobs import put_blob
from registry.errors import InvalidInput, RecordChanged, TransitionRefused
from registry.models import (
    TECHNIQUES,
    BaseModel,
    Component,
    Environment,
    Evaluation,
    Job,
    Profile,
    ProfileRevision,
    Purpose,
    RevisionState,
    RiskPolicy,
    StalePolicy,
    User,
    Waiver,
)
from registry.reads.documents import COVERS, policy_document, revision_document, tag_revision, waiver_details, waiver_document
from registry.reads.lookups import get_policy
from registry.reads.waivers import rested_on, waivers_for
from registry.services.components import make_components, write_components
from registry.services.covers import details_of, make_covers, write_covers
from registry.services.demands import check_revision, measure_peaks, refuse_unmet
from registry.services.names import check_new_name
from registry.services.people import stands_for
from registry.services.transition import lock_environments, publish_at_end, transition
from registry.services.versions import next_version
from steernode.canonical import canonical_json


@transition
def create_profile(name: str, *, intent: str, purpose: str, axis: str, risk_class: str, owner: User) -> Profile:
    """A named intent without a revision. The same name again is an error unless nothing differs.

    Raises: InvalidInput PURPOSE_UNFIT, PURPOSE_UNKNOWN, NAME, NAME_CASE; NotFound POLICY_NOT_FOUND; TransitionRefused PROFILE_EXISTS.
    """
    check_purpose(purpose)
    policy = get_policy(risk_class)
    known = Profile.objects.filter(name=name).first()
    if known is not None:
        if (known.intent, known.purpose, known.axis, known.risk_class_id) == (intent, purpose, axis, risk_class):
            return known
        raise TransitionRefused("PROFILE_EXISTS", f"a profile {name!r} exists with another intent, purpose, axis or risk class", name)
    check_new_name(Profile, name)
    profile = Profile.objects.create(name=name, intent=intent, purpose=purpose, axis=axis, risk_class=policy, owner=owner)
    record(
        Action.PROFILE_CREATED,
        actor=owner,
        subject=profile,
        details={"intent": intent, "purpose": purpose, "axis": axis, "risk_class": risk_class},
    )
    return profile


@transition
def edit_profile(name: str, *, intent: str, purpose: str, axis: str, risk_class: str, actor: User) -> Profile:
    """Say otherwise what a profile is for, while nothing but drafts was written under it.

    Raises: TransitionRefused PROFILE_FIXED once a revision was submitted, because people decided on what was said then.
    """
    check_purpose(purpose)
    policy = get_policy(risk_class)
    profile = Profile.objects.select_for_update(no_key=True).get(name=name)
    if profile.revisions.exclude(state=RevisionState.DRAFT).exists():
        raise TransitionRefused(
            "PROFILE_FIXED",
            f"{profile} has submitted revisions; its intent, purpose, axis and risk class are what they are judged by",
            name,
        )
    profile.intent, profile.purpose, profile.axis, profile.risk_class = intent, purpose, axis, policy
    profile.save(update_fields=["intent", "purpose", "axis", "risk_class"])
    record(
        Action.PROFILE_EDITED,
        actor=actor,
        subject=profile,
        details={"intent": intent, "purpose": purpose, "axis": axis, "risk_class": risk_class},
    )
    return profile


@transition
def delete_profile(name: str, *, actor: User) -> None:
    """A profile without revisions goes. Raises: TransitionRefused PROFILE_IN_USE."""
    profile = Profile.objects.select_for_update().get(name=name)
    if profile.revisions.exists() or profile.kills.exists():
        raise TransitionRefused("PROFILE_IN_USE", f"{profile} has revisions, or kills name it", name)
    record(Action.PROFILE_DELETED, actor=actor, subject=profile)
    profile.delete()


def check_purpose(purpose: str) -> None:
    """Raises: InvalidInput PURPOSE_UNFIT for what steering cannot do, with the technique that can; PURPOSE_UNKNOWN."""
    if purpose in Purpose.values:
        return
    technique = TECHNIQUES.get(purpose)
    if technique is None:
        raise InvalidInput("PURPOSE_UNKNOWN", f"no purpose {purpose!r}; it is one of {', '.join(Purpose.values)}", purpose)
    raise InvalidInput("PURPOSE_UNFIT", f"steering is not for {purpose}: {technique.why}. Use {technique.use}", purpose)


@transition
def draft_revision(
    profile: Profile,
    *,
    components: Sequence[Component],
    author: User,
    safety_override: Sequence[Mapping[str, Any]] = (),
    covers: Sequence[BaseModel] = (),
    stale_policy: str = StalePolicy.ZERO.value,
    max_staleness_seconds: int = 900,
    rationale: str = "",
    drafted_by: Job | None = None,
) -> ProfileRevision:
    """nothing -> draft: revision n + 1 of the profile. `covers` are forms of the base model that its approval is to cover too.

    Raises: the codes of `make_components` and of `make_covers`.
    """
    policy = get_policy(profile.risk_class_id)
    made = make_components(components, safety_override=safety_override, policy=policy)
    covered = make_covers(made.base_model, covers, allowed=policy.coverable_forms)
    revision = ProfileRevision.objects.create(
        profile=profile,
        number=next_version(ProfileRevision, field="number", profile=profile),
        author=author,
        base_model=made.base_model,
        safety_override=made.safety_override,
        probes=made.probes,
        stale_policy=stale_policy,
        max_staleness_seconds=max_staleness_seconds,
        rationale=rationale,
        drafted_by=drafted_by,
    )
    write_components(revision, made.components)
    write_covers(revision, covered)
    _record_content(Action.REVISION_DRAFTED, revision, author)
    return revision


@transition
def edit_revision(
    revision_id: UUID,
    *,
    components: Sequence[Component],
    actor: User,
    safety_override: Sequence[Mapping[str, Any]] = (),
    covers: Sequence[BaseModel] = (),
    stale_policy: str | None = None,
    max_staleness_seconds: int | None = None,
    rationale: str | None = None,
    read_tag: str | None = None,
) -> ProfileRevision:
    """draft | submitted -> draft: replace what the revision does. Approvals already given do not count for what it becomes.

    A stale policy or a rationale that is not given stays as it is.
    Raises: the codes of `make_components` and of `make_covers`; TransitionRefused REVISION_STATE once it is approved, rejected or
    retired: draft a new revision instead; NOT_THE_AUTHOR, because whoever could rewrite somebody else's revision could then approve
    it; RecordChanged REVISION_CHANGED if `read_tag` (documents.tag_revision) says that somebody changed it since the actor read it.
    """
    revision = _lock_revision(revision_id)
    if read_tag is not None and read_tag != tag_revision(revision):
        raise RecordChanged("REVISION_CHANGED", f"{revision} was changed since it was read; read it again", str(revision))
    _refuse_others(revision, actor)
    if revision.state not in (RevisionState.DRAFT, RevisionState.SUBMITTED):
        raise TransitionRefused(
            "REVISION_STATE", f"{revision} is {revision.state} and cannot be edited; draft a new revision", str(revision)
        )
    made = make_components(components, safety_override=safety_override, policy=revision.profile.risk_class)
    covered = make_covers(made.base_model, covers, allowed=revision.profile.risk_class.coverable_forms)
    revision.reopen()
    revision.base_model, revision.safety_override, revision.probes = made.base_model, made.safety_override, made.probes
    for name, value in (("stale_policy", stale_policy), ("max_staleness_seconds", max_staleness_seconds), ("rationale", rationale)):
        if value is not None:
            setattr(revision, name, value)
    revision.save()
    write_components(revision, made.components)
    write_covers(revision, covered)
    _record_content(Action.REVISION_EDITED, revision, actor)
    return revision


@transition
def submit_revision(revision_id: UUID, *, evaluation: Evaluation, actor: User) -> ProfileRevision:
    """draft -> submitted: fix the digest and name the evidence.

    What the risk policy demands is checked, copied into the revision and part of its digest.
    Raises: TransitionRefused NOT_THE_AUTHOR, REVISION_STATE; the codes of `services.demands` and `services.gate_demands`.
    """
    # Whoever changes the policy waits, and then finds this revision among those submitted under it.
    policy = RiskPolicy.objects.select_for_update(of=("self",), no_key=True).get(profiles__revisions=revision_id)
    revision = _lock_revision(revision_id)
    _refuse_others(revision, actor)
    if revision.state != RevisionState.DRAFT:
        raise TransitionRefused("REVISION_STATE", f"{revision} is {revision.state}, not draft", str(revision))
    revision.demands = policy_document(policy)
    # Whoever withdraws one waits, and then finds this revision among those that rest on it.
    rests_on = rested_on(revision, evaluation)
    list(Waiver.objects.select_for_update(of=("self",)).filter(evaluation__in=rests_on).order_by("pk"))
    refuse_unmet(check_revision(revision, evaluation, revision.demands))
    for peak, value in measure_peaks(list(revision.components.select_related("vector"))).items():
        setattr(revision, peak, value)
    revision.evaluation, revision.submission = evaluation, revision.submission + 1
    revision.waivers = [waiver_document(waiver, evaluation) for waiver in waivers_for(revision, evaluation)]
    revision.digest = put_blob(canonical_json(revision_document(revision)))
    revision.state, revision.submitted_at = RevisionState.SUBMITTED, timezone.now()
    revision.save()
    record(
        Action.REVISION_SUBMITTED,
        actor=actor,
        subject=revision,
        details={
            "revision_digest": revision.digest,
            "evidence_digest": evaluation.digest,
            "risk_class": policy.name,
            **details_of(COVERS.filter(revision=revision)),
            **waiver_details(revision),
        },
        base_model_fingerprint=revision.base_model.fingerprint,
    )
    return revision


@transition
def retire_revision(revision_id: UUID, *, reason: str, actor: User) -> ProfileRevision:
    """approved -> retired: no flag may steer with it any more, from the next snapshot on."""
    # All of them: a flag may be pointed at it, or an arm, or a route inherit it, while this waits for a lock.
    environments = lock_environments(Environment.objects.all())
    revision = _lock_revision(revision_id)
    if revision.state != RevisionState.APPROVED:
        raise TransitionRefused("REVISION_STATE", f"{revision} is {revision.state}, not approved", str(revision))
    revision.state = RevisionState.RETIRED
    revision.save(update_fields=["state"])
    record(
        Action.REVISION_RETIRED,
        actor=actor,
        subject=revision,
        details={"reason": reason, "revision_digest": revision.digest},
        base_model_fingerprint=revision.base_model.fingerprint,
    )
    for environment in environments:
        publish_at_end(environment, cause=Action.REVISION_RETIRED, actor=actor, only_lowers=True)
    return revision


def _lock_revision(revision_id: UUID) -> ProfileRevision:
    related = ("profile__risk_class", "author", "base_model", "evaluation")
    return ProfileRevision.objects.select_for_update(of=("self",)).select_related(*related).get(pk=revision_id)


def _refuse_others(revision: ProfileRevision, actor: User) -> None:
    """Raises: TransitionRefused NOT_THE_AUTHOR unless the actor stands for the author."""
    if stands_for(revision.author) != stands_for(actor):
        raise TransitionRefused("NOT_THE_AUTHOR", f"{revision} is {revision.author}'s; draft a revision of your own", str(revision))


def _record_content(action: Action, revision: ProfileRevision, actor: User) -> None:
    document = revision_document(revision)
    record(
        action,
        actor=actor,
        subject=revision,
        details={
            "components": document["components"],
            "safety_override": revision.safety_override,
            **({"probes": revision.probes} if revision.probes else {}),
            **details_of(COVERS.filter(revision=revision)),
        },
        base_model_fingerprint=revision.base_model.fingerprint,
    )
