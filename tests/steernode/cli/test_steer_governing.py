"""What the `steer` command decides: approvals, flags, kills, freezes, moves and proposals, as it asks the hub for them."""

from types import SimpleNamespace

from steernode.node.identity import enroll_here, read_identity
from tests.support.hub_simulator import ENROLMENT_TOKEN, HubSimulator
from tests.support.serving import served
from tests.support.steer_rig import JOB, error_of

REVISION = {"number": 3, "digest": "aa" * 32, "evidence_digest": "bb" * 32, "state": "submitted"}
CHECKLIST = {
    "requirements": [],
    "waits_for": [],
    "looks": {"behaviour": 5, "factual": 5},
    "other_looks": [
        {"vector": "empathy@1", "alpha": "0.5", "unit": "mean_difference", "verdict": "fail", "evaluated_at": "2026-11-30T10:00:00Z"},
        {"vector": None, "alpha": None, "unit": "", "verdict": "undecidable", "evaluated_at": "2026-11-29T10:00:00Z"},
    ],
}


def test_an_approval_names_the_digests_that_were_shown(steer, recording_hub):
    path = "/profiles/harbor-empathy/revisions/3"
    recording_hub.answers |= {path: [REVISION], f"{path}/approve": [REVISION], f"{path}/submit": [REVISION], f"{path}/reject": [REVISION]}
    recording_hub.answers[f"{path}/checklist"] = [CHECKLIST]
    declined = steer("profile", "approve", "harbor-empathy@3", input="n\n")
    assert declined.exit_code == 1
    assert "aa" * 32 in declined.output
    assert recording_hub.bodies() == []
    assert steer("profile", "approve", "harbor-empathy@3", "--comment", "fine", input="y\n").exit_code == 0
    assert steer("profile", "submit", "harbor-empathy@3").exit_code == 0
    assert steer("profile", "reject", "harbor-empathy@3", "--comment", "cold").exit_code == 0
    approval = {"revision_digest": "aa" * 32, "evidence_digest": "bb" * 32, "comment": "fine"}
    assert recording_hub.bodies() == [approval, {}, {"comment": "cold"}]


def test_who_approves_is_shown_the_forms_that_nothing_was_measured_on(steer, recording_hub):
    path = "/profiles/harbor-empathy/revisions/3"
    form = {"name": "small", "fingerprint": "1a" * 32, "verdict": "quantised", "worst": "0.05", "changes": ["config: config.json changed"]}
    recording_hub.answers |= {path: [REVISION | {"covers": [form]}], f"{path}/checklist": [CHECKLIST]}
    for digests in ((), ("--revision-digest", "aa" * 32, "--evidence-digest", "bb" * 32)):
        declined = steer("profile", "approve", "harbor-empathy@3", *digests, input="n\n")
        assert "covers too, and nothing was measured on it: small 1a1a1a1a1a1a, quantised, off by at most 0.05" in declined.output
        assert "of the largest weight of a tensor; config: config.json changed" in declined.output


def test_who_approves_is_shown_every_other_look(steer, recording_hub):
    path = "/profiles/harbor-empathy/revisions/3"
    recording_hub.answers |= {path: [REVISION], f"{path}/checklist": [CHECKLIST]}
    shown = steer("profile", "approve", "harbor-empathy@3", input="n\n").output
    assert "looks at test items of this axis on this base model: behaviour 5, factual 5" in shown
    assert "measured too: empathy@1 at α = 0.5 mean_difference: fail, 2026-11-30" in shown
    assert "measured too: the components together: undecidable, 2026-11-29" in shown


def test_a_reviewer_asks_for_changes_or_only_says_something(steer, recording_hub):
    path = "/profiles/harbor-empathy/revisions/3"
    recording_hub.answers |= {f"{path}/request-changes": [REVISION], f"{path}/comments": [REVISION]}
    assert steer("profile", "request-changes", "harbor-empathy@3", "--comment", "say why").exit_code == 0
    assert steer("profile", "comment", "harbor-empathy@3", "hm").exit_code == 0
    assert steer("profile", "request-changes", "harbor-empathy@3").exit_code != 0
    assert recording_hub.bodies() == [{"comment": "say why"}, {"text": "hm"}]


def test_a_checklist_fails_while_something_is_not_met(steer, recording_hub):
    met, unmet = {"demand": "pairs", "is_met": True}, {"demand": "locales", "is_met": False, "code": "LOCALE_UNCOVERED"}
    path = "/profiles/p/revisions/1/checklist"
    for rows, code in (([met], 0), ([met, unmet], 1)):
        recording_hub.answers[path] = [{"requirements": rows, "waits_for": []}]
        answer = steer("profile", "checklist", "p@1")
        assert answer.exit_code == code
        assert "pairs" in answer.output


def test_nothing_is_approved_without_evidence(steer, recording_hub):
    recording_hub.answers["/profiles/p/revisions/1"] = [REVISION | {"evidence_digest": ""}]
    assert error_of(steer("profile", "approve", "p@1", "--yes")) == "HUB_ANSWER"


PLAN = {
    "raises": "harbor would get steering, and gets none",
    "changes": [{"field": "spec.enabled", "before": False, "after": True}],
    "risks": [{"code": "TENANT_NEWLY_STEERED", "message": "harbor is not steered in production now, and would be", "blocks": False}],
    "newly_steered": ["harbor"],
    "nodes": 2,
    "digest": "dd" * 32,
}


def test_what_raises_is_shown_and_confirmed_by_its_digest(steer, recording_hub, monkeypatch):
    here = "/environments/production/flags/harbor"
    recording_hub.answers |= {here: [{"enabled": True}], f"{here}/plan": [PLAN]}
    on = ["flag", "set", "--environment", "production", "--tenant", "harbor", "--reason", "launch", "--on"]
    refused = steer(*on)
    assert refused.exit_code == 1
    assert "error CONFIRMATION_NEEDED: harbor would get steering" in refused.stderr
    for words in ("enabled: False → True", "and would be", "newly steered: harbor; nodes that hear of it: 2", f"--confirm {'dd' * 32}"):
        assert words in refused.output
    assert [method for method, _, _ in recording_hub.sent] == ["POST"]
    assert steer(*on, "--yes").exit_code == 0
    assert recording_hub.bodies()[-1]["confirm"] == "dd" * 32
    assert steer(*on, "--confirm", "ee" * 32).exit_code == 0
    assert recording_hub.bodies()[-1]["confirm"] == "ee" * 32
    before = len(recording_hub.sent)
    assert steer(*on[:-1], "--off").exit_code == 0
    assert [method for method, _, _ in recording_hub.sent[before:]] == ["PUT"]


def test_what_raises_nothing_is_not_asked_about(steer, recording_hub):
    here = "/environments/production/flags/harbor"
    recording_hub.answers |= {here: [{"enabled": True}], f"{here}/plan": [PLAN | {"raises": ""}]}
    lower = ["flag", "set", "--environment", "production", "--tenant", "harbor", "--reason", "less", "--on", "--alpha-scale", "0.5"]
    assert steer(*lower).exit_code == 0
    assert "confirm" not in recording_hub.bodies()[-1]


def test_a_flag_is_set_with_its_scale_as_written(steer, recording_hub):
    recording_hub.answers["/environments/production/flags/harbor"] = [{"enabled": True}]
    where = ["flag", "set", "--environment", "production", "--tenant", "harbor", "--reason", "launch"]
    assert steer(*where, "--on", "--profile", "harbor-empathy@3", "--alpha-scale", "0.50", "--confirm", "dd" * 32).exit_code == 0
    assert steer(*where, "--off").exit_code == 0
    assert error_of(steer(*where, "--off", "--alpha-scale", "0,5")) == "ALPHA_FORMAT"
    on = {"route": "", "enabled": True, "alpha_scale": "0.5", "reason": "launch", "profile": "harbor-empathy", "revision": 3}
    on |= {"confirm": "dd" * 32}
    # Turning off mentions nothing else, so nothing else changes.
    assert recording_hub.bodies() == [on, {"route": "", "enabled": False, "reason": "launch"}]


def test_a_flag_is_set_with_its_rollout_arms_and_override(steer, recording_hub):
    recording_hub.answers["/environments/production/flags/harbor"] = [{"enabled": True}]
    where = ["flag", "set", "--environment", "production", "--tenant", "harbor", "--route", "chat", "--reason", "trial", "--on"]
    where += ["--confirm", "dd" * 32]
    arms = ["--arm", "now=9", "--arm", "next=1,harbor-empathy@4,x0.50", "--arm", "control=1,x0"]
    salts = ["--rollout-salt", "autumn", "--arms-salt", ""]
    assert steer(*where, "--rollout", "12.5", *arms, *salts, "--override", "-0.1:0.60").exit_code == 0
    assert steer(*where, "--no-arms", "--override", "none", "--inherit", "rollout").exit_code == 0
    trial, over = recording_hub.bodies()
    assert (trial["rollout"], trial["rollout_salt"], trial["arms_salt"]) == ("12.5", "autumn", "")
    assert trial["arms"] == [
        {"name": "now", "weight": 9},
        {"name": "next", "weight": 1, "profile": "harbor-empathy", "revision": 4, "alpha_scale": "0.5"},
        {"name": "control", "weight": 1, "alpha_scale": "0"},
    ]
    assert trial["override"] == {"alpha_min": "-0.1", "alpha_max": "0.6"}
    assert (over["arms"], over["override"], over["inherit"]) == ([], None, ["rollout"])
    assert not {"rollout_salt", "arms_salt"} & set(over)


def test_the_history_of_a_flag_is_a_table(steer, recording_hub):
    change = {"version": 2, "at": "2026-11-22", "actor": "oscar", "reason": "wider", "changes": ["rollout: 10 → 25"]}
    recording_hub.answers["/environments/production/flags/harbor/history"] = [{"results": [change]}]
    shown = steer("flag", "history", "--environment", "production", "--tenant", "harbor").output
    assert "rollout: 10 → 25" in shown
    assert "oscar" in shown


def test_an_explanation_lists_the_rules_and_what_they_come_to(steer, recording_hub):
    rules = [{"rule": "kill", "says": "no kill", "reason": ""}, {"rule": "rollout", "says": "at 57 %", "reason": "not_in_rollout"}]
    recording_hub.answers["/environments/production/explain"] = [{"reason": "not_in_rollout", "profile": None, "rules": rules}]
    shown = steer("explain", "--environment", "production", "--tenant", "harbor", "--key", "user-1").output
    assert [line.split()[0] for line in shown.splitlines()] == ["rule", "kill", "rollout", "reason:"]


def test_a_kill_is_sent(steer, recording_hub):
    recording_hub.answers["/kills"] = [{"id": "k"}]
    assert steer("kill", "--kind", "everything", "--reason", "incident").exit_code == 0
    assert steer("kill", "--kind", "environment", "--environment", "production", "--reason", "incident").exit_code == 0
    assert [body["kind"] for body in recording_hub.bodies()] == ["everything", "environment"]


def test_the_list_of_kills_says_what_became_of_each(steer, recording_hub):
    obeyed = {"nodes": 2, "of": 3, "waiting": ["node-3"], "silent": ["node-3"], "withdrawn": []}
    recording_hub.answers["/kills"] = [{"results": [{"id": "k1", "obeyed_by": obeyed}, {"id": "k2", "obeyed_by": None}]}]
    assert "2 of 3 nodes; waiting: node-3; silent: node-3" in steer("kill", "list", "--all").output


def test_kills_are_listed_and_lifted_by_two_people_with_one_command(steer, recording_hub):
    recording_hub.answers["/kills"] = [{"results": [{"id": "k1", "kind": "tenant", "target": "harbor", "reason": "complaint"}]}]
    assert "complaint" in steer("kill", "list").output
    recording_hub.answers["/kills/k1"] = [*[{"lift_standing": "not_requested"}] * 2, {"lift_standing": "pending"}]
    assert "--reason" in steer("kill", "lift", "k1").output
    for step, options in (("request-lift", ["--reason", "found"]), ("confirm-lift", [])):
        recording_hub.answers[f"/kills/k1/{step}"] = [{"id": "k1"}]
        assert steer("kill", "lift", "k1", *options).exit_code == 0
    assert [path for method, path, _ in recording_hub.sent if method == "POST"] == ["/kills/k1/request-lift", "/kills/k1/confirm-lift"]


def test_a_kill_that_is_lifted_already_is_said_to_be(steer, recording_hub):
    recording_hub.answers["/kills/k1"] = [{"lift_standing": "lifted", "lifted_by": "grace"}]
    assert "KILL_NOT_FOUND: this kill is lifted already, confirmed by grace" in steer("kill", "lift", "k1").output


def test_a_request_for_a_lift_is_taken_back(steer, recording_hub):
    recording_hub.answers["/kills/k1/withdraw-lift"] = [{"id": "k1"}]
    assert steer("kill", "withdraw-lift", "k1", "--reason", "not yet").exit_code == 0
    assert recording_hub.bodies() == [{"reason": "not yet"}]


def test_a_freeze_is_declared_listed_and_ended(steer, recording_hub):
    recording_hub.answers["/environments/production/freezes"] = [{"id": "f1"}, {"results": [{"id": "f1", "state": "in force"}]}]
    recording_hub.answers["/freezes/f1/end"] = [{"id": "f1"}]
    until = "2026-12-27T00:00:00Z"
    assert steer("freeze", "declare", "--environment", "production", "--until", until, "--reason", "holiday").exit_code == 0
    assert "in force" in steer("freeze", "list", "--environment", "production").output
    assert steer("freeze", "end", "f1", "--reason", "all quiet").exit_code == 0
    assert recording_hub.bodies() == [{"ends_at": until, "reason": "holiday"}, {"reason": "all quiet"}]


def test_an_environment_is_moved_and_told_what_that_turned_off(steer, recording_hub):
    answer = {
        "base_model": {"name": "harbor-support", "fingerprint": "ab" * 32},
        "changes": ["tokenizer: tokenizer.json changed"],
        "flags_off": ["harbor"],
        "invalidated": ["harbor-empathy@1"],
        "proposals": ["empathy@1"],
    }
    recording_hub.answers |= {"/environments/production/move": [answer], "/environments/production/move/plan": [PLAN]}
    result = steer("base-model", "move", "harbor-support", "--environment", "production", "--reason", "new", "--yes")
    assert recording_hub.bodies()[-1] == {"base_model": "harbor-support", "reason": "new", "confirm": "dd" * 32}
    assert result.stdout.splitlines() == [
        f"production serves harbor-support {'ab' * 32}",
        "changes: tokenizer: tokenizer.json changed",
        "flags off: harbor",
        "invalidated: harbor-empathy@1",
        "proposals: empathy@1",
    ]


def test_nothing_moves_unless_somebody_says_yes(steer, recording_hub):
    recording_hub.answers["/environments/production/move/plan"] = [PLAN]
    result = steer("base-model", "move", "harbor-support", "--environment", "production", "--reason", "new")
    assert (result.exit_code, "error CONFIRMATION_NEEDED" in result.stderr) == (1, True)
    assert [path for _, path, _ in recording_hub.sent] == ["/environments/production/move/plan"]


def test_a_proposal_is_listed_and_accepted(steer, recording_hub):
    row = {"id": JOB, "vector": {"name": "empathy", "version": 1}, "base_model": {"name": "harbor-support", "fingerprint": "ab" * 32}}
    recording_hub.answers |= {"/proposals": [{"results": [row]}], f"/proposals/{JOB}/accept": [{"job": JOB}]}
    assert "empathy@1" in steer("proposal", "list").output
    assert steer("proposal", "accept", JOB).output == f"job {JOB}\n"


def test_a_proposal_is_declined_for_a_reason(steer, recording_hub):
    recording_hub.answers[f"/proposals/{JOB}/decline"] = [{"state": "declined"}]
    assert steer("proposal", "decline", JOB).exit_code == 2
    assert steer("proposal", "decline", JOB, "--reason", "no hours").output == "declined\n"


def test_a_node_is_listed_invited_rotated_withdrawn_and_let_in_again(steer, recording_hub):
    row = {"name": "node-1", "environment": "production", "convergence": "SYNCED", "cannot_serve": 2}
    invited = {**row, "enrolment_token": "she_secret"}
    recording_hub.answers |= {
        "/nodes": [{"results": [row]}, invited],
        "/nodes/node-1": [row],
        "/nodes/node-1/rotate": [invited],
        "/nodes/node-1/withdraw": [row],
        "/nodes/node-1/re-enroll": [invited],
    }
    assert "SYNCED" in steer("node", "list").output
    assert "she_secret" in steer("node", "invite", "node-1", "--environment", "production").output
    assert "cannot_serve: 2" in steer("node", "show", "node-1").output
    assert "she_secret" in steer("node", "rotate", "node-1").output
    assert steer("node", "withdraw", "node-1").exit_code == 2
    assert steer("node", "withdraw", "node-1", "--reason", "Its machine is gone.").exit_code == 0
    assert "she_secret" in steer("node", "re-enroll", "node-1").output
    assert recording_hub.bodies() == [{"name": "node-1", "environment": "production"}, {}, {"reason": "Its machine is gone."}, {}]


def test_a_node_enrols_from_the_command_line(steer, tmp_path):
    hub = HubSimulator()
    (tmp_path / "once").write_text(ENROLMENT_TOKEN)
    with served(hub.app) as url:
        enroll = ["node", "enroll", "--hub", url, "--name", "node-1", "--store", tmp_path / "store", "--enrolment-token-file"]
        assert error_of(steer(*enroll, tmp_path / "absent")) == "HUB_TOKEN"
        done = steer(*enroll, tmp_path / "once")
    assert done.exit_code == 0
    assert hub.signer.keyid in done.output
    assert "private" not in done.output
    assert read_identity(tmp_path / "store").environment == "production"


def test_a_node_that_has_not_enrolled_says_what_to_do(steer, tmp_path):
    assert error_of(steer("node", "serve", "--store", tmp_path, "--model", tmp_path)) == "NOT_ENROLLED"


def test_a_node_that_is_started_with_its_hub_waits_for_it(steer, tmp_path, monkeypatch):
    simulator, asked = HubSimulator(), []
    (tmp_path / "once").write_text(ENROLMENT_TOKEN)
    monkeypatch.setattr("steernode.cli.nodes.time", SimpleNamespace(sleep=asked.append))
    with served(simulator.app) as url:
        addresses = iter(["http://127.0.0.1:9", "http://127.0.0.1:9", url])
        monkeypatch.setattr(
            "steernode.cli.nodes.enroll_here", lambda store, **options: enroll_here(store, **{**options, "hub_url": next(addresses)})
        )
        serve = ["node", "serve", "--hub", "http://127.0.0.1:9", "--name", "node-1", "--enrolment-token-file", tmp_path / "once"]
        # It has enrolled, and goes on to the model that is not there.
        steer(*serve, "--store", tmp_path / "store", "--model", tmp_path / "absent")
    assert asked == [0.5, 1.0]
    assert read_identity(tmp_path / "store").name == "node-1"
