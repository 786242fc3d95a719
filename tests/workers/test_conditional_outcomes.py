"""A vector that acts only on some requests, through real jobs on the reference model: measured where it acts, and as it is served."""

import json

import pytest

from registry.blobs import get_blob
from registry.models import Job, JobState
from registry.services.compositions import request_composition
from registry.services.evals import seal_eval_suite
from registry.services.job_requests import request_extraction, request_validation
from registry.services.probes import request_probe
from registry.services.prompts import seal_prompt_set
from registry.services.recipes import ask_again
from steernode.canonical import parse_strict
from steernode.records.recipe import ExtractionRecipe
from tests.support.components import add, restate
from tests.support.demo_data import DATA, take
from tests.support.drafts import draft_of, make_suites
from tests.support.prompts import SPLITS
from workers.composition import compose
from workers.extraction import extract
from workers.probing import probe
from workers.running import run_job
from workers.validation import validate

pytestmark = pytest.mark.django_db(transaction=True)

BILLING = {"kind": "intent", "labels": ["billing"]}
SERVED = "You answer for Harbor."


def finish(job: Job, work) -> Job:
    run_job(str(job.pk), work)
    job.refresh_from_db()
    assert (job.state, job.error_message) == (JobState.SUCCEEDED, "")
    return job


@pytest.fixture
def suites(small_job, ada) -> list:
    """Those of the small job, whose tickets are in turn of billing and of something else."""
    rows = [json.loads(line) for line in take("tickets.jsonl", 6).splitlines()]
    said = [{**row, "intent": ("billing", "technical")[place % 2]} for place, row in enumerate(rows)]
    data = b"".join(json.dumps(row).encode() + b"\n" for row in said)
    rubric = (DATA / "empathy.rubric.jsonl").read_bytes()
    tickets = seal_eval_suite("of-intents", kind="behaviour", data=data, rubric=rubric, author=ada)
    return [tickets, *small_job().suites.exclude(kind="behaviour")]


@pytest.fixture
def of_whole(small_job, suites, ada) -> list:
    """By which components together are judged: with requests of both kinds on the test split."""
    return [suites[0], *make_suites(small_job().suites.exclude(kind="behaviour"), ada)]


@pytest.fixture
def make(small_job, suites, ada):
    """The vector of the small job, by these suites and with this said in its recipe."""
    first = small_job()

    def run(**said):
        recipe = {**ask_again(ExtractionRecipe.from_document(first.recipe), first.base_model), "vector": "warm", **said}
        inputs = {"base_model": first.base_model, "contrast_set": first.contrast_set, "suites": suites}
        return finish(request_extraction(**inputs, recipe=recipe, actor=ada), extract).extracted_vector

    return run


def test_a_vector_is_validated_where_it_acts_and_judged_anew_where_it_is_to_act_elsewhere(make, suites, of_whole, ada):
    vector = make(condition=BILLING, system_message=SERVED)
    evaluation = finish(request_validation(vector=vector, suites=suites, actor=ada), validate).evaluation
    evidence = parse_strict(get_blob(evaluation.digest))
    assert evidence["candidate"]["condition"] == evaluation.condition == BILLING
    assert evidence["run"]["system_message"] == evaluation.system_message == SERVED
    assert evidence["acting"]["behaviour"] == {"items": 6, "acts_on": 3}
    everywhere = draft_of([add(vector, "0.2")], ada)
    judged = finish(request_composition(revision=everywhere, suites=of_whole, actor=ada), compose).evaluation
    evidence = parse_strict(get_blob(judged.digest))
    assert (evidence["items"]["behaviour"], "acting" in evidence) == (6, False)
    assert evidence["run"]["system_message"] == judged.system_message == SERVED


def test_a_probe_on_record_decides_in_validation_and_in_composition(make, suites, of_whole, ada):
    texts = {name: [json.loads(line) for line in (DATA / f"{name}.jsonl").read_bytes().splitlines()] for name in ("tickets", "facts")}
    rows = [
        {**{key: item[key] for key in ("id", "messages", "locale", "product")}, "split": split, "label": name}
        for place, split in enumerate(SPLITS)
        for name in texts
        for item in texts[name][20 * place : 20 * (place + 1)]
    ]
    prompts = seal_prompt_set("intents", data=b"".join(json.dumps(row).encode() + b"\n" for row in rows), author=ada)
    vector = make()
    recipe = {"probe": "complaints", "intent": "tickets", "below": 3, "read_position": "all"}
    finish(request_probe(base_model=vector.base_model, prompt_set=prompts, recipe=recipe, actor=ada), probe)
    vector = make(vector="complaints-only", condition={"kind": "probe", "probe": "complaints"}, dtype="F16")
    evaluation = finish(request_validation(vector=vector, suites=suites, actor=ada), validate).evaluation
    evidence = parse_strict(get_blob(evaluation.digest))
    assert evidence["candidate"]["condition"] == evaluation.condition
    assert evidence["acting"]["facts"]["acts_on"] < evidence["acting"]["facts"]["items"]
    assert evidence["acting"]["refusals"]["acts_on"] == evidence["acting"]["refusals"]["items"]
    kept = restate(add(vector, "0.2"), condition=evidence["candidate"]["condition"], preserve_norm=True)
    kept.condition = {"kind": "probe", "probe": vector.base_model.probes.get()}
    judged = finish(request_composition(revision=draft_of([kept], ada), suites=of_whole, actor=ada), compose).evaluation
    together = parse_strict(get_blob(judged.digest))
    assert all(together["acting"][name] == evidence["acting"][name] for name in ("behaviour", "facts"))
