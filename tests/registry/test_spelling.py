"""A text that names something has one form at every door: composed, without a space at either end, without what cannot be seen.

Nothing is trimmed, because what is typed for one thing must not turn off another.
"""

import pkgutil
from decimal import Decimal
from importlib import import_module
from urllib.parse import quote

import pytest
from django.db import transaction
from django.test import Client
from rest_framework import serializers

from registry.api import views
from registry.api.fields import Body
from registry.errors import InvalidInput, NotFound
from registry.manifests.apply import apply_plan
from registry.manifests.documents import ManifestsRefused
from registry.manifests.plan import Options, make_plan
from registry.models import Environment, Tenant, TenantFlag
from registry.services.base_models import register_base_model
from registry.services.contrast import seal_contrast_set
from registry.services.evals import seal_eval_suite
from registry.services.flags import set_flag
from registry.services.job_requests import request_extraction
from registry.services.kills import engage_kill
from registry.services.nodes import invite_node
from registry.services.policies import create_policy
from registry.services.profiles import create_profile
from registry.services.tenants import create_environment, create_tenant
from registry.services.vectors import import_vector
from registry.snapshots import read_head
from steernode.errors import SpellingError
from steernode.snapshot.resolve import resolve
from tests.support.api import code_of
from tests.support.declaring import flag as flag_manifest
from tests.support.declaring import manifest
from tests.support.files import lines, make_pair, make_suite, vector_file
from tests.support.refusals import refuses

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"
MISSPELT = {
    "space": " chat ",
    "end": "chat ",
    "no-break space": "\u00a0chat",
    "tab": "chat\t",
    "zero width": "ch\u200bat",
    "line": "ch\nat",
}


@pytest.fixture
def as_browser(db):
    def client(user) -> Client:
        made = Client()
        made.force_login(user)
        return made

    return client


@pytest.fixture
def on_chat(production, harbor, approved, oscar):
    """The routes `chat` and café of harbor, both on."""
    for route in ("chat", COMPOSED):
        set_flag(production, harbor, route=route, revision=approved, enabled=True, reason="go", actor=oscar)


def states() -> dict[str, bool]:
    return dict(TenantFlag.objects.values_list("route", "enabled"))


FLAG = "/api/v1/environments/production/flags/harbor"


@pytest.mark.parametrize("route", MISSPELT.values(), ids=MISSPELT)
def test_a_misspelt_route_turns_nothing_off_at_any_door(on_chat, api, as_browser, oscar, production, harbor, route):
    before = states()
    answers = [
        api(oscar).put(FLAG, {"route": route, "enabled": False, "reason": "off"}),
        api(oscar).get(f"{FLAG}?route={quote(route)}"),
        api(oscar).get(f"/api/v1/environments/production/explain?tenant=harbor&route={quote(route)}"),
        api(oscar).get(f"/api/v1/environments/production/explain?tenant=harbor&key={quote(route)}"),
    ]
    assert [code_of(answer) for answer in answers] == [(422, "SPELLING")] * len(answers)
    page = as_browser(oscar).post("/console/flags/production/switch/", {"tenant": harbor.pk, "route": route, "reason": "off"}, follow=True)
    assert "SPELLING" in page.text
    with pytest.raises(ManifestsRefused) as refused:
        make_plan([flag_manifest(f"production/harbor/{route}", enabled=False)], Options())
    assert {error["code"] for error in refused.value.errors} <= {"SPELLING", "MANIFEST_VALUE"}
    with pytest.raises(SpellingError):
        set_flag(production, harbor, route=route, enabled=False, reason="off", actor=oscar)
    context = {"environment": "production", "tenant": "harbor"}
    for name in ("route", "targetingKey"):
        answer = api(oscar).post("/ofrep/v1/evaluate/flags/steering", {"context": {**context, name: route}})
        assert (answer.status_code, answer.json()["errorCode"]) == (400, "INVALID_CONTEXT")
    with pytest.raises(SpellingError):
        resolve(read_head(production)[1], "harbor", route)
    assert states() == before


def test_the_two_unicode_forms_of_a_route_are_one_route_at_every_door(on_chat, api, as_browser, oscar, production, harbor):
    client = api(oscar)

    def turn(*, on: bool):
        set_flag(production, harbor, route=COMPOSED, enabled=on, reason="x", actor=oscar)

    assert client.put(FLAG, {"route": DECOMPOSED, "enabled": False, "reason": "off"}).json()["route"] == COMPOSED
    assert states() == {"chat": True, COMPOSED: False}
    assert client.get(f"{FLAG}?route={quote(DECOMPOSED)}").json()["enabled"] is False
    for route in (COMPOSED, DECOMPOSED):
        explained = client.get(f"/api/v1/environments/production/explain?tenant=harbor&route={quote(route)}").json()
        assert explained["reason"] in ("no_flag", "flag_off")
        assert resolve(read_head(production)[1], "harbor", route).profile is None
    turn(on=True)
    as_browser(oscar).post("/console/flags/production/switch/", {"tenant": harbor.pk, "route": DECOMPOSED, "reason": "off"})
    assert states() == {"chat": True, COMPOSED: False}
    turn(on=True)
    documents = [flag_manifest(f"production/harbor/{DECOMPOSED}", enabled=False)]
    digest = make_plan(documents, Options()).digest
    apply_plan(documents, options=Options(), plan_digest=digest, actor=oscar, permit=lambda *roles: None)
    assert states() == {"chat": True, COMPOSED: False}


def test_the_database_keeps_routes_in_their_one_form(on_chat):
    for route in (" chat", DECOMPOSED):
        with refuses("flag_route_is_in_its_one_form"), transaction.atomic():
            TenantFlag.objects.filter(route="chat").update(route=route)


def test_two_forms_of_a_rollout_key_are_one_caller(production, harbor, approved, oscar):
    set_flag(production, harbor, revision=approved, enabled=True, rollout=Decimal(50), reason="go", actor=oscar)
    _, snapshot = read_head(production)
    for number in range(40):
        one, other = (resolve(snapshot, "harbor", "", key=f"{form}-{number}@example.com") for form in (COMPOSED, DECOMPOSED))
        assert one == other


def test_a_reference_is_taken_as_it_is_spelled(api, oscar, harbor, production):
    """The silent trimming of a text is how one thing was said and another was done."""
    bodies = {
        "kills": [
            {"kind": "tenant", "target": " harbor ", "reason": "x"},
            {"kind": "environment", "environment": "production ", "reason": "x"},
        ],
        "nodes": [{"name": "node-9", "environment": " production"}],
    }
    for path, some in bodies.items():
        for body in some:
            assert code_of(api(oscar).post(f"/api/v1/{path}", body)) == (422, "SPELLING")


def test_every_text_of_a_body_that_names_something_is_spelled_and_every_other_is_prose():
    """The kind of the fault: DRF trims by default, so a field that names something says that it does not."""
    for module in pkgutil.iter_modules(views.__path__):
        import_module(f"{views.__name__}.{module.name}")
    prose = {"reason", "comment", "text", "intent", "rationale", "title", "about", "why"}
    trimming = set()
    for body in _all_subclasses(Body):
        for name, field in body().fields.items():
            leaf = field
            while isinstance(leaf, serializers.ListField | serializers.ListSerializer):
                leaf = leaf.child
            if isinstance(leaf, serializers.CharField) and leaf.trim_whitespace and not isinstance(leaf, serializers.EmailField):
                trimming.add(name)
    assert trimming <= prose


def _all_subclasses(base: type) -> set[type]:
    return {base, *(each for sub in base.__subclasses__() for each in _all_subclasses(sub))}


# -- Names that differ only in capitals --------------------------------------------------------------------------------------------


@pytest.fixture
def everything(production, harbor, approved, node, base_model, contrast_set, suites, vector):
    """One record of each kind that has a name."""


def test_a_new_name_that_differs_only_in_capitals_is_refused_for_every_kind(
    everything, model_root, base_model, contrast_set, suites, production, harbor, approved, ada, oscar, policy_terms
):
    other_pairs = lines([make_pair(number) for number in range(40, 44)])
    makes = {
        "Production": lambda name: create_environment(name, actor=oscar),
        "Harbor": lambda name: create_tenant(name, actor=oscar),
        "Harbor-Empathy": lambda name: create_profile(name, intent="x", purpose="tone", axis="empathy", risk_class="low", owner=ada),
        "LOW": lambda name: create_policy(name, terms=policy_terms(), reason="x", actor=oscar),
        "Node-1": lambda name: invite_node(name, environment=production, actor=oscar),
        "HARBOR-support": lambda name: register_base_model(name, source="harbor", actor=ada),
        "Empathy": lambda name: seal_contrast_set(name, axis="empathy", data=other_pairs, author=ada),
        "FACTS": lambda name: seal_eval_suite(
            name, kind="factual", data=make_suite("factual").replace(b"question", b"problem"), author=ada
        ),
        "EMPATHY": lambda name: import_vector(name, data=vector_file(base_model.fingerprint, contrast_set.digest, seed=99), author=ada),
        "eMPATHY": lambda name: request_extraction(
            base_model=base_model, contrast_set=contrast_set, suites=suites, recipe={"vector": name}, actor=ada
        ),
    }
    for name, make in makes.items():
        with pytest.raises(InvalidInput) as refused:
            make(name)
        assert (refused.value.code, refused.value.item) == ("NAME_CASE", name), name


def test_a_route_that_differs_only_in_capitals_is_refused_and_what_is_there_stays(on_chat, production, harbor, approved, oscar):
    with pytest.raises(InvalidInput, match="'chat'") as refused:
        set_flag(production, harbor, route="Chat", revision=approved, enabled=False, reason="x", actor=oscar)
    assert refused.value.code == "NAME_CASE"
    TenantFlag.objects.filter(route=COMPOSED).update(route="Chat")
    set_flag(production, harbor, route="Chat", enabled=False, reason="it was there before", actor=oscar)
    assert states() == {"chat": True, "Chat": False}


def test_a_plan_refuses_a_new_name_that_differs_only_in_capitals(on_chat, production, harbor):
    declared = [manifest("Environment", "production"), manifest("Tenant", "harbor")]
    for new in (
        [manifest("Tenant", "Harbor")],
        [manifest("Tenant", "new"), manifest("Tenant", "New")],
        [flag_manifest("production/harbor/CHAT")],
    ):
        with pytest.raises(ManifestsRefused) as refused:
            make_plan([*declared, *new], Options())
        assert {error["code"] for error in refused.value.errors} == {"NAME_CASE"}


@pytest.mark.parametrize("name", ["", "-harbor", "har bor", "harbor\n", "h\u00e4fen", "x" * 101])
def test_the_services_refuse_what_is_no_name(db, oscar, name):
    for make, model in ((create_tenant, Tenant), (create_environment, Environment)):
        with pytest.raises(InvalidInput) as refused:
            make(name, actor=oscar)
        assert refused.value.code == "NAME"
        assert not model.objects.filter(name=name).exists()


def test_a_kill_takes_the_very_name(on_chat, oscar, harbor):
    with pytest.raises(NotFound):
        engage_kill("tenant", target="Harbor", reason="x", actor=oscar)
