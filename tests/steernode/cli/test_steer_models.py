"""`steer model`: model folders made of other files."""

import json

import numpy as np
import pytest
from safetensors.numpy import save

from steernode.behaviour import read_behaviour
from steernode.files.basemodels import inspect_model
from steernode.integrations import converting
from steernode.integrations.registering import measure_folder
from tests.support.files import behaviour_document, write_model_folder
from tests.support.steer_rig import error_of
from tests.support.tiny_models import save_model


def test_a_gguf_file_is_converted_and_what_came_out_is_said(steer, tmp_path, monkeypatch):
    def convert(file, folder, *, dtype, on_stage):
        on_stage("dequantising", 1, 2)
        (write_model_folder(folder) / "asked").write_text(f"{file.name} {dtype}")
        return inspect_model(folder)

    monkeypatch.setattr(converting, "convert_gguf", convert)
    done = steer("model", "convert", tmp_path / "a.gguf", tmp_path / "model", "--dtype", "bfloat16")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "model/asked").read_text() == "a.gguf bfloat16"
    assert inspect_model(tmp_path / "model").fingerprint in done.stdout


def test_a_file_that_cannot_be_converted_is_an_error_with_its_code(steer, tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"GGUX")
    assert error_of(steer("model", "convert", tmp_path / "a.gguf", tmp_path / "model")) == "MODEL_FORMAT"
    assert steer("model", "convert", tmp_path / "a.gguf", tmp_path / "model", "--dtype", "int4").exit_code == 2


REGISTERED = {"name": "tiny", "fingerprint": "ab" * 32, "form": "", "behaviour": None}


@pytest.fixture
def tiny(tmp_path):
    return save_model(tmp_path / "tiny")


def test_what_a_model_says_is_measured_and_registered_with_what_it_was_measured_on(steer, recording_hub, tiny):
    recording_hub.answers["/base-models"] = [REGISTERED | {"behaviour": behaviour_document()}]
    done = steer("model", "register", "tiny", "--source", "models/tiny", "--folder", tiny, "--dtype", "bfloat16")
    assert done.exit_code == 0, done.output
    [sent] = recording_hub.bodies()
    assert (sent["name"], sent["source"], sent["fingerprint"]) == ("tiny", "models/tiny", inspect_model(tiny).fingerprint)
    assert set(read_behaviour(sent["behaviour"], "behaviour").moved) == {"float32", "bfloat16"}


def test_a_model_that_is_not_measured_is_registered_and_that_is_said(steer, recording_hub):
    recording_hub.answers["/base-models"] = [REGISTERED]
    done = steer("model", "register", "tiny", "--source", "models/tiny")
    assert recording_hub.bodies() == [{"name": "tiny", "source": "models/tiny"}]
    assert "prove nothing" in done.stderr


def test_a_folder_is_proved_against_the_record(steer, recording_hub, tiny):
    _fingerprint, behaviour = measure_folder(tiny, "float32", [])
    recording_hub.answers["/base-models/tiny"] = [REGISTERED | {"behaviour": behaviour.to_document()}]
    assert steer("model", "prove", "tiny", tiny).stdout.startswith("proved: ")
    assert error_of(steer("model", "prove", "tiny", tiny, "--dtype", "float16")) == "NOT_MEASURED"
    (tiny / "chat_template.jinja").write_text("x" + (tiny / "chat_template.jinja").read_text())
    assert error_of(steer("model", "prove", "tiny", tiny)) == "MODEL_BEHAVES_OTHERWISE"
    recording_hub.answers["/base-models/tiny"] = [REGISTERED]
    assert error_of(steer("model", "prove", "tiny", tiny)) == "NOT_MEASURED"


def write_weights(folder, values, **config):
    write_model_folder(folder, **config)
    named = values if isinstance(values, dict) else {"model.norm.weight": values}
    (folder / "model.safetensors").write_bytes(save(named))
    return folder


def test_two_folders_are_compared(steer, tmp_path):
    base = write_weights(tmp_path / "base", np.ones(64, np.float32) / 3)
    half = write_weights(tmp_path / "half", (np.ones(64) / 3).astype(np.float16))
    other = write_weights(tmp_path / "other", np.ones(64, np.float32))
    done = steer("model", "compare", base, half)
    assert done.exit_code == 0, done.output
    assert "F32 → F16" in done.stdout
    assert done.stdout.startswith("another dtype (1 another dtype); farthest off in model.norm.weight, by 0.")
    document = json.loads(steer("model", "compare", base, half, "--json").stdout)
    assert (document["verdict"], [each["name"] for each in document["of_each"]]) == ("another dtype", ["model.norm.weight"])
    refused = steer("model", "compare", base, other)
    assert refused.exit_code == 1
    assert "not the same model: model.norm.weight" in refused.stdout


def test_a_comparison_says_its_verdict_first_and_then_the_tensors_that_differ_most(steer, tmp_path):
    layers = {f"model.layers.{number}.weight": np.ones(64, np.float32) for number in range(30)}
    base = write_weights(tmp_path / "base", layers)
    off = {"model.layers.7.weight": layers["model.layers.7.weight"] * 2, "model.layers.21.weight": layers["model.layers.21.weight"] * 3}
    other = write_weights(tmp_path / "other", layers | off)
    lines = steer("model", "compare", base, other).stdout.splitlines()
    assert lines[0].startswith("not the same model: model.layers.21.weight")
    assert [line.split()[0] for line in lines[2:4]] == ["model.layers.21.weight", "model.layers.7.weight"]
    assert len(lines) == 1 + 1 + 10 + 1
    assert lines[-1] == "the 10 of 30 tensors that differ most; --all shows the rest"
    every = steer("model", "compare", base, other, "--all").stdout.splitlines()
    assert every[0] == lines[0]
    assert len(every) == 1 + 1 + 30
    assert len(json.loads(steer("model", "compare", base, other, "--json").stdout)["of_each"]) == 30


def test_a_form_is_registered_with_its_comparison_and_a_false_one_is_not(steer, recording_hub, tiny, tmp_path, monkeypatch):
    recording_hub.answers["/base-models"] = [REGISTERED]
    again = save_model(tmp_path / "again")
    (again / "generation_config.json").write_text(json.dumps({"do_sample": False}))
    claim = ["--source", "again", "--folder", again, "--derived-from", "tiny", "--compared"]
    done = steer("model", "register", "again", *claim, tiny)
    assert done.exit_code == 0
    assert "of tiny: equal in all of " in done.stdout
    [sent] = recording_hub.bodies()
    assert (sent["derived_from"], sent["comparison"]["verdict"]) == ("tiny", "equal")
    other = save_model(tmp_path / "other", "gpt2")
    assert error_of(steer("model", "register", "again", *claim, other)) == "FORM_NOT_DERIVED"
    assert len(recording_hub.bodies()) == 1
    assert steer("model", "register", "again", "--source", "again", "--derived-from", "tiny").exit_code == 2
