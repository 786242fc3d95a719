"""Gate sets by the names that recipes and policies give them: those that ship, and the organisation's own."""

from registry.models import GateSet
from registry.reads.lookups import find_version
from steernode import gates


def find_gate_set(reference: str) -> gates.GateSet | None:
    """A set that ships, by its name; one of the organisation by NAME, which means its newest version, or by NAME@VERSION."""
    if reference in gates.gate_sets():
        return gates.shipped_set(reference)
    row = find_version(GateSet.objects.all(), reference)
    return None if row is None else read_gate_set(row)


def read_gate_set(row: GateSet) -> gates.GateSet:
    return gates.GateSet(row.name, row.version, row.digest, row.about, tuple(row.gates))


def list_gate_sets() -> list[str]:
    """Every reference that there is: the sets that ship, and every version of the organisation's own, the newest of a name first."""
    own = GateSet.objects.order_by("name", "-version").values_list("name", "version")
    return [*gates.gate_sets(), *(f"{name}@{version}" for name, version in own)]


def say_known() -> str:
    """For a refusal: what may be named."""
    own = GateSet.objects.order_by("name").distinct("name").values_list("name", flat=True)
    return ", ".join([*gates.gate_sets(), *own])
