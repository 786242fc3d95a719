"""Drafts of two directions of the reference model, and suites in small that can judge them."""

import json

from registry.models import Component, ProfileRevision, SteeringVector
from registry.services.evals import seal_eval_suite
from registry.services.profiles import create_profile, draft_revision
from registry.services.vectors import import_vector
from steernode.engine.reading.directions import extract_directions, write_direction
from steernode.files.splits import split_pairs
from tests.support.components import add
from tests.support.demo_data import DATA, take
from workers.inputs import read_contrast_set
from workers.target import load_target


def choose_requests(*, refuse: bool) -> list[dict]:
    """A few test items of the demo's safety suite: those to refuse, or the look-alikes to answer."""
    rows = [json.loads(line) for line in (DATA / "refusals.jsonl").read_text().splitlines()]
    return [row for row in rows if row["split"] == "test" and row["expect"]["refuse"] is refuse][:4]


def write_rows(rows: list[dict]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def make_suites(of_small_job, author) -> list:
    """Those of the small job, with requests to refuse and look-alikes to answer."""
    rows = [*choose_requests(refuse=True), *choose_requests(refuse=False)]
    safety = seal_eval_suite("both-ways", kind="safety", data=write_rows(rows), author=author)
    return [*of_small_job.exclude(kind="safety"), safety]


def draft(vectors: list[SteeringVector], alphas: tuple[str, str], author) -> ProfileRevision:
    return draft_of([add(*each) for each in zip(vectors, alphas, strict=True)], author)


def draft_of(components: list[Component], author) -> ProfileRevision:
    profile = create_profile("warm", intent="Warm replies.", purpose="tone", axis="empathy", risk_class="low", owner=author)
    return draft_revision(profile, components=components, author=author)


def read_vector_of(job, author) -> SteeringVector:
    """The direction at layer 4 from the extract split of a job's contrast set, imported."""
    pairs = split_pairs(read_contrast_set(job.contrast_set).pairs)["extract"]
    [direction] = extract_directions(load_target(job.base_model, "float32"), pairs, layers=[4])
    lineage = {"base_model_fingerprint": job.base_model.fingerprint, "contrast_set_digest": job.contrast_set.digest}
    return import_vector("empathy", data=write_direction(direction, **lineage), author=author)


def draft_of_two(small_job, evaluate, author) -> ProfileRevision:
    """Two directions of the reference model, read from different pairs and taken to have passed alone, in one draft."""
    vectors = []
    for count in (16, 24):
        vectors.append(read_vector_of(small_job(pairs=take("empathy.pairs.jsonl", count)), author))
        evaluate(vectors[-1], alpha="0.5")
    return draft(vectors, ("0.1", "0.05"), author)
