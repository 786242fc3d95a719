"""One step: the oracle and the registry both do it, and what they say is compared."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from django.db import transaction

from registry.audit import Action
from registry.models import AuditEvent, User
from steernode.errors import SteerError
from tests.support.governance.oracle import Governance
from tests.support.governance.people import CAST, Person, Refused
from tests.support.governance.revisions import VECTORS
from tests.support.walks.walking import Draw, either, one_of, whole

TENANTS = ("harbor", "atlas")
ENVIRONMENTS = ("production", "staging")
FORGED = "f" * 64

people = one_of(*CAST.values())
# One of however many there are by then.
choices = whole(10**6)
tenants = one_of(*TENANTS)
environments = one_of("production", "staging")


def mostly(role: str) -> Draw:
    """Somebody who holds the role, three times in four; anybody otherwise."""
    holders = one_of(*[person for person in CAST.values() if role in person.roles])
    return either(holders, holders, holders, people)


def write_range(vector: str, manner: str) -> tuple[str, str]:
    """α and the most it may be."""
    evaluated, _ = VECTORS[vector]
    return {
        "honest": (str(evaluated), str(evaluated)),
        "unseen": (str(evaluated / 2), str(evaluated)),
        "greedy": (str(evaluated), str(evaluated + Decimal(1))),
    }[manner]


@contextmanager
def undone() -> Iterator[None]:
    """What happens inside did not: a registry that is restored from a backup."""
    with _around():
        yield
        transaction.set_rollback(True)


def _around() -> Any:
    # As TestCase marks its own: services insist on a transaction that nothing is around.
    block = transaction.atomic()
    block._from_testcase = True
    return block


class Walk:
    """What every walk shares. Each rule is one request by anybody, foretold by the oracle."""

    clients: dict[str, Any]
    users: dict[str, User]
    evaluations: dict[str, str]
    fingerprints: dict[str, str]
    # How often each refusal and each thing was met: a run that never got there would prove nothing.
    met: Counter[str]

    def __init__(self) -> None:
        self.oracle = Governance()
        self.world = _around()
        self.world.__enter__()

    def forget(self) -> None:
        transaction.set_rollback(True)
        self.world.__exit__(None, None, None)

    def compare(self, foretell: Callable[[], object], ask: Callable[[], Any]) -> Any:
        """Both do it; the answer carries the code foretold, and a refusal leaves no event. Gives the body, or what a service gave."""
        foretold, before = self.foretell(foretell), self.count_events()
        try:
            answer = ask()
        except SteerError as error:
            answer, code = None, error.code
        else:
            is_http = hasattr(answer, "status_code")
            answer = (answer.json() if answer.content else {}) if is_http else answer
            code = answer.get("code", "") if is_http and "status" in answer and "detail" in answer else ""
        assert code == foretold, answer
        if foretold:
            assert self.count_events() == before, f"{foretold} left an event"
        return answer

    def foretell(self, what: Callable[[], object]) -> str:
        """The code of the oracle's refusal, or empty."""
        try:
            what()
            code = ""
        except Refused as refusal:
            code = refusal.code
        self.met[code] += 1
        return code

    def count_events(self) -> int:
        # Somebody whose token is over is noted, once a minute.
        return AuditEvent.objects.exclude(action=Action.TOKEN_REFUSED).count()

    def send(self, actor: Person, method: str, address: str, body: dict[str, Any], **headers: str) -> Any:
        return getattr(self.clients[actor.name], method)(f"/api/v1/{address}", body, **headers)
