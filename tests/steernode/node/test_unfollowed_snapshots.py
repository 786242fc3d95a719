"""A snapshot that a node cannot follow: what it lowers counts at once, for each tenant on its own, and after a restart too."""

from datetime import timedelta

import pytest

from steernode.node.follower import PollOutcome
from steernode.node.report import describe_failure, describe_report, describe_slots, readiness_problem
from steernode.strict import format_time
from tests.support.hub_simulator import NOW, FakeEngine, Signer, make_content, make_document, make_flag, make_profile
from tests.support.node_rig import bad_signature, effective, is_steered, refused

ATLAS = make_flag(tenant="atlas")
BOTH = make_content(flags=[make_flag(), ATLAS])
TELEPATHY = [*make_content()["capabilities"], "telepathy"]
# What makes a node refuse a document, whatever flags it has: every refusal of what is still the hub's newest word.
REFUSED = {
    "SCHEMA": lambda content: {"content": content, "surprise": 1},
    "CAPABILITY": lambda content: {"content": content | {"capabilities": TELEPATHY}},
    "ALPHA_CAP": lambda content: {"content": content | {"flags": [*content["flags"], make_flag(tenant="third", alpha_scale="9")]}},
    "LIMIT": lambda content: {"content": content | {"limits": content["limits"] | {"max_components": 1}, "profiles": TWO_COMPONENTS}},
    "EXPIRED": lambda content: {"content": content, "expires_at": format_time(NOW - timedelta(seconds=1))},
}
TWO_COMPONENTS = [make_profile(), make_profile(id="other", components=make_profile()["components"] * 2)]


@pytest.fixture
def node(hub, make_node):
    hub.publish(1, content=BOTH)
    node = make_node()
    node.poll()
    return node


def publish(hub, revision, code, *flags, **changes):
    hub.publish(revision, **REFUSED[code](make_content(flags=list(flags), **changes)))


@pytest.mark.parametrize("code", REFUSED)
@pytest.mark.parametrize("flags", [[make_flag(enabled=False), ATLAS], [ATLAS]], ids=["off", "gone"])
def test_a_flag_that_is_turned_off_or_taken_away_steers_nobody_and_others_stay(hub, node, code, flags):
    publish(hub, 2, code, *flags)
    assert refused(node) == code
    assert (effective(node).reason, node.in_force.snapshot.revision) == ("flag_off", 1)
    assert is_steered(node, "atlas")


@pytest.mark.parametrize("code", REFUSED)
def test_a_smaller_scale_counts_and_a_larger_one_does_not(hub, node, code):
    publish(hub, 2, code, make_flag(alpha_scale="0.5"), make_flag(tenant="atlas", alpha_scale="1.1"))
    assert refused(node) == code
    assert [str(effective(node, tenant).alpha_scale) for tenant in ("harbor", "atlas")] == ["0.5", "1"]


@pytest.mark.parametrize("code", REFUSED)
def test_it_is_obeyed_after_a_restart_without_the_hub(hub, node, make_node, code):
    publish(hub, 2, code, ATLAS)
    assert refused(node) == code
    restarted = make_node(hub_url="http://127.0.0.1:9")
    assert effective(restarted).reason == "flag_off"
    assert is_steered(restarted, "atlas")
    assert (restarted.refusal.code, restarted.refusal.revision) == (code, 2)


def test_a_tenant_that_gets_what_cannot_be_followed_is_not_steered_and_the_status_says_so(hub, node):
    publish(hub, 2, "SCHEMA", make_flag(only_on_sundays=True), ATLAS)
    assert refused(node) == "SCHEMA"
    assert effective(node).reason == "unservable"
    assert [slot["reason"] for slot in describe_slots(node.in_force, node.now())] == ["unservable", "flag_on"]


def test_what_was_lowered_comes_back_only_with_a_newer_word(hub, node, make_node):
    accepted = hub.envelope
    publish(hub, 3, "SCHEMA", ATLAS)
    assert refused(node) == "SCHEMA"
    # A hub that was restored from a backup, or somebody in between, vouches for what was before.
    hub.publish_bytes(accepted)
    assert node.poll() is PollOutcome.UNCHANGED
    assert effective(node).reason == "flag_off"
    assert describe_report(node, 1)["result"] == "NACK"
    hub.publish(2, content=BOTH)
    assert refused(node) == "ROLLBACK"
    hub.publish(3, content=BOTH)
    assert refused(node) == "EQUIVOCATION"
    assert effective(node).reason == effective(make_node(hub_url="http://127.0.0.1:9")).reason == "flag_off"
    publish(hub, 4, "SCHEMA", make_flag(), ATLAS)
    assert refused(node) == "SCHEMA"
    assert is_steered(node)


def test_reports_say_how_far_the_word_has_come_so_that_a_restored_hub_publishes_above_it(hub, node, make_node):
    publish(hub, 7, "SCHEMA", ATLAS)
    assert refused(node) == "SCHEMA"
    restarted = make_node()
    for each in (node, restarted):
        report = describe_report(each, 1)
        assert (report["applied"]["revision"], report["highest_revision"]) == (1, 7)
        assert describe_failure(each, 1, ValueError())["highest_revision"] == 7
    hub.publish(8, content=BOTH)
    assert restarted.poll() is PollOutcome.APPLIED
    assert (restarted.highest_revision, is_steered(restarted)) == (8, True)


def test_a_snapshot_that_is_applied_leaves_nothing_of_the_word_before_it(hub, node, make_node, tmp_path):
    publish(hub, 2, "SCHEMA", ATLAS)
    assert refused(node) == "SCHEMA"
    assert (tmp_path / "store/word.dsse").exists()
    hub.publish(3, content=BOTH)
    assert node.poll() is PollOutcome.APPLIED
    assert is_steered(node)
    assert not (tmp_path / "store/word.dsse").exists()
    assert is_steered(make_node(hub_url="http://127.0.0.1:9"))


def test_power_lost_before_an_old_word_is_forgotten_does_no_harm(hub, node, make_node, tmp_path):
    publish(hub, 2, "SCHEMA", ATLAS)
    node.poll()
    word = (tmp_path / "store/word.dsse").read_bytes()
    hub.publish(3, content=BOTH)
    node.poll()
    for kept in (word, hub.envelope):
        (tmp_path / "store/word.dsse").write_bytes(kept)
        restarted = make_node(hub_url="http://127.0.0.1:9")
        assert is_steered(restarted)
        assert restarted.refusal is None


@pytest.mark.parametrize("damage", [b"", b"nonsense", "other key"])
def test_a_stored_word_that_cannot_be_believed_means_no_steering_until_the_hub_answers(hub, node, make_node, tmp_path, damage):
    publish(hub, 2, "SCHEMA", ATLAS)
    node.poll()
    (tmp_path / "store/word.dsse").write_bytes(Signer().sign(make_document(2)) if damage == "other key" else damage)
    restarted = make_node()
    assert effective(restarted, "atlas").reason == "no_snapshot"
    hub.publish(3, content=BOTH)
    assert restarted.poll() is PollOutcome.APPLIED
    assert is_steered(restarted, "atlas")


def test_a_node_that_can_follow_the_word_after_a_restart_waits_for_the_hub_all_the_same(hub, node, make_node):
    """An upgrade of the engine is no contact with the hub."""
    publish(hub, 2, "CAPABILITY", make_flag(alpha_scale="0.5"), ATLAS)
    assert refused(node) == "CAPABILITY"
    engine = FakeEngine()
    engine.capabilities = engine.capabilities | {"telepathy"}
    restarted = make_node(hub_url="http://127.0.0.1:9", engine=engine)
    assert str(effective(restarted).alpha_scale) == "0.5"
    assert restarted.in_force.snapshot.revision == 1
    upgraded = make_node(engine=engine)
    assert upgraded.poll() is PollOutcome.APPLIED


def test_a_node_that_was_left_behind_is_so_after_a_restart(hub, node, make_node):
    hub.publish(2, content=make_content(base_models=[{"name": "other", "fingerprint": "11" * 32}], profiles=[], flags=[]))
    assert refused(node) == "BASE_MODEL_MISMATCH"
    assert effective(make_node(hub_url="http://127.0.0.1:9"), "atlas").reason == "wrong_base_model"


NOT_THE_HUBS_NEWEST_WORD = {
    "SIGNATURE": {"revision": 6, "signer": Signer()},
    "ENVIRONMENT": {"revision": 6, "environment": "staging"},
    "ROLLBACK": {"revision": 4},
    "EQUIVOCATION": {"revision": 5},
}


@pytest.mark.parametrize("code", NOT_THE_HUBS_NEWEST_WORD)
def test_nothing_is_lowered_by_what_is_not_the_hubs_newest_word(hub, make_node, code):
    hub.publish(5)
    node = make_node()
    node.poll()
    hub.publish(**NOT_THE_HUBS_NEWEST_WORD[code], content=make_content(flags=[]))
    assert refused(node) == code
    assert is_steered(node)


def test_what_could_be_followed_but_not_be_written_down_lowers_all_the_same(hub, node, tmp_path):
    (tmp_path / "store").rename(tmp_path / "moved")
    (tmp_path / "store").write_text("in the way")
    hub.publish(2, content=make_content(flags=[make_flag(alpha_scale="0.5")]))
    for _ in range(2):
        assert refused(node) == "CACHE_UNWRITABLE"
        assert str(effective(node).components[0].alpha) == "0.25"
        assert effective(node, "atlas").reason == "flag_off"


def test_a_word_that_is_refused_later_for_another_reason_keeps_what_it_lowered(hub, node):
    publish(hub, 2, "SCHEMA", ATLAS)
    assert refused(node) == "SCHEMA"
    bad_signature(hub)
    assert refused(node) == "SIGNATURE"
    assert effective(node).reason == "flag_off"


# -- Readiness and reports ------------------------------------------------------------------------------------------------------


ARMS = [{"name": name, "weight": 1, "profile": profile, "alpha_scale": scale} for name, profile, scale in (
    ("now", "harbor-empathy", "1"), ("then", "retired", "0"),
)]  # fmt: skip
ODD_FLAGS = {
    "a control that names what is retired": [make_flag(arms=ARMS)],
    "only controls": [make_flag(arms=ARMS[1:])],
    "a base that is retired": [make_flag(profile="retired", arms=ARMS)],
    "off, and names what is retired": [make_flag(profile="retired", enabled=False)],
    "off, with arms that are retired": [make_flag(enabled=False, arms=[arm | {"profile": "retired", "alpha_scale": "1"} for arm in ARMS])],
    "a share of nobody": [make_flag(rollout="0")],
}


@pytest.mark.parametrize("flags", ODD_FLAGS.values(), ids=ODD_FLAGS)
def test_readiness_and_reports_look_only_at_what_is_there(hub, make_node, clock, flags):
    hub.publish(1, content=make_content(flags=flags))
    node = make_node()
    assert node.poll() is PollOutcome.APPLIED
    assert readiness_problem(node.in_force, node.now()) is None
    assert len(describe_report(node, 1)["slots"]) == 1
    clock.advance(seconds=901)
    steers_somebody = any(flag["enabled"] and any(arm["profile"] != "retired" for arm in flag.get("arms", [flag])) for flag in flags)
    assert readiness_problem(node.in_force, node.now()) == ("stale" if steers_somebody else None)


def test_a_flag_that_a_later_word_turned_off_does_not_make_a_node_unready(hub, make_node, clock):
    hub.publish(1)
    node = make_node()
    node.poll()
    publish(hub, 2, "SCHEMA")
    assert refused(node) == "SCHEMA"
    clock.advance(seconds=901)
    assert readiness_problem(node.in_force, node.now()) is None
