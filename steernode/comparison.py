"""What a comparison of two model folders found, as it is kept with a base model that is a form of another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from steernode.errors import FieldError
from steernode.strict import read_digest, read_exactly, read_integer, read_measure, read_one_of, read_text

SCHEMA = "steerhub.comparison/1"
EQUAL, DTYPE, QUANTISED, DIFFERENT = "equal", "another dtype", "quantised", "different"
VERDICTS = (EQUAL, DTYPE, QUANTISED, DIFFERENT)


@dataclass(frozen=True, slots=True)
class Comparison:
    """`base` and `derived` are fingerprints. `worst` is the largest difference of a weight over the largest of its tensor, and `mean` the
    root of the mean square of differences over that of weights, where that is largest. `wrong` names a tensor that is another."""

    base: str
    derived: str
    verdict: str
    tensors: int
    by_verdict: Mapping[str, int]
    worst: Decimal
    mean: Decimal
    worst_tensor: str
    wrong: str

    @property
    def is_form(self) -> bool:
        return self.verdict != DIFFERENT

    def to_document(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "base": self.base,
            "derived": self.derived,
            "verdict": self.verdict,
            "tensors": self.tensors,
            "by_verdict": dict(sorted(self.by_verdict.items())),
            "worst": f"{self.worst:f}",
            "mean": f"{self.mean:f}",
            "worst_tensor": self.worst_tensor,
            "wrong": self.wrong,
        }

    def describe(self) -> str:
        if not self.is_form:
            return f"not the same model: {self.wrong or 'no tensor is shared'}"
        if self.verdict == EQUAL:
            return f"equal in all of {self.tensors} tensors"
        counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(self.by_verdict.items()))
        return f"{self.verdict} ({counts}); farthest off in {self.worst_tensor}, by {self.mean:f} of its weights (root mean square)"


def read_comparison(value: Any, path: str) -> Comparison:
    """Raises: FieldError."""
    read_exactly(
        value,
        path,
        ("schema", "base", "derived", "verdict", "tensors", "by_verdict", "worst", "mean", "worst_tensor", "wrong"),
    )
    read_one_of(value["schema"], f"{path}.schema", (SCHEMA,))
    counts = value["by_verdict"]
    read_exactly(counts, f"{path}.by_verdict", (), optional=VERDICTS)
    found = Comparison(
        base=read_digest(value["base"], f"{path}.base"),
        derived=read_digest(value["derived"], f"{path}.derived"),
        verdict=read_one_of(value["verdict"], f"{path}.verdict", VERDICTS),
        tensors=read_integer(value["tensors"], f"{path}.tensors", least=0),
        by_verdict={verdict: read_integer(count, f"{path}.by_verdict.{verdict}", least=1) for verdict, count in counts.items()},
        worst=read_measure(value["worst"], f"{path}.worst"),
        mean=read_measure(value["mean"], f"{path}.mean"),
        worst_tensor=read_text(value["worst_tensor"], f"{path}.worst_tensor", least=0),
        wrong=read_text(value["wrong"], f"{path}.wrong", least=0),
    )
    # The verdict is the worst of those of its tensors.
    coarsest = max((VERDICTS.index(verdict) for verdict in found.by_verdict), default=VERDICTS.index(DIFFERENT))
    if sum(found.by_verdict.values()) != found.tensors or (found.is_form and VERDICTS[coarsest] != found.verdict):
        raise FieldError(f"{path}.verdict", "is not what its tensors say")
    if found.verdict == EQUAL and (found.worst or found.mean):
        raise FieldError(f"{path}.worst", "is above 0, and equal tensors differ by nothing")
    return found
