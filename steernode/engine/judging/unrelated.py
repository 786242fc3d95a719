"""Directions from contrasts that have nothing to do with the candidate: what any contrast, read in the same way, does at its norm.

A random direction is an easy control: most of the space is empty, and a model hardly notices a push there. A direction between two
things that the model tells apart is a push that it understands, and moves what it says about anything.
Source: UK AISI (2026) and others find such directions as good as the wanted one on some behaviours; see docs/evidence.md.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from torch import Tensor

from steernode.canonical import canonical_json, parse_strict, sha256_hex
from steernode.engine.access.models import LoadedModel
from steernode.engine.reading.directions import LayerDirection, extract_directions
from steernode.engine.reading.methods import NO_DIRECTION
from steernode.errors import EngineError
from steernode.files.contrast import ContrastPair
from steernode.files.conversations import Message
from steernode.words import PROBE_READ_POSITIONS


@cache
def unrelated_axes() -> dict[str, tuple[ContrastPair, ...]]:
    """The pairs of every axis by its name. What is asked for stands before the question, so that any chat template takes it."""
    document = parse_strict(files("steernode.engine").joinpath("data/unrelated.json").read_bytes())

    def ask(instruction: str, prompt: str) -> tuple[Message, ...]:
        return (Message("user", f"{instruction} {prompt}"),)

    def pair(axis: dict[str, str], number: int, prompt: str) -> ContrastPair:
        positive, negative = ask(axis["positive"], prompt), ask(axis["negative"], prompt)
        digest = sha256_hex(canonical_json([[message.to_document() for message in side] for side in (positive, negative)]))
        return ContrastPair(f"{axis['name']} {number}", positive, negative, "en-US", "", digest)

    return {
        axis["name"]: tuple(pair(axis, number, prompt) for number, prompt in enumerate(document["prompts"])) for axis in document["axes"]
    }


def unrelated_directions(loaded: LoadedModel, like: LayerDirection) -> list[Tensor]:
    """A unit vector (d_model,) for each axis, at the layer and site of `like` and read where it was, if prompts have such a place.

    Read by its method as well. An axis has none whose two sides the model does not tell apart there, or that has too little for the method.
    Raises: the codes of `extract_directions` but those.
    """
    position = like.read_position if like.read_position in PROBE_READ_POSITIONS else "last_prompt_token"
    directions = []
    for pairs in unrelated_axes().values():
        try:
            [extracted] = extract_directions(loaded, pairs, method=like.method, read_position=position, site=like.site, layers=[like.layer])
        except EngineError as error:
            if error.code not in NO_DIRECTION:
                raise
        else:
            directions.append(extracted.direction)
    return directions
