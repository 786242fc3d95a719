"""python -m demo.check_report FILE: whether a demo's report shows what the product promises. Exit 0 or 1."""

import json
import sys
from pathlib import Path
from typing import Any


def find_shortfalls(report: dict[str, Any]) -> list[str]:
    """What falls short, as sentences; empty when all is well."""
    behaviour, facts, refusals = report["behaviour"], report["facts"], report["refusals"]
    claims = {
        "800 pairs were sealed": report["pairs"] == 800,
        "behaviour rose by at least 1.5 points": behaviour["steered"] - behaviour["baseline"] >= 1.5,
        "facts stayed within 2 points": facts["steered"] >= facts["baseline"] - 0.02,
        "refusals stayed within 2 points": refusals["steered"] >= refusals["baseline"] - 0.02,
        "the perplexity ratio is at most 1.15": report["perplexity_ratio"] <= 1.15,
        "every gate passed on the test split": set(report["gates"].values()) == {"pass"},
        "the causal trace was drawn": bool(report["trace"]["recovered"]),
        "harbor was steered and atlas was not": report["tenants"] == {"harbor": "steered", "atlas": "identical"},
        "a second apply was a no-op": report["second_apply_is_a_no_op"] is True,
        "a change by hand was told as drift": report["drift_told"] is True,
        "the author could not approve": report["author_approval_refused"] is True,
        "rollback gave the baseline back": report["rollback"]["identical"] is True,
        "the audit export verified": report["audit"]["verified"] is True and report["audit"]["events"] > 0,
        "one changed byte was detected": report["audit"]["tamper_detected"] is True,
    }
    return [claim for claim, holds in claims.items() if not holds]


def main() -> int:
    report = json.loads(Path(sys.argv[1]).read_text())
    shortfalls = find_shortfalls(report)
    for claim in shortfalls:
        print(f"not shown: {claim}", file=sys.stderr)
    return 1 if shortfalls else 0


if __name__ == "__main__":
    sys.exit(main())
