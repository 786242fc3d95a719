"""What callers of a node get while something happens: who is steered, and how long still."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

from tests.e2e.faults.record import TENANTS
from tests.e2e.faults.rig import Process


@dataclass(frozen=True)
class Sample:
    """What one tenant got, when it was answered (seconds, monotonic)."""

    at: float
    tenant: str
    is_steered: bool
    reason: str


@dataclass
class Watch:
    """Asks a node for every tenant, over and over, as its callers do."""

    node: Process
    tenants: Sequence[str] = tuple(TENANTS)
    samples: list[Sample] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "Watch":
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        with httpx.Client(timeout=10) as client:
            while not self._ended.is_set():
                for tenant in self.tenants:
                    try:
                        self.samples.append(ask(self.node, tenant, client))
                    except (httpx.TransportError, KeyError):
                        # It is being restarted: nobody is served, so nobody is steered.
                        time.sleep(0.05)
                time.sleep(0.01)

    def seconds_to_neutral(self, since: float, *, tenants: Sequence[str] = ()) -> float:
        """From `since` to the first unsteered answer of the last tenant. Raises: AssertionError if one was steered again after that."""
        slowest = 0.0
        for tenant in tenants or self.tenants:
            later = [sample for sample in self.samples if sample.tenant == tenant and sample.at > since]
            first = next((sample for sample in later if not sample.is_steered), None)
            assert first is not None, f"{tenant} was never neutral on {self.node.name}"
            again = [sample for sample in later if sample.is_steered and sample.at > first.at]
            assert not again, f"{tenant} was steered again {again[0].at - first.at:.2f} s after it was neutral"
            slowest = max(slowest, first.at - since)
        return slowest


def ask(node: Process, tenant: str, client: httpx.Client | None = None) -> Sample:
    """One short reply for a tenant."""
    answer = (
        (client or httpx)
        .post(
            f"{node.url}/v1/chat/completions",
            headers={"X-SteerHub-Tenant": tenant},
            json={"messages": [{"role": "user", "content": "Where is my refund?"}], "max_tokens": 1},
            timeout=10,
        )
        .json()
    )
    return Sample(time.monotonic(), tenant, answer["steering"] is not None, answer["steering_reason"])
