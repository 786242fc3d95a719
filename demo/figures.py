"""Numbers of an evidence document, as a story's report writes them."""

from typing import Any

Metrics = dict[str, Any]


def read_metric(metrics: Metrics, name: str, sides: tuple[str, ...] = ("baseline", "steered")) -> dict[str, float]:
    return {side: float(metrics[name][side]["value"]) for side in sides}


def read_interval(metrics: Metrics, name: str, side: str = "steered") -> list[float]:
    """The 95 % interval."""
    return [float(metrics[name][side][end]) for end in ("low", "high")]


def read_controls(controls: dict[str, Any]) -> dict[str, str]:
    """Mean slopes in nats per unit of α, with their interval where they have one."""

    def describe(estimate: dict[str, Any]) -> str:
        return f"{float(estimate['value']):.1f} ({float(estimate['low']):.1f} to {float(estimate['high']):.1f})"

    random, shuffled = controls["random"], controls["shuffled_labels"]
    return {
        "candidate": describe(controls["slope"]),
        f"95th_percentile_of_{random['count']}_random": f"{float(random['percentile_95']):.1f}",
        f"largest_of_{shuffled['count']}_with_shuffled_labels": f"{max(map(float, shuffled['slopes'])):.1f}",
        "negated": describe(controls["negated"]),
        "prompt_only_shift": describe(controls["prompt_only_shift"]),
    }


def read_verdicts(gates: list[dict[str, str]]) -> dict[str, str]:
    """By gate."""
    return {f"{gate['metric']} {gate['kind']} {gate['threshold']}": gate["verdict"] for gate in gates}
