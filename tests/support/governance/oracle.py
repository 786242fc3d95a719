"""The whole record, as far as it decides what steers."""

from collections.abc import Iterable
from decimal import Decimal

from tests.support.governance.fleet import Fleet
from tests.support.governance.stops import Kill


class Governance(Fleet):
    def effect(self, environment: str, tenant: str, kills: Iterable[Kill] | None = None) -> tuple[str, int, Decimal] | None:
        """Profile, revision and α that a request of the tenant gets under these kills; None for no steering, which is the default."""
        flag = self.flags.get((environment, tenant))
        dose = self.dose(environment, flag)
        if flag is None or dose is None:
            return None
        reached = {("everything", "*"), ("environment", environment), ("tenant", tenant), ("profile", flag.revision.profile)}
        for kill in self.kills_in_force if kills is None else kills:
            if (kill.kind, kill.target) in reached and kill.environment in ("", environment):
                return None
        return dose[0], dose[1], flag.revision.alpha * flag.scale
