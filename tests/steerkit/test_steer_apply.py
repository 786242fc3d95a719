"""`steer apply`: manifests are read strictly, files go first, and nothing outside their folder is sent."""

import json

import pytest
from steer_rig import error_of

from steerkit.applying import read_manifests, upload_files
from steerkit.canonical import sha256_hex
from steerkit.errors import ManifestError

MANIFEST = """
apiVersion: steerhub/v1
kind: ContrastSet
metadata: {name: empathy}
spec:
  axis: empathy
  pairs: {file: ../data/pairs.jsonl}
---
apiVersion: steerhub/v1
kind: SteeringRecipe
metadata: {name: yes}
spec: {alphas: [0, 0.30, 1e3, "0.5"], seed: 7, dry: true, none: null, day: 2026-01-01}
"""


@pytest.fixture
def manifests(tmp_path):
    (tmp_path / "manifests").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data/pairs.jsonl").write_bytes(b"pairs")
    (tmp_path / "manifests/a.yaml").write_text(MANIFEST)
    return tmp_path / "manifests"


APPLIED = {"kind": "ContrastSet", "name": "empathy", "result": "created", "reference": "empathy@1"}


def test_apply_uploads_files_first_and_sends_their_digests(steer, recording_hub, manifests):
    recording_hub.answers["/blobs"] = [{"digest": sha256_hex(b"pairs")}]
    recording_hub.answers["/manifests/apply"] = [
        {"results": [{"kind": "ContrastSet", "name": "empathy", "result": "created", "reference": "empathy@1"}]}
    ]
    result = steer("apply", "-f", manifests)
    assert result.exit_code == 0, result.output
    assert "empathy@1" in result.output
    assert recording_hub.sent[0] == ("POST", "/blobs", b"pairs")
    [contrast, recipe] = json.loads(recording_hub.sent[1][2])["documents"]
    assert contrast["spec"]["pairs"] == {"digest": sha256_hex(b"pairs")}
    assert recipe["metadata"]["name"] == "yes"
    assert recipe["spec"] == {"alphas": [0, "0.30", "1e3", "0.5"], "seed": 7, "dry": True, "none": None, "day": "2026-01-01"}


def test_a_dry_run_uploads_nothing(steer, recording_hub, manifests):
    recording_hub.answers["/manifests/apply"] = [{"results": []}]
    assert steer("apply", "-f", manifests / "a.yaml", "--dry-run").exit_code == 0
    [body] = recording_hub.bodies()
    assert body["dry_run"] is True
    assert body["documents"][0]["spec"]["pairs"] == {"digest": sha256_hex(b"pairs")}


@pytest.mark.parametrize(
    ("text", "code", "where"),
    [
        ("kind: Tenant\nkind: Tenant\n", "MANIFEST_DUPLICATE_KEY", "line 2 column 1"),
        ("kind: Tenant\nspec:\n  a: 1\n  a: 2\n", "MANIFEST_DUPLICATE_KEY", "line 4 column 3"),
        ("kind: Tenant\nspec: &x {a: 1}\nmore: *x\n", "MANIFEST_YAML", "line 3 column 7"),
        ("kind: [unclosed\n", "MANIFEST_YAML", "line 2 column 1"),
        ("kind: Tenant\n1: x\n", "MANIFEST_YAML", "line 2 column 1"),
        ("kind: Tenant\nspec: !!python/object/apply:os.system [ls]\n", "MANIFEST_YAML", "line 2"),
        ("kind: Tenant\nspec: !!binary aGk=\n", "MANIFEST_YAML", ""),
        ("kind: Tenant\nspec: !!float 1.5\n", "MANIFEST_YAML", ""),
        ("kind: Planet\n", "MANIFEST_KIND", "Planet"),
        ("- a list\n", "MANIFEST_KIND", "list"),
        ("", "MANIFEST_MISSING", ""),
        ("kind: " + "[" * 5000, "MANIFEST_YAML", ""),
        ("kind: Tenant\nspec: \x00\n", "MANIFEST_YAML", ""),
    ],
)
def test_a_manifest_that_cannot_be_read_is_refused_where_it_is_wrong(steer, recording_hub, tmp_path, text, code, where):
    (tmp_path / "m.yaml").write_text(text)
    result = steer("apply", "-f", tmp_path)
    assert error_of(result) == code
    assert where in result.stderr
    assert recording_hub.sent == []


@pytest.mark.parametrize(
    "reference", ["{file: absent.jsonl}", "{file: ../../../../etc/passwd}", "{file: /etc/passwd}", "{file: 5}", "{file: a, digest: b}"]
)
def test_a_file_reference_stays_beside_its_manifest(manifests, reference):
    (manifests / "a.yaml").write_text(f"kind: ContrastSet\nspec: {{pairs: {reference}}}\n")
    with pytest.raises(ManifestError) as caught:
        upload_files(read_manifests(manifests), manifests, sha256_hex)
    assert caught.value.code == "MANIFEST_FILE"
