"""The closing table: side effects beside effects, with what the prompt alone does."""

from __future__ import annotations

from typing import Any

from demo import story
from demo.real.report import FIGURES, SIDES


def summarise(report: dict[str, Any]) -> None:
    chosen, audit = report["chosen"], report["audit"]
    story.show_summary(
        [
            ("verdict", f"{report['verdict']}: {report['sentence']}"),
            ("model", f"{report['model']['fingerprint'][:16]}…, {report['model']['layers']} layers of {report['model']['d_model']}"),
            ("shortened", _say_shortened(report["shortened"])),
            ("vector", f"layer {chosen['layer']}, α = {chosen['alpha']} {chosen['unit']}" if chosen else "none"),
            ("unsteered, prompt alone, steered", ""),
            *((name, _say_sides(report[name])) for name in FIGURES if name in report),
            ("perplexity ratio", _say(report["perplexity_ratio"])),
            ("gates that did not pass", ", ".join(name for name, verdict in report["gates"].items() if verdict != "pass") or "none"),
            ("waivers", "; ".join(_say_waiver(waiver) for waiver in report["waivers"]) or "none"),
            ("second axis", f"{report['second_axis']['verdict']}: {report['second_axis']['sentence']}"),
            ("audit", f"{audit['events']} events, {'verified' if audit['verified'] else 'NOT verified'} offline"),
            ("whole story", f"{report['seconds']} s; report in var/demo-real/report.json"),
        ]
    )


def _say_sides(figure: dict[str, float | None]) -> str:
    return ", ".join(_say(figure[side]) for side in SIDES)


def _say(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _say_waiver(waiver: dict[str, Any]) -> str:
    return f"{waiver['metric']} ({waiver['code']}) by {waiver['asked_by']} and {waiver['confirmed_by']} until {waiver['ends_at'][:10]}"


def _say_shortened(shortened: dict[str, Any] | None) -> str:
    if shortened is None:
        return "no"
    rows = ", ".join(f"{name} {kept} of {all_rows}" for name, (kept, all_rows) in shortened["rows"].items())
    recipe = ", ".join(f"{name} {value}" for name, value in shortened["recipe"].items())
    return f"rows: {rows}; recipe: {recipe}"
