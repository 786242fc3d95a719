"""Lineage as a row of linked boxes: every record that had to exist before this one, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass

from django.urls import reverse

from registry.models import ProfileRevision, SteeringVector
from registry.reads.evidence import latest_evaluation


@dataclass(frozen=True)
class Box:
    """One record of the lineage. `digest` is its identity; `state` is what it is in now."""

    noun: str
    title: str
    url: str = ""
    digest: str = ""
    state: str = ""
    note: str = ""
    is_here: bool = False


@dataclass(frozen=True)
class Step:
    """One step of the pipeline; several boxes where several records came of the step before."""

    boxes: list[Box]


def trace_vector(vector: SteeringVector, here: ProfileRevision | None = None) -> list[Step]:
    """contrast set (on a base model) -> job -> vector -> evaluation -> revisions."""
    base_model = vector.base_model
    sources = [Box("Base model", base_model.name, reverse("console:base-model", args=[base_model.pk]), base_model.fingerprint)]
    if vector.contrast_set is not None:
        contrast_set = vector.contrast_set
        url = reverse("admin:registry_contrastset_change", args=[contrast_set.pk])
        sources.insert(0, Box("Contrast set", str(contrast_set), url, contrast_set.digest, note=f"{contrast_set.pair_count} pairs"))
    steps = [Step(sources)]
    if vector.job is not None:
        job = vector.job
        steps.append(Step([Box("Job", job.get_kind_display(), reverse("console:job", args=[job.pk]), state=job.state)]))
    steps.append(
        Step(
            [
                Box(
                    "Vector",
                    str(vector),
                    reverse("console:vector", args=[vector.pk]),
                    vector.digest,
                    note=f"layer {vector.layer}, {vector.site}{', imported: lineage claimed' if vector.is_lineage_claimed else ''}",
                    is_here=here is None,
                )
            ]
        )
    )
    evaluation = latest_evaluation(vector)
    if evaluation is not None:
        note = f"α = {evaluation.alpha.normalize():f} {evaluation.get_unit_display().lower()}"
        url = reverse("console:job", args=[evaluation.job_id])
        steps.append(Step([Box("Evaluation", "Test split, once", url, evaluation.digest, evaluation.verdict, note)]))
    revisions = ProfileRevision.objects.filter(components__vector=vector).select_related("profile").distinct().order_by("-created_at")
    if revisions:
        steps.append(Step([_box_revision(revision, here) for revision in revisions[:4]]))
    return steps


def _box_revision(revision: ProfileRevision, here: ProfileRevision | None) -> Box:
    url = reverse("console:revision", args=[revision.pk])
    return Box("Revision", str(revision), url, revision.digest, revision.state, is_here=revision == here)
