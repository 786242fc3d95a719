"""Labelled replies on formality: put together from parts in three registers, and replies of the model that were read."""

from __future__ import annotations

from random import Random

from demo.real.corpus.inventory import load_inventory

Row = dict[str, object]
PARTS = load_inventory("formality")
EXAMPLES_PER_SCORE = 60
# The registers of opening, content and ending; one line is drawn.
RECIPES = {
    5: (("formal", "formal", "formal"),),
    4: (("formal", "formal", "plain"), ("plain", "formal", "plain"), ("plain", "formal", "formal"), ("formal", "plain", "formal")),
    3: (("plain", "plain", "plain"),),
    2: (("casual", "plain", "plain"), ("plain", "plain", "casual"), ("plain", "casual", "plain")),
    1: (("casual", "casual", "casual"),),
}


def write_formality_rubric(rng: Random, replies: list[str]) -> list[Row]:
    """`replies` are the model's own, some of which are labelled by their beginnings."""
    rows: dict[str, int] = {}
    for start, score in load_inventory("formality_labels").items():
        (text,) = [reply for reply in replies if reply.startswith(start)]
        rows[text] = score
    for score, recipes in RECIPES.items():
        wanted = len(rows) + EXAMPLES_PER_SCORE
        while len(rows) < wanted:
            rows.setdefault(_write(rng, *rng.choice(recipes)), score)
    return [{"text": text, "score": score, "axis": "formality"} for text, score in rng.sample(list(rows.items()), len(rows))]


def _write(rng: Random, opening: str, content: str, ending: str) -> str:
    parts = [rng.choice(PARTS["openings"][opening]), rng.choice(PARTS["contents"])[content], rng.choice(PARTS["endings"][ending])]
    # Not every reply has both ends. One of two registers keeps them, for its score is that of the whole.
    kept = rng.choice(((0, 1, 2), (0, 1), (1, 2))) if len({opening, content, ending}) == 1 else (0, 1, 2)
    return " ".join(parts[index] for index in kept)
