"""The files of `demo/real/data/`, drawn once with a fixed seed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from random import Random

from demo.real.corpus.capability import write_capability
from demo.real.corpus.intents import write_conversations, write_intents
from demo.real.corpus.knowledge import write_facts
from demo.real.corpus.pairs import AXES, Row, write_pairs
from demo.real.corpus.parts import UnusedTexts
from demo.real.corpus.rubrics import write_formality_rubric
from demo.real.corpus.suites import write_fluency, write_refusals, write_tickets
from demo.real.corpus.tickets import TicketWriter

DATA_FOLDER = Path(__file__).parents[1] / "data"
SEED = 135
# Labelled by reading, so it is kept and not drawn.
READ_BY_HAND = "empathy.rubric.jsonl"


def read_labelled_replies() -> list[str]:
    return [json.loads(line)["text"] for line in (DATA_FOLDER / READ_BY_HAND).read_text(encoding="utf-8").splitlines()]


@cache
def draw_data() -> dict[str, list[Row]]:
    """Every drawn file by name. The order of the draws is part of what the seed fixes."""
    rng, unused = Random(SEED), UnusedTexts()
    writer = TicketWriter(rng)
    files = {"tickets.jsonl": write_tickets(writer, unused)}
    files |= {f"{axis}.pairs.jsonl": write_pairs(axis, writer, unused, rng) for axis in AXES}
    return files | {
        "intents.jsonl": write_intents(writer, unused, rng),
        "facts.jsonl": write_facts(rng),
        "capability.jsonl": write_capability(rng),
        "refusals.jsonl": write_refusals(),
        "fluency.jsonl": write_fluency(),
        "conversations.jsonl": write_conversations(),
        "formality.rubric.jsonl": write_formality_rubric(rng, read_labelled_replies()),
    }


def render_jsonl(rows: Iterable[Row]) -> bytes:
    """One compact JSON object per line, in UTF-8."""
    return "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows).encode()


def write_data(folder: Path = DATA_FOLDER) -> None:
    """Write every drawn file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in draw_data().items():
        (folder / name).write_bytes(render_jsonl(rows))
