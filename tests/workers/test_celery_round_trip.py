"""Jobs through a real broker and a real worker process, on the reference model: over the filesystem, and over Redis."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import current_app

from demo.processes import free_port
from registry.blobs import get_blob
from registry.models import Job, JobState, SteeringVector
from registry.services.job_requests import request_validation
from steernode.canonical import parse_strict
from steernode.files.vectors import read_vector
from tests.support.celery_workers import celery_over, start_worker, wait_for
from tests.support.demo_data import take
from tests.support.tiny_models import save_model

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.e2e]


@pytest.fixture
def redis_url(tmp_path) -> Iterator[str]:
    server = shutil.which("redis-server")
    if server is None:
        if os.environ.get("CI") == "true":
            pytest.fail("redis-server is not installed; CI installs it from Debian's package")
        pytest.skip("redis-server is not installed")
    port = free_port()
    process = subprocess.Popen(
        [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)], stdout=subprocess.DEVNULL
    )
    yield f"redis://127.0.0.1:{port}/0"
    process.terminate()
    process.wait(10)


@pytest.fixture
def filesystem_url() -> str:
    return "filesystem://"


@pytest.fixture
def filesystem_broker(filesystem_url, tmp_path) -> Iterator[str]:
    with celery_over(filesystem_url, make_folders(tmp_path)):
        yield filesystem_url


@pytest.fixture(params=["filesystem", pytest.param("redis", marks=pytest.mark.redis)])
def broker(request, tmp_path) -> Iterator[str]:
    """The URL of a real broker, which this process's Celery application uses for one test."""
    url = request.getfixturevalue(f"{request.param}_url")
    with celery_over(url, make_folders(tmp_path) if request.param == "filesystem" else {}):
        yield url


def make_folders(tmp_path: Path) -> dict[str, str]:
    """The folders of the filesystem's broker, as its options."""
    messages, control = tmp_path / "broker/messages", tmp_path / "broker/control"
    for folder in (messages, control):
        folder.mkdir(parents=True)
    return {"data_folder_in": str(messages), "data_folder_out": str(messages), "control_folder": str(control)}


def test_job_goes_through_broker_and_worker_process(broker, small_job, settings, tmp_path):
    job = small_job()
    worker = start_worker(broker, settings, tmp_path)
    try:
        wait_until_finished(job, worker, tmp_path)
    finally:
        worker.terminate()
        worker.wait(30)
    assert (job.state, job.error_message, job.attempt) == (JobState.SUCCEEDED, "", 1)
    assert job.extracted_vector.layer == 4
    assert job.extracted_vector.contrast_set.pair_count == 16
    assert (job.recipe["model_dtype"], job.device.endswith("), float32")) == ("float32", True)


def test_a_worker_runs_a_model_in_the_dtype_of_its_recipe(ada, filesystem_broker, small_job, settings, tmp_path):
    settings.STEERHUB_MODEL_ROOT = tmp_path
    save_model(tmp_path / "tiny", "llama")
    config = json.loads((tmp_path / "tiny/config.json").read_text())
    (tmp_path / "tiny/config.json").write_text(json.dumps(config | {"max_position_embeddings": 4096}))
    # Random weights have no behaviour; system messages of one letter each give them a direction to find.
    pairs = [json.loads(line) for line in take("empathy.pairs.jsonl", 16).splitlines()]
    for side, letter in (("positive", "a"), ("negative", "z")):
        for pair in pairs:
            pair[side] = [{"role": "system", "content": letter * 40}, *pair[side][-1:]]
    told = "\n".join(json.dumps(pair) for pair in pairs).encode()
    job = small_job("tiny", told, layers=[2], read_position="all", max_new_tokens=4, model_dtype="bfloat16")
    worker = start_worker(filesystem_broker, settings, tmp_path, STEERHUB_WORKER_DEVICE="cpu", STEERHUB_MODEL_ROOT=str(tmp_path))
    try:
        wait_until_finished(job, worker, tmp_path)
        assert (job.state, job.error_message) == (JobState.SUCCEEDED, "")
        vector = SteeringVector.objects.get(job=job)
        lineage = read_vector(get_blob(vector.digest)).lineage
        assert (lineage["model_dtype"], lineage["kernels"].split()[0]) == ("bfloat16", "CPU")
        validation = request_validation(vector=vector, suites=list(job.suites.all()), actor=ada)
        wait_until_finished(validation, worker, tmp_path)
        assert (validation.state, validation.error_message) == (JobState.SUCCEEDED, "")
    finally:
        worker.terminate()
        worker.wait(30)
    engine = parse_strict(get_blob(validation.result_digest))["engine"]
    assert (engine["dtype"], engine["device"], engine["device_name"]) == ("bfloat16", "cpu", lineage["device_name"])
    assert engine["attention"] in ("sdpa", "eager")
    for finished in (job, validation):
        assert finished.device.endswith("), bfloat16")
        assert finished.peak_memory_bytes > 0


REFUSED = [
    ("cuda:7", [], "steerhub.E025"),
    ("gpu", [], "steerhub.E019"),
    ("cpu", ["--concurrency", "2"], "steerhub.E024"),
]


@pytest.mark.parametrize(("device", "arguments", "named"), REFUSED)
def test_a_worker_that_cannot_have_its_device_alone_does_not_start(filesystem_broker, settings, tmp_path, device, arguments, named):
    worker = start_worker(filesystem_broker, settings, tmp_path, *arguments, STEERHUB_WORKER_DEVICE=device)
    try:
        assert worker.wait(300) != 0
    finally:
        worker.kill()
    assert named in (tmp_path / "worker.log").read_text()


# By name: what is put where a message should be.
UNREADABLE = {
    "not JSON": b"{not json",
    "empty": b"",
    "not UTF-8": b"\xff\xfe",
    "a number": b"5",
    "a list": b"[]",
    "an empty object": b"{}",
    "no delivery tag": b'{"properties": {}}',
    "a body that is no base64": b'{"body": "5", "properties": {"delivery_tag": "a", "body_encoding": "base64"}}',
}
# Whole messages that are no task of ours: Celery itself meets these.
OURS, NO_ARGUMENTS = {"task": "workers.sweeper.run"}, "W1tdLCB7fSwge31d"
FOREIGN = {
    "of an unknown content type": {"body": "eA==", "content-type": "application/x-python-serialize", "headers": OURS | {"id": "w"}},
    "of an unknown task": {"body": NO_ARGUMENTS, "content-type": "application/json", "headers": {"task": "no.such", "id": "x"}},
    "without headers": {"body": "W10=", "content-type": "application/json", "headers": None},
    "without an id": {"body": NO_ARGUMENTS, "content-type": "application/json", "headers": OURS},
    "with a body of another shape": {"body": "NQ==", "content-type": "application/json", "headers": OURS | {"id": "y", "argsrepr": 5}},
}


def test_messages_that_nobody_can_read_are_set_aside_and_the_worker_goes_on(filesystem_url, settings, tmp_path):
    options = make_folders(tmp_path)
    messages = tmp_path / "broker/messages"
    for number, data in enumerate(UNREADABLE.values()):
        (messages / f"000{number}_bad.steerhub.msg").write_bytes(data)
    (messages / "0010_gone.steerhub.msg").symlink_to("/nowhere")
    (messages / "0011_folder.steerhub.msg").mkdir()
    for number, message in enumerate(FOREIGN.values()):
        (messages / f"002{number}_foreign.steerhub.msg").write_text(json.dumps(message_of(message, str(number))))
    with celery_over(filesystem_url, options):
        worker = start_worker(filesystem_url, settings, tmp_path)
        try:
            wait_for(lambda: not list(messages.glob("00*")), worker, tmp_path)
            do_something(worker, tmp_path)
        finally:
            worker.terminate()
            worker.wait(30)
    aside, log = sorted(path.name for path in (tmp_path / "broker/unreadable").iterdir()), (tmp_path / "worker.log").read_text()
    assert aside == sorted(
        [f"000{number}_bad.steerhub.msg" for number in range(len(UNREADABLE))] + ["0010_gone.steerhub.msg", "0011_folder.steerhub.msg"]
    )
    assert [name for name in aside if f"unreadable/{name}" not in log] == []
    assert "no.such" in log


@pytest.mark.redis
def test_messages_that_nobody_can_read_do_not_end_a_worker_on_redis(redis_url, settings, tmp_path):
    with celery_over(redis_url, {}):
        worker = start_worker(redis_url, settings, tmp_path)
        try:
            with current_app.connection_for_write() as link:
                channel = link.default_channel
                for data in (*UNREADABLE.values(), *(json.dumps(message_of(each, name)).encode() for name, each in FOREIGN.items())):
                    channel.client.lpush("steerhub", data)
                wait_for(lambda: channel.client.llen("steerhub") == 0, worker, tmp_path)
            do_something(worker, tmp_path)
        finally:
            worker.terminate()
            worker.wait(30)


def do_something(worker: subprocess.Popen, tmp_path: Path) -> None:
    current_app.send_task("workers.sweeper.run")
    log = tmp_path / "worker.log"
    wait_for(lambda: re.search(r"Task workers\.sweeper\.run\S* succeeded", log.read_text()), worker, tmp_path)
    assert worker.poll() is None


def message_of(message: dict, tag: str) -> dict:
    delivery = {"exchange": "steerhub", "routing_key": "steerhub"}
    properties = {"delivery_tag": tag, "body_encoding": "base64", "delivery_info": delivery, "delivery_mode": 2, "priority": 0}
    return {"content-encoding": "utf-8", "properties": properties, **message}


def test_broker_that_is_down_does_not_lose_or_refuse_a_job(small_job, caplog):
    with celery_over(f"redis://127.0.0.1:{free_port()}/0", {}):
        job = small_job()
    job.refresh_from_db()
    assert job.state == JobState.QUEUED
    assert "the broker did not take its message" in caplog.text


def wait_until_finished(job: Job, worker: subprocess.Popen, tmp_path: Path) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and worker.poll() is None:
        job.refresh_from_db()
        if job.is_finished:
            return
        time.sleep(0.2)
    pytest.fail(f"the job is {job.state} in stage {job.stage!r}; the worker's log ends:\n{(tmp_path / 'worker.log').read_text()[-3000:]}")
