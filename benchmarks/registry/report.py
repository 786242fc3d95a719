"""The verdicts and the tables of the registry's benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.engine.report import table, target
from benchmarks.machine import machine_line

MOST_SECONDS = 0.050
MOST_RATIO = 2.0
MOST_PLAN_SECONDS, MOST_APPLY_SECONDS = 2, 10


def judge(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every target of the issue, in milliseconds where it is a time."""
    scale = report["scale"]
    targets = []
    for kind in ("list", "filter", "detail"):
        rows = [row for row in report["reading"] if row["kind"] == kind]
        slowest = max(rows, key=lambda row: row[scale]["p95_s"])
        steepest = max(rows, key=ratio_of(scale))
        targets += [
            target(f"{kind}: p95 of the slowest, {slowest['name']}, in ms", slowest[scale]["p95_s"] * 1e3, at_most=MOST_SECONDS * 1e3),
            target(f"{kind}: p95 over that of 1,000 vectors, at most, {steepest['name']}", ratio_of(scale)(steepest), at_most=MOST_RATIO),
        ]
    flips = report["flips"][scale]
    claim = f"flip to signed snapshot of {flips['flags_in_the_environment']:,} flags: p95 in ms"
    targets.append(target(claim, flips["transition"]["p95_s"] * 1e3, at_most=MOST_SECONDS * 1e3))
    declared = report["declaring"][scale]
    targets += [
        target(f"plan of {declared['objects']:,} objects, in s", declared["plan_s"], at_most=MOST_PLAN_SECONDS),
        target(f"apply of {declared['objects']:,} objects, in s", declared["apply_s"], at_most=MOST_APPLY_SECONDS),
    ]
    if "log" in report:
        targets.append(target("the whole log proves itself", report["log"]["events"] >= report["records"][scale]["events"]))
    return targets


def ratio_of(scale: str) -> Any:
    """p95 on the large record over p95 on the small one."""
    return lambda row: row[scale]["p95_s"] / row["base"]["p95_s"]


def render(report: Mapping[str, Any]) -> str:
    """The whole report as markdown."""
    machine, scale = report["machine"], report["scale"]
    lines = [machine_line(machine), "", ", ".join(f"{name} {found}" for name, found in report["versions"].items())]
    if scale != "full":
        lines += ["", "**A small run: not the record that the claims are made for.**"]
    if not machine["quiet"]:
        lines += ["", f"**The machine was busy (load average {machine['load_average']}): the figures are not to be trusted.**"]
    lines += ["", "### Reading", "", *_reading_table(report["reading"], scale)]
    lines += ["", "### Flipping a flag", "", *_flip_table(report["flips"])]
    lines += ["", "### Planning and applying", "", *_declaring_table(report["declaring"])]
    if "log" in report:
        log = report["log"]
        lines += ["", f"{log['events']:,} audit events: exported in {log['export_s']:.1f} s, proved offline in {log['verify_s']:.1f} s."]
    met = sum(line["met"] for line in report["targets"])
    lines += ["", f"### Targets: {met} of {len(report['targets'])} met", "", *_target_table(report["targets"])]
    lines += ["", *(f"- {note}" for note in report["notes"])]
    return "\n".join(lines)


def _reading_table(rows: Iterable[Mapping[str, Any]], scale: str) -> list[str]:
    times = (("base", "p50_s"), ("base", "p95_s"), (scale, "p50_s"), (scale, "p95_s"))
    body = [[row["kind"], row["name"], *(_ms(row[hub][name]) for hub, name in times), f"{ratio_of(scale)(row):.2f}"] for row in rows]
    return table(["", "address", "base p50, ms", "base p95", f"{scale} p50", f"{scale} p95", "p95 ratio"], body)


def _flip_table(flips: Mapping[str, Mapping[str, Any]]) -> list[str]:
    body = [
        [
            name,
            f"{row['flags_in_the_environment']:,}",
            f"{row['live_profiles']:,}",
            *(_ms(row[way][percentile]) for way in ("transition", "answered") for percentile in ("p50_s", "p95_s")),
            _ms(row["first_s"]),
        ]
        for name, row in flips.items()
    ]
    ways = ["signed snapshot: p50, ms", "p95", "answer over HTTP: p50", "p95", "first of the process"]
    return table(["hub", "flags in the environment", "live profiles", *ways], body)


def _declaring_table(hubs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    body = [
        [name, f"{row['objects']:,}", f"{row['plan_s']:.2f}", f"{row['apply_s']:.2f}", f"{row['plan_again_s']:.2f}"]
        for name, row in hubs.items()
    ]
    return table(["hub", "objects", "plan, s", "apply", "plan of what is applied"], body)


def _target_table(targets: Iterable[Mapping[str, Any]]) -> list[str]:
    rows = [[line["claim"], line["wanted"], _value(line["value"]), "met" if line["met"] else "**missed**"] for line in targets]
    return table(["target", "wanted", "measured", ""], rows)


def _value(value: float | bool) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else f"{value:.2f}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f}"
