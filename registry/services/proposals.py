"""Proposals: after a move, extract again by the same recipes. Nothing runs until an author accepts; an author may decline."""

from collections import defaultdict
from typing import Any
from uuid import UUID

from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone

from registry.audit import Action, record
from registry.errors import NotFound, TransitionRefused
from registry.models import BaseModel, JobState, Profile, Proposal, RevisionState, SteeringVector, User
from registry.services.job_requests import request_extraction
from registry.services.notifications import notify
from registry.services.recipes import ask_again, resolve_dtype
from registry.services.transition import transition
from steernode.placement import AUTO
from steernode.records.recipe import ExtractionRecipe

# A revision in one of these states is, or was until just now, somebody's reason to want the vector.
_IN_USE = (RevisionState.DRAFT, RevisionState.SUBMITTED, RevisionState.APPROVED, RevisionState.INVALIDATED)


def propose_extractions(previous: BaseModel, base_model: BaseModel, *, why: str) -> list[Proposal]:
    """One proposal for each vector that the move from `previous` left behind, and a notification of them to each author.

    Left behind are the newest version of each name, and those that revisions use. Not again what was proposed before, nor what
    somebody has extracted from the new files already; and an imported vector has no recipe to run again.
    """
    extracted = SteeringVector.objects.filter(base_model=previous, job__isnull=False)
    newest = extracted.order_by("name", "-version").distinct("name")
    made_again = SteeringVector.objects.filter(base_model=base_model, name=OuterRef("name"), contrast_set=OuterRef("contrast_set"))
    left_behind = (
        extracted.filter(Q(pk__in=newest.values("pk")) | Q(components__revision__state__in=_IN_USE))
        .exclude(proposals__base_model=base_model)
        .filter(~Exists(made_again))
        .select_related("job__draft_for", "author__acts_for")
        .distinct()
    )
    profiles = _find_profiles(left_behind)
    proposals = Proposal.objects.bulk_create(
        Proposal(vector=vector, base_model=base_model, profile=(vector.job and vector.job.draft_for) or profiles.get(vector.pk))
        for vector in left_behind
    )
    _notify_authors(proposals, why)
    return proposals


def _find_profiles(vectors: QuerySet[SteeringVector]) -> dict[UUID, Profile]:
    """The profile that a vector is in use for. Of several, which one a draft should be of is for the author to say."""
    in_use = Profile.objects.filter(revisions__state__in=_IN_USE, revisions__components__vector__in=vectors)
    users: dict[UUID, set[Profile]] = defaultdict(set)
    for profile in in_use.annotate(vector_id=F("revisions__components__vector")):
        users[profile.vector_id].add(profile)
    return {vector: profiles.pop() for vector, profiles in users.items() if len(profiles) == 1}


def _notify_authors(proposals: list[Proposal], why: str) -> None:
    """Each author once, with the names of their vectors."""
    names: dict[User, list[str]] = defaultdict(list)
    for proposal in proposals:
        names[proposal.vector.author.acts_for or proposal.vector.author].append(str(proposal.vector))
    for author, vectors in names.items():
        count = f"{len(vectors)} vectors" if len(vectors) > 1 else "a vector"
        text = f"{why}. It is proposed to extract {count} of yours again by the same recipe: {', '.join(sorted(vectors))}. Accept to start."
        notify([author], text, about=proposals[0])


@transition
def accept_proposal(proposal_id: UUID, *, actor: User) -> Proposal:
    """proposed or declined -> accepted: queue the extraction, and with a profile the chain to its draft.

    Accepting what was accepted gives the job that is there. Only when that failed or was cancelled does it queue another.
    Raises: NotFound PROPOSAL_NOT_FOUND; whatever the recipe is refused for on the new files, such as LayerError LAYER_RANGE.
    """
    proposal = _lock(proposal_id)
    if proposal.job is not None and proposal.job.state not in (JobState.FAILED, JobState.CANCELLED):
        return proposal
    made_by, contrast_set = proposal.vector.job, proposal.vector.contrast_set
    if made_by is None or contrast_set is None:
        raise NotFound("PROPOSAL_NOT_FOUND", f"{proposal.vector} was imported, so there is no recipe to run again", str(proposal_id))
    suites = list(made_by.suites.all())
    recipe = _adapt(made_by.recipe, proposal.vector.base_model)
    job = request_extraction(
        base_model=proposal.base_model,
        contrast_set=contrast_set,
        suites=suites,
        recipe=recipe,
        actor=actor,
        draft_for=proposal.profile,
        # Who accepts what was accepted has seen what became of it.
        again=proposal.job is not None,
    )
    proposal.job, proposal.accepted_by, proposal.accepted_at = job, actor, timezone.now()
    proposal.declined_by, proposal.declined_at, proposal.declined_reason = None, None, ""
    proposal.save()
    record(
        Action.PROPOSAL_ACCEPTED,
        actor=actor,
        subject=proposal,
        details={"vector": str(proposal.vector), "vector_digest": proposal.vector.digest, "job": str(job.pk)},
        base_model_fingerprint=proposal.base_model.fingerprint,
    )
    return proposal


@transition
def decline_proposal(proposal_id: UUID, *, reason: str, actor: User) -> Proposal:
    """proposed -> declined: off the list, with the reason on record. Declining what was declined changes nothing.

    Raises: NotFound PROPOSAL_NOT_FOUND; TransitionRefused PROPOSAL_ACCEPTED.
    """
    proposal = _lock(proposal_id)
    if proposal.job is not None:
        raise TransitionRefused("PROPOSAL_ACCEPTED", f"{proposal} was accepted; cancel its job instead", str(proposal_id))
    if proposal.declined_at is not None:
        return proposal
    proposal.declined_by, proposal.declined_at, proposal.declined_reason = actor, timezone.now(), reason
    proposal.save()
    record(
        Action.PROPOSAL_DECLINED,
        actor=actor,
        subject=proposal,
        details={"vector": str(proposal.vector), "vector_digest": proposal.vector.digest, "reason": reason},
        base_model_fingerprint=proposal.base_model.fingerprint,
    )
    return proposal


def _lock(proposal_id: UUID) -> Proposal:
    """The job is read after the lock is held: joined to it, it would be what it was before another acceptance committed."""
    proposal = Proposal.objects.select_for_update().filter(pk=proposal_id).first()
    if proposal is None:
        raise NotFound("PROPOSAL_NOT_FOUND", "no such proposal", str(proposal_id))
    return proposal


def _adapt(recipe: dict[str, Any], base_model: BaseModel) -> dict[str, Any]:
    """A recipe that searched every layer, or all that may pass, does so in the other model too, however many layers it has."""
    made_by = ExtractionRecipe.from_document(recipe)
    is_own = made_by.model_dtype == resolve_dtype(AUTO, base_model)
    return ask_again(made_by, base_model) | ({"model_dtype": AUTO} if is_own else {})
