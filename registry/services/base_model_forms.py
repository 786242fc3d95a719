"""What is stated of a base model beside its files: what it says to the eight prompts, and of which other it is a form. Said once."""

from typing import Any

from registry.audit import Action, record
from registry.errors import InvalidInput
from registry.models import BaseModel, User
from registry.reads.forms import is_derived_from
from steernode.behaviour import Behaviour, read_behaviour
from steernode.comparison import Comparison, read_comparison
from steernode.files.basemodels import ModelFiles
from steernode.strict import refused_as


def check_behaviour(document: dict[str, Any]) -> Behaviour:
    with refused_as(InvalidInput, "BEHAVIOUR"):
        return read_behaviour(document, "behaviour")


def state_behaviour(base_model: BaseModel, behaviour: Behaviour | None, actor: User) -> None:
    """Said once, of a base model that was registered without it. What nodes and workers are held to is not measured again."""
    if behaviour is None or base_model.behaviour == behaviour.to_document():
        return
    if base_model.behaviour is not None:
        raise InvalidInput(
            "BEHAVIOUR_CHANGED",
            f"{base_model} is on record with what it says to the eight prompts, and this was measured otherwise; whether other "
            "hardware agrees with the record is for steer model prove to say",
            base_model.name,
        )
    base_model.behaviour = behaviour.to_document()
    base_model.save(update_fields=["behaviour"])
    fingerprint, details = base_model.fingerprint, {"behaviour_digest": behaviour.digest}
    record(Action.BASE_MODEL_DESCRIBED, actor=actor, subject=base_model, details=details, base_model_fingerprint=fingerprint)


def check_comparison(files: ModelFiles, derived_from: BaseModel | None, document: dict[str, Any] | None) -> Comparison | None:
    """A claim that these files are a form of others is one only with a comparison of the two that bears it out."""
    if derived_from is None and document is None:
        return None
    if derived_from is None or document is None:
        raise InvalidInput("COMPARISON", "a base model is derived from another by a comparison of the two; give both", "comparison")
    with refused_as(InvalidInput, "COMPARISON"):
        found = read_comparison(document, "comparison")
    if (found.base, found.derived) != (derived_from.fingerprint, files.fingerprint):
        raise InvalidInput(
            "FORM_NOT_DERIVED",
            f"the comparison is of {found.base[:12]} with {found.derived[:12]}, not of {derived_from} with {files.fingerprint[:12]}",
            derived_from.name,
        )
    if not found.is_form or found.base == found.derived:
        problem = found.describe() if not found.is_form else "they are the same files"
        raise InvalidInput("FORM_NOT_DERIVED", f"{files.fingerprint[:12]} is no form of {derived_from}: {problem}", derived_from.name)
    return found


def state_form(base_model: BaseModel, derived_from: BaseModel | None, compared: Comparison | None, actor: User) -> None:
    """Said once, of a base model that was registered without it. Raises: InvalidInput FORM_CHANGED, FORM_NOT_DERIVED."""
    if (
        derived_from is None
        or compared is None
        or (base_model.derived_from, base_model.comparison) == (derived_from, compared.to_document())
    ):
        return
    if base_model.derived_from is not None:
        raise InvalidInput("FORM_CHANGED", f"{base_model} is on record as a form of {base_model.derived_from}", base_model.name)
    if is_derived_from(derived_from, base_model):
        problem = f"{derived_from} is a form of {base_model} already, so {base_model} cannot be one of it"
        raise InvalidInput("FORM_NOT_DERIVED", problem, derived_from.name)
    base_model.derived_from, base_model.comparison = derived_from, compared.to_document()
    base_model.save(update_fields=["derived_from", "comparison"])
    details = describe_form(derived_from, compared)
    fingerprint = base_model.fingerprint
    record(Action.BASE_MODEL_DESCRIBED, actor=actor, subject=base_model, details=details, base_model_fingerprint=fingerprint)


def describe_form(derived_from: BaseModel, compared: Comparison) -> dict[str, str]:
    return {"derived_from": derived_from.fingerprint, "comparison": compared.describe()}
