"""What a job that trains a probe leaves on record, how it goes on, and what it refuses."""

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from registry.blobs import get_blob
from registry.models import Job, JobState, JobStep, Probe
from registry.services.base_models import register_base_model
from registry.services.probes import request_probe
from registry.services.prompts import seal_prompt_set
from registry.services.steps import keep_steps
from steernode.canonical import parse_strict, sha256_hex
from steernode.errors import SteerError
from steernode.files.vectors import read_vector
from steernode.snapshot.conditions import parse_condition
from tests.support.demo_data import DATA, ROOT
from tests.support.prompts import SPLITS
from workers import working
from workers.probing import probe
from workers.running import run_job

pytestmark = pytest.mark.django_db(transaction=True)


class Killed(BaseException):
    """Ends an attempt as a signal does."""


def labelled_prompts(*, mixed: bool = False) -> bytes:
    """Tickets are of the intent, questions of fact are not; twenty of each in each split."""
    texts = {name: [json.loads(line) for line in (DATA / f"{name}.jsonl").read_bytes().splitlines()] for name in ("tickets", "facts")}
    rows = []
    for place, split in enumerate(SPLITS):
        for name, label in (("tickets", "complaint"), ("facts", "question")):
            for number, item in enumerate(texts[name][20 * place : 20 * (place + 1)]):
                said = ("complaint", "question")[number % 2] if mixed else label
                rows.append({**{key: item[key] for key in ("id", "messages", "locale", "product")}, "split": split, "label": said})
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@pytest.fixture
def ask(ada, settings):
    settings.STEERHUB_MODEL_ROOT = ROOT

    def ask(prompts: bytes = b"", *, again: bool = False, **recipe) -> Job:
        return request_probe(
            base_model=register_base_model("harbor-support", source="demo/model", actor=ada),
            prompt_set=seal_prompt_set("intents", data=prompts or labelled_prompts(), author=ada),
            recipe={"probe": "complaints", "intent": "complaint", "below": 3, "read_position": "all", **recipe},
            actor=ada,
            again=again,
        )

    return ask


def finish(job: Job) -> Job:
    run_job(str(job.pk), probe)
    job.refresh_from_db()
    return job


def test_a_job_leaves_a_sealed_probe_with_its_roc(ask):
    job = finish(ask())
    assert (job.state, job.error_message) == (JobState.SUCCEEDED, "")
    made = Probe.objects.get(job=job)
    assert job.result_digest == made.document_digest
    assert (made.name, made.version, made.intent, str(made)) == ("complaints", 1, "complaint", "complaints v1")
    assert made.layer < 3
    document = parse_strict(get_blob(made.document_digest))
    assert [each["layer"] for each in document["layers"]] == [0, 1, 2]
    assert document["prompt_set"] == made.prompt_set.digest
    assert float(made.held_out["auc"]["low"]) >= 0.7
    assert set(made.held_out["by_locale"]) >= {"en-US"}
    assert get_blob(made.roc_digest).startswith(b"\x89PNG")
    file = read_vector(get_blob(made.digest), d_model=job.base_model.d_model)
    assert file.lineage["contrast_set_digest"] == made.prompt_set.digest
    assert parse_condition(made.condition).vector.sha256 == made.digest == sha256_hex(get_blob(made.digest))
    # Another threshold on the same direction is another probe.
    other = finish(ask(target_false_positive_rate="0.2", layers=[made.layer]))
    assert (other.trained_probe.digest, other.trained_probe.version) == (made.digest, 2)
    again = finish(ask(target_false_positive_rate="0.2", layers=[made.layer]))
    assert (again.state, again.error_code) == (JobState.FAILED, "PROBE_EXISTS")


def test_an_attempt_that_is_killed_goes_on_and_leaves_the_same(ask, monkeypatch):
    whole = finish(ask()).trained_probe
    Probe.objects.all().delete()
    job = ask(again=True)
    kept = []

    def keep(job: Job, steps: list[JobStep]) -> bool:
        is_ours = keep_steps(job, steps)
        kept.extend(steps)
        if len(kept) >= 2:
            raise Killed
        return is_ours

    with monkeypatch.context() as patch:
        patch.setattr(working, "keep_steps", keep)
        with pytest.raises(Killed):
            run_job(str(job.pk), probe)
    assert JobStep.objects.filter(job=job).count() == 2
    Job.objects.filter(pk=job.pk).update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    job = finish(job)
    assert (job.state, job.attempt, job.progress_done) == (JobState.SUCCEEDED, 2, job.progress_total)
    assert (job.trained_probe.digest, job.trained_probe.document_digest) == (whole.digest, whole.document_digest)
    assert not JobStep.objects.filter(job=job).exists()


def test_classes_that_do_not_separate_leave_no_probe_and_say_the_auc(ask):
    job = finish(ask(labelled_prompts(mixed=True)))
    assert (job.state, job.error_code) == (JobState.FAILED, "PROBE_NOT_SEPARATED")
    assert "AUC 0." in job.error_message
    assert not Probe.objects.exists()


@pytest.mark.parametrize(
    ("recipe", "code"),
    [
        ({"intent": "billing"}, "PROBE_INTENT"),
        ({"intent": ""}, "PROBE_INTENT"),
        ({"target_false_positive_rate": "0.01"}, "PROBE_TOO_FEW"),
        ({"target_false_positive_rate": "1"}, "RECIPE_TARGET_FALSE_POSITIVE_RATE"),
        ({"target_false_positive_rate": "few"}, "RECIPE_TARGET_FALSE_POSITIVE_RATE"),
        ({"least_auc": "0"}, "RECIPE_LEAST_AUC"),
        ({"layers": [3]}, "PROBE_LAYER"),
        ({"below": 0}, "PROBE_LAYER"),
        ({"below": 99}, "LAYER_RANGE"),
        ({"layers": []}, "RECIPE_LAYERS"),
        ({"layers": "all"}, "RECIPE_LAYERS"),
        ({"read_position": "assistant_tokens"}, "RECIPE_READ_POSITION"),
        ({"site": "head"}, "RECIPE_SITE"),
        ({"probe": "a b"}, "RECIPE_PROBE"),
        ({"surprise": 1}, "RECIPE_UNKNOWN_FIELD"),
    ],
)
def test_what_could_give_no_probe_is_refused_before_a_worker_has_it(ask, recipe, code):
    with pytest.raises(SteerError) as refused:
        ask(**recipe)
    assert refused.value.code == code
    assert not Job.objects.exists()
