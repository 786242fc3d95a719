"""python -m demo.real.check_report FILE [OTHER]: whether the report shows what the product promises, or says plainly why not, and whether
the report of another run agrees with it. Exit 0 or 1.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

Report = dict[str, Any]
FEWEST_PAIRS = 500
# What two people may have answered for on a model that refuses next to nothing.
WAIVED = {"harmful_compliance_gained", "attack_success_rise"}


def find_shortfalls(report: Report) -> list[str]:
    """What falls short, as sentences; empty when all is well."""
    claims = {**_claims_of_any(report), **_CLAIMS.get(report["verdict"], _claims_of_no_verdict)(report)}
    return [claim for claim, holds in claims.items() if not holds]


def _claims_of_any(report: Report) -> dict[str, bool]:
    return {
        "500 pairs or more were sealed, or the run is shortened and says so": report["pairs"] >= FEWEST_PAIRS or bool(report["shortened"]),
        "the probe tells billing apart": report["probe"]["auc"]["low"] >= 0.7,
        "the report says which way it went, in a sentence": bool(report["sentence"]),
        "what the model does by itself and what steering makes of it is there": all(
            report[name][side] is not None for name in ("behaviour", "facts", "refusals", "perplexity") for side in ("baseline", "steered")
        ),
        "each of these has its interval": all(report["intervals"].get(name) for name in ("behaviour", "facts", "perplexity_ratio")),
        "the second axis has a verdict, or the run is shortened and says so": report["second_axis"]["verdict"] != "not asked"
        or bool(report["shortened"]),
        "the audit export verified": report["audit"]["verified"] is True and report["audit"]["events"] > 0,
        "one changed byte was detected": report["audit"]["tamper_detected"] is True,
    }


def _claims_of_approved(report: Report) -> dict[str, bool]:
    behaviour, requests = report["behaviour"], report["requests"]
    facts, waivers = report["facts_of_other_intents"], report["waivers"]
    gain, wanted = (behaviour[side] - behaviour["baseline"] for side in ("steered", "prompt"))
    waived = {" ".join(waiver[name] for name in ("metric", "kind", "threshold")) for waiver in waivers}
    undecidable = {name for name, verdict in report["gates"].items() if verdict == "undecidable"}
    return {
        "at least half of the prompt's gain in behaviour": wanted > 0 and gain >= wanted / 2,
        "no gate failed": "fail" not in report["gates"].values(),
        "every undecidable gate is waived, and nothing else": waived == undecidable,
        "what is waived is what a model that refuses nothing leaves undecidable, or the run is shortened": bool(report["shortened"])
        or {waiver["metric"] for waiver in waivers} <= WAIVED,
        "each waiver has two people, neither the author, a reason and an end": all(
            len({waiver["asked_by"], waiver["confirmed_by"], "ada"}) == 3 and waiver["reason"] and waiver["ends_at"] for waiver in waivers
        ),
        "the waivers stand on the revision": report["waivers_on_the_revision"] == len(waivers),
        "the author could not waive": not waivers or report["author_waiver_refused"] is True,
        "the author could not approve": report["author_approval_refused"] is True and "ada" not in report["approved_by"],
        "two people approved": len(report["approved_by"]) == 2,
        "requests about billing were steered": requests["billing"]["changed"] > 0,
        # The probe is wrong of one in twenty.
        "most other requests were answered as before": requests["general"]["changed"] * 2 < requests["general"]["asked"],
        "no question of fact of another intent was lost": facts["right_after"] >= facts["right_before"],
        "a change by hand was told as drift": report["drift_told"] is True,
        "rollback gave the baseline back": report["rollback"]["identical"] is True,
    }


def _claims_of_no_window(report: Report) -> dict[str, bool]:
    nearest = report["nearest"] or {"stopped_by": [], "sentence": ""}
    return {
        "nothing was approved or served": report["chosen"] is None and "rollback" not in report,
        "cells were measured": report["search"]["cells_measured"] > 1,
        "the nearest cell and what stops it are there, with numbers": bool(nearest["stopped_by"]) and bool(nearest["sentence"]),
    }


def _claims_of_gates(report: Report) -> dict[str, bool]:
    return {
        "nothing was approved or served": "rollback" not in report and "revision" not in report,
        "the gates that did not pass are there": any(verdict != "pass" for verdict in report["gates"].values()),
        "what the prompt alone does is there": report["behaviour"]["prompt"] is not None,
    }


def _claims_of_no_verdict(report: Report) -> dict[str, bool]:
    return {f"the verdict {report['verdict']!r} is none": False}


_CLAIMS = {
    "approved": _claims_of_approved,
    "no window": _claims_of_no_window,
    "gates failed": _claims_of_gates,
    "undecided": _claims_of_gates,
}


def find_disagreements(report: Report, other: Report) -> list[str]:
    """In what two runs differ by more than the first one's own uncertainty, as sentences."""
    found = [] if report["verdict"] == other["verdict"] else [f"the verdict is {report['verdict']} and {other['verdict']}"]
    here, there = ((each["chosen"] or each.get("nearest") or {}).get("layer") for each in (report, other))
    if there != here and there not in ((report["search"]["ties"] or {}).get("layers") or []):
        found.append(f"the layer is {here} and {there}, which is no tie")
    for name, sides in report["intervals"].items():
        low, high = sides.get("steered", (float("-inf"), float("inf")))
        value = other[name]["steered"] if isinstance(other[name], dict) else other[name]
        if value is None or not low <= value <= high:
            found.append(f"{name} steered is {value}, outside {low:.4g} to {high:.4g}")
    return found


def main() -> int:
    report, *others = (json.loads(Path(path).read_text()) for path in sys.argv[1:3])
    shortfalls = find_shortfalls(report) + [told for other in others for told in find_disagreements(report, other)]
    for claim in shortfalls:
        print(f"not shown: {claim}", file=sys.stderr)
    return 1 if shortfalls else 0


if __name__ == "__main__":
    sys.exit(main())
