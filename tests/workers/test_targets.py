"""What a worker keeps between jobs: one model, in the recipe's dtype, from files that nobody writes to, for as long as somebody asks."""

import time

import pytest
import torch

from registry.models import Job
from registry.services.base_models import register_base_model
from registry.services.job_requests import request_extraction
from steernode.errors import EngineError, ModelError
from steernode.placement import Device
from tests.support.tiny_models import save_model
from workers import devices, target
from workers.running import run_job
from workers.target import confirm_target, leave_target, load_target

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def tiny(ada, settings, tmp_path):
    """A registered model that loads in a moment."""
    settings.STEERHUB_MODEL_ROOT = tmp_path
    save_model(tmp_path / "tiny", "llama")
    yield register_base_model("tiny", source="tiny", actor=ada)
    target._stop_waiting()
    target._kept = None


@pytest.fixture
def job(ada, base_model, contrast_set, suites) -> Job:
    return request_extraction(base_model=base_model, contrast_set=contrast_set, suites=suites, recipe={"vector": "empathy"}, actor=ada)


def test_a_model_is_loaded_once_for_each_dtype_that_is_asked_for(tiny):
    first = load_target(tiny, "float32")
    assert load_target(tiny, "float32") is first
    half = load_target(tiny, "bfloat16")
    assert (first.dtype, half.dtype) == (torch.float32, torch.bfloat16)


def test_one_model_under_two_names_is_loaded_once_and_says_under_which(tiny, ada):
    again = register_base_model("tiny-again", source=tiny.source, actor=ada)
    first, second = load_target(tiny, "float32"), load_target(again, "float32")
    assert (first.name, second.name) == ("tiny", "tiny-again")
    assert first.model is second.model


def test_files_that_were_written_to_since_they_were_loaded_fail_the_job_that_worked_from_them(tiny, tmp_path):
    load_target(tiny, "float32")
    confirm_target(tiny)
    weights = tmp_path / "tiny/model.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(bytes(len(before)))
    # Put back, so that only the stamp tells.
    weights.write_bytes(before)
    with pytest.raises(ModelError, match="ask again") as refused:
        confirm_target(tiny)
    assert refused.value.code == "FOLDER_CHANGED"


def test_files_that_were_written_to_between_jobs_are_loaded_anew(tiny, tmp_path):
    first = load_target(tiny, "float32")
    weights = tmp_path / "tiny/model.safetensors"
    weights.write_bytes(weights.read_bytes())
    assert load_target(tiny, "float32") is not first


def test_a_file_that_is_gone_has_a_code(tiny, tmp_path):
    load_target(tiny, "float32")
    (tmp_path / "tiny/generation_config.json").unlink(missing_ok=True)
    (tmp_path / "tiny/tokenizer_config.json").unlink()
    with pytest.raises(ModelError):
        confirm_target(tiny)


def test_a_model_that_nobody_asks_for_is_released(tiny, settings):
    settings.STEERHUB_WORKER_IDLE_SECONDS = 0
    load_target(tiny, "float32")
    leave_target()
    deadline = time.monotonic() + 5
    while target._kept is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert target._kept is None


def test_a_model_that_is_asked_for_again_is_kept(tiny, settings):
    settings.STEERHUB_WORKER_IDLE_SECONDS = 0.3
    first = load_target(tiny, "float32")
    leave_target()
    assert load_target(tiny, "float32") is first
    time.sleep(0.5)
    assert target._kept is not None


def test_a_job_says_what_it_takes_of_its_machine(job, tiny):
    with torch.inference_mode():
        load_target(tiny, "bfloat16").model(input_ids=torch.zeros(2, 5, dtype=torch.long))
    seen = []

    def work(job, report):
        report("counting")
        seen.append(Job.objects.get(pk=job.pk))
        raise EngineError("ENOUGH", "seen")

    run_job(str(job.pk), work)
    assert seen[0].device.startswith("cpu (")
    assert seen[0].device.endswith("), bfloat16")
    assert seen[0].peak_memory_bytes > 2**20


def test_a_job_without_a_model_says_nothing_of_a_machine(job):
    def work(job, report):
        report("reading")
        raise EngineError("ENOUGH", "seen")

    run_job(str(job.pk), work)
    job.refresh_from_db()
    assert (job.error_code, job.device, job.peak_memory_bytes) == ("ENOUGH", "", None)


def test_a_lost_gpu_gives_the_job_back_and_ends_the_worker(job, monkeypatch):
    sent = []
    monkeypatch.setattr("workers.running.os.kill", lambda *call: sent.append(call))

    def work(job, report):
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    assert run_job(str(job.pk), work).startswith("lost with its GPU")
    assert len(sent) == 1
    job.refresh_from_db()
    assert (job.state, job.error_code) == ("running", "")
    assert "lost its GPU" in job.note


GPUS = (
    Device("cpu", "EPYC", "cpu", 1, 1),
    Device("cuda:0", "H200", "GPU-a", 1, None),
    Device("cuda:1", "H200", "GPU-b", 1, None),
)


@pytest.fixture
def hold(monkeypatch, tmp_path):
    """What another worker of this host would get: a lock belongs to the file that was opened, so one process can be several."""
    kept = []

    def claim(*wanted):
        monkeypatch.setattr(devices, "_locks", {})
        kept.append(devices._locks)
        return [device.name for device in devices.claim_devices(wanted, GPUS, tmp_path / "locks")]

    return claim


def test_each_worker_takes_the_next_gpu_and_the_one_too_many_is_refused(hold):
    assert [hold("auto"), hold("auto")] == [["cuda:0"], ["cuda:1"]]
    with pytest.raises(ModelError, match="each of the 2 GPUs") as refused:
        hold("auto")
    assert refused.value.code == "DEVICE_TAKEN"


def test_two_workers_asked_onto_one_gpu_are_refused_and_take_no_other(hold):
    assert hold("cuda:1") == ["cuda:1"]
    for wanted in (["cuda:1"], ["cuda:0", "cuda:1"]):
        with pytest.raises(ModelError, match="has a worker already") as refused:
            hold(*wanted)
        assert refused.value.code == "DEVICE_TAKEN"
    assert hold("cuda:0") == ["cuda:0"]


def test_any_number_of_workers_may_share_the_cpu(hold):
    assert [hold("cpu"), hold("cpu")] == [["cpu"], ["cpu"]]


def test_a_worker_that_cannot_say_that_a_gpu_is_its_own_is_refused(hold, tmp_path):
    (tmp_path / "locks").write_text("no folder")
    with pytest.raises(ModelError, match="cannot be written") as refused:
        hold("cuda:0")
    assert refused.value.code == "DEVICE_LOCK"
    assert hold("cpu") == ["cpu"]
