"""All that nodes can serve can be authored: what goes in comes out, in the revision, in its digest and in the snapshot."""

from decimal import Decimal
from uuid import uuid4

import pytest

from registry.models import ProfileRevision
from registry.reads.documents import revision_document
from registry.services.vectors import import_vector
from steernode.snapshot.readers import read_component
from tests.support.files import vector_file

ADDRESS = "/api/v1/profiles/harbor-empathy/revisions"
PLAIN = {"vector": "empathy@1", "alpha": "0.5", "alpha_min": "0", "alpha_max": "0.5", "unit": "mean_difference"}
PROBE = {"kind": "probe", "vector": "empathy@1", "read_position": "last_prompt_token", "scale": "3.1", "bias": "-0.4", "threshold": "0.2"}


def edit(api, who):
    where = f"{ADDRESS}/1"
    read = api(who).get(where)
    return api(who).put(where, {"components": [PLAIN]}, headers={"If-Match": read["ETag"], "Idempotency-Key": str(uuid4())})


def draft(api, ada, *components, **options):
    return api(ada).post(ADDRESS, {"components": [PLAIN | each for each in components], **options})


@pytest.mark.parametrize(
    "change",
    [
        {"operator": "ablate", "alpha": "1", "alpha_max": "1"},
        {"operator": "clamp", "alpha": "1", "alpha_max": "1", "bound": "-0.25"},
        {"preserve_norm": True},
        {"schedule": {"kind": "linear", "tokens": 64}},
        {"schedule": {"kind": "exponential", "half_life_tokens": 32}},
        {"schedule": {"kind": "window", "first_token": 0, "last_token": 15}},
        {"condition": {"kind": "intent", "labels": ["refund", "complaint"]}},
        {"condition": {"kind": "attribute", "name": "locale", "values": ["de-DE"]}},
        {"scope": "assistant"},
    ],
    ids=lambda change: " ".join(map(str, change)),
)
def test_what_an_author_writes_is_what_a_node_reads(api, ada, profile, vector, change):
    answer = draft(api, ada, change)
    assert answer.status_code == 201, answer.content
    shown = answer.json()["components"][0]
    assert {name: shown[name] for name in change} == change
    document = revision_document(ProfileRevision.objects.get())["components"][0]
    assert {name: document[name] for name in change} == change
    assert read_component(document, "component").operator == change.get("operator", "add")


def test_a_probe_names_a_vector_and_reads_at_its_layer_and_site(api, ada, profile, vector):
    answer = draft(api, ada, {"condition": PROBE}, safety_override=[PROBE | {"threshold": "2"}])
    assert answer.status_code == 201, answer.content
    served = answer.json()["components"][0]["condition"]
    assert (served["vector"]["sha256"], served["layer"], served["site"]) == (vector.digest, vector.layer, vector.site)
    assert answer.json()["safety_override"][0]["threshold"] == "2"


def test_everything_a_revision_does_is_in_its_digest_document(api, ada, profile, vector):
    draft(api, ada, {})
    plain = revision_document(ProfileRevision.objects.get())
    draft(api, ada, {}, safety_override=[{"kind": "intent", "labels": ["self-harm"]}])
    guarded = revision_document(ProfileRevision.objects.get(number=2))
    assert "safety_override" not in plain
    assert guarded["safety_override"] == [{"kind": "intent", "labels": ["self-harm"]}]
    assert {"bound", "preserve_norm"}.isdisjoint(plain["components"][0])


def test_an_edit_replaces_all_of_it(api, ada, profile, vector):
    draft(api, ada, {"schedule": {"kind": "linear", "tokens": 8}}, safety_override=[{"kind": "intent", "labels": ["x"]}])
    answer = edit(api, ada).json()
    assert answer["components"][0]["schedule"] == {"kind": "constant"}
    assert answer["safety_override"] == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"operator": "ablate", "alpha": "1.5", "alpha_max": "2"}, "ALPHA_STRENGTH"),
        ({"operator": "ablate", "alpha": "0.5", "alpha_min": "-0.5"}, "ALPHA_STRENGTH"),
        ({"operator": "clamp"}, "COMPONENT_BOUND"),
        ({"operator": "clamp", "bound": "0"}, "COMPONENT_BOUND"),
        ({"bound": "1"}, "COMPONENT_BOUND"),
        ({"schedule": {"kind": "sawtooth"}}, "COMPONENT_INVALID"),
        ({"schedule": {}}, "COMPONENT_INVALID"),
        ({"schedule": {"kind": "linear"}}, "COMPONENT_INVALID"),
        ({"schedule": {"kind": "linear", "tokens": 0}}, "COMPONENT_INVALID"),
        ({"schedule": {"kind": "linear", "tokens": 8, "surprise": 1}}, "COMPONENT_INVALID"),
        ({"schedule": {"kind": "linear", "tokens": True}}, "COMPONENT_INVALID"),
        ({"schedule": {"kind": "linear", "tokens": 10_000_000}}, "COMPONENT_INVALID"),
        ({"schedule": {"kind": "window", "first_token": 9, "last_token": 3}}, "COMPONENT_INVALID"),
        ({"condition": {"kind": "moon", "phase": "full"}}, "COMPONENT_INVALID"),
        ({"condition": {"labels": ["x"]}}, "COMPONENT_INVALID"),
        ({"condition": {"kind": "harmful"}}, "COMPONENT_INVALID"),
        ({"condition": {"kind": "intent", "labels": []}}, "COMPONENT_INVALID"),
        ({"condition": {"kind": "intent", "labels": [f"l{number}" for number in range(65)]}}, "COMPONENT_INVALID"),
        ({"condition": {"kind": "attribute", "name": "locale", "values": ["a", "a"]}}, "COMPONENT_INVALID"),
        ({"condition": PROBE | {"layer": 1}}, "COMPONENT_INVALID"),
        ({"condition": PROBE | {"vector": {"sha256": "0" * 64}}}, "COMPONENT_INVALID"),
        ({"condition": PROBE | {"vector": "nobody@1"}}, "VECTOR_NOT_FOUND"),
        ({"condition": PROBE | {"scale": "0"}}, "COMPONENT_INVALID"),
        ({"alpha": "2.5", "alpha_max": "2.5"}, "ALPHA_CAP"),
    ],
)
def test_what_a_node_would_refuse_is_not_drafted(api, ada, profile, vector, change, code):
    answer = draft(api, ada, change)
    assert (answer.status_code, answer.json()["code"]) == (404 if code.endswith("FOUND") else 422, code), answer.content
    assert not ProfileRevision.objects.exists()


def test_an_override_may_leave_it_to_the_node(api, ada, profile, vector):
    answer = draft(api, ada, {}, safety_override=[{"kind": "harmful"}])
    assert (answer.status_code, answer.json()["safety_override"]) == (201, [{"kind": "harmful"}])


def test_a_safety_override_is_read_as_strictly(api, ada, profile, vector):
    for overrides in ([{"kind": "moon"}], [{"kind": "intent", "labels": ["x"]}] * 9, [{"kind": "harmful", "threshold": "1"}], "always"):
        answer = draft(api, ada, {}, safety_override=overrides)
        assert answer.status_code in (400, 422), overrides
    assert not ProfileRevision.objects.exists()


def test_a_probe_of_another_base_model_is_refused(api, ada, profile, vector, model_root, contrast_set):
    from registry.services.base_models import register_base_model
    from tests.support.files import write_model_folder

    write_model_folder(model_root / "other", vocab_size=256)
    other = register_base_model("other", source="other", actor=ada)
    import_vector("stranger", data=vector_file(other.fingerprint, contrast_set.digest, seed=3), author=ada)
    answer = draft(api, ada, {"condition": PROBE | {"vector": "stranger@1"}})
    assert (answer.status_code, answer.json()["code"]) == (422, "REVISION_BASE_MODELS")


def test_only_the_author_or_a_service_account_of_theirs_edits_and_submits(api, person, ada, profile, vector, evaluation):
    draft(api, ada, {})
    bob, robot = person("bob", "author"), person("ada-robot", "author", acts_for=ada)
    for send in (lambda who: edit(api, who), lambda who: api(who).post(f"{ADDRESS}/1/submit", {})):
        answer = send(bob)
        assert (answer.status_code, answer.json()["code"]) == (409, "NOT_THE_AUTHOR")
    assert edit(api, robot).status_code == 200
    assert api(robot).post(f"{ADDRESS}/1/submit", {}).json()["state"] == "submitted"


def test_a_coefficient_is_decided_by_the_cap_of_the_risk_class(api, ada, root, profile, vector, policy_terms):
    from registry.services.policies import change_policy

    change_policy("low", terms=policy_terms(alpha_caps={"mean_difference": Decimal("0.4")}), reason="Careful.", actor=root)
    answer = draft(api, ada, {})
    assert (answer.status_code, answer.json()["code"]) == (422, "ALPHA_CAP")
    assert "the cap of the risk class is 0.4" in answer.json()["detail"]
