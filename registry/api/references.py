"""References: a person writes harbor-empathy@3, a program may write the id. Requests may give either."""

from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

from django.db import models

from registry.errors import NotFound
from registry.models import (
    ApiToken,
    BaseModel,
    ContrastSet,
    EvalSuite,
    Evaluation,
    GateSet,
    Job,
    Kill,
    Probe,
    PromptSet,
    Proposal,
    ServingNode,
    SteeringVector,
    Tenant,
    User,
    Waiver,
)
from registry.reads import lookups
from registry.reads.visibility import kills_visible_to, visible_to

# What a job leaves, by kind.
_LEFT = ("extracted_vector", "evaluation", "trained_probe")
Record = TypeVar("Record", bound=models.Model)


def find_vector(reference: str) -> SteeringVector:
    vectors = SteeringVector.objects.select_related("base_model", "contrast_set", "comparison__replaced")
    return _find(vectors, reference, "VECTOR_NOT_FOUND", "vector", by_name=lookups.find_version)


def find_contrast_set(reference: str) -> ContrastSet:
    return _find(ContrastSet.objects.all(), reference, "CONTRAST_SET_NOT_FOUND", "contrast set", by_name=lookups.find_version)


def find_suite(reference: str) -> EvalSuite:
    return _find(EvalSuite.objects.all(), reference, "SUITE_NOT_FOUND", "eval suite", by_name=lookups.find_version)


def find_prompt_set(reference: str) -> PromptSet:
    return _find(PromptSet.objects.all(), reference, "PROMPT_SET_NOT_FOUND", "prompt set", by_name=lookups.find_version)


def find_probe(reference: str) -> Probe:
    probes = Probe.objects.select_related("base_model", "prompt_set")
    return _find(probes, reference, "PROBE_NOT_FOUND", "probe", by_name=lookups.find_version)


def find_gate_set(reference: str) -> GateSet:
    return _find(GateSet.objects.all(), reference, "GATE_SET_NOT_FOUND", "gate set", by_name=lookups.find_version)


def find_base_model(reference: str) -> BaseModel:
    return _find(BaseModel.objects.all(), reference, "BASE_MODEL_NOT_FOUND", "base model", by_name=lookups.find_base_model)


def find_evaluation(reference: str | UUID) -> Evaluation:
    related = ("vector__contrast_set", "revision__profile", "job")
    return _find(Evaluation.objects.select_related(*related), reference, "EVALUATION_NOT_FOUND", "evaluation")


def find_waiver(reference: str | UUID) -> Waiver:
    related = ("evaluation", "asked_by", "confirmed_by", "withdrawn_by")
    return _find(Waiver.objects.select_related(*related), reference, "WAIVER_NOT_FOUND", "waiver")


def find_job(reference: str | UUID) -> Job:
    related = ("base_model", "contrast_set", "prompt_set", "vector", "revision__profile", "requested_by", *_LEFT)
    chain = ("draft_for", "followed_by", "drafted_revision__profile")
    return _find(Job.objects.select_related(*related, *chain).prefetch_related("suites"), reference, "JOB_NOT_FOUND", "job")


def find_proposal(reference: str | UUID) -> Proposal:
    related = ("vector__author", "base_model", "profile", "job", "accepted_by", "declined_by")
    return _find(Proposal.objects.select_related(*related), reference, "PROPOSAL_NOT_FOUND", "proposal")


def find_kill(reference: str | UUID, *, seen_by: User) -> Kill:
    return _find(kills_visible_to(seen_by, Kill.objects.all()), reference, "KILL_NOT_FOUND", "kill")


def find_tenant(name: str, *, seen_by: User) -> Tenant:
    tenants = visible_to(seen_by, Tenant.objects.all(), tenant="pk")
    return _need(tenants.filter(name=name).first(), "TENANT_NOT_FOUND", "tenant", name)


def find_node(name: str) -> ServingNode:
    return _need(ServingNode.objects.select_related("environment").filter(name=name).first(), "NODE_NOT_FOUND", "serving node", name)


def find_user(name: str) -> User:
    return _need(User.objects.filter(username=name).first(), "USER_NOT_FOUND", "user", name)


def find_token(user: User, reference: str | UUID) -> ApiToken:
    return _find(ApiToken.objects.filter(user=user), reference, "TOKEN_NOT_FOUND", "token")


def _find(
    records: "models.QuerySet[Record]",
    reference: str | UUID,
    code: str,
    noun: str,
    *,
    by_name: "Callable[[models.QuerySet[Record], str], Record | None] | None" = None,
) -> Record:
    key = _as_id(reference)
    named = by_name(records, str(reference)) if key is None and by_name else None
    return _need(records.filter(pk=key).first() if key else named, code, noun, str(reference))


def _as_id(reference: str | UUID) -> UUID | None:
    if isinstance(reference, UUID):
        return reference
    try:
        return UUID(reference) if len(reference) == 36 else None
    except ValueError:
        return None


def _need(found: Record | None, code: str, noun: str, reference: str) -> Record:
    if found is None:
        raise NotFound(code, f"no {noun} {reference[:200]!r}", reference[:200])
    return found
