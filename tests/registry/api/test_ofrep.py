"""OFREP: an OpenFeature client, of whatever make, asks what steers a tenant."""

from decimal import Decimal

import pytest
from openfeature import api as openfeature
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason

from registry.services.flags import ArmSpec, set_flag
from registry.services.kills import engage_kill
from registry.services.people import issue_token
from steernode.snapshot.records import AlphaBounds
from tests.support.hub import serve_hub

ONE, ALL = "/ofrep/v1/evaluate/flags/steering", "/ofrep/v1/evaluate/flags"
OFF = {"profile": None, "revision": None, "alpha_scale": "0", "components": []}


@pytest.fixture
def put(production, harbor, approved, oscar, known_salt):
    def change(**stated):
        return set_flag(production, harbor, **{"revision": approved, "enabled": True, "reason": "test", "actor": oscar, **stated})

    return change


def ask(client, path: str = ONE, **context):
    return client.post(path, {"context": {"environment": "production", "tenant": "harbor", **context}})


def test_the_value_is_what_steers_the_tenant(api, iris, put, production, approved):
    put(alpha_scale=Decimal("0.5"))
    answer = ask(api(iris)).json()
    [component] = approved.components.all()
    assert answer["value"] == {
        "profile": "harbor-empathy",
        "revision": 1,
        "alpha_scale": "0.5",
        "components": [
            {"vector_sha256": component.vector.digest, "layer": 2, "site": "resid_post", "alpha": "0.25", "unit": "mean_difference"}
        ],
    }
    assert (answer["key"], answer["variant"], answer["reason"]) == ("steering", "on", "STATIC")
    head = production.snapshots.latest("revision").revision
    assert answer["metadata"] == {"steering_reason": "flag_on", "environment": "production", "snapshot_revision": head}


def test_every_reason_has_its_word_of_the_protocol(api, iris, oscar, put, production, harbor):
    client = api(iris)

    def said(**context) -> tuple[str, str]:
        answer = ask(client, **context).json()
        return answer["reason"], answer["variant"]

    assert said() == ("DISABLED", "off")
    put()
    assert said() == ("STATIC", "on")
    put(route="chat", alpha_scale=Decimal("0.5"))
    assert said(route="chat") == ("TARGETING_MATCH", "on")
    put(rollout=Decimal(50), override=AlphaBounds(Decimal(0), Decimal("0.5")))
    assert said(targetingKey="user-2") == ("SPLIT", "on")
    assert said(targetingKey="user-1") == ("SPLIT", "off")
    assert said(targetingKey="user-2", alpha="0.1") == ("TARGETING_MATCH", "on")
    put(rollout=Decimal(100), arms=[ArmSpec("warm", 1), ArmSpec("control", 1, alpha_scale=Decimal(0))])
    assert said(targetingKey="user-1") == ("SPLIT", "warm")
    assert said(targetingKey="user-2") == ("SPLIT", "control")
    engage_kill("everything", reason="x", actor=oscar)
    assert said(targetingKey="user-1") == ("DISABLED", "off")


def refusal_of(answer) -> tuple[int, str]:
    assert answer.json()["errorDetails"]
    return answer.status_code, answer.json()["errorCode"]


@pytest.mark.parametrize(
    ("context", "code"),
    [
        ({"tenant": ""}, "INVALID_CONTEXT"),
        ({"tenant": "nobody"}, "INVALID_CONTEXT"),
        ({"tenant": 7}, "INVALID_CONTEXT"),
        ({"environment": "nowhere"}, "INVALID_CONTEXT"),
        ({"targetingKey": "x" * 201}, "INVALID_CONTEXT"),
        ({"targetingKey": "a\nb"}, "INVALID_CONTEXT"),
        ({"alpha": "NaN"}, "INVALID_CONTEXT"),
        ({"alpha": 0.5}, "INVALID_CONTEXT"),
        ({"alpha": "0.1"}, "INVALID_CONTEXT"),
        ({}, "TARGETING_KEY_MISSING"),
    ],
)
def test_a_context_that_cannot_be_evaluated_is_refused_in_the_words_of_the_protocol(api, iris, put, context, code):
    put(rollout=Decimal(50))
    # user-2 is in the half that is steered; so it is the α that is refused, and not the share that decides.
    key = {"targetingKey": "user-2"} if "alpha" in context else {}
    answer = ask(api(iris), **key, **context)
    assert refusal_of(answer) == (400, code)
    assert answer.json()["key"] == "steering"


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"context": []}', b'{"context": {"a": 1, "a": 2}}', b'{"context": {"a": NaN}}', b"\xff"])
def test_a_body_that_is_not_one_is_a_parse_error(api, iris, production, body):
    answer = api(iris).post(ONE, data=body, content_type="application/json")
    assert refusal_of(answer) == (400, "PARSE_ERROR")


def test_what_nobody_reads_may_stand_in_a_context(api, iris, put):
    put()
    assert ask(api(iris), email="a@example.org", age=31.5, tags=["x"], nested={"a": None}).status_code == 200


def test_there_is_one_flag(api, iris, put):
    assert refusal_of(ask(api(iris), "/ofrep/v1/evaluate/flags/harbor-empathy")) == (404, "FLAG_NOT_FOUND")


def test_nobody_asks_without_a_token(api, put):
    for path in (ONE, ALL):
        answer = ask(api(), path)
        assert (answer.status_code, answer.json()["code"]) == (401, "NOT_AUTHENTICATED")


def test_a_person_limited_to_other_tenants_learns_nothing(api, person, put, harbor, atlas):
    put()
    stranger = person("stranger", "operator")
    stranger.is_limited_to_tenants = True
    stranger.save()
    stranger.tenants.set([atlas])
    there, nowhere = ask(api(stranger), tenant="harbor"), ask(api(stranger), tenant="nobody")
    assert refusal_of(there) == refusal_of(nowhere) == (400, "INVALID_CONTEXT")
    assert there.json()["errorDetails"].replace("harbor", "nobody") == nowhere.json()["errorDetails"]
    assert ask(api(stranger), tenant="atlas").status_code == 200


# -- Bulk -----------------------------------------------------------------------------------------------------------------------


def test_in_bulk_there_is_one_flag_and_a_tag(api, iris, oscar, put, production, atlas, approved):
    put()
    client = api(iris)
    first = ask(client, ALL)
    [flag] = first.json()["flags"]
    assert (flag["key"], flag["variant"], flag["reason"]) == ("steering", "on", "STATIC")
    body = {"context": {"environment": "production", "tenant": "harbor"}}
    again = client.post(ALL, body, headers={"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content, again["ETag"]) == (304, b"", first["ETag"])
    # What changes for another tenant is no news for this one.
    set_flag(production, atlas, revision=approved, enabled=True, reason="x", actor=oscar)
    assert client.post(ALL, body, headers={"If-None-Match": f'"other", W/{first["ETag"]}'}).status_code == 304
    put(enabled=False)
    changed = client.post(ALL, body, headers={"If-None-Match": first["ETag"]})
    assert (changed.status_code, changed["ETag"] != first["ETag"], changed.json()["flags"][0]["value"]) == (200, True, OFF)


def test_in_bulk_a_flag_that_cannot_be_evaluated_says_so_in_its_place(api, iris, put):
    put(rollout=Decimal(50))
    answer = ask(api(iris), ALL)
    assert answer.status_code == 200
    assert [(flag["key"], flag["errorCode"]) for flag in answer.json()["flags"]] == [("steering", "TARGETING_KEY_MISSING")]
    assert refusal_of(ask(api(iris), ALL, tenant="nobody")) == (400, "INVALID_CONTEXT")


# -- The client from PyPI, as it is ---------------------------------------------------------------------------------------------


@pytest.fixture
def hub(transactional_db):
    with serve_hub() as url:
        yield url


def test_the_openfeature_client_from_pypi_evaluates_a_flag(hub, put, oscar, iris):
    _, secret = issue_token(iris, name="openfeature", actor="tests")
    openfeature.set_provider(OFREPProvider(hub, headers_factory=lambda: {"Authorization": f"Bearer {secret}"}))
    client = openfeature.get_client()

    def evaluate(key: str = "", **context):
        attributes = {"environment": "production", "tenant": "harbor", **context}
        return client.get_object_details("steering", OFF, EvaluationContext(key or None, attributes))

    try:
        put(rollout=Decimal(50), override=AlphaBounds(Decimal(0), Decimal("0.5")))
        found = evaluate("user-2")
        assert (found.value["profile"], found.value["revision"], found.variant, found.reason) == ("harbor-empathy", 1, "on", Reason.SPLIT)
        assert found.flag_metadata["steering_reason"] == "flag_on"
        assert evaluate("user-2", alpha="0.1").value["components"][0]["alpha"] == "0.1"
        assert (evaluate("user-1").value, evaluate("user-1").reason) == (OFF, Reason.SPLIT)
        assert evaluate().error_code == ErrorCode.TARGETING_KEY_MISSING
        assert evaluate("user-2", tenant="nobody").error_code == ErrorCode.INVALID_CONTEXT
        assert client.get_object_details("no-such-flag", OFF).error_code == ErrorCode.FLAG_NOT_FOUND
        assert client.get_boolean_details(
            "steering", True, EvaluationContext("user-2", {"environment": "production", "tenant": "harbor"})
        ).value
        engage_kill("tenant", target="harbor", reason="complaint", actor=oscar)
        killed = evaluate("user-2")
        assert (killed.value, killed.variant, killed.reason) == (OFF, "off", Reason.DISABLED)
        assert killed.flag_metadata["steering_reason"] == "killed_tenant"
    finally:
        openfeature.clear_providers()
