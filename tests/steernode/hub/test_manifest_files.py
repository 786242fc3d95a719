"""Manifests as files: read strictly, located exactly, written so that they are read back, and their files sent first."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steernode.canonical import sha256_hex
from steernode.errors import HubError, ManifestError
from steernode.hub.manifests import explain_refusal, read_manifests, upload_files, write_manifests
from tests.support.steer_rig import error_of

MANIFEST = """
apiVersion: steerhub/v1
kind: ContrastSet
metadata: {name: empathy}
spec:
  axis: empathy
  pairs: {file: ../data/pairs.jsonl}
---
apiVersion: steerhub/v1
kind: SteeringVector
metadata: {name: 'yes'}
spec:
  recipe: {alphas: [0, 0.30, 1e3, "0.5"], seed: 7, dry: true, none: null, day: 2026-01-01}
"""
PLAN = {
    "planDigest": "d" * 64,
    "changes": 1,
    "options": {"prune": False, "maxPrunePercent": 10, "forceConflicts": False},
    "steps": [
        {
            "kind": "Tenant",
            "name": "harbor",
            "action": "update",
            "roles": ["operator"],
            "note": "",
            "changes": [{"field": "spec.title", "before": "A\x1b[2J", "after": "B"}],
            "risks": [{"code": "ALPHA_CHANGE", "message": "α rises", "blocks": False}],
        },
        {"kind": "Tenant", "name": "atlas", "action": "no-op", "roles": ["operator"], "note": "", "changes": [], "risks": []},
    ],
    "environments": [{"environment": "production", "nodes": 3, "inStep": 2, "newlySteered": ["harbor"]}],
}
NOTHING = {**PLAN, "changes": 0, "steps": PLAN["steps"][1:], "environments": []}


@pytest.fixture
def manifests(tmp_path):
    (tmp_path / "manifests").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data/pairs.jsonl").write_bytes(b"pairs")
    (tmp_path / "manifests/a.yaml").write_text(MANIFEST)
    return tmp_path / "manifests"


# -- Reading --------------------------------------------------------------------------------------------------------------------


def test_a_scalar_is_what_it_looks_like_and_never_a_binary_fraction(manifests):
    _, vector = read_manifests(manifests)
    assert vector.document["metadata"]["name"] == "yes"
    recipe = {"alphas": [0, "0.30", "1e3", "0.5"], "seed": 7, "dry": True, "none": None, "day": "2026-01-01"}
    assert vector.document["spec"] == {"recipe": recipe}


def test_every_field_knows_its_line_and_column(manifests):
    contrast, vector = read_manifests(manifests)
    assert contrast.locate("spec.pairs").endswith("a.yaml line 7 column 3")
    assert vector.locate("spec.recipe.alphas.2").endswith("a.yaml line 13 column 30")
    assert vector.locate("spec.recipe.absent.deeper").endswith("a.yaml line 13 column 3")
    assert vector.locate("").endswith("a.yaml line 9 column 1")


@pytest.mark.parametrize(
    ("text", "code", "where"),
    [
        ("kind: Tenant\nkind: Tenant\n", "MANIFEST_DUPLICATE_KEY", "line 2 column 1"),
        ("kind: Tenant\nspec:\n  a: 1\n  a: 2\n", "MANIFEST_DUPLICATE_KEY", "line 4 column 3"),
        ("kind: Tenant\nspec:\n  enabled: yes\n", "MANIFEST_BOOLEAN", "line 3 column 12"),
        ("kind: Tenant\nspec: [no]\n", "MANIFEST_BOOLEAN", "line 2 column 8"),
        ("kind: Tenant\nspec: {a: On, b: 1}\n", "MANIFEST_BOOLEAN", "line 2 column 11"),
        ("kind: Tenant\noff: 1\n", "MANIFEST_BOOLEAN", "line 2 column 1"),
        ("kind: Tenant\nspec: True\n", "MANIFEST_BOOLEAN", "line 2 column 7"),
        ("kind: Tenant\nspec: &x {a: 1}\nmore: *x\n", "MANIFEST_YAML", "line 3 column 7"),
        ("kind: [unclosed\n", "MANIFEST_YAML", "line 2 column 1"),
        ("kind: Tenant\n1: x\n", "MANIFEST_YAML", "line 2 column 1"),
        ("kind: Tenant\n[a]: x\n", "MANIFEST_YAML", "line 2 column 1"),
        ("kind: Tenant\nspec: !!python/object/apply:os.system [ls]\n", "MANIFEST_YAML", "line 2"),
        ("kind: Tenant\nspec: !!binary aGk=\n", "MANIFEST_YAML", "line 2 column 7"),
        ("kind: Tenant\nspec: !!float 1.5\n", "MANIFEST_YAML", "line 2 column 7"),
        ("kind: Tenant\nspec: !!bool maybe\n", "MANIFEST_YAML", "line 2 column 7"),
        ("kind: Tenant\nspec: !!int x\n", "MANIFEST_YAML", ""),
        ("- a list\n", "MANIFEST_SHAPE", "line 1 column 1"),
        ("", "MANIFEST_MISSING", ""),
        ("kind: " + "[" * 5000, "MANIFEST_YAML", ""),
        ("kind: " + "{a: " * 5000, "MANIFEST_YAML", ""),
        ("kind: Tenant\nspec: \x00\n", "MANIFEST_YAML", ""),
    ],
)
def test_a_manifest_that_cannot_be_read_is_refused_where_it_is_wrong(steer, recording_hub, tmp_path, text, code, where):
    (tmp_path / "m.yaml").write_text(text)
    result = steer("plan", "-f", tmp_path)
    assert error_of(result) == code
    assert where in result.stderr
    assert recording_hub.sent == []


# Without NUL, which no record can hold.
_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
_VALUES = st.recursive(
    st.one_of(
        _TEXT, st.booleans(), st.none(), st.integers(-(2**60), 2**60), st.sampled_from(["yes", "off", "0.5", "1e3", "~", "null", "012"])
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(_TEXT, _VALUES, min_size=1, max_size=3), min_size=1, max_size=3))
def test_what_is_written_is_read_back(tmp_path_factory, documents):
    path = tmp_path_factory.mktemp("written") / "m.yaml"
    path.write_text(write_manifests(documents), newline="")
    assert [entry.document for entry in read_manifests(path)] == documents


# -- Sending --------------------------------------------------------------------------------------------------------------------


def test_a_plan_uploads_nothing_and_ends_with_two_when_there_are_changes(steer, recording_hub, manifests):
    recording_hub.answers["/manifests/plan"] = [PLAN]
    result = steer("plan", "-f", manifests)
    assert result.exit_code == 2
    [body] = recording_hub.bodies()
    assert body["documents"][0]["spec"]["pairs"] == {"digest": sha256_hex(b"pairs")}
    assert (body["prune"], body["maxPrunePercent"], body["forceConflicts"]) == (False, 10, False)
    assert "~ Tenant harbor\n" in result.output
    assert 'spec.title: "A\\u001b[2J" → "B"' in result.output
    assert "α rises" in result.output
    assert "production: 3 nodes affected, 2 in step now; newly steered: harbor" in result.output
    assert f"plan {'d' * 64}: 1 updated, 1 unchanged" in result.output


def test_a_plan_of_nothing_ends_with_zero(steer, recording_hub, manifests):
    recording_hub.answers["/manifests/plan"] = [NOTHING]
    assert steer("plan", "-f", manifests).exit_code == 0
    assert steer("diff", "-f", manifests).exit_code == 0
    assert json.loads(steer("plan", "-f", manifests, "-o", "json").output) == NOTHING


def test_apply_plans_asks_uploads_and_applies_that_plan(steer, recording_hub, manifests):
    recording_hub.answers["/manifests/plan"] = [PLAN]
    recording_hub.answers["/blobs"] = [{"digest": sha256_hex(b"pairs")}]
    recording_hub.answers["/manifests/apply"] = [{"planDigest": "d" * 64, "changes": 1, "steps": PLAN["steps"]}]
    assert steer("apply", "-f", manifests, input="n\n").exit_code == 1
    assert [path for _, path, _ in recording_hub.sent] == ["/manifests/plan"]
    result = steer("apply", "-f", manifests, "--yes")
    assert (result.exit_code, result.output.splitlines()[-1]) == (0, "applied: 1 updated, 1 unchanged")
    assert [path for _, path, _ in recording_hub.sent[1:]] == ["/manifests/plan", "/blobs", "/manifests/apply"]
    assert json.loads(recording_hub.sent[-1][2])["planDigest"] == "d" * 64


def test_apply_sends_nothing_when_there_is_nothing_to_do(steer, recording_hub, manifests):
    recording_hub.answers["/manifests/plan"] = [NOTHING]
    assert steer("apply", "-f", manifests).exit_code == 0
    assert [path for _, path, _ in recording_hub.sent] == ["/manifests/plan"]


def test_a_saved_plan_is_applied_with_the_options_it_was_made_with(steer, recording_hub, manifests, tmp_path):
    recording_hub.answers["/blobs"] = [{"digest": sha256_hex(b"pairs")}]
    recording_hub.answers["/manifests/apply"] = [{"planDigest": "d" * 64, "changes": 0, "steps": []}]
    saved = tmp_path / "plan.json"
    saved.write_text(json.dumps({**PLAN, "options": {**PLAN["options"], "prune": True}}))
    assert steer("apply", "-f", manifests, "--plan", saved).exit_code == 0
    assert json.loads(recording_hub.sent[-1][2])["prune"] is True
    assert steer("apply", "-f", manifests, "--plan", "e" * 64).exit_code == 0
    assert json.loads(recording_hub.sent[-1][2])["planDigest"] == "e" * 64
    assert error_of(steer("apply", "-f", manifests, "--plan", "nowhere.json")) == "PLAN_FILE"


def test_a_diff_shows_both_sides_and_ends_with_one_or_on_an_error_with_two(steer, recording_hub, manifests):
    recording_hub.answers["/manifests/plan"] = [PLAN]
    result = steer("diff", "-f", manifests)
    assert result.exit_code == 1
    assert '- spec.title: "A\\u001b[2J"\n+ spec.title: "B"\n' in result.output
    recording_hub.answers = {}
    assert steer("diff", "-f", manifests).exit_code == 2


def test_drift_shows_four_accounts_and_ends_with_two(steer, recording_hub, manifests):
    row = {"kind": "TenantFlag", "name": "production/harbor", "files": "on", "registry": "off", "snapshot": "off", "nodes": "1 of 1"}
    recording_hub.answers["/manifests/drift"] = [{"rows": [{**row, "drifts": True}]}]
    result = steer("drift", "-f", manifests)
    assert (result.exit_code, "production/harbor  on" in result.output) == (2, True)
    recording_hub.answers["/manifests/drift"] = [{"rows": [{**row, "drifts": False}]}]
    assert steer("drift", "-f", manifests).exit_code == 0


def test_an_export_is_printed_as_manifests(steer, recording_hub, tmp_path):
    documents = [{"apiVersion": "steerhub/v1", "kind": "Tenant", "metadata": {"name": "on"}, "spec": {"title": "α"}}]
    recording_hub.answers["/manifests/export"] = [{"documents": documents}]
    (tmp_path / "m.yaml").write_text(steer("export", "--kind", "Tenant").output)
    assert [entry.document for entry in read_manifests(tmp_path)] == documents


def test_what_the_hub_finds_wrong_is_told_with_file_line_and_column(manifests):
    documents = read_manifests(manifests)
    error = HubError("MANIFEST_VALUE", "the first of them")
    error.problem = {
        "errors": [
            {"field": "documents.1.spec.recipe.seed", "code": "MANIFEST_VALUE", "message": "seed is too large"},
            {"field": "documents.0.spec.colour", "code": "MANIFEST_UNKNOWN_FIELD", "message": "unknown field"},
            {"field": "documents", "code": "PRUNE_TOO_MUCH", "message": "too much"},
            {"field": "documents.9.spec", "code": "X", "message": "no such document"},
        ]
    }
    told = list(explain_refusal(error, documents))
    assert told[0] == ("MANIFEST_VALUE", f"{manifests}/a.yaml line 13 column 43: seed is too large")
    assert told[1] == ("MANIFEST_UNKNOWN_FIELD", f"{manifests}/a.yaml line 5 column 1: unknown field")
    assert told[2:] == [("PRUNE_TOO_MUCH", "too much"), ("X", "no such document")]
    assert list(explain_refusal(HubError("PLAN_STALE", "plan again"), documents)) == [("PLAN_STALE", "plan again")]


@pytest.mark.parametrize(
    "reference", ["{file: absent.jsonl}", "{file: ../../../../etc/passwd}", "{file: /etc/passwd}", "{file: 5}", "{file: a, digest: b}"]
)
def test_a_file_reference_stays_beside_its_manifest(manifests, reference):
    (manifests / "a.yaml").write_text(f"kind: ContrastSet\nspec: {{pairs: {reference}}}\n")
    with pytest.raises(ManifestError) as caught:
        upload_files(read_manifests(manifests), manifests, sha256_hex)
    assert caught.value.code == "MANIFEST_FILE"
    assert "line 2 column 16" in caught.value.message
