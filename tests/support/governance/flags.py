"""Environments, what they serve, and flags: what raises steering is confirmed as it was planned."""

from dataclasses import dataclass
from decimal import Decimal

from tests.support.governance.people import Person, Refused
from tests.support.governance.revisions import Revision, Revisions

# How somebody confirms a change: not at all, by a digest of nothing, by that of its plan, or by one that another change overtook.
CONFIRMATIONS = ("planned", "forged", "overtaken")
# The files that every vector was read from, and those that came after them under the same name.
OLD, NEW = "old", "new"


@dataclass
class Flag:
    revision: Revision
    enabled: bool
    scale: Decimal


class Flags(Revisions):
    def __init__(self) -> None:
        super().__init__()
        # Which files each environment serves, and which are on record.
        self.serves = {"production": OLD}
        self.registered = [OLD]
        self.flags: dict[tuple[str, str], Flag] = {}

    def create_environment(self, actor: Person, name: str) -> None:
        """It begins with what is newest."""
        self.need(actor, "operator")
        self.serves.setdefault(name, self.registered[-1])

    def register(self, actor: Person, files: str) -> None:
        """Nobody serves them by that."""
        self.need(actor, "author", "operator")
        if files not in self.registered:
            self.registered.append(files)

    def move(self, actor: Person, environment: str, files: str, confirmed: str) -> None:
        self.need(actor, "operator", "approver")
        self.need_environment(environment)
        self._need_files(files)
        if self.serves[environment] == files:
            return
        self._confirm(confirmed)
        for (where, _), flag in self.flags.items():
            if where == environment and self.serves[environment] == OLD:
                flag.enabled = False
        self.serves[environment] = files

    def set_flag(self, actor: Person, environment: str, tenant: str, flag: Flag, confirmed: str = "planned") -> None:
        self.weigh_flag(actor, environment, tenant, flag)
        if self.raises(environment, tenant, flag):
            self._confirm(confirmed)
        self.flags[environment, tenant] = flag

    def weigh_flag(self, actor: Person, environment: str, tenant: str, flag: Flag) -> None:
        """What is refused whether or not it is confirmed."""
        self.need(actor, "operator")
        self.need_environment(environment)
        # On at a scale of 0 steers nobody, and raising the scale is asked about again.
        if flag.enabled and flag.scale and flag.revision.state != "approved":
            raise Refused("FLAG_NOT_APPROVED")
        if flag.enabled and flag.scale and self.serves[environment] != OLD:
            raise Refused("BASE_MODEL_NOT_SERVED")
        if flag.enabled and flag.revision.alpha * flag.scale > flag.revision.alpha_max:
            raise Refused("ALPHA_RANGE")

    def raises(self, environment: str, tenant: str, flag: Flag) -> bool:
        """Whether somebody would get more than now. A kill may be lifted, so it is no matter here."""
        before, after = self.dose(environment, self.flags.get((environment, tenant))), self.dose(environment, flag)
        return after is not None and (before is None or before[:2] != after[:2] or before[2] < after[2])

    def dose(self, environment: str, flag: Flag | None) -> tuple[str, int, Decimal] | None:
        """Profile, revision and scale; None for nothing."""
        if flag is None or not flag.enabled or not flag.scale or flag.revision.state != "approved" or self.serves[environment] != OLD:
            return None
        return flag.revision.profile, flag.revision.number, flag.scale

    def need_environment(self, name: str) -> None:
        if name not in self.serves:
            raise Refused("ENVIRONMENT_NOT_FOUND")

    def _need_files(self, files: str) -> None:
        if files not in self.registered:
            raise Refused("BASE_MODEL_NOT_FOUND")

    def _confirm(self, confirmed: str) -> None:
        if confirmed != "planned":
            raise Refused("CONFIRMATION_NEEDED" if confirmed == "unasked" else "PLAN_STALE")
