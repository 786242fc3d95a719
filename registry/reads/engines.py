"""What the engines of an environment's nodes can do, as they report it, against what a profile asks: told before it is published."""

from collections import defaultdict
from collections.abc import Collection, Set

from registry.models import ProfileRevision, ServingNode
from registry.reads.documents import component_document, template_arguments_of
from registry.reads.fleet import name_some
from steernode.snapshot.readers import read_component


class Engines:
    """The active nodes of these environments, by name, that have told what their engine can do: one query, whatever their number.

    A node that has told nothing yet is not guessed about; its first report says what it cannot serve.
    """

    def __init__(self, environments: Collection[str]) -> None:
        nodes = ServingNode.objects.filter(environment__name__in=environments, is_active=True).exclude(capabilities=[])
        self._found = defaultdict[str, list[tuple[str, frozenset[str]]]](list)
        for environment, name, capabilities in nodes.order_by("name").values_list("environment__name", "name", "capabilities"):
            self._found[environment].append((name, frozenset(capabilities)))

    def say_lacking(self, environment: str, needed: Set[str]) -> list[str]:
        """Such as `node-2 cannot do schedule:linear`; a line for all nodes that lack the same, and none where every one can do it."""
        lacking = defaultdict[tuple[str, ...], list[str]](list)
        for name, capabilities in self._found[environment]:
            if not needed <= capabilities:
                lacking[tuple(sorted(needed - capabilities))].append(name)
        return [f"{name_some(names)} cannot do {', '.join(missing)}" for missing, names in sorted(lacking.items())]


def read_capabilities(revision: ProfileRevision) -> frozenset[str]:
    """What an engine must be able to do to serve the revision, as `required_capabilities` says it of a snapshot."""
    asked = {f"condition:{condition['kind']}" for condition in revision.safety_override}
    rows = list(revision.components.all())
    asked |= {"template_arguments"} if template_arguments_of(rows) else set()
    asked |= {"covered_forms"} if revision.covers.all() else set()
    components = [read_component(component_document(each), "component") for each in rows]
    return frozenset(asked).union(*[component.capabilities() for component in components])
