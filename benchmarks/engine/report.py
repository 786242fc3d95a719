"""The verdicts and the tables: every target with its value and whether it is met, ready for docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.machine import machine_line

MAX_RELATIVE_ERROR = 1e-5
# With a fifth of the tokens already computed for another prompt, a bare pass is there to be beaten.
SHARED_BELOW = 0.8
MEBIBYTE = 1024**2


def target(claim: str, value: float | bool, *, at_least: float | None = None, at_most: float | None = None) -> dict[str, Any]:
    """One line of the verdict. A claim without a bound is one that is true or false."""
    if at_least is not None:
        return {"claim": claim, "wanted": f"≥ {at_least:g}", "value": value, "met": value >= at_least}
    if at_most is not None:
        return {"claim": claim, "wanted": f"≤ {at_most:g}", "value": value, "met": value <= at_most}
    return {"claim": claim, "wanted": "yes", "value": bool(value), "met": bool(value)}


def judge(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All targets of the sections that ran, in the order of the issue."""
    targets: list[dict[str, Any]] = []
    for run in report.get("extraction", ()):
        targets += _judge_extraction(run)
    if "search" in report:
        targets += _judge_search(report["search"])
    for run in report.get("serving", ()):
        targets += _judge_serving(run)
    if "memory" in report:
        targets.append(target("peak memory of many pairs over few", report["memory"]["ratio"], at_most=1.10))
    return targets


def _judge_extraction(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    name = f"extraction, {run['model']}, {run['data']}"
    targets = [target(f"{name}: largest relative error of a layer", max(run["relative_error"].values()), at_most=MAX_RELATIVE_ERROR)]
    # The issue sets no bound for system-contrast pairs against a peer's best; their ratio is in the table.
    at_least = {"nothing shared": 1.4, "shared prefix": 2.5}.get(run["data"])
    if at_least is not None:
        targets.append(
            target(f"{name}: times the faster peer at its best ({run['rival']})", run["ratio_to_rival"]["value"], at_least=at_least)
        )
    is_shared = run["distinct_tokens"] < SHARED_BELOW * run["tokens_asked"]
    above = 1.0 if is_shared else 0.9
    targets.append(target(f"{name}: times the bare truncated forward pass", run["ratio_to_bare"]["value"], at_least=above))
    for peer, measured in run.get("defaults", {}).get("ratios", {}).items():
        targets.append(target(f"{name}: times {peer}, each at its defaults", measured["value"], at_least=3))
    return targets


def _judge_search(search: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        target("search: the sweep chooses the cell of the exhaustive loop", search["same_cell"]["steering-vectors"]),
        target("search: the sweep, times the exhaustive loop", search["sweep_ratio"]["value"], at_least=4),
        target("search: our exhaustive grid, times theirs", search["grid_ratio"]["value"], at_least=1.3),
    ]


def _judge_serving(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    name = f"generate, {run['model']}, batch {run['rows']}"
    targets = [
        target(f"{name}: {side}, over unsteered", measured["value"], at_most=1.02 if "one layer" in side else 1.05)
        for side, measured in run["over_unsteered"].items()
    ]
    targets += [target(f"{name}: times {peer}, one layer", measured["value"], at_least=1) for peer, measured in run["over_peers"].items()]
    return targets


def render(report: Mapping[str, Any]) -> str:
    """The whole report as markdown."""
    machine, versions = report["machine"], report["versions"]
    lines = [machine_line(machine), "", "; ".join(f"{side}: {_join(found)}" for side, found in versions.items())]
    if report["quick"]:
        lines += ["", "**A quick run: too few repeats and too little work for figures that stand.**"]
    if not machine["quiet"]:
        lines += ["", f"**The machine was busy (load average {machine['load_average']}): the figures are not to be trusted.**"]
    if "extraction" in report:
        lines += ["", "### Extraction", "", *_extraction_table(report["extraction"])]
        lines += ["", "At everybody's defaults:", "", *_defaults_table(report["extraction"])]
    if "search" in report:
        lines += ["", "### Search", "", *_search_table(report["search"])]
    if "serving" in report:
        lines += ["", "### generate", "", *_serving_table(report["serving"])]
    if "memory" in report:
        lines += ["", "### Memory", "", *_memory_table(report["memory"])]
    met = sum(line["met"] for line in report["targets"])
    lines += ["", f"### Targets: {met} of {len(report['targets'])} met", "", *_target_table(report["targets"])]
    lines += ["", *(f"- {note}" for note in report["notes"])]
    return "\n".join(lines)


def _extraction_table(runs: Iterable[Mapping[str, Any]]) -> list[str]:
    rows = []
    for run in runs:
        for side, measured in run["sides"].items():
            memory, tokens = run["memory_peak_above_start_bytes"].get(side), run["tokens"].get(side)
            rows.append(
                [
                    run["model"],
                    run["data"],
                    _describe_side(run, side),
                    _times(measured),
                    f"{measured['pairs_per_s']:.1f}",
                    f"{run['tokens_asked']:,}",
                    f"{tokens['tokens_at_first_block']:,}" if tokens else "",
                    f"{memory / MEBIBYTE:.0f}" if memory is not None else "",
                ]
            )
    heading = [
        "model",
        "pairs",
        "side",
        "seconds, median (quartiles)",
        "pairs/s",
        "tokens asked",
        "tokens computed",
        "peak memory, MiB above start",
    ]
    return table(heading, rows)


def _describe_side(run: Mapping[str, Any], side: str) -> str:
    if side in run["setups"]:
        setup = run["setups"][side]
        return f"{side}, batch {setup['batch_size']}, {setup['side']} padding"
    return f"bare forward, {run['bare_rows_per_batch']} rows" if side == "bare" else side


def _defaults_table(runs: Iterable[Mapping[str, Any]]) -> list[str]:
    rows = [
        [run["model"], run["data"], side, _times(measured)]
        for run in runs
        if "defaults" in run
        for side, measured in run["defaults"]["sides"].items()
    ]
    return table(["model", "pairs", "side", "seconds, median (quartiles)"], rows)


def _search_table(search: Mapping[str, Any]) -> list[str]:
    rows = [
        [f"{side}, exhaustive", f"{grid['seconds']:.1f}", f"{grid['generate_s']:.1f}", _cell(search["chosen"][side])]
        for side, grid in search["grid"].items()
    ]
    rows.append(["ours, sweep", _times(search["sweep"]), "", _cell(search["chosen"]["sweep"])])
    return table(["side", "seconds", "of which generating", "chosen cell"], rows)


def _cell(cell: Mapping[str, Any]) -> str:
    return "none passes the gates" if cell["layer"] is None else f"layer {cell['layer']}, α {cell['alpha']}"


def _serving_table(runs: Iterable[Mapping[str, Any]]) -> list[str]:
    rows = [
        [run["model"], str(run["rows"]), side, f"{measured['ms_per_token']:.2f}", _times(measured)]
        for run in runs
        for side, measured in run["sides"].items()
    ]
    return table(["model", "batch", "side", "ms per token", "seconds, median (quartiles)"], rows)


def _memory_table(memory: Mapping[str, Any]) -> list[str]:
    rows = [[f"{run['pairs']:,}", f"{run['memory_peak_bytes'] / MEBIBYTE:.0f}", f"{run['seconds']:.1f}"] for run in memory["runs"]]
    return table(["pairs", "peak memory, MiB", "seconds"], rows)


def _target_table(targets: Iterable[Mapping[str, Any]]) -> list[str]:
    rows = [[line["claim"], line["wanted"], _value(line["value"]), "met" if line["met"] else "**missed**"] for line in targets]
    return table(["target", "wanted", "measured", ""], rows)


def _value(value: float | bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.1e}" if 0 < value < 0.001 else f"{value:.3f}"


def _times(measured: Mapping[str, Any]) -> str:
    return f"{measured['median_s']:.3f} ({measured['q1_s']:.3f} to {measured['q3_s']:.3f})"


def _join(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {found}" for name, found in versions.items())


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A markdown table, line by line."""
    return [f"| {' | '.join(row)} |" for row in (heading, ["---"] * len(heading), *rows)]
