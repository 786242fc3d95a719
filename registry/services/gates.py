"""Gate sets: what the organisation holds evidence to, sealed whole or refused whole."""

from collections.abc import Mapping, Sequence

from registry.audit import Action, record
from registry.errors import TransitionRefused
from registry.models import GateSet, User
from registry.services.names import check_new_name
from registry.services.transition import transition
from registry.services.versions import next_version
from steernode.gates import declare_gates, gate_sets


@transition
def seal_gate_set(name: str, *, about: str, gates: Sequence[Mapping[str, str]], author: User) -> GateSet:
    """nothing -> sealed: version n + 1 of `name`, or the version that says exactly this already.

    Raises: TransitionRefused GATE_SET_TAKEN; GateError GATE_INVALID; AlphaError ALPHA_FORMAT; InvalidInput NAME, NAME_CASE.
    """
    refuse_shipped(name)
    version = next_version(GateSet, name=name)
    declared = declare_gates(name, version, about, gates)
    known = GateSet.objects.filter(digest=declared.digest).first()
    if known is not None:
        return known
    check_new_name(GateSet, name)
    gate_set = GateSet.objects.create(
        name=name, version=version, digest=declared.digest, about=declared.about, gates=list(declared.reasoned), author=author
    )
    record(
        Action.GATE_SET_SEALED,
        actor=author,
        subject=gate_set,
        details={"digest": gate_set.digest, "about": gate_set.about, "gates": gate_set.gates},
    )
    return gate_set


def refuse_shipped(name: str) -> None:
    """Raises: TransitionRefused GATE_SET_TAKEN, whatever its capitals."""
    taken = next((shipped for shipped in gate_sets() if shipped.casefold() == name.casefold()), None)
    if taken is not None:
        raise TransitionRefused(
            "GATE_SET_TAKEN", f"{taken} ships with the registry, and means the same everywhere; take another name", name
        )
