"""No kill that a node has seen is released without a lift: whatever is restored, replayed, reordered, lost, or wrong with clock or disk.

The nodes are real ones up to their disks; the hub is the smallest that keeps its side of the contract. And once all is quiet and
everybody can be reached, each node obeys exactly what the hub has on record.
"""

import copy
import shutil
import tempfile
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from steernode.hub.client import Fetched, NotModified
from steernode.node import stops as stops_module
from steernode.node.stops import Stops
from steernode.snapshot.records import Kill
from steernode.stop.document import HUB, PAYLOAD_TYPE, StoppedKill, StopStatement, write_stop
from steernode.stop.trust import read_stop
from tests.support.hub_simulator import NOW, Signer, trust
from tests.support.node_rig import NIGHT, offline_stop

HUB_KEY = Signer(purposes=["stop"])
KEYS = trust(HUB_KEY, NIGHT)
ENVIRONMENTS = ("production", "staging", "production")
TENANTS = st.sampled_from(["acme", "harbor"])
PLACES = st.sampled_from(["", "production", "staging"])
NODES = st.integers(0, len(ENVIRONMENTS) - 1)
# Of what was lifted, a statement names the latest and what a node still holds.
RELEASES_KEPT = 2


@dataclass
class Record:
    """What a backup of the hub holds."""

    in_force: dict[str, StoppedKill] = field(default_factory=dict)
    lifted: list[str] = field(default_factory=list)
    # Named again, because somebody handed back what was lifted.
    again: set[str] = field(default_factory=set)
    adopted: dict[str, frozenset[str]] = field(default_factory=dict)
    sequence: int = 0
    reported: int = 0

    def statement(self, sequence):
        done = {digest for digest, ids in self.adopted.items() if ids <= set(self.lifted)}
        released = {*self.lifted[-RELEASES_KEPT:], *self.again, *done}
        return StopStatement(
            HUB, sequence, NOW, tuple(sorted(self.in_force.values())), frozenset(released), frozenset(set(self.adopted) - done)
        )


class ModelHub:
    """The client that the nodes hold, too."""

    def __init__(self):
        self.record, self.milliseconds, self.envelope, self.stop_digest = Record(), 1000, b"", ""
        self.publish()

    def publish(self):
        record = self.record
        self.milliseconds += 1
        record.sequence = max(record.sequence + 1, record.reported + 1, self.milliseconds)
        payload = write_stop(record.statement(record.sequence))
        self.envelope = HUB_KEY.sign(payload, PAYLOAD_TYPE)
        self.stop_digest = read_stop(self.envelope)[1]

    def stop(self, digest="", wait_seconds=0):
        return NotModified() if digest == self.stop_digest else Fetched(self.envelope, f'"{self.stop_digest}"')

    def hand_back_stop(self, envelope):
        statement, digest = read_stop(envelope)
        for kill in statement.kills:
            if kill.id in self.record.lifted:
                self.record.again.add(kill.id)
            else:
                self.record.in_force[kill.id] = kill
        if statement.issuer != HUB:
            self.record.adopted[digest] = frozenset(kill.id for kill in statement.kills)
        # Also when all of it was lifted long ago: only a statement that is newer than what the node heard lets it go.
        self.publish()


class Node:
    def __init__(self, folder, environment):
        self.folder, self.environment, self.moment, self.obeyed, self.seen = folder, environment, NOW, (), set()
        self.start()

    def start(self):
        self.stops = Stops(
            environment=self.environment,
            store=self.folder,
            keys=KEYS,
            moments=lambda: (self.moment,),
            obey=self.obey,
            renew=lambda: None,
        )
        self.stops.start()

    def obey(self, kills):
        self.obeyed = kills

    def hear(self, envelope):
        self.stops.hear(envelope)
        self.see(envelope)

    def poll(self, hub):
        if self.stops.known_digest != hub.stop_digest:
            self.stops.ask(hub)
            self.see(hub.envelope)

    def see(self, envelope):
        self.seen |= {kill.id for kill in read_stop(envelope)[0].kills}


class Stopping(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="steernode-stops-"))
        self.hub = ModelHub()
        self.nodes = [Node(self.folder / str(number), environment) for number, environment in enumerate(ENVIRONMENTS)]
        self.backups, self.history, self.ever_lifted, self.made = [], [self.hub.envelope], set(), 0

    def teardown(self):
        self.everything_comes_to_rest()
        shutil.rmtree(self.folder)

    def publish(self):
        self.hub.publish()
        self.history.append(self.hub.envelope)

    def make_kill(self, tenant, place):
        self.made += 1
        return StoppedKill("tenant", place, tenant, f"{self.made:032x}")

    # -- The hub ----------------------------------------------------------------------------------------------------------------

    @rule(tenant=TENANTS, place=PLACES)
    def kill(self, tenant, place):
        kill = self.make_kill(tenant, place)
        self.hub.record.in_force[kill.id] = kill
        self.publish()

    @precondition(lambda self: self.hub.record.in_force)
    @rule(data=st.data())
    def lift(self, data):
        key = data.draw(st.sampled_from(sorted(self.hub.record.in_force)))
        del self.hub.record.in_force[key]
        self.hub.record.lifted.append(key)
        self.ever_lifted.add(key)
        self.publish()

    @rule()
    def back_up(self):
        self.backups.append(copy.deepcopy(self.hub.record))

    @precondition(lambda self: self.backups)
    @rule(data=st.data())
    def restore(self, data):
        self.hub.record = copy.deepcopy(data.draw(st.sampled_from(self.backups)))
        self.publish()

    @rule(step=st.integers(-100_000, 100_000))
    def set_the_hubs_clock(self, step):
        self.hub.milliseconds = max(1, self.hub.milliseconds + step)

    # -- On the way -------------------------------------------------------------------------------------------------------------

    @rule(number=NODES)
    def poll(self, number):
        self.nodes[number].poll(self.hub)

    @rule(number=NODES, data=st.data())
    def replay(self, number, data):
        self.nodes[number].hear(data.draw(st.sampled_from(self.history)))

    @rule(number=NODES, tenant=TENANTS, place=PLACES)
    def stop_offline(self, number, tenant, place):
        envelope = offline_stop(self.make_kill(tenant, place), sequence=self.made)
        self.history.append(envelope)
        (self.nodes[number].folder / "stop-inbox" / "stop").write_bytes(envelope)
        self.nodes[number].stops.look()
        self.nodes[number].see(envelope)

    @rule(number=NODES)
    def hand_back(self, number):
        self.nodes[number].stops.hand_back(self.hub)
        self.history.append(self.hub.envelope)

    @rule(number=NODES)
    def report(self, number):
        self.hub.record.reported = max(self.hub.record.reported, self.nodes[number].stops.heard.sequence)

    # -- The nodes --------------------------------------------------------------------------------------------------------------

    @rule(number=NODES, damage=st.sampled_from(["none", "none", "garbage", "gone", "snapshot"]))
    def restart(self, number, damage):
        node = self.nodes[number]
        if damage == "gone":
            (node.folder / "stops.json").unlink(missing_ok=True)
        elif damage != "none":
            (node.folder / {"garbage": "stops.json", "snapshot": "state.json"}[damage]).write_bytes(b"\x00")
        node.start()

    @rule(number=NODES, days=st.sampled_from([-9000, 0, 0, 9000]))
    def set_a_nodes_clock(self, number, days):
        self.nodes[number].moment = NOW + timedelta(days=days)

    # -- What holds -------------------------------------------------------------------------------------------------------------

    @invariant()
    def no_kill_is_released_without_a_lift(self):
        for node in self.nodes:
            heard = node.stops.heard
            assert node.seen - set(heard.held) <= self.ever_lifted
            assert heard.listed <= set(heard.held)
            assert node.obeyed == heard.kills_in(node.environment)

    def everything_comes_to_rest(self):
        for node in self.nodes:
            node.moment = NOW
            node.start()
        for _ in range(8):
            for node in self.nodes:
                self.hub.record.reported = max(self.hub.record.reported, node.stops.heard.sequence)
                node.stops.hand_back(self.hub)
            if self.hub.record.reported >= self.hub.record.sequence and any(
                node.stops.heard.digest != self.hub.stop_digest for node in self.nodes
            ):
                self.hub.publish()
            for node in self.nodes:
                node.poll(self.hub)
        for node in self.nodes:
            assert set(node.stops.heard.held) == set(self.hub.record.in_force)
            on_record = {Kill(kill.kind, kill.target) for kill in self.hub.record.in_force.values() if kill.reaches(node.environment)}
            assert set(node.obeyed) == on_record
            kept = {path.name for path in (node.folder / "stops").iterdir()}
            assert len(kept) <= 1 + len(self.hub.record.in_force)


@pytest.fixture
def no_rests(monkeypatch):
    """Time stands still here: what would be tried again later is due at once."""
    for name in ("_REFUSED_SECONDS", "_TAKEN_SECONDS", "_UNWANTED_SECONDS"):
        monkeypatch.setattr(stops_module, name, 0.0)
    monkeypatch.setattr("steernode.node.store.os.fsync", lambda _descriptor: None)


@pytest.mark.usefixtures("no_rests")
def test_no_kill_is_released_without_a_lift_and_in_the_end_all_obey_the_record():
    run_state_machine_as_test(Stopping, settings=settings(max_examples=60, stateful_step_count=40, deadline=None))
