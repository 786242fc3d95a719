"""What a page shows of a search and of evidence: the curve, every cell and gate with its verdict, replies side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from registry.console.advice import advise_evidence, advise_search, count_items
from registry.console.charts import Panel, draw_panels, read_tested
from registry.console.documents import (
    StoredDocument,
    describe_engine,
    read_document,
    title_controls,
    title_gates,
    title_measures,
    title_metrics,
)
from registry.console.probes import list_probes
from registry.models import Evaluation
from registry.reads.probes import probes_judged_with
from steernode.gates import FAIL, PASS, UNDECIDABLE
from steernode.records.evidence import Evidence, JudgedGate, read_estimate, read_evidence, read_gates, read_metrics, read_replies
from steernode.records.lenient import read_mapping, read_number
from steernode.records.sweep import Cell, Sweep

# What blocks stands first.
_ORDER = {FAIL: 0, UNDECIDABLE: 1, PASS: 2}


@dataclass(frozen=True)
class CellRow:
    """One cell that replies were written in, and its gates as they were judged; cells of before say nothing of gates."""

    cell: Cell
    is_shown: bool
    gates: Sequence[tuple[str, str, JudgedGate]]


def describe_search(sweep: Sweep) -> dict[str, Any]:
    """For `console/_search.html`; empty lists of a document that holds no search."""
    rows = [
        CellRow(cell, sweep.shown == (cell.layer, cell.alpha), title_gates(read_gates(cell.document.get("gates"))))
        # As a table of layers and α is read; the unsteered model first.
        for cell in sorted(sweep.final_cells, key=lambda cell: (-1 if cell.layer is None else cell.layer, cell.alpha))
    ]
    return {
        "rows": rows,
        "screened_count": sum(cell.stage == "screen" for cell in sweep.cells),
        "nearest": sweep.nearest,
        "stops": _count_stops(rows) if sweep.nearest else [],
        "steered_count": sum(row.cell.layer is not None for row in rows),
        "advice": advise_search(sweep),
        "items": count_items(sweep),
        "findings": sweep.findings,
        "instructed": _read_instructed(sweep),
        "panels": _draw_curve(sweep, rows),
        "marked": "chosen" if sweep.chosen else "nearest",
        "replies": read_replies(sweep.document.get("replies")),
        "alpha": sweep.shown[1] if sweep.shown else None,
    }


def _count_stops(rows: Sequence[CellRow]) -> list[tuple[str, str, JudgedGate, int]]:
    """Each gate that stops a cell, with its title and its rule, where it was missed by least, and how many cells it stops."""
    stopped: dict[tuple[str, str, str], list[tuple[str, str, JudgedGate]]] = {}
    for row in rows:
        for title, rule, gate in row.gates:
            if gate.verdict != PASS:
                stopped.setdefault((gate.metric, gate.kind, gate.threshold), []).append((title, rule, gate))
    return [(*min(missed, key=lambda each: _gap(each[2])), len(missed)) for missed in stopped.values()]


def _gap(gate: JudgedGate) -> Decimal:
    """By how much a gate is missed."""
    value, threshold = read_number(gate.value), read_number(gate.threshold)
    return Decimal("Infinity") if value is None or threshold is None else abs(value - threshold)


def _read_instructed(sweep: Sweep) -> dict[str, Any]:
    """What the model itself does under the two instructions; nothing of too few pairs, and of searches of before."""
    found = read_mapping(sweep.document, "instructions")
    sides = {side: read_estimate(found.get(side)) for side in ("positive", "negative", "difference")}
    return {**sides, "pairs": found.get("pairs")} if all(sides.values()) else {}


def _draw_curve(sweep: Sweep, rows: Sequence[CellRow]) -> list[Panel]:
    shown = next((row for row in rows if row.is_shown), None)
    return [] if shown is None else draw_panels(sweep.curve, {}, [gate for *_, gate in shown.gates], shown.cell.alpha)


def describe_evaluation(evaluation: Evaluation | None) -> dict[str, Any]:
    """For `console/_evidence.html`."""
    document = read_document(evaluation.digest) if evaluation else StoredDocument()
    evidence = read_evidence(document.data)
    composition = evidence.composition
    gates = read_gates(evaluation.gates) if evaluation else ()
    return {
        "evaluation": evaluation,
        "problem": document.problem,
        "panels": _draw_evaluation(evaluation, evidence) if evaluation else [],
        "gates": title_gates(sorted(gates, key=lambda gate: _ORDER.get(gate.verdict, 0))),
        "advice": advise_evidence(gates),
        "metrics": title_metrics(evidence.metrics),
        "is_prompted": any(metric.prompt for metric in evidence.metrics.values()),
        "controls": title_controls(evidence.controls),
        "composition": composition,
        "several": composition is not None and len(composition.parts) > 1,
        "measures": title_measures(composition) if composition else [],
        "speed": evidence.speed,
        "decoding": evidence.decoding,
        "refusal_judge": evidence.refusal_judge,
        "system_message": evidence.system_message,
        "acting": evidence.acting,
        "judged_probes": list_probes(probes_judged_with(evaluation)) if evaluation else [],
        "measured_on": ", ".join(filter(None, (evidence.measured_form, describe_engine(evidence.engine)))),
        "replies": evidence.replies,
    }


def _draw_evaluation(evaluation: Evaluation, evidence: Evidence) -> list[Panel]:
    if evaluation.alpha is None:
        # Several components have no α in common to draw over.
        return []
    # The copies in the row serve where the document is lost: the page then still shows what was decided on.
    metrics = evidence.metrics or read_metrics(evaluation.metrics)
    return draw_panels(evidence.curve, read_tested(metrics, evaluation.alpha), read_gates(evaluation.gates), evaluation.alpha)
