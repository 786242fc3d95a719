"""A stop under every fault that we know of: how long it takes to every tenant, and that nobody is steered past it."""

import asyncio
import contextlib
import signal
import threading
import time

import httpx
import pytest

from tests.e2e.faults.record import STALE_SECONDS, TENANTS
from tests.e2e.faults.rig import Process, Rig
from tests.e2e.faults.watch import Watch, ask
from tests.support.serving import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.e2e]

# One road is open: a poll, a stream, or a file.
BOUND = 1.0
# Where none is, it is the stale policy that ends it: by its second, and what a reply takes.
STALE_BOUND = STALE_SECONDS + 1.0


def all_steered(node: Process) -> None:
    """Whoever tries a stop first sees that there is something to stop."""
    for tenant in TENANTS:
        wait_until(lambda tenant=tenant: ask(node, tenant).is_steered, seconds=10)


def restarts_neutral(node: Process, tenants: tuple[str, ...] = tuple(TENANTS)) -> None:
    """A node whose power goes, and that comes back, serves nobody steered from its first reply on."""
    node.end(signal.SIGKILL)
    node.start()
    node.wait_for("/healthz")
    for _ in range(3):
        for tenant in tenants:
            assert not ask(node, tenant).is_steered, f"{tenant} is steered after a restart"


def stop_and_watch(rig: Rig, hub: Process, *nodes: Process, seconds: float = BOUND) -> float:
    """A kill of everything, pressed at this hub: the seconds to neutral on the slowest of these nodes."""
    watches = [Watch(node) for node in nodes]
    for watch in watches:
        watch.__enter__()
    time.sleep(0.5)
    pressed = rig.kill(hub=hub)
    time.sleep(seconds + 1.0)
    for watch in watches:
        watch.__exit__()
    return max(watch.seconds_to_neutral(pressed) for watch in watches)


def back_up(rig: Rig, hub: Process) -> None:
    hub.end()
    rig.back_up()
    hub.start()
    hub.wait_for("/api/v1/healthz")


@pytest.mark.short
def test_no_fault(rig, report):
    hub = rig.web()
    node = rig.node(hub)
    all_steered(node)
    report("none", road="poll", seconds=stop_and_watch(rig, hub, node))
    restarts_neutral(node)


@pytest.mark.short
def test_hub_restored_from_an_older_backup(rig, report):
    hub = rig.web()
    node = rig.node(hub)
    back_up(rig, hub)
    for scale in ("0.9", "0.8", "0.7"):
        rig.set_flag("harbor", hub=hub, alpha_scale=scale)
    all_steered(node)
    hub.end(signal.SIGKILL)
    rig.restore()
    hub.start()
    hub.wait_for("/api/v1/healthz")
    report("hub restored from an older backup", road="poll", seconds=stop_and_watch(rig, hub, node))
    restarts_neutral(node)
    # One documented command brings every node along again.
    rig.run("manage.py", "publish", "--above-fleet")
    wait_until(lambda: rig.convergence("node-1", hub=hub) == "SYNCED", seconds=10)


@pytest.mark.short
def test_kill_that_the_backup_forgot_is_not_released_by_the_restored_hub(rig, report):
    hub = rig.web()
    node = rig.node(hub)
    back_up(rig, hub)
    rig.kill("tenant", "harbor", hub=hub)
    wait_until(lambda: ask(node, "harbor").reason == "killed_tenant")
    hub.end(signal.SIGKILL)
    rig.restore()
    hub.start()
    hub.wait_for("/api/v1/healthz")
    with Watch(node, ("harbor",)) as watch:
        rig.kill("tenant", "atlas", hub=hub)
        wait_until(lambda: ask(node, "atlas").reason == "killed_tenant")
        # The hub has it on record again, by the word of the node, and two people lift it like any other.
        wait_until(lambda: "harbor" in [kill["target"] for kill in rig.kills(hub=hub)], seconds=10)
        time.sleep(1)
    assert not any(sample.is_steered for sample in watch.samples)
    report("a kill that the backup forgot", road="disk", seconds=0.0)
    restarts_neutral(node, ("harbor", "atlas"))


@pytest.mark.short
def test_database_cut_from_one_web_process(rig, report):
    hub = rig.web()
    cut = rig.cut_web()
    node, beyond = rig.node(hub, "node-1"), rig.node(cut, "node-2")
    all_steered(node)
    all_steered(beyond)
    with Watch(node) as near, Watch(beyond, ("harbor", "reef")) as far:
        time.sleep(0.5)
        rig.cut()
        severed = time.monotonic()
        time.sleep(1)
        pressed = rig.kill(hub=hub)
        time.sleep(STALE_BOUND + 1)
    report("database cut from another web process", road="poll", seconds=near.seconds_to_neutral(pressed))
    # Behind the process that has not looked no road is open: it does not vouch, so the stale policy counts from its last look.
    report("database cut from the node's own web process", road="none", seconds=far.seconds_to_neutral(severed), bound=STALE_BOUND)
    restarts_neutral(node)
    restarts_neutral(beyond, ("harbor", "reef"))
    rig.mend()
    wait_until(lambda: ask(beyond, "harbor").reason == "killed_everything", seconds=10)


# A clock that is replaced, though it tells the time, shows what replacing it costs.
@pytest.mark.parametrize("offset", ["+0s", "+25h", "-25h"])
def test_clock_of_the_hub_is_a_day_off(rig, report, offset):
    hub = rig.web(has_clock=True)
    node = rig.node(hub)
    all_steered(node)
    hub.set_clock(offset)
    time.sleep(2)
    report(f"clock of the hub {offset}", road="poll", seconds=stop_and_watch(rig, hub, node))
    hub.set_clock("+0s")
    restarts_neutral(node)


@pytest.mark.parametrize("offset", ["+0s", "+25h", "-25h"])
def test_clock_of_a_node_is_a_day_off(rig, report, offset):
    hub = rig.web()
    node = rig.node(hub, has_clock=True)
    all_steered(node)
    node.set_clock(offset)
    time.sleep(2)
    report(f"clock of the node {offset}", road="poll", seconds=stop_and_watch(rig, hub, node))
    node.set_clock("+0s")
    restarts_neutral(node)


@pytest.mark.parametrize("offset", ["+0s", "-25h", "+25h"])
def test_hub_is_down_and_staleness_counts_by_a_true_clock(rig, report, offset):
    hub = rig.web()
    node = rig.node(hub, has_clock=True)
    all_steered(node)
    with Watch(node, ("harbor", "reef")) as watch:
        time.sleep(0.5)
        hub.end(signal.SIGKILL)
        lost = time.monotonic()
        node.set_clock(offset)
        time.sleep(STALE_BOUND + 1)
    report(f"hub down, clock of the node {offset}", road="none", seconds=watch.seconds_to_neutral(lost), bound=STALE_BOUND)
    # Its last contact lies a day ahead, or long behind: neither is a contact now.
    restarts_neutral(node, ("harbor", "reef"))


@pytest.mark.short
def test_hub_is_down_and_a_stop_is_dropped_as_a_file(rig, report):
    hub = rig.web()
    node = rig.node(hub)
    all_steered(node)
    stop = rig.write_offline_stop()
    hub.end(signal.SIGKILL)
    with Watch(node) as watch:
        time.sleep(0.5)
        called = time.monotonic()
        rig.drop_stop(stop, "node-1")
        # The command itself takes its time to start.
        took = time.monotonic() - called
        time.sleep(BOUND + 1)
    report("hub down, stop dropped as a file", road="file", seconds=max(0.0, watch.seconds_to_neutral(called) - took))
    restarts_neutral(node)
    # Back again, the hub learns of it, and what it says does not let go.
    hub.start()
    hub.wait_for("/api/v1/healthz")
    wait_until(lambda: "everything" in [kill["kind"] for kill in rig.kills(hub=hub)], seconds=15)
    assert not ask(node, "harbor").is_steered


def test_environment_is_at_its_size_limit(rig, report):
    rig.run("-m", "tests.e2e.faults.fill")
    hub = rig.web()
    node = rig.node(hub)
    all_steered(node)
    report("environment at its size limit", road="poll", seconds=stop_and_watch(rig, hub, node))
    restarts_neutral(node)


def test_held_polls_take_every_descriptor(rig, report):
    hub = rig.web(descriptors=1024)
    node = rig.node(hub)
    all_steered(node)
    with HeldPolls(hub.url, rig.enroll("node-2", hub=hub), 1100):
        report("1,100 held polls at 1,024 descriptors", road="poll", seconds=stop_and_watch(rig, hub, node))
        assert httpx.get(f"{hub.url}/api/v1/healthz", timeout=2).status_code == 200
        restarts_neutral(node)


def test_node_lacks_a_capability_that_one_tenant_needs(rig, report):
    hub = rig.web()
    node = rig.node(hub, module=("tests.e2e.faults.limited_node", "schedule:linear"))
    wait_until(lambda: ask(node, "harbor").is_steered)
    assert not ask(node, "reef").is_steered
    with Watch(node, ("harbor",)) as watch:
        time.sleep(0.5)
        off = time.monotonic()
        rig.set_flag("harbor", hub=hub, enabled=False)
        time.sleep(BOUND + 1)
    report("node lacks a capability, another tenant's flag off", road="poll", seconds=watch.seconds_to_neutral(off))
    report("node lacks a capability", road="poll", seconds=stop_and_watch(rig, hub, node))
    restarts_neutral(node)


class HeldPolls:
    """So many long polls of one token, each on a connection of its own, asked for again as they end."""

    def __init__(self, hub: str, token: str, count: int) -> None:
        self._url, self._token, self._count = f"{hub}/fleet/v1/environments/production/snapshot", token, count
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "HeldPolls":
        self._thread.start()
        time.sleep(4)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(20)

    def _run(self) -> None:
        async def hold(client: httpx.AsyncClient, etag: str) -> None:
            while not self._ended.is_set():
                with contextlib.suppress(httpx.HTTPError):
                    await client.get(self._url, headers={"If-None-Match": etag, "Prefer": "wait=50"})
                await asyncio.sleep(0.5)

        async def main() -> None:
            limits = httpx.Limits(max_connections=self._count, max_keepalive_connections=self._count)
            headers = {"Authorization": f"Bearer {self._token}"}
            async with httpx.AsyncClient(timeout=60, limits=limits, headers=headers) as client:
                etag = (await client.get(self._url)).headers["ETag"]
                tasks = [asyncio.create_task(hold(client, etag)) for _ in range(self._count)]
                while not self._ended.is_set():
                    await asyncio.sleep(0.1)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run(main())
