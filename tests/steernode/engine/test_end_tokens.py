"""End tokens: a reply ends at any token that one of the model's files names as one, wherever replies are written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from steernode.engine.access.models import LoadedModel, load_model
from steernode.engine.applying.components import Component
from steernode.engine.applying.generate import generate
from steernode.engine.measuring.margins import margin_items
from steernode.engine.searching.trace import trace_pairs
from steernode.errors import ModelError
from steernode.files.basemodels import inspect_model
from tests.support.tiny_models import SPECIAL, ask, make_pair

END = SPECIAL.index("<|end|>")
PROMPT = ask("the bill is late")


def edit(folder: Path, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / name
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.fixture
def folder(model_folders: dict[str, Path], tmp_path: Path) -> Path:
    return shutil.copytree(model_folders["llama"], tmp_path / "model")


@pytest.fixture
def said(llama: LoadedModel) -> tuple[int, ...]:
    """What the model writes while none of it ends the reply."""
    [reply] = generate(llama, [PROMPT], max_new_tokens=12)
    assert reply.end_token_id is None
    return reply.token_ids


def name_end(folder: Path, place: str, token: int) -> None:
    if place == "tokenizer":
        edit(
            folder, "tokenizer_config.json", lambda found: found.update(eos_token=load_model(folder).tokenizer.convert_ids_to_tokens(token))
        )
    else:
        edit(folder, place, lambda found: found.update(eos_token_id=token))


@pytest.mark.parametrize("place", ["generation_config.json", "config.json", "tokenizer"])
def test_whichever_file_names_it_a_reply_ends_there(folder: Path, said: tuple[int, ...], place: str) -> None:
    name_end(folder, place, said[5])
    loaded = load_model(folder)
    assert loaded.end_token_ids == {END, said[5]}
    cut = said.index(said[5])
    [reply] = generate(loaded, [PROMPT], max_new_tokens=12)
    assert (reply.token_ids, reply.end_token_id) == (said[:cut], said[5])
    [steered] = generate(loaded, [PROMPT], components=[Component(torch.ones(loaded.d_model), 1, 0.0)], max_new_tokens=12)
    assert steered.scored_token_ids == reply.scored_token_ids


def test_all_that_are_named_count_and_in_lists_too(folder: Path) -> None:
    edit(folder, "generation_config.json", lambda found: found.update(eos_token_id=[40, 41]))
    edit(folder, "config.json", lambda found: found.update(eos_token_id=[42]))
    assert load_model(folder).end_token_ids == {40, 41, 42, END}


def test_the_default_of_a_class_is_nobodys_word(folder: Path) -> None:
    """LlamaConfig says 2, whatever the vocabulary."""
    edit(folder, "config.json", lambda found: found.pop("eos_token_id"))
    (folder / "generation_config.json").unlink()
    assert load_model(folder).end_token_ids == {END}
    edit(folder, "tokenizer_config.json", lambda found: found.pop("eos_token"))
    assert load_model(folder).end_token_ids == frozenset()


def test_completions_and_traces_end_where_replies_do(folder: Path, llama: LoadedModel) -> None:
    pair = make_pair("pair", "late fee")
    replies = generate(llama, [pair.positive, pair.negative], max_new_tokens=12)
    name_end(folder, "generation_config.json", replies[0].token_ids[3])
    loaded = load_model(folder)
    cut = replies[0].token_ids.index(replies[0].token_ids[3]) + 1
    [item] = margin_items(loaded, [pair], max_new_tokens=12)
    assert item.positive == replies[0].token_ids[:cut]
    [traced] = trace_pairs(loaded, [pair], max_new_tokens=12)
    assert traced.clean_answer == replies[0].token_ids[:cut]


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("named", ["6", True, [6, "</s>"], 6.0, {"id": 6}])
def test_what_is_no_token_id_is_refused_before_loading(folder: Path, name: str, named: Any) -> None:
    edit(folder, name, lambda found: found.update(eos_token_id=named))
    with pytest.raises(ModelError, match=name) as refused:
        inspect_model(folder)
    assert (refused.value.code, refused.value.item) == ("MODEL_CONFIG_REJECTED", "eos_token_id")
