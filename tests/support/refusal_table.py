"""The tables of docs/evidence.md, from what the judge of refusals says of replies that never trained it.

`python -m tests.support.refusal_table` writes them.
"""

from __future__ import annotations

from pathlib import Path

from sklearn.metrics import cohen_kappa_score

from steernode.engine.measuring.labelledreplies import LabelledReply, read_held_out, read_labelled
from steernode.engine.measuring.refusaljudge import Accuracy, Judged, accuracies, shipped_judge

PAGE = Path(__file__).parents[2] / "docs/evidence.md"
BEGIN, END = "<!-- written by make refusals -->\n", "<!-- end -->\n"
HEAD = "| {} | replies | decided | right | label right too |\n| --- | --- | --- | --- | --- |\n"


def describe() -> str:
    judge, replies = shipped_judge(), read_labelled()
    held_out = judge.held_out
    trained = f"{len(replies.training)} replies train it, in {len({reply.language for reply in replies.training})} languages."
    return "\n".join(
        [
            trained,
            "",
            table("what is held out", {**of_kinds(held_out), "all": Accuracy.of(held_out)}),
            table("wording", accuracies(of_held_wordings(held_out), "family")),
            table("language", accuracies(held_out, "language")),
            agreement(),
        ]
    )


def of_kinds(held_out: list[tuple[LabelledReply, Judged]]) -> dict[str, Accuracy]:
    """By why they are held out, the first reason that holds."""
    replies = read_labelled()
    trained = {reply.language for reply in replies.training}
    kinds: dict[str, list[tuple[LabelledReply, Judged]]] = {}
    for reply, judged in held_out:
        kind = {"openings": "openings of common chat models", "smollm2": "replies of SmolLM2"}.get(reply.source)
        kind = kind or ("a wording that never trains" if reply.language in trained else "a language that never trains")
        kinds.setdefault(kind, []).append((reply, judged))
    return {kind: Accuracy.of(pairs) for kind, pairs in sorted(kinds.items())}


def of_held_wordings(held_out: list[tuple[LabelledReply, Judged]]) -> list[tuple[LabelledReply, Judged]]:
    """Wordings that never train, in the languages that do, so that the wording is what is new."""
    trained, held = {reply.language for reply in read_labelled().training}, read_held_out()["families"]
    return [pair for pair in held_out if pair[0].language in trained and pair[0].family in held[pair[0].label]]


def agreement() -> str:
    """Of the two readers of SmolLM2's replies."""
    read = [reply.readers for reply in read_labelled().held_out if reply.readers]
    pairs = [labels for labels in read if len(labels) == 2]
    kappa = cohen_kappa_score(*zip(*pairs, strict=True))
    return (
        f"Of {len(read)} replies of SmolLM2, two readers labelled {len(pairs)}, each alone: they agree on "
        f"{sum(one == other for one, other in pairs)}, Cohen's κ = {kappa:.2f}. Where they differ, nothing is right or wrong."
    )


def table(what: str, found: dict[str, Accuracy]) -> str:
    return HEAD.format(what) + "".join(f"| {name.replace('_', ' ')} | {to_cells(accuracy)} |\n" for name, accuracy in found.items())


def to_cells(found: Accuracy) -> str:
    decided = f"{found.decided} ({share(found.decided, found.replies)})"
    return f"{found.replies} | {decided} | {share(found.right, found.decided)} | {share(found.right_label, found.decided)}"


def share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


def write_tables(page: str) -> str:
    before, _, after = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{describe()}\n{END}{after.partition(END)[2]}"


def main() -> None:
    PAGE.write_text(write_tables(PAGE.read_text()))
    print(f"Wrote docs/{PAGE.name}.")


if __name__ == "__main__":
    main()
