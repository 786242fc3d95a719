"""What a plan means for those who are steered, in words: Δα, new tenants, caps, missing evidence, who must approve, nodes affected."""

from collections import defaultdict
from typing import NamedTuple

from registry.manifests.accounts import Risk
from registry.manifests.kinds import of_each_kind
from registry.manifests.plan import Plan
from registry.manifests.steps import Step
from registry.models import Environment
from registry.reads.fleet import Standings, standings


class Reach(NamedTuple):
    """Which nodes of an environment hear of the plan, and whom it steers there that was not steered before."""

    environment: str
    nodes: int
    in_step: int
    newly_steered: tuple[str, ...]


class Risks:
    """The consequences of one plan, read in a few queries whatever its size."""

    def __init__(self, plan: Plan) -> None:
        self._found = {kind.name: kind.weigh(steps, plan.references) for kind, steps in of_each_kind(plan.steps)}

    def of(self, step: Step) -> list[Risk]:
        """The consequences of one step, in the order in which they matter."""
        return list(self._found[step.kind].risks.get(step.name, ()))

    def reach(self) -> list[Reach]:
        """For each environment whose nodes would be told something else."""
        touched = defaultdict[str, set[str]](set)
        for consequences in self._found.values():
            for environment, newly_steered in consequences.reach.items():
                touched[environment] |= newly_steered
        nodes = standings(Environment.objects.filter(name__in=touched))
        found = ((name, nodes.get(name, Standings())) for name in sorted(touched))
        return [Reach(name, len(here.nodes), here.in_step, tuple(sorted(touched[name]))) for name, here in found]
