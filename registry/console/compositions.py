"""Several components judged together: the form that asks for it, and the tables of what came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect

from registry.console.documents import Estimate, list_of_mappings, read_estimate
from registry.console.forms.suites import SuitesForm
from registry.console.pages import accept, action, telling
from registry.models import ProfileRevision, Role
from registry.services.compositions import request_composition

_JOINT = "joint"
_MEASURES = {"refusals": "refusing harmful requests", "divergence": "divergence on neutral prompts"}


@action(Role.AUTHOR)
def compose_revision(request: HttpRequest, revision_id: UUID) -> HttpResponse:
    form = SuitesForm(request.POST)
    if accept(request, form):
        with telling(request):
            job = request_composition(revision=get_object_or_404(ProfileRevision, pk=revision_id), suites=form.suites(), actor=request.user)
            return redirect("console:job", job.pk)
    return redirect("console:revision", revision_id)


@dataclass(frozen=True)
class PartRow:
    """What one component does alone, or all do together. `effects` are the changes of each axis's margin, in nats."""

    name: str
    is_joint: bool
    kept: Estimate | None
    lost: Estimate | None
    divergence: Estimate | None
    norm_share: Estimate | None
    effects: list[Estimate | None]
    verdict: str


@dataclass(frozen=True)
class PairRow:
    """What two components do beyond the sum of what each does, by measure in the order of the table's columns."""

    names: str
    cosine: Estimate | None
    interactions: list[Estimate | None]


@dataclass(frozen=True)
class CompositionTables:
    axes: list[str]
    parts: list[PartRow]
    measures: list[str]
    pairs: list[PairRow]
    breaks_jointly: bool


def read_composition(evidence: Mapping[str, Any]) -> CompositionTables | None:
    """Parts against the whole, and pairs, where there are several; None where the evidence is of a vector."""
    found = evidence.get("composition")
    if not isinstance(found, dict):
        return None
    axes = sorted(_mapping(found, "axes"))
    names = [str(each.get("name", "")) for each in list_of_mappings(found.get("components"))]
    keys = [*(f"axis {axis}" for axis in axes), *_MEASURES]
    return CompositionTables(
        axes=axes,
        parts=[_read_part(found, name, axes) for name in ((*names, _JOINT) if len(names) > 1 else names)],
        measures=[*axes, *_MEASURES.values()],
        pairs=[
            PairRow(
                " and ".join(str(name) for name in pair.get("parts", []) if isinstance(name, str)),
                read_estimate(pair.get("cosine")),
                [read_estimate(_mapping(pair, "interaction").get(key)) for key in keys],
            )
            for pair in list_of_mappings(found.get("pairs"))
        ],
        breaks_jointly=found.get("breaks_jointly") is True,
    )


def _read_part(found: Mapping[str, Any], name: str, axes: list[str]) -> PartRow:
    refusals = _mapping(found, "refusals", name)
    shares = [estimate for share in _mapping(found, "norm_shares", name).values() if (estimate := read_estimate(share))]
    verdicts = {gate.get("verdict") for gate in list_of_mappings(_mapping(found, "gates").get(name))}
    return PartRow(
        name=name,
        is_joint=name == _JOINT,
        kept=read_estimate(refusals.get("kept")),
        lost=read_estimate(refusals.get("lost")),
        divergence=read_estimate(_mapping(found, "divergence", "effects", name).get("p95")),
        norm_share=max(shares, key=lambda share: share.value, default=None),
        effects=[read_estimate(_mapping(found, "axes", axis, "effects").get(name)) for axis in axes],
        verdict="pass" if verdicts == {"pass"} else "fail" if verdicts else "unknown",
    )


def _mapping(value: Any, *path: str) -> Mapping[str, Any]:
    """What stands at the path, or nothing: documents come from the store, and nothing about them is taken for granted."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}
