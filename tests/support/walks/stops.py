"""Kills and lifts, the statement after each step, and stops that were written elsewhere."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.utils import timezone

from registry.models import LIFT_REQUEST_LASTS, AuditEvent, Kill, StopStatement
from registry.reads.lifts import lift_standing
from registry.services.kills import engage_kill
from registry.services.stops import tend_stop
from registry.snapshots import read_stop_envelope, trust_document
from steernode.dsse import TrustedKeys, sign_envelope
from steernode.stop.document import PAYLOAD_TYPE, StoppedKill, write_stop
from steernode.stop.document import StopStatement as StopDocument
from steernode.stop.trust import believe_stop
from tests.support.governance.people import CAST, Person
from tests.support.governance.stops import HUB
from tests.support.walks.base import choices, mostly, undone
from tests.support.walks.flags import FlagWalk
from tests.support.walks.walking import invariant, one_of, precondition, rule

KILLS = (
    *[("tenant", "harbor", ""), ("profile", "gentle", "")] * 3, ("environment", "production", ""), ("everything", "*", ""),
    ("tenant", "harbor", "production"), ("tenant", "atlas", "staging"), ("environment", "staging", ""), ("profile", "gentle", "staging"),
)  # fmt: skip
LIFTS = ("request-lift", "request-lift", "request-lift", "confirm-lift", "withdraw-lift")
OFFLINE_KEY = Ed25519PrivateKey.generate()
# As STEERHUB_OFFLINE_STOP_KEYS names whoever holds that key.
OFFLINE = "pit-crew"

kinds = one_of(*KILLS)


class StopWalk(FlagWalk):
    def __init__(self) -> None:
        super().__init__()
        # By their places in the oracle: the ids of kills, and of statements the bytes and the sequence.
        self.kill_ids: list[str] = []
        self.envelopes: list[bytes] = []
        # As a node opens them: what each says, and its digest.
        self.opened: list[tuple[StopDocument, str]] = []

    @rule(actor=mostly("operator"), what=kinds, again=one_of(True, True, False))
    def engage_kill(self, actor: Person, what: tuple[str, str, str], again: bool) -> None:
        """Again is what somebody wants to lift, if anybody does."""
        what = next((kill.names for kill in self.oracle.kills_in_force if again and kill.lift), what)
        kind, target, environment = what
        body = {"kind": kind, "target": target.strip("*"), "environment": environment, "reason": "complaints"}
        asked = [kill for kill in self.oracle.kills_in_force if kill.names == what and kill.lift]
        before, events, had = len(self.oracle.kills), AuditEvent.objects.count(), self.oracle.newest
        answer = self.compare(
            lambda: self.oracle.engage_kill(actor, kind, target, environment), lambda: self.send(actor, "post", "kills", body)
        )
        if len(self.oracle.kills) > before:
            self.kill_ids.append(answer["id"].replace("-", ""))
        elif "id" in answer:
            assert self.oracle.newest is had
            told = list(AuditEvent.objects.order_by("seq").values_list("action", flat=True)[events:])
            assert told == ["kill.engaged_again", *["kill.lift_withdrawn"] * len(asked)]
            self.met["killed again"] += 1
            self.met["killed again while a lift was asked for"] += bool(asked)

    @precondition(lambda self: self.oracle.kills)
    @rule(
        actor=mostly("operator"),
        second=mostly("approver"),
        choice=choices,
        step=one_of(*LIFTS),
        reason=one_of("enough", "enough", ""),
        meanwhile=one_of("", "", "a day passes", "the one who asked leaves"),
    )
    def lift_kill(self, actor: Person, second: Person, choice: int, step: str, reason: str, meanwhile: str) -> None:
        # Mostly one that is in force, and of these one that somebody wants to lift.
        in_force = [place for place, kill in enumerate(self.oracle.kills) if kill in self.oracle.kills_in_force]
        asked = [place for place in in_force if self.oracle.kills[place].lift]
        these = [asked or in_force, in_force, in_force, []][choice % 4] or range(len(self.oracle.kills))
        place = these[choice // 4 % len(these)]
        kill, address = self.oracle.kills[place], f"kills/{UUID(self.kill_ids[place])}/{step}"
        if step == "request-lift":
            self.compare(
                lambda: self.oracle.request_lift(actor, kill, reason), lambda: self.send(actor, "post", address, {"reason": reason})
            )
            if kill.lift and kill.lift.asked_by == actor:
                self.wait_with(actor, meanwhile)
                self.confirm_lift(second, place)
        else:
            foretell = getattr(self.oracle, step.replace("-", "_"))
            self.compare(lambda: foretell(actor, kill), lambda: self.send(actor, "post", address, {}))

    def wait_with(self, asker: Person, meanwhile: str) -> None:
        if meanwhile == "a day passes":
            self.a_day_passes()
        elif meanwhile == "the one who asked leaves":
            self.come_or_go(CAST["root"], asker, matters=False, how="loses every role")

    def confirm_lift(self, actor: Person, place: int) -> None:
        kill, address = self.oracle.kills[place], f"kills/{UUID(self.kill_ids[place])}/confirm-lift"
        self.compare(lambda: self.oracle.confirm_lift(actor, kill), lambda: self.send(actor, "post", address, {}))

    def a_day_passes(self) -> None:
        """For what is asked for by now."""
        for place, kill in enumerate(self.oracle.kills):
            if kill.lift and not kill.is_lifted:
                kill.lift.is_old = True
                long_ago = timezone.now() - LIFT_REQUEST_LASTS - timedelta(seconds=1)
                Kill.objects.filter(pk=self.kill_ids[place]).update(lift_requested_at=long_ago)

    # -- What comes from elsewhere ----------------------------------------------------------------------------------------------

    def stop_offline(self, what: tuple[str, str, str]) -> None:
        kind, target, environment = what
        self.kill_ids.append(uuid4().hex)
        kills = (StoppedKill(kind, environment, target, self.kill_ids[-1]),)
        sequence = int(datetime.now(UTC).timestamp() * 1000)
        payload = write_stop(StopDocument(OFFLINE, sequence, datetime.now(UTC).replace(microsecond=0), kills))
        self.oracle.write_elsewhere(OFFLINE, *what)
        self.keep(sign_envelope(payload, PAYLOAD_TYPE, OFFLINE_KEY))

    def be_restored(self, what: tuple[str, str, str]) -> None:
        """The registry stops something, nodes hear of it, and it is restored from a backup of before."""
        in_force = {kill.names for kill in self.oracle.kills_in_force}
        lost = next((each for each in (what, *KILLS) if each not in in_force and "staging" not in each), None)
        if lost is None:
            return
        kind, target, environment = lost
        with undone():
            kill = engage_kill(kind, target=target.strip("*"), environment=environment, reason="lost", actor=self.users["oscar"])
            self.keep_newest()
            self.kill_ids.append(kill.pk.hex)
        self.oracle.write_elsewhere(HUB, *lost)

    def tend(self) -> None:
        """What the scheduler does every so often."""
        before = self.oracle.newest
        self.oracle.tend()
        stop = tend_stop()
        assert (stop is not None) == (self.oracle.newest is not before)
        self.met["a statement that nodes needed"] += stop is not None and before is not None

    # -- The comparison ---------------------------------------------------------------------------------------------------------

    @invariant()
    def the_newest_statement_says_what_was_foretold(self) -> None:
        row, foretold = StopStatement.objects.first(), self.oracle.newest
        if foretold is None:
            assert row is None
            return
        if foretold.number == len(self.envelopes):
            said = [document.sequence for document, _ in self.opened if document.issuer == HUB]
            self.keep_newest()
            assert row.sequence > max(said, default=0)
        statement, digest = self.opened[foretold.number]
        assert (row.sequence, row.digest) == (statement.sequence, digest)
        ids = {self.kill_ids[place]: self.oracle.kills[place].names for place in foretold.kills}
        assert {each.id: (each.kind, each.target, each.environment) for each in statement.kills} == ids
        lifted = {self.kill_ids[place] for place in foretold.released}
        assert {each for each in statement.released if len(each) == len(uuid4().hex)} == lifted

    @invariant()
    def every_kill_stands_where_it_was_foretold(self) -> None:
        rows = {kill.pk.hex: kill for kill in Kill.objects.select_related("lift_requested_by__acts_for", "tenant")}
        known = {self.kill_ids[place]: kill for place, kill in enumerate(self.oracle.kills) if not kill.is_unknown}
        assert {key: lift_standing(row).value for key, row in rows.items()} == {
            key: self.oracle.lift_standing(kill) for key, kill in known.items()
        }

    def keep_newest(self) -> None:
        row = StopStatement.objects.first()
        self.keep(read_stop_envelope(row.payload_zlib, row.signatures))

    def keep(self, envelope: bytes) -> None:
        keys = TrustedKeys.from_document(trust_document())
        document, digest, may_let_go = believe_stop(envelope, keys=keys, moments=[timezone.now()])
        assert may_let_go
        self.envelopes.append(envelope)
        self.opened.append((document, digest))
