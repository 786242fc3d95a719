"""What the figures come to: a line for each, and each target with its value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

READING_WANTED, DECODING_WANTED = 0.9, 1.5
# Where decoding has a target; more rows are shown beside them.
DECODING_ROWS = (1, 16)


def judge(report: dict[str, Any]) -> list[dict[str, Any]]:
    """A section that was left out or failed is a target that was not met, of no value."""
    return [target for model in report["models"] for target in _targets(model)]


def _targets(model: dict[str, Any]) -> Iterator[dict[str, Any]]:
    reading = _rows(model, "reading")
    for kind in ("system contrast", "shared prefix", "nothing shared"):
        value = next((row["over_bare"]["value"] for row in reading if row["pairs"] == kind), 0.0)
        claim = f"{model['name']}, reading, {kind}: times the speed of the bare truncated pass"
        yield {"claim": claim, "value": value, "wanted": f"at least {READING_WANTED}", "met": value >= READING_WANTED}
    decoding = _rows(model, "decoding")
    for rows in DECODING_ROWS:
        value = next((max(row["over_floor"].values()) for row in decoding if row["rows"] == rows), float("inf"))
        claim = f"{model['name']}, decoding, batch {rows}: times bytes over bandwidth"
        yield {"claim": claim, "value": value, "wanted": f"at most {DECODING_WANTED}", "met": value <= DECODING_WANTED}


def _rows(model: dict[str, Any], section: str) -> list[dict[str, Any]]:
    found = model.get(section)
    return found if isinstance(found, list) else []


def lines_of(section: str, found: Any) -> Iterator[str]:
    if isinstance(found, dict):
        yield f"{section}: " + ", ".join(f"{name} {_short(value)}" for name, value in found.items())
        return
    for row in found:
        if section == "reading":
            ours, bare = (row["sides"][name]["median_s"] for name in ("ours", row["fastest_bare"]))
            ways = "packed" if row["capture"]["packed_windows"] else "plain"
            speed = row["over_bare"]["value"]
            yield f"reading {row['count']} pairs, {row['pairs']}: {ours:.3f} s ({ways}), {row['fastest_bare']} {bare:.3f} s, {speed:.2f}"
        else:
            steps = ", ".join(f"{name} {value:.2f}" for name, value in row["ms_per_step"].items())
            alike = min(row["share_of_tokens_as_over_a_growing_cache"].values())
            yield f"decoding batch {row['rows']}, ms a step: {steps}; bytes / bandwidth {row['floor_ms']:.2f}; {alike:.0%} of tokens alike"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
