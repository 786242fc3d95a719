"""`steer model`: model folders made of other files."""

import pytest

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
