"""What an extraction leaves on record, and that it leaves no vector when it should not."""

import json
import shutil

import pytest
import torch
from django.urls import reverse
from safetensors.torch import load_file, save_file

from registry.blobs import get_blob
from registry.models import Job, JobState, SteeringVector
from registry.services.notices import notices_on_worker
from registry.services.results import FailedSearch, fail_search
from steernode.canonical import parse_strict
from steernode.engine.searching import stages
from steernode.errors import EngineError
from steernode.records.evidence import read_replies
from steernode.records.sweep import read_sweep
from tests.support.demo_data import ROOT, take
from workers import extraction, working
from workers.extraction import extract
from workers.running import Report, run_job
from workers.target import load_target

pytestmark = pytest.mark.django_db(transaction=True)


def finish(job: Job) -> Job:
    run_job(str(job.pk), extract)
    job.refresh_from_db()
    return job


def test_an_extraction_keeps_its_diagnostics_its_splits_and_its_trace(small_job):
    job = finish(small_job(pairs=take("empathy.pairs.jsonl", 60), trace=True))
    assert (job.state, job.error_message) == (JobState.SUCCEEDED, "")
    vector = job.extracted_vector
    sweep = parse_strict(get_blob(vector.sweep_digest))
    assert sum(sweep["splits"].values()) == 60
    assert sweep["diagnostics"]["pairs"] == 60
    assert [finding["code"] for finding in sweep["diagnostics"]["findings"]] == ["PAIRS_FEW"]
    assert float(sweep["trace"]["groups"]["last"]["recovered"][-1]) > 0.5
    assert get_blob(vector.trace_map_digest).startswith(b"\x89PNG")
    # The direction was read from the extract split alone.
    assert 0 < sweep["splits"]["extract"] < 60


def test_nothing_is_traced_unless_the_recipe_asks_for_it(small_job, monkeypatch):
    monkeypatch.setattr(extraction, "trace_behaviour", lambda *_: pytest.fail("it was traced"))
    job = finish(small_job())
    assert (job.state, job.extracted_vector.trace_map_digest) == (JobState.SUCCEEDED, "")
    assert parse_strict(get_blob(job.extracted_vector.sweep_digest))["trace"] == {"missing": "the recipe asks for no trace"}


def test_pairs_that_are_too_long_are_not_traced_and_middling_ones_not_token_by_token(small_job, monkeypatch):
    monkeypatch.setattr(extraction, "MAX_DETAILED_TOKENS", 10)
    pairs = take("empathy.pairs.jsonl", 60)
    job = finish(small_job(pairs=pairs, trace=True))
    trace = parse_strict(get_blob(job.extracted_vector.sweep_digest))["trace"]
    assert not any("tokens" in pair for pair in trace["pairs"])
    SteeringVector.objects.all().delete()
    monkeypatch.setattr(extraction, "MAX_TRACED_TOKENS", 10)
    job = finish(small_job(pairs=pairs, trace=True))
    trace = parse_strict(get_blob(job.extracted_vector.sweep_digest))["trace"]
    assert trace["missing"].endswith("pairs in the select split has at most 10 tokens")


def test_a_job_finds_each_layers_doses_and_says_what_it_does_meanwhile(small_job, monkeypatch):
    entered = []
    enter = working.JobWork.enter
    monkeypatch.setattr(working.JobWork, "enter", lambda work, stage: (entered.append(stage), enter(work, stage))[1])
    job = finish(small_job(pairs=take("empathy.pairs.jsonl", 60), layers=(3, 4), alphas="auto", finalists=1))
    assert (job.state, job.error_message) == (JobState.SUCCEEDED, "")
    assert entered == [
        *(stages.PAIRS, stages.SCORER, stages.SIDES, stages.DIRECTIONS),
        *(stages.DOSES, stages.SCREENING, stages.REPLIES),
    ]
    sweep = parse_strict(get_blob(job.extracted_vector.sweep_digest))
    assert set(sweep["doses"]["layers"]) == {"3", "4"}
    steered = [cell for cell in sweep["cells"] if cell["layer"] is not None]
    assert all(float(cell["dose"]) > 0 and "target_kl" in cell for cell in steered)
    # Both layers at the same doses, and not at the same α.
    grids = [[cell["alpha"] for cell in steered if cell["layer"] == layer and cell["stage"] == "screen"] for layer in (3, 4)]
    assert len(grids[0]) == len(grids[1]) > 2
    assert grids[0] != grids[1]
    assert {"behaviour_low", "perplexity_ratio_high"} <= next(cell for cell in steered if cell["stage"] == "final").keys()


def test_a_job_says_that_its_dtype_is_slow_on_the_worker_that_has_it(small_job, monkeypatch):
    def begin(job: Job, report: Report) -> None:
        working.do_work(job, load_target(job.base_model, "float32"), [], report)
        raise EngineError("NON_FINITE", "ended by the test")

    job = small_job(layers=(3, 4), finalists=1)
    assert [notice["code"] for notice in job.notices] == ["SCREEN_OFF"]
    monkeypatch.setattr(working, "describe_slowness", lambda _device, dtype: f"{dtype} is slow")
    run_job(str(job.pk), begin)
    job.refresh_from_db()
    assert job.notices[1:] == [{"code": "SLOW_DTYPE", "sentence": "float32 is slow"}]
    # The next worker may be another machine.
    assert notices_on_worker(job, "") == job.notices[:1]


IMPOSSIBLE = [{"metric": "facts", "kind": "min", "threshold": "1.1"}]


def test_a_search_in_which_no_cell_passes_leaves_what_it_measured_and_no_vector(small_job):
    job = finish(small_job(pairs=take("empathy.pairs.jsonl", 60), gates=IMPOSSIBLE))
    assert (job.state, job.error_code) == (JobState.FAILED, "NO_CELL_PASSES")
    assert "only facts stops layer 4 at α" in job.error_message
    assert not SteeringVector.objects.exists()
    sweep = read_sweep(parse_strict(get_blob(job.sweep_digest)))
    assert (sweep.chosen, sweep.nearest.layer) == (None, 4)
    assert job.error_message.endswith(sweep.nearest.sentence)
    assert next(cell.alpha for cell in sweep.curve) == 0
    assert [reply.steered.text != "" for reply in read_replies(sweep.document["replies"])] == [True] * 4
    assert sum(sweep.document["splits"].values()) == 60
    assert float(sweep.document["instructions"]["difference"]["low"]) > 0
    assert get_blob(job.heatmap_digest).startswith(b"\x89PNG")


def test_an_attempt_that_lost_its_job_leaves_nothing_of_its_search(small_job):
    job = small_job()
    failure = FailedSearch("NO_CELL_PASSES", "none", read_sweep({}), b"")
    assert not fail_search(job, failure)
    job.refresh_from_db()
    assert (job.state, job.sweep_digest) == (JobState.QUEUED, "")


def test_a_behaviour_that_neither_instruction_brings_about_stops_the_job_before_anything_is_extracted(small_job, monkeypatch):
    rows = [json.loads(line) for line in take("empathy.pairs.jsonl", 60).splitlines()]
    for row in rows:
        row["positive"][0]["content"], row["negative"][0]["content"] = "Be cold and factual.", "Keep feelings out of the reply."
    monkeypatch.setattr(extraction, "extract_candidates", lambda *_: pytest.fail("it was looked for too late"))
    job = finish(small_job(pairs=b"".join(json.dumps(row).encode() + b"\n" for row in rows)))
    assert (job.state, job.error_code) == (JobState.FAILED, "BEHAVIOUR_ABSENT")
    assert "does not do it under either instruction" in job.error_message
    assert not SteeringVector.objects.exists()


def test_a_model_that_overflows_fails_the_job_and_leaves_no_vector(small_job, settings, tmp_path):
    folder = tmp_path / "overflowing"
    shutil.copytree(ROOT / "demo/model", folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"][:, 0] = torch.inf
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    settings.STEERHUB_MODEL_ROOT = tmp_path
    job = small_job(source="overflowing")
    assert finish(job).state == JobState.FAILED
    assert (job.error_code, "empathy-0" in job.error_message) == ("NON_FINITE", True)
    assert not SteeringVector.objects.exists()


def test_pairs_that_point_in_no_common_direction_stop_the_job(small_job):
    rows = [json.loads(line) for line in take("empathy.pairs.jsonl", 40).splitlines()]
    for row in rows[::2]:
        row["positive"], row["negative"] = row["negative"], row["positive"]
    job = finish(small_job(pairs=b"".join(json.dumps(row).encode() + b"\n" for row in rows)))
    assert (job.state, job.error_code) == (JobState.FAILED, "DIFFERENCES_DISAGREE")
    assert not SteeringVector.objects.exists()


def test_a_layer_below_the_reach_of_a_sliding_window_is_left_out_and_named(small_job, ada, client, settings, tmp_path):
    """The sides differ in their system message, which the last prompt token does not see in layer 0."""
    folder = shutil.copytree(ROOT / "demo/model", tmp_path / "windowed")
    config = json.loads((folder / "config.json").read_bytes())
    windowed = {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": 12}
    (folder / "config.json").write_text(json.dumps(config | windowed))
    settings.STEERHUB_MODEL_ROOT = tmp_path
    job = small_job(source="windowed", layers=(0, 4))
    job = finish(job)
    assert (job.state, job.error_message) == (JobState.SUCCEEDED, "")
    sweep = parse_strict(get_blob(job.extracted_vector.sweep_digest))
    [finding] = [each for each in sweep["diagnostics"]["findings"] if each["code"] == "LAYERS_LEFT_OUT"]
    assert finding["sentence"].startswith("layer 0 left out")
    assert job.extracted_vector.layer == 4
    assert {cell["layer"] for cell in sweep["cells"]} == {None, 4}
    client.force_login(ada)
    assert finding["sentence"] in client.get(reverse("console:job", args=[job.pk])).content.decode()
