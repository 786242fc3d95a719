"""Architecture files: read strictly, resolved for a config, learned all or none, known by a digest of what they say."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from steernode.errors import ModelError
from steernode.files.architectures import find_family, known_families, learn_architectures, read_architecture_file
from steernode.files.blocks import BlockSites, Place
from tests.support.architectures import LAYOUT, write_architecture

SHIPPED = Path(__file__).parents[3] / "steernode/data/architectures"


def refusal(folder: Path) -> ModelError:
    known = known_families()
    with pytest.raises(ModelError) as refused:
        learn_architectures(folder)
    assert known_families() == known
    return refused.value


def resolve(folder: Path, **config: Any) -> tuple[BlockSites, ...]:
    [family] = learn_architectures(folder)
    return family.resolve(SimpleNamespace(**({"num_hidden_layers": 3} | config))).layers


def test_a_learned_family_is_known_like_those_that_ship(tmp_path: Path) -> None:
    [family] = learn_architectures(write_architecture(tmp_path, "harbor", "HarborForCausalLM"))
    assert find_family("harbor") == family
    assert (family.class_name, family.text_part, dict(family.sizes)) == ("HarborForCausalLM", None, {})
    assert resolve(tmp_path) == (BlockSites(),) * 3
    assert learn_architectures(tmp_path) == (family,)


def test_the_digest_is_of_what_is_said_of_a_class_and_not_of_how(tmp_path: Path) -> None:
    [alone] = learn_architectures(write_architecture(tmp_path / "one", "harbor", "HarborForCausalLM"))
    file = tmp_path / "one/harbor.yaml"
    # A comment, another order, another class beside it and its class's own sizes leave it.
    reordered = dict(reversed(LAYOUT.items())) | {
        "models": {"other": {"class": "OtherForCausalLM"}, "harbor": {"class": "HarborForCausalLM", "context_length": 4096}}
    }
    file.write_text("# About Harbor.\n" + yaml.safe_dump(reordered, sort_keys=False))
    again = {family.model_type: family.digest for family in read_architecture_file(file)}
    assert again["harbor"] == alone.digest
    assert again["other"] != alone.digest
    [elsewhere] = read_architecture_file(write_architecture(tmp_path / "two", "harbor", "HarborForCausalLM", blocks="h") / "harbor.yaml")
    assert elsewhere.digest != alone.digest


def test_what_is_known_is_not_described_otherwise(tmp_path: Path) -> None:
    for folder in ("first", "same"):
        learn_architectures(write_architecture(tmp_path / folder, "harbor", "HarborForCausalLM"))
    assert refusal(write_architecture(tmp_path / "other", "harbor", "HarborForCausalLM", final_norm=None)).code == "ARCHITECTURE_TAKEN"
    assert refusal(write_architecture(tmp_path / "llama", "llama", "LlamaForCausalLM", blocks="h")).code == "ARCHITECTURE_TAKEN"
    # A copy of what ships says nothing new.
    learn_architectures(shutil.copytree(SHIPPED, tmp_path / "copy"))


def test_a_folder_is_learned_whole_or_not_at_all(tmp_path: Path) -> None:
    write_architecture(tmp_path, "aaa", "AaaForCausalLM")
    write_architecture(tmp_path, "zzz", "ZzzForCausalLM", decoder=None)
    assert refusal(tmp_path).code == "ARCHITECTURE_FILE"
    shutil.copy(tmp_path / "aaa.yaml", tmp_path / "zzz.yaml")
    assert "both describe 'aaa'" in refusal(tmp_path).message
    assert refusal(tmp_path / "nowhere").code == "ARCHITECTURE_FILE"


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "another schema": ({"schema": "steerhub.architecture/2"}, "schema"),
    "an unknown field": ({"head": "lm_head"}, "head"),
    "no models": ({"models": {}}, "models"),
    "a model without a class": ({"models": {"harbor": {}}}, "models.harbor.class"),
    "a class that is code": ({"models": {"harbor": {"class": "os.system"}}}, "models.harbor.class"),
    "a size that is none": ({"models": {"harbor": {"class": "Harbor", "context_length": 0}}}, "models.harbor.context_length"),
    "a path that is code": ({"decoder": "__import__('os')"}, "decoder"),
    "an empty path": ({"blocks": ""}, "blocks"),
    "a place that is text": ({"attn_out": "self_attn"}, "attn_out"),
    "a place both ways": ({"attn_out": {"output": "a", "input": "a"}}, "attn_out"),
    "a place without a module": ({"mlp_out": {"flat": True}}, "mlp_out"),
    "flat that is no switch": ({"mlp_out": {"output": "mlp", "flat": "perhaps"}}, "mlp_out.flat"),
    "attention of somebody else": ({"attention": "org/kernel"}, "attention"),
    "a multiplier that is a number": ({"residual_multiplier": 2}, "residual_multiplier"),
    "a case without a condition": ({"when": [{"if": {}, "resid_mid": None}]}, "when[0]"),
    "a case without a change": ({"when": [{"if": {"a": True}}]}, "when[0]"),
    "a case that changes what it may not": ({"when": [{"if": {"a": True}, "decoder": "x"}]}, "when[0].decoder"),
    "a condition on a list": ({"when": [{"if": {"a": [1]}, "resid_mid": None}]}, "when[0].if.a"),
    "a case as text": ({"when": ["x"]}, "when[0]"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_file_that_is_not_right_is_refused_by_its_place(tmp_path: Path, fault: str) -> None:
    changes, item = WRONG[fault]
    error = refusal(write_architecture(tmp_path, "harbor", "HarborForCausalLM", **changes))
    assert (error.code, error.item) == ("ARCHITECTURE_FILE", item)
    assert f"{tmp_path / 'harbor.yaml'} line " in error.message


@pytest.mark.parametrize(
    "text",
    ["", "- llama", "a: 1\n---\nb: 2", "a: 1\na: 2", "a: &x 1\nb: *x", "a: !!python/object:os.system x", "a: yes", "\x00"],
)
def test_a_file_that_is_no_single_plain_mapping_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "harbor.yaml").write_text(text)
    assert refusal(tmp_path).code == "ARCHITECTURE_FILE"


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "harbor.yaml").write_text("#" * 70_000)
    assert refusal(tmp_path).code == "ARCHITECTURE_FILE"


def test_other_files_of_the_folder_are_left_alone(tmp_path: Path) -> None:
    for name in ("README.md", ".harbor.yaml.swp", ".#harbor.yaml", "harbor.yamlx"):
        (tmp_path / name).write_text("not an architecture")
    assert learn_architectures(tmp_path) == ()


def test_a_case_holds_for_the_model_or_layer_by_layer(tmp_path: Path) -> None:
    folder = write_architecture(
        tmp_path,
        "harbor",
        "HarborForCausalLM",
        when=[
            {"if": {"is_parallel": True}, "resid_mid": None},
            {"if": {"layer_types": "linear", "is_parallel": False}, "attn_out": {"output": "linear_attn"}},
        ],
    )
    parallel = resolve(folder, is_parallel=True, layer_types=["full", "linear", "full"])
    assert parallel == (BlockSites(resid_mid=None),) * 3
    by_layer = resolve(folder, is_parallel=False, layer_types=["full", "linear", "full"])
    assert by_layer == (BlockSites(), BlockSites(attn_out=Place("linear_attn")), BlockSites())
    # True is not 1, and a word is not a switch.
    assert resolve(folder, is_parallel=1, layer_types="linear") == (BlockSites(),) * 3


@pytest.mark.parametrize(
    ("changes", "config", "problem"),
    [
        ({"when": [{"if": {"absent": True}, "resid_mid": None}]}, {}, "the config has no absent"),
        ({"when": [{"if": {"kinds": "a"}, "resid_mid": None}]}, {"kinds": ["a"]}, "too few for its layers"),
        ({"when": [{"if": {"kinds": "a"}, "final_norm": None}]}, {"kinds": ["a", "b", "a"]}, "cannot differ by layer"),
        ({"residual_multiplier": {"config": "scale"}}, {"scale": 0.0}, "residual multiplier of 0.0"),
        ({"residual_multiplier": {"config": "scale"}}, {"scale": float("nan")}, "residual multiplier of nan"),
        ({"attn_out": None, "mlp_out": None}, {}, "resid_mid of layer 0 could not be proved"),
        ({"resid_mid": None, "mid_norm": "norm"}, {}, "mid_norm"),
        ({"text": "text_config"}, {}, "the config has no text_config"),
    ],
)
def test_a_file_that_does_not_fit_a_config_says_why(tmp_path: Path, changes: dict, config: dict, problem: str) -> None:
    with pytest.raises(ModelError, match=problem) as refused:
        resolve(write_architecture(tmp_path, "harbor", "HarborForCausalLM", **changes), **config)
    assert (refused.value.code, refused.value.item) == ("ARCHITECTURE_FILE", "HarborForCausalLM")


def test_a_multiplier_is_read_from_the_config(tmp_path: Path) -> None:
    plain = write_architecture(tmp_path / "plain", "harbor", "HarborForCausalLM", residual_multiplier={"config": "scale"})
    assert {sites.residual_multiplier for sites in resolve(plain, scale=0.22)} == {0.22}
    rooted = {"config": "scale", "over_root_of": "num_hidden_layers"}
    folder = write_architecture(tmp_path / "rooted", "pier", "PierForCausalLM", residual_multiplier=rooted)
    assert {sites.residual_multiplier for sites in resolve(folder, scale=1.4, num_hidden_layers=4)} == {0.7}


def test_what_ships_is_known_without_torch() -> None:
    code = "import sys; from steernode.files.architectures import known_families; print(len(known_families()), 'torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert found == [str(len(known_families())), "False"]
