"""What is demanded of the gates of evidence: that each passed or is waived, and that they are as strict as the set of the policy."""

from collections.abc import Iterable, Sequence

from registry.errors import TransitionRefused
from registry.models import Component, Evaluation, User, Verdict, Waiver
from registry.reads.evidence import evidence_of_part, only_removes
from registry.reads.gates import find_gate_set, say_known
from registry.reads.waivers import gate_of, list_uncounted, without_waived
from steernode.canonical import format_decimal
from steernode.errors import GateError, SteerError
from steernode.gates import OF_EACH_PART, Gate, composition_gates, find_weaker_gates
from steernode.records.evidence import blocking_gates, read_gates
from steernode.records.lenient import read_number
from steernode.words import STRENGTH_OPERATORS


def find_unmet_gate(evaluation: Evaluation, waivers: Sequence[Waiver], *, author: User) -> SteerError | None:
    """The refusal of evidence that does not pass: by the gates that failed, or else by those that are undecidable and not waived by
    somebody whose word counts for what this author writes."""
    if evaluation.passed:
        return None
    blocking = blocking_gates(read_gates(evaluation.gates))
    named = ", ".join(gate.describe() for gate in blocking) or "the whole"
    if evaluation.verdict != Verdict.UNDECIDABLE:
        return TransitionRefused("GATES_FAILED", f"{evaluation} failed its gates on {named}", str(evaluation.pk))
    left = without_waived(evaluation, blocking, waivers)
    if blocking and not left:
        return None
    named = ", ".join(gate.describe() for gate in left) or "the whole"
    problem = f"of {evaluation} nothing failed, and nothing can be concluded on {named}"
    for waiver, why in list_uncounted(evaluation, author):
        if gate_of(waiver) in map(gate_of, left):
            problem += f"; the waiver of {waiver.metric} by {waiver.asked_by} and {waiver.confirmed_by} does not count here: {why}"
    return TransitionRefused("GATES_UNDECIDABLE", problem, str(evaluation.pk))


def demanded_gates(gate_set: str) -> tuple[Gate, ...]:
    """Of the set that a policy names. Raises: GateError GATE_SET_UNKNOWN."""
    found = find_gate_set(gate_set)
    if found is None:
        raise GateError("GATE_SET_UNKNOWN", f"gate set {gate_set!r} is not known; known are {say_known()}", gate_set)
    return found.gates


def find_weaker_gate(components: Sequence[Component], evaluation: Evaluation, gate_set: str) -> SteerError | None:
    """Of several components, the gates that can only be asked of each vector alone are asked of its own evidence."""
    try:
        demanded = demanded_gates(gate_set)
    except GateError as error:
        # A set that this hub no longer has: nobody can say any more what it demanded.
        return error
    if not evaluation.components_digest:
        return _compare_gates(evaluation, demanded, gate_set)
    whole = composition_gates([demanded], only_removes=only_removes(components))
    parts = (find_weaker_part(component, gate_set) for component in components)
    return _compare_gates(evaluation, whole, gate_set) or next(filter(None, parts), None)


def find_weaker_part(component: Component, gate_set: str) -> SteerError | None:
    """The refusal of a part whose own evidence was not held to what the evidence of the whole cannot say. Raises: GateError."""
    evaluation = evidence_of_part(component)
    if evaluation is None:
        return say_unmeasured(component)
    return _compare_gates(evaluation, [gate for gate in demanded_gates(gate_set) if gate["metric"] in OF_EACH_PART], gate_set)


def say_unmeasured(component: Component) -> SteerError:
    """The refusal of a part of which nothing was measured alone at the α that it has."""
    where = "" if component.operator in STRENGTH_OPERATORS else f" at α = {format_decimal(component.alpha)} {component.unit}"
    problem = f"no evaluation covers {component.vector} alone{where}; validate it{' there' if where else ''} first"
    return TransitionRefused("EVIDENCE_MISSING", problem, str(component.vector))


def _compare_gates(evaluation: Evaluation, demanded: Iterable[Gate], gate_set: str) -> SteerError | None:
    held_to = [gate for gate in read_gates(evaluation.gates) if read_number(gate.threshold) is not None]
    weaker = find_weaker_gates([{"metric": gate.metric, "kind": gate.kind, "threshold": gate.threshold} for gate in held_to], demanded)
    if not weaker:
        return None
    rules = ", ".join(f"{gate['metric']} {gate['kind']} {gate['threshold']}" for gate in weaker)
    problem = f"the evidence of {evaluation} was not held to what the set {gate_set} demands: {rules}"
    return TransitionRefused("GATES_WEAK", problem, weaker[0]["metric"])
