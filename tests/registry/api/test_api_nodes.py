"""Nodes over the API: invited, rotated, withdrawn and let in again, and what is told of each."""

from registry.models import ServingNode
from tests.support.api import code_of
from tests.support.nodes import applied, enroll, say

NODES = "/api/v1/nodes"


def test_an_operator_leads_a_node_through_its_life(api, oscar, production):
    operator = api(oscar)
    invited = operator.post(NODES, {"name": "node-1", "environment": "production"})
    assert invited.status_code == 201
    assert invited.json()["enrolment_token"].startswith("she_")
    assert (invited.json()["enrolled_at"], invited.json()["key_id"], invited.json()["convergence"]) == (None, "", "NEVER")
    assert code_of(operator.post(NODES, {"name": "node-1", "environment": "production"})) == (409, "NODE_EXISTS")
    again = operator.post(f"{NODES}/node-1/rotate")
    assert again.status_code == 201
    assert again.json()["enrolment_token"] != invited.json()["enrolment_token"]
    assert code_of(operator.post(f"{NODES}/node-1/re-enroll")) == (409, "NODE_ACTIVE")
    withdrawn = operator.post(f"{NODES}/node-1/withdraw", {"reason": "Its machine is gone."})
    assert (withdrawn.status_code, withdrawn.json()["convergence"], withdrawn.json()["is_active"]) == (200, "WITHDRAWN", False)
    assert withdrawn.json()["withdrawn_at"]
    assert code_of(operator.post(f"{NODES}/node-1/withdraw", {"reason": "Again."})) == (409, "NODE_WITHDRAWN")
    assert operator.post(f"{NODES}/node-1/re-enroll").json()["enrolment_token"]
    assert [row["convergence"] for row in operator.get(NODES).json()["results"]] == ["WITHDRAWN"]


def test_a_withdrawal_says_why(api, oscar, node):
    assert code_of(api(oscar).post(f"{NODES}/node-1/withdraw", {"reason": ""}))[0] == 400
    assert ServingNode.objects.get().is_active


def test_what_a_node_told_of_is_shown_and_its_secrets_are_not(api, iris, oscar, node):
    record, token = node
    cannot = {"profile": "harbor-empathy", "revision": 3, "code": "CAPABILITY", "message": "condition:intent"}
    stop = {"sequence": 9, "digest": "cd" * 32, "held": 2, "surplus": ["a" * 32]}
    say(record, stop=stop, unservable=[cannot], highest_revision=4)
    (row,) = api(iris).get(NODES).json()["results"]
    assert (row["cannot_serve"], row["highest_revision"], row["stop_sequence"], row["capabilities"]) == (1, 4, 9, ["operator:add"])
    shown = api(iris).get(f"{NODES}/node-1")
    assert (shown.json()["stop"], shown.json()["unservable"]) == (stop, [cannot])
    record.refresh_from_db()
    for secret in (token, record.token_sha256, record.public_key):
        assert secret not in shown.content.decode()
    assert len(shown.json()["key_id"]) == 16


def test_a_mismatch_is_told(api, iris, production, oscar):
    record, _ = enroll("node-1", environment=production, actor=oscar)
    say(record, applied=applied(content_digest="00" * 32))
    (row,) = api(iris).get(NODES).json()["results"]
    assert (row["convergence"], row["applied_digest"]) == ("MISMATCH", "00" * 32)
