"""References: a person writes harbor-empathy@3, a program may write the id. Both are resolved here and nowhere else."""

import re
from typing import Any, TypeVar
from uuid import UUID

from django.db import models

from registry.errors import NotFound
from registry.models import (
    ApiToken,
    BaseModel,
    ContrastSet,
    EvalSuite,
    Evaluation,
    Job,
    Kill,
    Proposal,
    ServingNode,
    SteeringVector,
    Tenant,
    User,
)
from registry.reads.visibility import visible_to

Record = TypeVar("Record", bound=models.Model)
_FINGERPRINT = re.compile(r"[0-9a-f]{6,64}", re.ASCII)
_VERSIONED = re.compile(r"(?P<name>[A-Za-z0-9_-]{1,100})(?:@(?P<version>[0-9]{1,9}))?", re.ASCII)


def find_vector(reference: str) -> SteeringVector:
    vectors = SteeringVector.objects.select_related("base_model", "contrast_set", "comparison__replaced")
    return _find_versioned(vectors, reference, "VECTOR_NOT_FOUND", "vector")


def find_contrast_set(reference: str) -> ContrastSet:
    return _find_versioned(ContrastSet.objects.all(), reference, "CONTRAST_SET_NOT_FOUND", "contrast set")


def find_suite(reference: str) -> EvalSuite:
    return _find_versioned(EvalSuite.objects.all(), reference, "SUITE_NOT_FOUND", "eval suite")


def find_base_model(reference: str) -> BaseModel:
    """By id, by name@fingerprint (its first six digits at least), or by name alone: the one registered last."""
    key = _as_id(reference)
    if key is not None:
        return _need(BaseModel.objects.filter(pk=key).first(), "BASE_MODEL_NOT_FOUND", "base model", reference)
    name, _, digits = reference.partition("@")
    named = BaseModel.objects.filter(name=name)
    if digits or "@" in reference:
        # Digits that begin two fingerprints name neither.
        named = named.filter(fingerprint__startswith=digits) if _FINGERPRINT.fullmatch(digits) else named.none()
        named = named if named.count() == 1 else named.none()
    return _need(named.order_by("-registered_at").first(), "BASE_MODEL_NOT_FOUND", "base model", reference)


def find_evaluation(reference: str | UUID) -> Evaluation:
    return _find_by_id(Evaluation.objects.select_related("vector", "revision__profile"), reference, "EVALUATION_NOT_FOUND", "evaluation")


def find_job(reference: str | UUID) -> Job:
    related = ("base_model", "contrast_set", "vector", "revision__profile", "requested_by", "extracted_vector", "evaluation")
    chain = ("draft_for", "followed_by", "drafted_revision__profile")
    return _find_by_id(Job.objects.select_related(*related, *chain).prefetch_related("suites"), reference, "JOB_NOT_FOUND", "job")


def find_proposal(reference: str | UUID) -> Proposal:
    related = ("vector__author", "base_model", "profile", "job", "accepted_by", "declined_by")
    return _find_by_id(Proposal.objects.select_related(*related), reference, "PROPOSAL_NOT_FOUND", "proposal")


def find_kill(reference: str | UUID, *, seen_by: User) -> Kill:
    return _find_by_id(visible_to(seen_by, Kill.objects.all(), shared=True), reference, "KILL_NOT_FOUND", "kill")


def find_tenant(name: str, *, seen_by: User) -> Tenant:
    tenants = visible_to(seen_by, Tenant.objects.all(), tenant="pk")
    return _need(tenants.filter(name=name).first(), "TENANT_NOT_FOUND", "tenant", name)


def find_node(name: str) -> ServingNode:
    return _need(ServingNode.objects.select_related("environment").filter(name=name).first(), "NODE_NOT_FOUND", "serving node", name)


def find_user(name: str) -> User:
    return _need(User.objects.filter(username=name).first(), "USER_NOT_FOUND", "user", name)


def find_token(user: User, reference: str | UUID) -> ApiToken:
    return _find_by_id(ApiToken.objects.filter(user=user), reference, "TOKEN_NOT_FOUND", "token")


def _find_versioned(records: "models.QuerySet[Any]", reference: str, code: str, noun: str) -> Any:
    """By id, by name@version, or by name alone: the latest version."""
    key = _as_id(reference)
    if key is not None:
        return _need(records.filter(pk=key).first(), code, noun, reference)
    match = _VERSIONED.fullmatch(reference)
    found = None
    if match is not None:
        named = records.filter(name=match["name"])
        found = (named.filter(version=int(match["version"])) if match["version"] else named).order_by("-version").first()
    return _need(found, code, noun, reference)


def _find_by_id(records: "models.QuerySet[Record]", reference: str | UUID, code: str, noun: str) -> Record:
    key = _as_id(reference)
    return _need(records.filter(pk=key).first() if key else None, code, noun, str(reference))


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
