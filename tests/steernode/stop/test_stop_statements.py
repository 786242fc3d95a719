from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from steernode.canonical import canonical_json, parse_strict, sha256_hex
from steernode.dsse import sign_envelope
from steernode.errors import StopRefused
from steernode.snapshot.records import Kill
from steernode.stop.document import HUB, MAX_PAYLOAD_BYTES, PAYLOAD_TYPE, StoppedKill, StopStatement, parse_stop, write_stop
from steernode.stop.held import HeldStops

AT = datetime(2026, 11, 30, 1, 30, tzinfo=UTC)
ACME = StoppedKill("tenant", "", "acme", "a" * 32)
WARM_HERE = StoppedKill("profile", "production", "warm", "b" * 32)
STAGING = StoppedKill("environment", "", "staging", "c" * 32)
ALL = StoppedKill("everything", "", "*", "d" * 32)


def stop(sequence, *kills, issuer=HUB, released=(), adopted=()):
    return StopStatement(issuer, sequence, AT, tuple(sorted(kills)), frozenset(released), frozenset(adopted))


def hear(*statements: StopStatement) -> HeldStops:
    held = HeldStops()
    for statement in statements:
        held = held.hear(statement, sha256_hex(write_stop(statement)))
    return held


# -- The document ---------------------------------------------------------------------------------------------------------------


def test_a_statement_reads_as_it_was_written():
    statement = stop(7, ACME, WARM_HERE, STAGING, ALL, released=("e" * 32, "f" * 64), adopted=("f" * 64,))
    assert parse_stop(write_stop(statement)) == statement


def test_ten_thousand_kills_fit_into_a_megabyte_as_they_are_sent():
    kills = [StoppedKill("tenant", "", f"tenant-of-some-length-{number:05}", f"{number:032x}") for number in range(10_000)]
    assert len(sign_envelope(write_stop(stop(1, *kills)), PAYLOAD_TYPE, Ed25519PrivateKey.generate())) <= 1024 * 1024


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schema", "steerhub.stop/2"),
        ("issuer", ""),
        ("sequence", 0),
        ("sequence", True),
        ("issued_at", "yesterday"),
        ("kills", {}),
        ("kills", [{"kind": "wish", "environment": "", "targets": []}]),
        ("kills", [{"kind": "everything", "environment": "production", "targets": [["*", "a" * 32]]}]),
        ("kills", [{"kind": "tenant", "environment": "", "targets": [["acme"]]}]),
        ("kills", [{"kind": "tenant", "environment": "", "targets": [["acme", "A" * 32]]}]),
        ("kills", [{"kind": "tenant", "environment": "", "targets": [["acme", "a" * 32], ["evil", "a" * 32]]}]),
        ("kills", [{"kind": "tenant", "environment": "", "targets": [], "until": "never"}]),
        ("released", ["a" * 31]),
        ("adopted", ["a" * 32]),
        ("limits", {}),
    ],
)
def test_a_statement_that_is_not_one_is_refused_by_its_field(field, value):
    document = parse_strict(write_stop(stop(7, ACME)), max_bytes=MAX_PAYLOAD_BYTES)
    with pytest.raises(StopRefused) as refused:
        parse_stop(canonical_json({**document, field: value}))
    assert refused.value.code == "SCHEMA"
    assert field in refused.value.message


def test_only_the_hub_lets_go():
    with pytest.raises(StopRefused, match="only the hub lets go"):
        write_stop(stop(7, ACME, issuer="night shift", released=("a" * 32,)))


# -- What is held ---------------------------------------------------------------------------------------------------------------


def test_a_kill_reaches_its_own_environment_and_no_other():
    held = hear(stop(1, ACME, WARM_HERE, STAGING))
    assert held.kills_in("production") == (Kill("profile", "warm"), Kill("tenant", "acme"))
    assert held.kills_in("staging") == (Kill("environment", "staging"), Kill("tenant", "acme"))


def test_an_older_statement_adds_and_never_lets_go():
    held = hear(stop(5, ACME), stop(3, WARM_HERE, released=(ACME.id,)))
    assert held.kills_in("production") == (Kill("profile", "warm"), Kill("tenant", "acme"))
    assert held.sequence == 5
    assert set(held.surplus) == {WARM_HERE.id}


def test_a_newer_statement_lets_go_of_what_it_releases_and_of_nothing_that_it_merely_lacks():
    assert hear(stop(5, ACME, WARM_HERE), stop(6, WARM_HERE, released=(ACME.id,))).kills_in("production") == (Kill("profile", "warm"),)
    # As after a restore from a backup that is older than the kill.
    assert hear(stop(5, ACME), stop(6)).kills_in("production") == (Kill("tenant", "acme"),)


def test_a_lift_releases_one_kill_and_not_the_next_of_the_same_target():
    again = StoppedKill("tenant", "", "acme", "9" * 32)
    held = hear(stop(5, ACME), stop(6, again), stop(7, again, released=(ACME.id,)))
    assert held.kills_in("production") == (Kill("tenant", "acme"),)


def test_what_is_both_listed_and_released_is_obeyed():
    assert hear(stop(5, ACME), stop(6, ACME, released=(ACME.id,))).kills_in("production") == (Kill("tenant", "acme"),)


def test_an_offline_stop_is_obeyed_and_released_only_by_its_digest():
    offline = stop(9_999, ALL, issuer="night shift")
    digest = sha256_hex(write_stop(offline))
    held = hear(stop(5), offline)
    assert held.kills_in("production") == (Kill("everything", "*"),)
    assert held.sequence == 5
    assert hear(stop(5), offline, stop(6, adopted=(digest,))).kills_in("production") == (Kill("everything", "*"),)
    assert hear(stop(5), offline, stop(6, released=(digest,))).kills_in("production") == ()
