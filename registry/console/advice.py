"""What to do next where a search or a validation did not pass, from what it measured."""

from collections.abc import Sequence

from registry.console.documents import title_gates, title_metric
from steernode.gates import FAIL, OF_A_RISE, OF_ONE_DIRECTION, UNDECIDABLE
from steernode.power import FEWEST_CLUSTERS
from steernode.records.evidence import JudgedGate, read_estimate
from steernode.records.lenient import Document, read_mapping, read_mappings, read_words
from steernode.records.sweep import Sweep

# What a candidate has to bring about. Everything else that gates look at is what it must not do besides.
_WANTED = (*OF_A_RISE, *OF_ONE_DIRECTION, "behaviour_share", "turns_behaviour")


def advise_search(sweep: Sweep) -> list[str]:
    """Of a search in which no cell passes, what would help, the surest first; empty for any other."""
    if sweep.nearest is None:
        return []
    found = [_advise_on_items(sweep), _advise_on_instructions(sweep), _advise_on_doses(read_mapping(sweep.document, "nearest"))]
    return [sentence for sentence in found if sentence]


def _advise_on_items(sweep: Sweep) -> str:
    asked = count_items(sweep).get("behaviour", FEWEST_CLUSTERS)
    if asked >= FEWEST_CLUSTERS:
        return ""
    return (
        f"Behaviour was judged on {asked} tickets of the select split, and fewer than {FEWEST_CLUSTERS} tell little either way: seal a "
        "suite with more of them that the candidate acts on, and ask again."
    )


def _advise_on_instructions(sweep: Sweep) -> str:
    gain = read_estimate(read_mapping(sweep.document, "instructions").get("difference"))
    if gain is None or gain.low is None or gain.low > 0:
        return ""
    return (
        "The two instructions are not shown to make the model reply differently, and the direction is made of what they change. Make the "
        "instructions of the contrast set say more plainly what is wanted, or see whether the rubric tells such replies apart."
    )


def _advise_on_doses(nearest: Document) -> str:
    if would_do := read_mapping(nearest, "would_do"):
        return (
            f"Ask again with α {would_do.get('alpha')} in the grid and layer {would_do.get('layer')} among the layers: between what was "
            "measured, every gate would pass there. That is drawn by straight lines, so measure it."
        )
    windows = read_mappings(nearest.get("windows"))
    never = [title_metric(read_words(window, "metric")) for window in windows if window.get("never") is True]
    if never:
        lacking = f"No α of this layer meets the gate on {_list(never)}, so another grid is no help"
    elif windows:
        lacking = "Each gate passes at some α of this layer, and no α is good for all"
    else:
        return "Search other layers or another α grid, or another contrast set."
    return f"{lacking}: search other layers, or another contrast set."


def count_items(sweep: Sweep) -> dict[str, int]:
    """On how many items each metric of the final cells was judged; empty where the document does not say."""
    counts = next((items for cell in sweep.final_cells if (items := read_mapping(cell.document, "items"))), {})
    return {name: count for name, count in counts.items() if isinstance(count, int)}


def advise_evidence(gates: Sequence[JudgedGate]) -> list[str]:
    """Of evidence that does not pass, what would help; empty for what passes."""
    failed = [gate for gate in gates if gate.verdict == FAIL]
    undecidable = [gate for gate in gates if gate.verdict == UNDECIDABLE]
    if not failed:
        return [_advise_undecidable(undecidable)] if undecidable else []
    found = []
    if too_little := [gate for gate in failed if gate.metric in _WANTED]:
        found.append(f"It does too little of what is wanted: {_name(too_little)}. Search other layers, or with another contrast set.")
    if too_much := [gate for gate in failed if gate.metric not in _WANTED]:
        found.append(f"It does what it must not: {_name(too_much)}. A smaller α does less of it, and less of what is wanted.")
    found.append(
        "What failed is never waived. Test items judge one axis on one base model once: the next look takes a suite with new ones."
    )
    return found


def _advise_undecidable(gates: Sequence[JudgedGate]) -> str:
    return (
        f"Nothing failed, and nothing can be concluded on {_name(gates)}: what each lacks stands beside it. Seal suites with what is "
        "missing and validate again; or two approvers answer for each until a day, on the page of the revision."
    )


def _name(gates: Sequence[JudgedGate]) -> str:
    return _list([title for title, *_ in title_gates(gates)])


def _list(titles: Sequence[str]) -> str:
    return "; ".join(dict.fromkeys(title[:1].lower() + title[1:] if not title[:2].isupper() else title for title in titles))
