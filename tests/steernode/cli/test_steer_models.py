"""`steer model`: model folders made of other files."""

from steernode.files.basemodels import inspect_model
from steernode.integrations import converting
from tests.support.files import write_model_folder
from tests.support.steer_rig import error_of


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
