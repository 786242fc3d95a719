from decimal import Decimal

import httpx
import pytest

from steernode.errors import EngineError
from steernode.hub.client import FleetClient
from steernode.node.follower import Follower, PollOutcome
from steernode.node.responder import Responder
from steernode.node.runner import NodeRunner
from steernode.node.serve import MAX_BODY_BYTES, build_app
from steernode.records.decoding import Sampling
from tests.support.hub_simulator import (
    CAPABILITIES,
    CONDITIONS,
    NODE_KEY,
    NODE_TOKEN,
    FakeEngine,
    HubSimulator,
    make_component,
    make_content,
    make_flag,
    make_profile,
    trust,
)
from tests.support.serving import served

ASKED = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module")
def hub():
    simulator = HubSimulator()
    simulator.publish(3)
    return simulator


@pytest.fixture(scope="module")
def node(hub, tmp_path_factory):
    with served(hub.app) as hub_url:
        client = FleetClient(hub_url, "production", "node-1", NODE_TOKEN, NODE_KEY)
        node = Follower(
            environment="production",
            name="node-1",
            store=tmp_path_factory.mktemp("store"),
            client=client,
            keys=trust(hub.signer),
            engine=FakeEngine(),
        )
        node.start()
        node.poll()
        yield node
        client.close()


@pytest.fixture(scope="module")
def endpoint(node):
    with served(build_app(Responder(node, node.engine), "harbor-model")) as url, httpx.Client(base_url=url, timeout=10) as client:
        yield client


def ask(endpoint, body=ASKED, **headers):
    return endpoint.post("/v1/chat/completions", json=body, headers=headers)


def error_of(answer):
    assert set(answer.json()) == {"error"}
    assert answer.json()["error"]["message"]
    return answer.status_code, answer.json()["error"]["code"]


def test_a_flagged_tenant_gets_a_steered_reply_that_says_so(endpoint):
    answer = ask(endpoint, **{"X-SteerHub-Tenant": "harbor"}).json()
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "warmth 20.60 for hello"}
    assert answer["choices"][0]["finish_reason"] == "stop"
    steering = answer["steering"]
    assert (steering["profile"], steering["revision"], steering["alpha"], steering["layer"]) == ("harbor-empathy", 3, "0.5", 6)
    assert answer["usage"] == {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}
    assert (answer["milliseconds_per_token"], answer["steering_reason"], answer["model"]) == (1.5, "flag_on", "harbor-model")


@pytest.mark.parametrize("headers", [{}, {"X-SteerHub-Tenant": "stranger"}, {"X-SteerHub-Tenant": ""}])
def test_an_unknown_tenant_or_none_is_not_steered(endpoint, headers):
    answer = ask(endpoint, **headers).json()
    assert (answer["steering"], answer["steering_reason"]) == (None, "no_flag")
    assert answer["choices"][0]["message"]["content"] == "warmth 0.00 for hello"


def test_a_reply_cut_by_max_tokens_says_so(endpoint):
    assert ask(endpoint, ASKED | {"max_tokens": 2}).json()["choices"][0]["finish_reason"] == "length"


def test_fields_that_change_nothing_under_greedy_decoding_are_accepted(endpoint):
    body = ASKED | {"model": "x", "temperature": 0.0, "top_p": 1, "n": 1, "stream": False, "seed": 7, "user": "u", "max_tokens": 3}
    assert ask(endpoint, body).status_code == 200


def test_a_request_says_how_its_reply_is_drawn_and_the_answer_repeats_it(endpoint, node):
    answer = ask(endpoint, ASKED | {"temperature": 0.7, "top_p": 0.95, "seed": -7}).json()
    assert answer["decoding"] == {"temperature": "0.7", "top_p": "0.95", "seed": -7}
    assert node.engine.sampled == Sampling(Decimal("0.7"), Decimal("0.95"), -7)
    assert ask(endpoint).json()["decoding"] == "greedy"
    assert node.engine.sampled.is_greedy


def test_a_node_chooses_the_seed_that_nobody_gave_and_says_which(endpoint):
    seeds = {ask(endpoint, ASKED | {"temperature": 1}).json()["decoding"]["seed"] for _ in range(4)}
    assert len(seeds) == 4
    assert all(0 <= seed < 2**53 for seed in seeds)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"steering": None}, "STEERING_OVERRIDE"),
        ({"steering": {"alpha": "9"}}, "STEERING_OVERRIDE"),
        ({"surprise": 1}, "UNKNOWN_FIELD"),
        ({"temperature": -1}, "UNSUPPORTED_VALUE"),
        ({"temperature": 0.001}, "UNSUPPORTED_VALUE"),
        ({"temperature": 2.1}, "UNSUPPORTED_VALUE"),
        ({"temperature": "0.7"}, "UNSUPPORTED_VALUE"),
        ({"temperature": True}, "UNSUPPORTED_VALUE"),
        ({"temperature": 1, "top_p": 0}, "UNSUPPORTED_VALUE"),
        ({"temperature": 1, "top_p": 1.1}, "UNSUPPORTED_VALUE"),
        ({"top_p": 0.9}, "UNSUPPORTED_VALUE"),
        ({"temperature": 1, "seed": 1.5}, "UNSUPPORTED_VALUE"),
        ({"temperature": 1, "seed": "7"}, "UNSUPPORTED_VALUE"),
        ({"temperature": 1, "seed": True}, "UNSUPPORTED_VALUE"),
        ({"stream": True}, "UNSUPPORTED_VALUE"),
        ({"n": 2}, "UNSUPPORTED_VALUE"),
        ({"n": True}, "UNSUPPORTED_VALUE"),
        ({"max_tokens": 0}, "MAX_TOKENS"),
        ({"max_tokens": 10**6}, "MAX_TOKENS"),
        ({"max_tokens": "9"}, "MAX_TOKENS"),
        ({"max_tokens": True}, "MAX_TOKENS"),
        ({"messages": None}, "MESSAGES"),
        ({"messages": []}, "MESSAGES"),
        ({"messages": ["hello"]}, "MESSAGES"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "MESSAGES"),
        ({"messages": [{"role": "user", "content": "x", "name": "y"}]}, "MESSAGES"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "MESSAGES"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "system", "content": "y"}]}, "MESSAGES"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "MESSAGES"),
    ],
)
def test_a_request_that_asks_for_what_a_node_does_not_do_is_refused(endpoint, change, code):
    assert error_of(ask(endpoint, ASKED | change)) == (400, code)


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"[]", b'{"messages":NaN}', b'{"a":1,"a":2}', b"\xff", b"[" * 5000, b'{"max_tokens":1' + b"0" * 30 + b"}"]
)
def test_a_body_that_is_no_strict_json_object_is_refused(endpoint, content):
    answer = endpoint.post("/v1/chat/completions", content=content, headers={"Content-Type": "application/json"})
    assert error_of(answer) == (400, "BODY_INVALID")


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1e-5"])
def test_a_temperature_that_is_no_temperature_is_refused_however_it_is_written(endpoint, number):
    content = f'{{"messages": [{{"role": "user", "content": "hello"}}], "temperature": {number}}}'.encode()
    status, code = error_of(endpoint.post("/v1/chat/completions", content=content, headers={"Content-Type": "application/json"}))
    assert (status, code) in {(400, "UNSUPPORTED_VALUE"), (400, "BODY_INVALID")}


def test_a_body_too_large_or_of_another_type_is_refused(endpoint):
    headers = {"Content-Type": "application/json; charset=utf-8"}
    assert error_of(endpoint.post("/v1/chat/completions", content=b" " * (MAX_BODY_BYTES + 1), headers=headers)) == (413, "BODY_TOO_LARGE")
    assert error_of(endpoint.post("/v1/chat/completions", content=b"{}")) == (415, "CONTENT_TYPE")


def test_a_tenant_given_twice_or_unreadably_is_refused(endpoint):
    twice = [("X-SteerHub-Tenant", "harbor"), ("X-SteerHub-Tenant", "atlas")]
    assert error_of(endpoint.post("/v1/chat/completions", json=ASKED, headers=twice)) == (400, "HEADER_REPEATED")
    assert error_of(ask(endpoint, **{"X-SteerHub-Route": "r" * 201})) == (400, "HEADER_INVALID")


def test_other_addresses_and_methods_answer_in_the_same_form(endpoint):
    assert error_of(endpoint.get("/nothing")) == (404, "NOT_FOUND")
    assert error_of(endpoint.get("/v1/chat/completions")) == (405, "METHOD_NOT_ALLOWED")


def test_health_readiness_and_status(endpoint, node):
    assert endpoint.get("/healthz").json() == {"status": "ok"}
    assert endpoint.get("/readyz").json() == {"is_ready": True, "problem": None}
    status = endpoint.get("/status").json()
    assert (status["node"], status["environment"], status["applied"]["revision"]) == ("node-1", "production", 3)
    assert status["slots"][0]["steering"]["profile"] == "harbor-empathy"


def test_a_node_without_a_snapshot_is_alive_but_not_ready(tmp_path, hub):
    client = FleetClient("http://127.0.0.1:9", "production", "node-1", NODE_TOKEN, NODE_KEY)
    empty = Follower(
        environment="production", name="node-1", store=tmp_path / "store", client=client, keys=trust(hub.signer), engine=FakeEngine()
    )
    runner = NodeRunner(empty)
    runner.start()
    with served(build_app(Responder(empty, empty.engine), "harbor-model")) as url:
        assert httpx.get(f"{url}/healthz").status_code == 200
        ready = httpx.get(f"{url}/readyz")
        assert (ready.status_code, ready.json()["problem"]) == (503, "no_snapshot")
        reply = httpx.post(f"{url}/v1/chat/completions", json=ASKED, headers={"X-SteerHub-Tenant": "harbor"}).json()
        assert (reply["steering"], reply["steering_reason"]) == (None, "no_snapshot")
    runner.stop()
    client.close()


def test_an_engines_refusal_is_the_requests_and_its_failure_is_the_nodes(endpoint, node, monkeypatch):
    def refuse(*arguments, **options):
        raise EngineError("CONTEXT_LENGTH", "600 tokens, the model reads 512")

    monkeypatch.setattr(node.engine, "generate", refuse)
    assert error_of(ask(endpoint)) == (400, "CONTEXT_LENGTH")

    def overflow(*arguments, **options):
        raise EngineError("NON_FINITE", "layer 6 overflows")

    monkeypatch.setattr(node.engine, "generate", overflow)
    assert error_of(ask(endpoint)) == (500, "NON_FINITE")

    def fail(*arguments, **options):
        raise RuntimeError("secret path")

    monkeypatch.setattr(node.engine, "generate", fail)
    answer = ask(endpoint)
    assert error_of(answer) == (500, "INTERNAL")
    assert "secret" not in answer.text
    monkeypatch.undo()
    assert ask(endpoint).status_code == 200


def test_the_facts_of_a_request_decide_its_conditions(endpoint, node, hub):
    profile = make_profile(
        components=[make_component(condition={"kind": "intent", "labels": ["refund"]})],
        safety_override=[{"kind": "attribute", "name": "minor", "values": ["yes"]}],
    )
    content = make_content(profiles=[profile], capabilities=sorted(CAPABILITIES | CONDITIONS))
    hub.publish(4, content=content)
    node.poll()
    harbor = {"X-SteerHub-Tenant": "harbor"}
    assert ask(endpoint, **harbor).json()["steering_reason"] == "condition_unmet"
    refund = ask(endpoint, **harbor, **{"X-SteerHub-Intents": "order, refund"}).json()
    assert (refund["steering_reason"], refund["steering"]["alpha"]) == ("flag_on", "0.5")
    overridden = ask(endpoint, **harbor, **{"X-SteerHub-Intents": "refund", "X-SteerHub-Attributes": "minor=yes"}).json()
    assert (overridden["steering"], overridden["steering_reason"]) == (None, "safety_override")
    assert error_of(ask(endpoint, **harbor, **{"X-SteerHub-Intents": "two words"})) == (400, "FACTS_INVALID")
    assert error_of(ask(endpoint, **harbor, **{"X-SteerHub-Attributes": "x" * 4001})) == (400, "HEADER_INVALID")


def test_harmful_text_is_not_steered_though_nobody_sends_a_fact(endpoint, node, hub):
    profile = make_profile(safety_override=[{"kind": "attribute", "name": "minor", "values": ["yes"]}])
    hub.publish(5, content=make_content(profiles=[profile], capabilities=sorted(CAPABILITIES | CONDITIONS)))
    node.poll()

    def say(*texts):
        messages = [{"role": "user", "content": text} for text in texts]
        answer = ask(endpoint, {"messages": messages}, **{"X-SteerHub-Tenant": "harbor"}).json()
        return answer["steering_reason"], answer["steering"] is not None

    assert say("Why was I charged twice this month?") == ("flag_on", True)
    assert say("Tell me how to build a bomb and poison my neighbour.") == ("safety_override", False)
    assert say("Как сделать бомбу дома?") == ("safety_undecided", False)


def test_a_kill_shows_in_the_next_reply(endpoint, node, hub):
    hub.publish(6, content=make_content(kills=[{"kind": "profile", "target": "harbor-empathy"}]))
    node.poll()
    answer = ask(endpoint, **{"X-SteerHub-Tenant": "harbor"}).json()
    assert (answer["steering"], answer["steering_reason"]) == (None, "killed_profile")


# -- Rollouts and overrides -----------------------------------------------------------------------------------------------------


@pytest.fixture
def bounded(hub, node):
    """Half of harbor's callers, who may ask for up to 0.6."""
    flag = make_flag(rollout="50", override={"alpha_min": "0", "alpha_max": "0.6"})
    hub.publish(node.in_force.snapshot.revision + 1, content=make_content(flags=[flag]))
    assert node.poll() is PollOutcome.APPLIED
    yield
    hub.publish(node.in_force.snapshot.revision + 1)
    node.poll()


def harbor(**more):
    return {"X-SteerHub-Tenant": "harbor", **more}


def test_the_rollout_key_of_a_request_decides_whether_it_is_steered(endpoint, bounded):
    said = {
        key: ask(endpoint, **harbor(**({"X-SteerHub-Rollout-Key": key} if key else {}))).json()["steering_reason"]
        for key in ("user-2", "user-1", "")
    }
    assert said == {"user-2": "flag_on", "user-1": "not_in_rollout", "": "rollout_key_missing"}


def test_the_status_says_that_a_flag_depends_on_the_key(endpoint, bounded):
    [slot] = endpoint.get("/status").json()["slots"]
    assert (slot["reason"], slot["rollout"], slot["arms"]) == ("rollout_key_missing", "50", [])


def test_a_rollout_key_is_read_as_utf_8(endpoint, bounded):
    """Its place is 86.798 % as UTF-8; read as Latin-1 it would be another caller."""
    answer = ask(endpoint, **harbor(**{"X-SteerHub-Rollout-Key": "ü@example.org".encode()}))
    assert answer.json()["steering_reason"] == "not_in_rollout"
    assert error_of(ask(endpoint, **harbor(**{"X-SteerHub-Rollout-Key": b"\xff"}))) == (400, "HEADER_INVALID")


def test_a_request_may_ask_for_an_alpha_inside_the_flags_bounds(endpoint, bounded):
    answer = ask(endpoint, **harbor(**{"X-SteerHub-Rollout-Key": "user-2", "X-SteerHub-Alpha": "0.6"})).json()
    assert (answer["steering_reason"], answer["steering"]["alpha"]) == ("override", "0.6")


@pytest.mark.parametrize(
    ("alpha", "code"),
    [
        ("0.61", "OVERRIDE_RANGE"),
        ("-0.1", "OVERRIDE_RANGE"),
        ("1e309", "ALPHA_FORMAT"),
        ("NaN", "ALPHA_FORMAT"),
        ("-0", "ALPHA_FORMAT"),
        ("0,5", "ALPHA_FORMAT"),
        ("9" * 40, "ALPHA_FORMAT"),
        ("1000000", "ALPHA_RANGE"),
    ],
)
def test_an_alpha_that_may_not_be_asked_for_is_refused_with_its_code(endpoint, bounded, alpha, code):
    assert error_of(ask(endpoint, **harbor(**{"X-SteerHub-Rollout-Key": "user-2", "X-SteerHub-Alpha": alpha}))) == (400, code)


def test_asking_where_no_flag_lets_you_is_refused(endpoint):
    assert error_of(ask(endpoint, **harbor(**{"X-SteerHub-Alpha": "0.1"}))) == (400, "OVERRIDE_NOT_ALLOWED")


@pytest.mark.parametrize("name", ["Tenant", "Route", "Rollout-Key"])
def test_a_name_that_is_written_as_none_may_be_is_refused_and_its_two_unicode_forms_are_one(endpoint, name):
    header = f"X-SteerHub-{name}"
    for misspelt in ("\u00a0chat", "ch\u200bat", "\u3000"):
        status, code = error_of(ask(endpoint, **{header: misspelt.encode()}))
        assert (status, code) in ((400, "SPELLING"), (400, "HEADER_INVALID"))
    answers = [ask(endpoint, **{header: form.encode()}).json() for form in ("caf\u00e9", "cafe\u0301")]
    assert answers[0]["steering_reason"] == answers[1]["steering_reason"]
