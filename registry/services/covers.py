"""What an approval covers besides the base model that was measured: forms of it, as an author names them and a risk policy lets them be."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from registry.errors import InvalidInput, TransitionRefused
from registry.models import BaseModel, CoverableForms, CoveredForm, ProfileRevision
from registry.reads.forms import Relation, describe_covered, read_parents, relate, relate_covered
from steernode.errors import SteerError
from steernode.words import MAX_COVERED_FORMS

# What the terms of a policy mean, as a demand on a revision that covers forms.
COVERABLE = {
    CoverableForms.NONE: "no form covered besides what was measured",
    CoverableForms.CLOSE: "covered forms equal or of another dtype, with the same tokenizer and chat template",
    CoverableForms.ANY: "covered forms that are forms of what was measured",
}


def make_covers(measured: BaseModel, forms: Sequence[BaseModel], *, allowed: str) -> list[CoveredForm]:
    """The rows to write for a draft. Nothing is written yet. `allowed` is what the risk policy lets be covered.

    Raises: InvalidInput FORM_LIMIT, FORM_REPEATED, FORM_UNRELATED; TransitionRefused FORM_NOT_COVERED.
    """
    if len(forms) > MAX_COVERED_FORMS:
        raise InvalidInput("FORM_LIMIT", f"a revision covers at most {MAX_COVERED_FORMS} forms, not {len(forms)}", "covers")
    files, parents, covers = {measured.fingerprint}, read_parents() if forms else {}, []
    for form in forms:
        if form.fingerprint in files:
            raise InvalidInput("FORM_REPEATED", f"{form} is what was measured, or is named twice; each form is named once", form.name)
        files.add(form.fingerprint)
        relation = relate(measured, form, parents)
        if relation is None:
            raise InvalidInput(
                "FORM_UNRELATED",
                f"no comparison on record makes {form} a form of {measured}; register it with one (steer model compare), or have the "
                "vectors extracted and judged on it",
                form.name,
            )
        if problem := _find_problem(relation, allowed):
            raise problem
        covers.append(CoveredForm(base_model=form, verdict=relation.verdict, worst=relation.worst))
    return covers


def write_covers(revision: ProfileRevision, covers: Sequence[CoveredForm]) -> None:
    """In place of those that the draft has."""
    revision.covers.all().delete()
    for covered in covers:
        covered.revision = revision
    CoveredForm.objects.bulk_create(covers)


def find_uncoverable(revision: ProfileRevision, covers: Iterable[CoveredForm], allowed: str) -> SteerError | None:
    """The first form that these terms do not let be covered, or that the record says something else of than the draft did."""
    for covered, relation in relate_covered(revision.base_model, covers):
        if relation is None or (relation.verdict, relation.worst) != (covered.verdict, covered.worst):
            problem = f"{describe_covered(covered)} is not what the record says of it; draft it again"
            return TransitionRefused("FORM_NOT_COVERED", problem, covered.base_model.name)
        if found := _find_problem(relation, allowed):
            return found
    return None


def _find_problem(relation: Relation, allowed: str) -> SteerError | None:
    if relation.may_be_covered(allowed):
        return None
    problem = f"{relation.form} is {relation.describe()}; the policy takes {COVERABLE[CoverableForms(allowed)]}"
    return TransitionRefused("FORM_NOT_COVERED", problem, relation.form.name)


def details_of(covers: Iterable[CoveredForm]) -> Mapping[str, Any]:
    """For the log, where there are any: what is covered although nothing was measured on it."""
    said = [describe_covered(covered) for covered in covers]
    return {"covers": said} if said else {}
