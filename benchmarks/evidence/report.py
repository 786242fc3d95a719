"""What the verdicts come to: by kind of vector and by the gate that stopped each, and what was wanted of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.engine.report import table, target
from benchmarks.machine import machine_line

PASS, FAIL, UNDECIDABLE, REFUSED = "pass", "fail", "undecidable", "refused"
MOST_REFUSED = 0.05
# What each is wanted to hold, in all: bad ones by model, and good ones of all models together.
WANTED_BAD = {"reference": 100, "smollm2": 30}
WANTED_GOOD = 60


def summarize(vectors: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each model and kind: how many there were, what became of them, and what stopped how many."""
    rows: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for vector in vectors:
        rows.setdefault((vector["model"].split("-")[0], vector["kind"]), []).append(vector)
    return [
        {
            "model": model, "kind": kind, "is_good": found[0]["is_good"], "vectors": len(found),
            "verdicts": dict(Counter(vector["verdict"] for vector in found)),
            "stopped_by": dict(Counter(vector["stopped_by"] for vector in found if vector["stopped_by"]).most_common()),
        }
        for (model, kind), found in rows.items()
    ]  # fmt: skip


def let_through(vectors: Iterable[Mapping[str, Any]]) -> list[str]:
    """The bad ones that passed."""
    return [f"{vector['model']}, {vector['name']}" for vector in vectors if not vector["is_good"] and vector["verdict"] == PASS]


def judge(vectors: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """All targets of the models that were judged. A bad one that is only undecidable is not refused: a waiver could let it through."""
    targets = []
    for model in dict.fromkeys(vector["model"].split("-")[0] for vector in vectors if not vector["is_good"]):
        bad = [vector for vector in vectors if not vector["is_good"] and vector["model"] == model]
        through = {verdict: sum(vector["verdict"] == verdict for vector in bad) for verdict in (PASS, UNDECIDABLE)}
        targets += [
            target(f"{model}: bad vectors that pass", through[PASS], at_most=0),
            target(f"{model}: bad vectors that nothing but a missing item stops", through[UNDECIDABLE], at_most=0),
            target(f"{model}: bad vectors judged", len(bad), at_least=WANTED_BAD.get(model, 1)),
        ]
    good = [vector for vector in vectors if vector["is_good"]]
    if good:
        refused = sum(vector["verdict"] != PASS for vector in good) / len(good)
        targets += [
            target("share of good vectors that do not pass", refused, at_most=MOST_REFUSED),
            target("good vectors judged", len(good), at_least=WANTED_GOOD),
        ]
    return targets


def render(report: Mapping[str, Any]) -> str:
    """The whole report as markdown."""
    lines = [machine_line(report["machine"]), "", f"Gates: {report['gates']}.", "", *_summary_table(report["summary"])]
    met = sum(line["met"] for line in report["targets"])
    rows = [[line["claim"], line["wanted"], f"{line['value']:g}", "met" if line["met"] else "**missed**"] for line in report["targets"]]
    lines += ["", f"Targets: {met} of {len(report['targets'])} met", "", *table(["target", "wanted", "measured", ""], rows)]
    for vector in report["vectors"]:
        if vector["is_good"] != (vector["verdict"] == PASS) and (vector["is_good"] or vector["verdict"] in (PASS, UNDECIDABLE)):
            lines += ["", f"- {vector['model']}, {vector['name']}, α = {vector['alpha']}: {vector['verdict']} {vector['why']}".rstrip()]
    return "\n".join(lines)


def _summary_table(summary: Iterable[Mapping[str, Any]]) -> list[str]:
    rows = [
        [
            row["model"],
            ("good: " if row["is_good"] else "bad: ") + row["kind"],
            str(row["vectors"]),
            *(str(row["verdicts"].get(verdict, 0)) for verdict in (PASS, UNDECIDABLE)),
            str(row["verdicts"].get(FAIL, 0) + row["verdicts"].get(REFUSED, 0)),
            ", ".join(f"{name} {count}" for name, count in row["stopped_by"].items()),
        ]
        for row in summary
    ]
    return table(["model", "vectors", "judged", "pass", "undecidable", "refused", "stopped first by"], rows)
