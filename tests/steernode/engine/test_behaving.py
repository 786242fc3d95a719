"""What a model says to eight fixed prompts: measured once, and proved of whatever is loaded later."""

import json
import shutil
from dataclasses import replace
from decimal import Decimal

import pytest
import torch

from steernode.behaviour import PROMPTS, hash_tokens, read_behaviour
from steernode.engine.access.behaving import measure_behaviour, prove_behaviour
from steernode.engine.access.encoding import encode_prompt
from steernode.engine.access.models import load_model
from steernode.errors import ModelError
from steernode.words import CLOCK_ARGUMENT
from tests.support.tiny_models import OLDEST, ask


@pytest.fixture(scope="module")
def behaviour(llama, model_folders):
    return measure_behaviour(llama, [load_model(model_folders["llama"], dtype="bfloat16")])


def refuse(loaded, behaviour):
    with pytest.raises(ModelError) as caught:
        prove_behaviour(loaded, behaviour)
    assert caught.value.code == "MODEL_BEHAVES_OTHERWISE"
    return caught.value


def test_a_model_proves_itself_in_each_dtype_that_was_measured(llama, model_folders, behaviour):
    proof = prove_behaviour(llama, behaviour)
    assert (proof.dtype, proof.off <= proof.tolerance) == ("float32", True)
    rounded = prove_behaviour(load_model(model_folders["llama"], dtype="bfloat16"), behaviour)
    assert Decimal(0) < rounded.off <= rounded.tolerance
    # The narrower the dtype, the more is rounding: 16 bits fewer in the fraction.
    assert proof.tolerance * 100 < rounded.tolerance


@pytest.mark.parametrize("name", OLDEST)
def test_log_probabilities_are_those_of_one_unpadded_row(loaded_models, name):
    loaded = loaded_models[name]
    behaviour = measure_behaviour(loaded)
    for prompt, known in zip(PROMPTS, behaviour.prompts, strict=True):
        ids = torch.tensor([encode_prompt(loaded, ask(prompt)).token_ids])
        with torch.inference_mode():
            values = torch.log_softmax(loaded.model(input_ids=ids).logits[0, -1].float(), dim=0)
        for token, value in known.log_probabilities:
            assert abs(Decimal(float(values[token])) - value) <= behaviour.tolerance("float32")


def test_a_dtype_that_nobody_measured_proves_nothing(model_folders, behaviour):
    assert prove_behaviour(load_model(model_folders["llama"], dtype="float16"), behaviour) is None


def test_other_weights_are_refused_with_the_prompt_the_difference_and_the_tolerance(model_folders, behaviour):
    other = load_model(model_folders["llama"])
    with torch.no_grad():
        other.blocks[1].mlp.down_proj.weight.mul_(1.05)
    refused = refuse(other, behaviour)
    assert refused.item in PROMPTS
    assert str(behaviour.tolerance("float32")) in refused.message
    assert "nats off" in refused.message


def test_another_template_is_refused_whatever_the_dtype(model_folders, behaviour):
    for dtype in ("float32", "float16"):
        other = load_model(model_folders["llama"], dtype=dtype)
        other.tokenizer.chat_template = "x" + other.tokenizer.chat_template
        assert "tokens" in refuse(other, behaviour).message


def test_what_is_no_number_is_refused(model_folders, behaviour):
    other = load_model(model_folders["llama"])
    with torch.no_grad():
        other.model.get_output_embeddings().weight.fill_(float("nan"))
    refuse(other, behaviour)


def test_it_is_written_and_read_back(behaviour):
    document = json.loads(json.dumps(behaviour.to_document()))
    assert read_behaviour(document, "behaviour") == behaviour
    assert all(len(prompt.log_probabilities) >= 32 for prompt in behaviour.prompts)


def test_a_lower_tolerance_counts(llama, behaviour):
    strict = replace(behaviour, moved={"float32": Decimal(0)}, prompts=behaviour.prompts)
    shifted = replace(
        strict,
        prompts=tuple(
            replace(prompt, log_probabilities=tuple((token, value + Decimal("0.001")) for token, value in prompt.log_probabilities))
            for prompt in behaviour.prompts
        ),
    )
    refuse(llama, shifted)


def test_a_template_that_writes_the_date_says_the_same_every_day(model_folders, tmp_path):
    folder = shutil.copytree(model_folders["llama"], tmp_path / "model")
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").write_text("{{ strftime_now('%d %B %Y %H:%M:%S') }}" + template)
    loaded = load_model(folder)
    behaviour = measure_behaviour(loaded)
    assert prove_behaviour(loaded.asked_today(), behaviour).off <= behaviour.tolerance("float32")
    dated = replace(loaded, template_arguments={CLOCK_ARGUMENT: "2000-01-01"})
    assert hash_tokens(encode_prompt(dated, ask(PROMPTS[0])).token_ids) == behaviour.prompts[0].tokens
