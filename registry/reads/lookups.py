"""Records by the names that people give them."""

import re
from typing import TypeVar

from django.db.models import Model, QuerySet

from registry.errors import NotFound
from registry.models import PROPOSAL_STATES, BaseModel, Environment, EnvironmentBaseModel, Profile, ProfileRevision, Proposal, RiskPolicy

Versioned = TypeVar("Versioned", bound=Model)
_VERSIONED = re.compile(r"(?P<name>[A-Za-z0-9_-]{1,100})(?:@(?P<version>[0-9]{1,9}))?", re.ASCII)
_FINGERPRINT = re.compile(r"[0-9a-f]{6,64}", re.ASCII)


def find_version(records: QuerySet[Versioned], reference: str) -> Versioned | None:
    """A vector, contrast set or eval suite by NAME@VERSION, or by NAME alone: the latest version."""
    match = _VERSIONED.fullmatch(reference)
    if match is None:
        return None
    named = records.filter(name=match["name"])
    return (named.filter(version=int(match["version"])) if match["version"] else named).order_by("-version").first()


def find_base_model(records: QuerySet[BaseModel], reference: str) -> BaseModel | None:
    """By NAME@FINGERPRINT, of which the first six digits will do, or by NAME alone: the one registered last."""
    name, at, digits = reference.partition("@")
    named = records.filter(name=name)
    if at:
        # Digits that begin two fingerprints name neither.
        found = list(named.filter(fingerprint__startswith=digits)[:2]) if _FINGERPRINT.fullmatch(digits) else []
        return found[0] if len(found) == 1 else None
    return named.order_by("-registered_at", "-id").first()


def get_revision(profile: str, number: int) -> ProfileRevision:
    """A revision by its profile's name and its number. Raises: NotFound REVISION_NOT_FOUND."""
    revision = (
        ProfileRevision.objects.select_related("profile", "base_model", "author", "evaluation__vector__contrast_set", "evaluation__job")
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


def open_proposals() -> QuerySet[Proposal]:
    """What nobody has accepted or declined, for files that some environment serves: after a move back, the rest is not asked for."""
    served = EnvironmentBaseModel.objects.values("base_model")
    return Proposal.objects.filter(PROPOSAL_STATES["proposed"], base_model__in=served)
