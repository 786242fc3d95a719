"""Before it is published, every door says which node could not serve what it would give."""

import pytest
from django.urls import reverse

from registry.manifests.kinds.raising import change_flag, plan_flag
from registry.manifests.risks import Risks
from registry.services.flags import set_flag
from registry.services.nodes import withdraw_node
from registry.snapshots import explain_request
from tests.support.declaring import flag
from tests.support.nodes import say

EVERYTHING = ["operator:add", "schedule:constant", "scope:generated", "site:resid_post"]
WARNED = "node-1 cannot do schedule:constant, which harbor-empathy r1 needs: harbor would be neutral there"


def lines(plan):
    return [risk.message for risk in plan.risks if risk.code == "NODE_INCAPABLE"]


@pytest.fixture
def off(production, harbor, approved, oscar):
    return set_flag(production, harbor, revision=approved, enabled=False, reason="ready", actor=oscar)


@pytest.fixture
def lacking(node):
    """node-1, whose engine knows no schedule."""
    say(node[0], capabilities=[each for each in EVERYTHING if not each.startswith("schedule:")])
    return node[0]


def test_a_flag_that_a_node_cannot_serve_is_planned_with_a_warning(production, harbor, off, oscar, lacking):
    assert lines(plan_flag(production, harbor, enabled=True, actor=oscar)) == [WARNED]
    assert lines(plan_flag(production, harbor, enabled=False, actor=oscar)) == []


def test_a_node_that_is_able_or_gone_or_has_told_nothing_is_not_warned_of(production, harbor, off, oscar, node):
    assert lines(plan_flag(production, harbor, enabled=True, actor=oscar)) == []
    say(node[0], capabilities=EVERYTHING)
    assert lines(plan_flag(production, harbor, enabled=True, actor=oscar)) == []
    say(node[0], capabilities=["operator:add"])
    withdraw_node(node[0], reason="Its machine is gone.", actor=oscar)
    assert lines(plan_flag(production, harbor, enabled=True, actor=oscar)) == []


def test_nodes_come_and_go_without_making_a_plan_stale(production, harbor, off, oscar, node):
    plan = plan_flag(production, harbor, enabled=True, actor=oscar)
    say(node[0], capabilities=["operator:add"])
    assert lines(plan_flag(production, harbor, enabled=True, actor=oscar))
    assert change_flag(production, harbor, enabled=True, reason="go", actor=oscar, confirmed=plan.digest).enabled


def test_a_plan_of_manifests_and_an_explanation_say_so_too(plan, production, harbor, off, oscar, lacking):
    made = plan([flag()])
    assert WARNED in [risk.message for risk in Risks(made).of(made.steps[0])]
    set_flag(production, harbor, enabled=True, reason="go", actor=oscar)
    rules = {step.rule: step.says for step in explain_request(production, "harbor", "").rules}
    assert rules["engine"] == "node-1 cannot do schedule:constant: harbor is neutral there, as unservable"


def test_the_page_that_asks_for_a_confirmation_says_so(client, production, harbor, off, oscar, lacking):
    client.force_login(oscar)
    switch = reverse("console:switch-flag", args=["production"])
    page = client.post(switch, {"tenant": harbor.pk, "route": "", "enabled": "on", "reason": "go"})
    assert WARNED in page.text
