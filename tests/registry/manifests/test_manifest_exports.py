"""Export and status: what is exported plans to nothing, whatever is on record; what the hub makes of it is beside it."""

import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from django.core.management import call_command
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.manifests.export import export_manifests
from registry.models import Component, Declaration, ProfileRevision, RiskPolicy, ServingNode, Tenant, TenantFlag
from registry.services.kills import engage_kill
from steernode.hub.manifests import read_manifests, write_manifests
from steernode.snapshot.records import AlphaBounds
from tests.support.declaring import actions, flag, manifest, profile_manifest

_TITLES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
_TENANTS = st.sampled_from(["a", "b", "yes", "null"])
_SHARES = st.sampled_from(["0", "0.125", "50", "100"])
_SCALES = st.sampled_from(["0", "0.25", "1"])
_CONDITIONS = st.sampled_from(
    [None, {"kind": "intent", "labels": ["refund", "on"]}, {"kind": "attribute", "name": "locale", "values": ["de-DE"]}]
)
_SCHEDULES = st.sampled_from([{"kind": "constant"}, {"kind": "exponential", "half_life_tokens": 9}])
_OPTIONAL = st.fixed_dictionaries(
    {},
    optional={
        "alpha_scale": _SCALES.map(Decimal),
        "rollout": _SHARES.map(Decimal),
        "override": st.sampled_from([None, AlphaBounds(Decimal(0), Decimal("0.25"))]),
        "with_arms": st.booleans(),
    },
)
_CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("tenant"), _TENANTS, _TITLES),
        st.tuples(st.just("rename"), _TENANTS, _TITLES),
        st.tuples(st.just("flag"), _TENANTS, st.sampled_from(["", "refunds", "a/b"]), st.booleans(), _OPTIONAL),
        st.tuples(st.just("profile"), st.sampled_from(["p", "q"]), _SCHEDULES, _CONDITIONS, st.integers(0, 5)),
        st.tuples(st.just("policy"), st.sampled_from(["low", "strict"]), st.integers(1, 3), st.lists(st.sampled_from(["en-US", "de-DE"]))),
        st.tuples(st.just("own"), st.sampled_from(["git/a", "git/b"]), st.dictionaries(st.sampled_from(["team", "tier"]), _TITLES)),
    ),
    max_size=6,
)


@pytest.fixture
def change(approved, production, oscar, ada, root, vector, policy_terms, apply):
    """Make one change as somebody would: through a service, or by applying manifests."""
    from registry.services.flags import ArmSpec, set_flag
    from registry.services.policies import change_policy, create_policy
    from registry.services.profiles import create_profile, draft_revision
    from registry.services.tenants import create_tenant, rename_tenant

    def run(kind, *what):
        if kind == "tenant":
            create_tenant(what[0], title=what[1], actor=oscar)
        elif kind == "rename" and Tenant.objects.filter(name=what[0]).exists():
            rename_tenant(what[0], title=what[1], actor=oscar)
        elif kind == "flag":
            name, route, enabled, stated = what
            tenant = create_tenant(name, actor=oscar)
            parent = TenantFlag.objects.filter(tenant=tenant, route="").first()
            arms = [ArmSpec("warm", 9), ArmSpec("control", 1, alpha_scale=Decimal(0))] if stated.pop("with_arms", False) else []
            set_flag(
                production, tenant, route=route, enabled=enabled, reason="a walk", actor=oscar,
                **({} if parent and route else {"revision": approved}), **({"arms": arms} if arms else {}), **stated,
            )  # fmt: skip
        elif kind == "profile":
            name, schedule, condition, tenths = what
            profile = create_profile(name, intent=f"{name}.", purpose="tone", axis="empathy", risk_class="low", owner=ada)
            alpha = Decimal(tenths) / 10
            probe = {"kind": "probe", "vector": vector, "read_position": "all", "scale": "3.1", "bias": "0", "threshold": "-0.2"}
            part = Component(
                vector=vector,
                alpha=alpha,
                alpha_max=Decimal("0.5"),
                unit="mean_difference",
                schedule=schedule,
                condition=condition,
                preserve_norm=tenths > 2,
            )
            draft_revision(profile, components=[part], author=ada, safety_override=[probe] if tenths > 3 else [], rationale="on: 0.50")
        elif kind == "policy":
            name, approvals, locales = what
            terms = policy_terms(approvals_needed=approvals, locales=locales)
            if name == "strict" and "strict" not in {document["metadata"]["name"] for document in export_manifests(kinds=["RiskPolicy"])}:
                create_policy(name, terms=terms, reason="a walk", actor=root)
            else:
                change_policy(name, terms=terms, reason="a walk", actor=root)
        elif kind == "own":
            manager, labels = what
            documents = export_manifests(kinds=["Tenant", "TenantFlag"])
            owned = [{**row, "metadata": {**row["metadata"], "manager": manager, "labels": labels}} for row in documents]
            if owned:
                apply(owned, force_conflicts=True)

    return run


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_CHANGES)
def test_applying_an_export_plans_to_nothing_whatever_is_on_record(change, plan, tmp_path, changes):
    for one in changes:
        change(*one)
    documents = export_manifests()
    path = tmp_path / "export.yaml"
    path.write_text(write_manifests(documents), newline="")
    read = [entry.document for entry in read_manifests(path)]
    assert read == documents
    assert {name: action for name, action in actions(plan(read)).items() if action != "no-op"} == {}


def read_truth():
    """What the record says, in the words of the record: the export could leave something out both times."""
    from registry.reads.documents import flag_document, policy_document, revision_document

    revisions = ProfileRevision.objects.order_by("profile_id", "-number").distinct("profile_id")
    documents = {revision.profile.name: revision_document(revision) for revision in revisions}
    flags = {str(row): flag_document(row) for row in TenantFlag.objects.all()}
    return {
        **{f"tenant {row.name}": row.title for row in Tenant.objects.all()},
        **{f"policy {row.name}": policy_document(row) for row in RiskPolicy.objects.all()},
        **{f"flag {name}": {field: value for field, value in flag.items() if field != "version"} for name, flag in flags.items()},
        **{f"profile {name}": (document["components"], document.get("safety_override")) for name, document in documents.items()},
    }


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_CHANGES, _CHANGES)
def test_applying_an_earlier_export_brings_back_what_was_on_record(change, apply, earlier, later):
    for one in earlier:
        change(*one)
    before, documents = read_truth(), export_manifests()
    for one in later:
        change(*one)
    apply(documents, force_conflicts=True)
    after = read_truth()
    assert {name: after[name] for name in before} == before


def test_an_export_with_status_is_applied_as_if_it_had_none(plan, flag_on, node):
    documents = export_manifests(with_status=True)
    assert set(actions(plan(documents)).values()) == {"no-op"}


def test_an_export_is_the_same_each_time_and_in_the_order_in_which_it_is_applied(flag_on):
    documents = export_manifests()
    assert json.dumps(documents) == json.dumps(export_manifests())
    kinds = [document["kind"] for document in documents]
    assert [kind for position, kind in enumerate(kinds) if kind not in kinds[:position]] == [
        "BaseModel", "ContrastSet", "EvalSuite", "SteeringVector", "RiskPolicy", "SteeringProfile", "Environment", "Tenant", "TenantFlag",
    ]  # fmt: skip


def test_an_export_holds_no_secret(flag_on, node, api, oscar):
    api(oscar)
    text = write_manifests(export_manifests(with_status=True))
    assert "sht_" not in text
    assert node[1] not in text
    assert "password" not in text


def test_an_export_is_of_what_was_asked_for(apply, plan):
    apply([manifest("Tenant", "a", manager="git/a"), manifest("Tenant", "b", manager="git/b"), profile_manifest()])
    assert [row["metadata"]["name"] for row in export_manifests(manager="git/a")] == ["a"]
    assert [row["metadata"]["name"] for row in export_manifests(kinds=["Tenant"], names=["b"])] == ["b"]


def test_a_vector_under_way_and_made_exports_the_recipe_that_makes_it(plan, base_model, contrast_set, suites, profile, ada):
    from registry.services.job_requests import request_extraction

    inputs = {"base_model": base_model, "contrast_set": contrast_set, "suites": suites}
    request_extraction(**inputs, recipe={"vector": "warm", "max_new_tokens": 7}, actor=ada, draft_for=profile)
    (document,) = export_manifests(kinds=["SteeringVector"])
    recipe = document["spec"]["recipe"]
    assert (recipe["contrastSet"], recipe["layers"], recipe["maxNewTokens"], recipe["profile"]) == (
        "empathy@1",
        "candidates",
        7,
        "harbor-empathy",
    )
    assert set(actions(plan(export_manifests())).values()) == {"no-op"}


# -- Status ---------------------------------------------------------------------------------------------------------------------


def conditions(kind, name=None):
    (document,) = export_manifests(kinds=[kind], names=[name] if name else [], with_status=True)
    return {condition["type"]: (condition["status"], condition["reason"]) for condition in document["status"]["conditions"]}


@pytest.mark.parametrize(
    ("outcome", "reason"), [({"passed": False}, "GatesFailed"), ({"undecidable": ["slope"]}, "GatesUndecidable"), ({}, "GatesPassed")]
)
def test_conditions_tell_the_three_verdicts_apart(vector, evaluate, outcome, reason):
    assert conditions("SteeringVector")["EvidenceComplete"] == ("False", "NoEvaluation")
    evaluate(vector, **outcome)
    assert conditions("SteeringVector")["EvidenceComplete"][1] == reason


def test_conditions_say_what_the_hub_makes_of_each_object(flag_on, node):
    assert conditions("ContrastSet") == {"Sealed": ("True", "Version1")}
    assert conditions("SteeringVector") == {
        "Sealed": ("True", "Version1"),
        "BaseModelMatch": ("True", "CurrentFingerprint"),
        "EvidenceComplete": ("True", "GatesPassed"),
        "LineageKnown": ("False", "Claimed"),
    }
    assert conditions("SteeringProfile") == {
        "Approved": ("True", "Approved"),
        "EvidenceComplete": ("True", "GatesPassed"),
        "BaseModelMatch": ("True", "CurrentFingerprint"),
    }
    assert conditions("TenantFlag") == {"Live": ("True", "Steering")}
    assert conditions("Environment") == {"Converged": ("False", "0of1")}


def test_a_flag_whose_profile_is_killed_is_not_live(flag_on, oscar):
    engage_kill("profile", target="harbor-empathy", reason="stop", actor=oscar)
    assert conditions("TenantFlag") == {"Live": ("False", "Killed")}


def test_convergence_is_of_now(production, node):
    ServingNode.objects.update(last_seen_at=timezone.now(), last_result="ACK", applied_revision=production.head_revision)
    assert conditions("Environment") == {"Converged": ("True", "1of1")}
    ServingNode.objects.update(last_seen_at=timezone.now() - timedelta(hours=1))
    assert conditions("Environment") == {"Converged": ("False", "0of1")}


def test_a_recipe_is_observed_once_its_job_has_ended(apply, base_model, contrast_set, suites, ada):
    names = [suite.name for suite in suites]
    recipe = {"baseModel": base_model.name, "contrastSet": "empathy", "suites": names}
    apply([manifest("SteeringVector", "warm", recipe=recipe)], actor=ada)
    (document,) = export_manifests(kinds=["SteeringVector"], with_status=True)
    assert (document["status"]["generation"], document["status"]["observedGeneration"]) == (1, 0)
    assert conditions("SteeringVector") == {"Sealed": ("False", "JobQueued")}


def test_generation_and_conditions_are_apart(apply, plan, approved, production, harbor):
    apply([flag(manager="git/a")])
    (document,) = export_manifests(kinds=["TenantFlag"], with_status=True)
    assert (document["status"]["generation"], document["status"]["observedGeneration"]) == (1, 1)
    assert Declaration.objects.get().generation == 1


# -- The page of reference ------------------------------------------------------------------------------------------------------


def test_the_reference_in_docs_is_up_to_date(settings, tmp_path):
    page = (settings.BASE_DIR / "docs/manifests.md").read_text()
    (tmp_path / "docs").mkdir()
    settings.BASE_DIR = Path(tmp_path)
    call_command("manifest_reference")
    assert (tmp_path / "docs/manifests.md").read_text() == page
