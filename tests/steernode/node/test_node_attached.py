"""A service of somebody else's: it follows and decides with the public modules alone, and answers in its own way."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from steernode.canonical import sha256_hex
from steernode.files.vectors import read_vector
from steernode.node.deciding import decide
from steernode.node.identity import enroll_here
from steernode.node.report import describe_report
from tests.support.hub_simulator import D_MODEL, ENROLMENT_TOKEN, VECTOR, make_content, make_profile
from tests.support.node_rig import effective
from tests.support.serving import wait_until

KILLED = make_content(kills=[{"kind": "everything", "target": ""}])


@pytest.fixture
def service(hub, hub_url, tmp_path, monkeypatch):
    """The names of the example in docs/operations.md, as it runs beside this test's hub."""
    page = (Path(__file__).parents[3] / "docs/operations.md").read_text()
    [example] = [block.removeprefix("python\n") for block in page.split("```") if block.startswith("python\n")]
    monkeypatch.chdir(tmp_path)
    enroll_here(Path("store"), hub_url=hub_url, name="node-1", secret=ENROLMENT_TOKEN)
    names = {}
    exec(example, names)  # noqa: S102
    yield names
    names["runner"].stop(wait_seconds=0.1)
    names["client"].close()


def test_the_documented_service_is_told_what_to_add_and_stops_with_a_kill(hub, service):
    assert service["steering_of"]("harbor", "") == ("no_snapshot", [])
    hub.publish(1)
    wait_until(lambda: service["steering_of"]("harbor", "")[0] == "flag_on")
    _, [(layer, coefficient, direction)] = service["steering_of"]("harbor", "chat")
    assert (layer, str(coefficient)) == (6, "20.60")
    assert np.array_equal(direction, read_vector(VECTOR, d_model=D_MODEL).direction)
    assert service["steering_of"]("atlas", "") == ("no_flag", [])
    wait_until(lambda: hub.requests[-1]["etag"] == hub.etag)
    hub.publish(2, content=KILLED)
    wait_until(lambda: service["steering_of"]("harbor", "") == ("killed_everything", []))
    wait_until(lambda: hub.reports[-1]["revision"] == 2)
    report = hub.reports[-1]
    assert (report["result"], report["engine"], report["counters"]["snapshots_applied"]) == ("ACK", "sidecar 1.0", 2)


def test_following_and_deciding_load_nothing_of_a_request():
    of_requests = {"responder", "gate", "serve"}
    heavy = {*(f"steernode.node.{name}" for name in of_requests), "steernode.files.conversations", "steernode.engine", "starlette", "torch"}
    program = f"import sys, steernode.node.runner, steernode.node.deciding; print(sorted({heavy} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


class OnlyStages:
    name, version, fingerprint, d_model = "own", "1", make_profile()["base_model"], D_MODEL
    capabilities = frozenset(make_content()["capabilities"])

    def stage(self, profiles, vectors):
        return sorted(vectors)

    def swap(self, staged):
        self.in_use = staged


def test_a_view_decides_as_it_did_whatever_comes_after_it(hub, make_node):
    hub.publish(1)
    node = make_node(engine=OnlyStages())
    node.poll()
    before = node.in_force
    assert before.staged == node.engine.in_use == [sha256_hex(VECTOR)]
    hub.publish(2, content=KILLED)
    node.poll()
    assert effective(node).reason == "killed_everything"
    assert decide(before, "harbor", "", now=node.now()).reason == "flag_on"


def test_the_counters_of_whatever_answers_are_reported_beside_the_followers(hub, make_node):
    class Gateway:
        counters = {"replies": 7, "tokens_generated": 0}

    hub.publish(1)
    node = make_node(engine=OnlyStages())
    node.poll()
    assert describe_report(node, 1)["counters"] == {"snapshots_applied": 1}
    assert describe_report(node, 1, Gateway())["counters"] == {"replies": 7, "snapshots_applied": 1, "tokens_generated": 0}


def test_what_is_in_force_changes_inside_the_gate_that_the_service_put_there(hub, make_node):
    seen = []

    class Gate:
        def __enter__(self):
            seen.append((node.engine.in_use, node.in_force.snapshot.revision))

        def __exit__(self, *_):
            seen.append((node.engine.in_use, node.in_force.snapshot.revision))

    hub.publish(1)
    node = make_node(engine=OnlyStages())
    node.poll()
    node.swapping = Gate
    hub.publish(2, content=make_content(flags=[], profiles=[]))
    node.poll()
    assert seen == [([sha256_hex(VECTOR)], 1), ([], 2)]
