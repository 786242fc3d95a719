"""Nodes: their life, their reports, which stop statements reach them, and what they then obey."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.db import connection
from django.utils import timezone

from registry.fleet import heads
from registry.fleet.answers import Refusal
from registry.fleet.heads import NodeKey
from registry.fleet.reports import open_report
from registry.models import Environment, NodeReport, ServingNode
from registry.reads.fleet import SILENT_AFTER, judge_nodes, standings
from registry.services.nodes import enroll_node
from registry.services.people import hash_secret
from registry.services.reports import record_node_report
from registry.services.stops import adopt_stop
from registry.snapshots import read_head
from registry.snapshots.read import read_snapshot
from steernode.errors import SteerError
from steernode.snapshot.resolve import resolve
from steernode.stop.held import HeldStops
from tests.support.governance.fleet import Node
from tests.support.governance.people import Person
from tests.support.governance.stops import HUB, Statement
from tests.support.nodes import applied, report, signed
from tests.support.walks.base import TENANTS, choices, mostly
from tests.support.walks.flags import dose_of
from tests.support.walks.stops import StopWalk, kinds
from tests.support.walks.walking import invariant, one_of, precondition, rule, yes_or_no

NAMES = ("north", "south")
names = one_of(*NAMES)
# What a report says: of the head, of the first revision, of a snapshot that nobody published, of a refusal, of time that ran out, nothing.
WORDS = ("synced", "foreign", "behind", "foreign", "refused", "stale", "nothing")
TURNS = ("next", "next", "next", "again", "late", "new boot", "past boot")


class FleetWalk(StopWalk):
    def __init__(self) -> None:
        super().__init__()
        self.invitations: dict[int, str] = {}
        # The first is nobody's.
        self.tokens: dict[int, tuple[str, Ed25519PrivateKey]] = {0: ("", Ed25519PrivateKey.generate())}
        self.held: dict[str, HeldStops] = {}
        self.boots = 0

    # -- A life -----------------------------------------------------------------------------------------------------------------

    @rule(
        actor=mostly("operator"),
        name=names,
        environment=one_of("production", "production", "staging"),
        step=one_of("invite", "rotate", "withdraw", "re-enroll"),
        # What leads to the next thing that can happen to the node, or whatever was drawn.
        then=one_of("", "enroll", "enroll", "withdraw"),
    )
    def change_node(self, actor: Person, name: str, environment: str, step: str, then: str) -> None:
        if then == "enroll":
            node = self.oracle.nodes.get(name)
            step = "invite" if node is None else "re-enroll" if node.is_withdrawn else "rotate"
        self.take_step(actor, name, environment, step)
        if then == "enroll" and self.invitations:
            self.enroll(name, is_own=True, is_late=False)
        elif then:
            self.take_step(actor, name, environment, "withdraw")

    def take_step(self, actor: Person, name: str, environment: str, step: str) -> None:
        if step == "invite":
            self.invite(actor, name, environment)
        elif step == "withdraw":
            self.withdraw(actor, name)
        else:
            self.invite_again(actor, name, step)

    def invite(self, actor: Person, name: str, environment: str) -> None:
        is_new = name not in self.oracle.nodes
        answer = self.compare(
            lambda: self.oracle.invite(actor, name, environment),
            lambda: self.send(actor, "post", "nodes", {"name": name, "environment": environment}),
        )
        if "enrolment_token" in answer:
            assert is_new
            self.held[name] = HeldStops()
            self.invitations[self.oracle.nodes[name].invitation] = answer["enrolment_token"]

    def invite_again(self, actor: Person, name: str, step: str) -> None:
        foretell = {"rotate": self.oracle.rotate, "re-enroll": self.oracle.reenroll}[step]
        answer = self.compare(lambda: foretell(actor, name), lambda: self.send(actor, "post", f"nodes/{name}/{step}", {}))
        if "enrolment_token" in answer:
            self.invitations[self.oracle.nodes[name].invitation] = answer["enrolment_token"]

    def withdraw(self, actor: Person, name: str) -> None:
        self.compare(
            lambda: self.oracle.withdraw(actor, name), lambda: self.send(actor, "post", f"nodes/{name}/withdraw", {"reason": "gone"})
        )

    @precondition(lambda self: self.invitations)
    @rule(name=names, is_own=one_of(True, True, True, False), is_late=one_of(*[False] * 5, True))
    def enroll(self, name: str, is_own: bool, is_late: bool) -> None:
        """With the one-time token that waits for it, or another, which may be used, or another node's."""
        waiting = {node.invitation: node.name for node in self.oracle.nodes.values() if node.invitation}
        own = {number: owner for number, owner in waiting.items() if owner == name}
        number = max(own or waiting or self.invitations)
        name = waiting.get(number, name) if is_own else name
        node, key = self.oracle.nodes.get(name), Ed25519PrivateKey.generate()
        if node is not None and is_late:
            node.invitation = 0
            ServingNode.objects.exclude(enrolment_sha256="").filter(name=name).update(enrolment_expires_at=timezone.now())
        was = node and ("re-enrolled" if node.is_withdrawn else "rotated" if node.token else "enrolled")
        given = self.compare(
            lambda: self.oracle.enroll(name, number), lambda: enroll_node(self.invitations[number], name=name, public_key=key.public_key())
        )
        if given is not None:
            self.tokens[self.oracle.nodes[name].token] = given[1], key
            self.met[was or ""] += 1

    # -- Reports ----------------------------------------------------------------------------------------------------------------

    @precondition(lambda self: any(node.token for node in self.oracle.nodes.values()))
    @rule(choice=choices, turn=one_of(*TURNS), word=one_of(*WORDS), with_old_key=one_of(*[False] * 3, True), has_polled=yes_or_no)
    def say(self, choice: int, turn: str, word: str, with_old_key: bool, has_polled: bool) -> None:
        """In order, and then as it comes."""
        known = [node for node in self.oracle.nodes.values() if node.token]
        node = known[choice % len(known)]
        if has_polled and self.oracle.newest:
            self.take_up(node.name, self.oracle.newest)
        self.report(node, "next", "synced", node.token)
        self.report(node, turn, word, min(self.tokens) if with_old_key else node.token)

    def report(self, node: Node, turn: str, word: str, key: int) -> None:
        boot, seq = self.take_turn(node, turn)
        environment = Environment.objects.get(name=node.environment)
        head = environment.head_revision
        revision, was_published = (1 if word in ("behind", "refused") else head), word != "foreign"
        result = {"refused": "NACK", "stale": "STALE", "nothing": "PENDING"}.get(word, "ACK")
        in_force = (
            None
            if word == "nothing"
            else applied(revision, environment=environment.name) | ({} if was_published else {"content_digest": "0" * 64})
        )
        document = report(
            node=node.name, environment=environment.name, boot_id=boot, seq=seq, result=result, applied=in_force,
            code="CAPABILITY" if result == "NACK" else "", revision=head if result == "NACK" else in_force and revision,
            stop=self.tell_stop(node.name),
        )  # fmt: skip
        foretold = (result, in_force and revision, was_published)
        self.compare(
            lambda: self.oracle.report(node.name, key, boot, seq, foretold),
            lambda: self.take_report(node, signed(document, self.tokens[key][1])),
        )

    def take_turn(self, node: Node, turn: str) -> tuple[str, int]:
        if turn == "past boot" and node.past_boots:
            return min(node.past_boots), node.seq + 1
        if turn == "new boot" or not node.boot:
            self.boots += 1
            return f"boot-{self.boots}", 2
        return node.boot, node.seq + {"again": 0, "late": -1}.get(turn, 1)

    def take_report(self, node: Node, envelope: bytes) -> NodeReport | None:
        row = ServingNode.objects.get(name=node.name)
        try:
            document = open_report(NodeKey(str(row.pk), node.name, node.environment), row.public_key, envelope)
        except Refusal as refusal:
            raise SteerError(refusal.code, refusal.detail) from refusal
        return record_node_report(row, report=document)

    def tell_stop(self, name: str) -> dict[str, object] | None:
        held = self.held[name]
        if not held.sequence:
            return None
        return {"sequence": held.sequence, "digest": held.digest, "held": len(held.held), "surplus": sorted(held.surplus)}

    @rule(what=kinds, is_offline=one_of(True, False, False), is_heard=one_of(True, True, False), is_tended=one_of(True, True, False))
    def stop_elsewhere(self, what: tuple[str, str, str], is_offline: bool, is_heard: bool, is_tended: bool) -> None:
        """Offline, or by a hub that then forgets it; and whoever heard of it may say so."""
        before = len(self.oracle.statements)
        if is_offline:
            self.stop_offline(what)
        else:
            self.be_restored(what)
        if is_heard and len(self.oracle.statements) > before:
            self.spread(self.oracle.statements[-1])
        if is_tended:
            self.tend()

    def spread(self, statement: Statement) -> None:
        for name, node in self.oracle.nodes.items():
            self.take_up(name, statement)
            if node.counts:
                self.report(node, "next", "synced", node.token)

    @rule(what=one_of("a day", "silence", "silence", "deadlines", "everybody hears", "everybody hears"), name=names)
    def time_passes(self, what: str, name: str) -> None:
        if what == "deadlines":
            self.tend()
        elif what == "everybody hears":
            if self.oracle.newest:
                self.spread(self.oracle.newest)
        elif what == "silence":
            self.fall_silent(name)
        else:
            self.a_day_passes()

    def fall_silent(self, name: str) -> None:
        if node := self.oracle.nodes.get(name):
            node.is_silent = True
            ServingNode.objects.filter(name=name, last_seen_at__isnull=False).update(last_seen_at=timezone.now() - 2 * SILENT_AFTER)

    # -- Stops ------------------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.oracle.nodes and self.oracle.statements)
    @rule(is_newest=yes_or_no, choice=choices)
    def hear(self, is_newest: bool, choice: int) -> None:
        """Any that was ever signed, skipped, replayed or of another hand, and perhaps the newest of the record."""
        name = sorted(self.oracle.nodes)[choice % len(self.oracle.nodes)]
        self.take_up(name, self.pick_statement(choice // 2))
        if is_newest and self.oracle.newest:
            self.take_up(name, self.oracle.newest)

    def take_up(self, name: str, statement: Statement) -> None:
        ears, (document, digest) = self.oracle.nodes[name].ears, self.opened[statement.number]
        before, is_news = set(ears.obeys), ears.highest is not statement
        ears.hear(statement)
        self.held[name] = self.held[name].hear(document, digest)
        self.met["a node let go"] += bool(before - ears.obeys)
        self.met["a node heard an old one"] += statement is not ears.highest and statement.issuer == HUB
        if is_news and statement is self.oracle.newest is ears.highest and not before - statement.kills - statement.released:
            assert ears.obeys == {place for place, kill in enumerate(self.oracle.kills) if kill in self.oracle.kills_in_force}
            self.met["a node obeys what the record says"] += 1

    @precondition(lambda self: self.oracle.statements and any(node.counts for node in self.oracle.nodes.values()))
    @rule(choice=choices, which=choices)
    def hand_back(self, choice: int, which: int) -> None:
        known = [node for node in self.oracle.nodes.values() if node.counts]
        node, statement = known[choice % len(known)], self.pick_statement(which)
        lost = sum(self.oracle.kills[place].is_unknown for place in statement.kills)
        row = ServingNode.objects.get(name=node.name)
        stop = self.compare(lambda: self.oracle.hand_back(statement), lambda: adopt_stop(self.envelopes[statement.number], node=row))
        assert (stop is not None) == bool(lost)
        self.met[f"taken on record from {'a hub that lost it' if statement.issuer == HUB else 'offline'}"] += bool(lost)

    def pick_statement(self, choice: int) -> Statement:
        """Of those that list what the record does not know, if there are any, one time in two."""
        unknown = [each for each in self.oracle.statements if any(self.oracle.kills[place].is_unknown for place in each.kills)]
        these = unknown if unknown and choice % 2 else self.oracle.statements
        return these[choice // 2 % len(these)]

    # -- The comparison ---------------------------------------------------------------------------------------------------------

    @invariant()
    def every_node_obeys_what_was_foretold(self) -> None:
        for name, node in self.oracle.nodes.items():
            held, places = self.held[name], node.ears.obeys
            assert set(held.held) == {self.kill_ids[place] for place in places}
            unlifted = {place for place in node.ears.seen if not self.oracle.kills[place].is_lifted}
            assert unlifted <= places, "a kill that a node has seen was released without a lift"
            assert set(held.surplus) == {self.kill_ids[place] for place in node.ears.surplus}
            row, _ = read_head(Environment.objects.get(name=node.environment))
            snapshot = read_snapshot(row).under(held.kills_in(node.environment))
            for tenant in TENANTS:
                obeyed = [self.oracle.kills[place] for place in places]
                assert dose_of(resolve(snapshot, tenant, "")) == self.oracle.effect(node.environment, tenant, obeyed)

    @invariant()
    def whoever_counts_and_may_pull_was_foretold(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(heads._NODES)
            may_pull = {token for token, _id, _name, _environment, is_active, _past in cursor.fetchall() if is_active}
        counting = {node.name: node for node in self.oracle.nodes.values() if node.counts}
        assert may_pull == {hash_secret(self.tokens[node.token][0]) for node in counting.values()}
        environments = {each.name: each for each in Environment.objects.all()}
        serving = {name: {each.node.name for each in found.nodes} for name, found in standings(environments.values()).items()}
        assert serving == {name: {node.name for node in counting.values() if node.environment == name} for name in environments}
        for standing in judge_nodes(ServingNode.objects.all()):
            node = self.oracle.nodes[standing.node.name]
            assert standing.state == self.oracle.convergence(node, environments[node.environment].head_revision)
            self.met[standing.state] += 1
