"""What one base model on record is to another: two forms of the same weights are joined by the comparisons that say so."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any
from uuid import UUID

from registry.models import FORM_VERDICTS, BaseModel, CoverableForms, CoveredForm
from steernode.canonical import format_decimal
from steernode.comparison import DTYPE, EQUAL, Comparison, read_comparison
from steernode.files.drift import describe_other_files, is_built_alike, reads_text_alike

# Each base model that is a form of another, with that other one and the comparison of the two.
Parents = Mapping[UUID, tuple[UUID, Any]]

# Each of two forms may be a rounding of what both were made from. One of another, again and again, may be anything in the end.
_MOST_ROUNDINGS = 2


@dataclass(frozen=True, slots=True)
class Relation:
    """What `form` is to `measured`. `steps` are the comparisons from one to the other, over the base model that both are forms of.

    `worst` is the largest difference of a weight, as a part of the largest of its tensor; over several steps no more than their sum.
    `changes` are the other files that differ, in words.
    """

    measured: BaseModel
    form: BaseModel
    steps: tuple[Comparison, ...]

    @property
    def verdict(self) -> str:
        """The coarsest on the way."""
        return max((step.verdict for step in self.steps), key=FORM_VERDICTS.index)

    @property
    def worst(self) -> str:
        with localcontext(prec=90):
            return format_decimal(sum((step.worst for step in self.steps), Decimal(0)))

    @property
    def changes(self) -> list[str]:
        return describe_other_files(self.measured.manifest, self.form.manifest)

    @property
    def roundings(self) -> int:
        """How many steps rounded weights to another dtype."""
        return sum(step.verdict == DTYPE for step in self.steps)

    @property
    def is_close(self) -> bool:
        """Whether rounding to another dtype is all that sets the weights apart, once for each of the two, and the same class of the same
        sizes makes the same tokens of conversations."""
        is_rounded = self.verdict in (EQUAL, DTYPE) and self.roundings <= _MOST_ROUNDINGS
        one, other = self.measured.manifest, self.form.manifest
        return is_rounded and is_built_alike(one, other) and reads_text_alike(one, other)

    def may_be_covered(self, allowed: str) -> bool:
        return allowed == CoverableForms.ANY or (allowed == CoverableForms.CLOSE and self.is_close)

    def describe(self) -> str:
        said = describe_figures(self.verdict, self.worst)
        if self.roundings > _MOST_ROUNDINGS:
            said += f", rounded {self.roundings} times on the way"
        return f"{said}; {'; '.join(self.changes)}" if self.changes else said


def describe_figures(verdict: str, worst: str) -> str:
    return EQUAL if verdict == EQUAL else f"{verdict}, off by at most {worst} of the largest weight of a tensor"


def describe_covered(covered: CoveredForm) -> str:
    """In the words of what was stated when the draft was written."""
    return f"{covered.base_model}: {describe_figures(covered.verdict, covered.worst)}"


def relate(measured: BaseModel, form: BaseModel, parents: Parents | None = None) -> Relation | None:
    """None if nothing on record makes one a form of the other, or both of a third."""
    parents = read_parents() if parents is None else parents
    ups, downs = _line(measured.pk, parents), _line(form.pk, parents)
    meeting = next((key for key in ups if key in downs), None)
    if meeting is None or measured.pk == form.pk:
        return None
    between = [*ups[: ups.index(meeting)], *downs[: downs.index(meeting)]]
    return Relation(measured, form, tuple(read_comparison(parents[key][1], "comparison") for key in between))


def list_forms(base_model: BaseModel) -> list[Relation]:
    """All of its family on record, by name, the one registered last first."""
    parents = read_parents()
    root = _line(base_model.pk, parents)[-1]
    known = {*parents, *(other for other, _ in parents.values())}
    family = [key for key in known if key != base_model.pk and _line(key, parents)[-1] == root]
    others = BaseModel.objects.filter(pk__in=family).exclude(fingerprint=base_model.fingerprint).order_by("name", "-registered_at", "-id")
    return [relation for other in others if (relation := relate(base_model, other, parents)) is not None]


def relate_covered(base_model: BaseModel, covers: Iterable[CoveredForm]) -> list[tuple[CoveredForm, Relation | None]]:
    """What a revision covers, each with what the record says of it now."""
    covered = list(covers)
    parents = read_parents() if covered else {}
    return [(each, relate(base_model, each.base_model, parents)) for each in covered]


def read_parents() -> Parents:
    rows = BaseModel.objects.filter(derived_from__isnull=False).values_list("pk", "derived_from_id", "comparison")
    return {key: (other, comparison) for key, other, comparison in rows}


def is_derived_from(base_model: BaseModel, other: BaseModel) -> bool:
    """Whether it is a form of the other, or of a form of it."""
    return other.pk in _line(base_model.pk, read_parents())


def _line(key: UUID, parents: Parents) -> list[UUID]:
    """It, what it is a form of, and so on to the first."""
    line = [key]
    # A form of one that is a form of itself is refused; should it be on record, it is gone round once.
    while line[-1] in parents and (parent := parents[line[-1]][0]) not in line:
        line.append(parent)
    return line
