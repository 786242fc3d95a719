"""Whose stop statement a node believes, and what a wrong time leaves of it."""

from datetime import UTC, datetime, timedelta

import pytest

from steernode.canonical import sha256_hex
from steernode.errors import StopRefused
from steernode.stop.document import HUB, PAYLOAD_TYPE, StopStatement, write_stop
from steernode.stop.trust import believe_stop, read_stop
from tests.support.hub_simulator import Signer, make_kill, trust

AT = datetime(2026, 11, 30, 1, 30, tzinfo=UTC)
HUB_KEY = Signer(purposes=["stop"])
NIGHT_KEY = Signer(purposes=["offline-stop"], issuer="night shift")
DAY_KEY = Signer(purposes=["offline-stop"], issuer="day shift")
SNAPSHOT_KEY = Signer(purposes=["snapshot"])
KEYS = trust(HUB_KEY, NIGHT_KEY, DAY_KEY, SNAPSHOT_KEY)


def payload_of(issuer=HUB):
    return write_stop(StopStatement(issuer, 7, AT, (make_kill(),)))


def believe(envelope, *moments):
    return believe_stop(envelope, keys=KEYS, moments=moments or (AT,))


@pytest.mark.parametrize(("signer", "issuer"), [(HUB_KEY, HUB), (NIGHT_KEY, "night shift")])
def test_a_statement_signed_by_a_key_of_its_issuer_is_believed(signer, issuer):
    statement, digest, may_let_go = believe(signer.sign(payload_of(issuer), PAYLOAD_TYPE))
    assert (statement.issuer, statement.kills, digest, may_let_go) == (issuer, (make_kill(),), sha256_hex(payload_of(issuer)), True)


@pytest.mark.parametrize(
    ("envelope", "code"),
    [
        (b"", "ENVELOPE"),
        (b"{", "ENVELOPE"),
        (HUB_KEY.sign(payload_of(), "application/json"), "ENVELOPE"),
        (HUB_KEY.sign(b"{}", PAYLOAD_TYPE), "SCHEMA"),
        (SNAPSHOT_KEY.sign(payload_of(), PAYLOAD_TYPE), "SIGNATURE"),
        (Signer().sign(payload_of(), PAYLOAD_TYPE), "SIGNATURE"),
        (NIGHT_KEY.sign(payload_of(), PAYLOAD_TYPE), "ISSUER"),
        (NIGHT_KEY.sign(payload_of("day shift"), PAYLOAD_TYPE), "ISSUER"),
        (HUB_KEY.sign(payload_of("night shift"), PAYLOAD_TYPE), "ISSUER"),
    ],
)
def test_any_other_statement_is_refused_by_a_code(envelope, code):
    with pytest.raises(StopRefused) as refused:
        believe(envelope)
    assert refused.value.code == code


@pytest.mark.parametrize("wrong_by", [timedelta(days=-4000), timedelta(days=4000)])
def test_a_wrong_clock_keeps_no_stop_out_and_lets_go_of_nothing(wrong_by):
    envelope = HUB_KEY.sign(payload_of(), PAYLOAD_TYPE)
    statement, _digest, may_let_go = believe(envelope, AT + wrong_by)
    assert (statement.kills, may_let_go) == ((make_kill(),), False)
    assert believe(envelope, AT + wrong_by, AT)[2]


def test_a_statement_of_many_kills_is_believed_whatever_its_size():
    kills = tuple(make_kill(f"tenant-{number}") for number in range(60_000))
    envelope = HUB_KEY.sign(write_stop(StopStatement(HUB, 7, AT, tuple(sorted(kills)))), PAYLOAD_TYPE)
    assert len(believe(envelope)[0].kills) == 60_000
    assert read_stop(envelope) == believe(envelope)[:2]
