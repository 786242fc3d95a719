"""Keys of the hub: when each counts, a new one beside the old for a while, and the end of one that is not to be believed."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.core.management import CommandError, call_command
from django.utils import timezone

from registry.checks import check_signing_keys
from registry.errors import TransitionRefused
from registry.models import AuditEvent, SigningKey, Snapshot, StopStatement, TrustDocument
from registry.services.keys import add_signing_key, revoke_signing_key
from registry.services.kills import engage_kill
from registry.services.stops import renew_stop
from registry.snapshots import read_envelope, sign_trust, trust_document
from registry.snapshots.sign import sign_for, signing_key, stop_key
from steernode.dsse import SNAPSHOT, STOP, TrustedKeys, key_id, open_envelope, write_envelope, write_public_key
from steernode.errors import SnapshotRefused
from steernode.snapshot.document import PAYLOAD_TYPE
from steernode.stop.document import PAYLOAD_TYPE as STOP_TYPE
from steernode.stop.document import parse_stop
from steernode.stop.trust import believe_stop
from tests.support.nodes import KEY

DAY = timedelta(days=1)


def pem_of(key):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.fixture
def hold(settings):
    """Have this process hold a key beside those it has."""

    def append(key, name="STEERHUB_SIGNING_KEY"):
        setattr(settings, name, getattr(settings, name) + pem_of(key))

    return append


def rotate(key, *, begins_at=None, life=700 * DAY, overlap=30 * DAY, purpose=SNAPSHOT):
    return add_signing_key(
        key.public_key(), purpose=purpose, begins_at=begins_at or timezone.now(), life=life, overlap=overlap, actor="command line"
    )


def signers(purpose=SNAPSHOT):
    return [signature["keyid"] for signature in sign_for(purpose, b"{}", PAYLOAD_TYPE)]


def trusted():
    return TrustedKeys.from_document(trust_document())


def ids(purpose=SNAPSHOT):
    return [key["keyid"] for key in trust_document()["keys"] if key["purposes"] == [purpose]]


def test_the_first_key_has_a_beginning_and_an_end(db):
    (snapshot, stop) = trust_document()["keys"]
    assert (snapshot["keyid"], snapshot["purposes"], snapshot["issuer"]) == (key_id(signing_key().public_key()), ["snapshot"], "hub")
    assert (stop["keyid"], stop["purposes"]) == (key_id(stop_key().public_key()), ["stop"])
    begins, ends = (datetime.strptime(snapshot[name], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC) for name in ("not_before", "not_after"))
    assert timedelta(0) < timezone.now() - begins < timedelta(hours=1)
    assert timedelta(days=700) < ends - timezone.now() < timedelta(days=731)


def test_offline_keys_are_trusted_under_their_names(db, settings):
    settings.STEERHUB_OFFLINE_STOP_KEYS = [("ops-safe", write_public_key(KEY.public_key()))]
    key = trust_document()["keys"][-1]
    assert (key["purposes"], key["issuer"], key["not_after"]) == (["offline-stop"], "ops-safe", None)


def test_the_same_keys_are_the_same_version_and_others_a_higher_one(db, settings):
    first = trust_document()
    assert trust_document() == first
    settings.STEERHUB_OFFLINE_STOP_KEYS = [("ops-safe", write_public_key(KEY.public_key()))]
    second = trust_document()
    assert second["version"] > first["version"]


def test_processes_that_disagree_for_a_while_do_not_take_turns(db, settings):
    before = settings.STEERHUB_OFFLINE_STOP_KEYS
    old = trust_document()["version"]
    settings.STEERHUB_OFFLINE_STOP_KEYS = [("ops-safe", write_public_key(KEY.public_key()))]
    new = trust_document()["version"]
    settings.STEERHUB_OFFLINE_STOP_KEYS = before
    assert trust_document()["version"] == old
    TrustDocument.objects.update(created_at=timezone.now() - timedelta(hours=1))
    assert trust_document()["version"] > new


def test_both_keys_sign_in_the_overlap_and_a_node_that_knows_either_follows(db, hold):
    old_keys, old, new = trusted(), signing_key(), Ed25519PrivateKey.generate()
    rotate(new)
    hold(new)
    assert signers() == [key_id(old.public_key()), key_id(new.public_key())]
    assert set(ids()) == set(signers())
    version, envelope = sign_trust()
    assert old_keys.follow(envelope, datetime.now(UTC)) is not None
    assert (old_keys.version, {key.keyid for key in old_keys.keys if SNAPSHOT in key.purposes}) == (version, set(ids()))
    old_row = SigningKey.objects.filter(keyid=key_id(old.public_key()))
    old_row.update(not_before=timezone.now() - 90 * DAY, not_after=timezone.now() - DAY)
    assert signers() == [key_id(new.public_key())] == ids()


def test_a_key_of_later_is_told_of_now_and_signs_then(db, hold):
    old, new = signers(), Ed25519PrivateKey.generate()
    rotate(new, begins_at=timezone.now() + 10 * DAY)
    hold(new)
    assert signers() == old
    assert key_id(new.public_key()) in ids()
    ends = SigningKey.objects.get(keyid=old[0]).not_after
    assert 39 * DAY < ends - timezone.now() < 41 * DAY


def test_a_key_that_was_put_into_the_setting_by_hand_signs_at_once(db, hold):
    old, new = signers(), Ed25519PrivateKey.generate()
    hold(new)
    assert signers() == [*old, key_id(new.public_key())]
    with pytest.raises(TransitionRefused, match="on record already"):
        rotate(new)


def test_a_process_that_has_not_got_the_new_key_goes_on_with_the_old(db):
    old = signers()
    rotate(Ed25519PrivateKey.generate())
    assert signers() == old


def test_a_stop_is_signed_even_when_every_key_has_ended(db):
    assert signers(STOP) == [key_id(stop_key().public_key())]
    SigningKey.objects.update(not_after=timezone.now() - timedelta(hours=1), not_before=timezone.now() - DAY)
    assert signers(STOP) == [key_id(stop_key().public_key())]


def test_a_stop_that_nobody_changed_the_key_of_stops_the_nodes_that_follow(production, harbor, oscar, hold):
    """The key of snapshots was changed, and that of stops forgotten; or it was made, and never put into the setting."""
    node_keys, ended = trusted(), [key_id(stop_key().public_key())]
    hold(Ed25519PrivateKey.generate())
    rotate(Ed25519PrivateKey.generate(), purpose=STOP)
    SigningKey.objects.filter(keyid__in=ended).update(not_after=timezone.now() - timedelta(hours=1), not_before=timezone.now() - DAY)
    node_keys.follow(sign_trust()[1], datetime.now(UTC))
    kill = engage_kill("tenant", target="harbor", reason="x", actor=oscar)
    stop = StopStatement.objects.first()
    envelope = write_envelope(stop.payload, STOP_TYPE, stop.signatures)
    statement, _digest, may_let_go = believe_stop(envelope, keys=node_keys, moments=[timezone.now()])
    assert ([each.id for each in statement.kills], may_let_go) == ([kill.pk.hex], False)


def test_what_a_revoked_key_signed_is_signed_anew_and_nodes_refuse_the_key(production, hold):
    node_keys, old, new = trusted(), signing_key(), Ed25519PrivateKey.generate()
    rotate(new)
    hold(new)
    before = Snapshot.objects.filter(environment=production).latest("revision")
    revoke_signing_key(key_id(old.public_key()), actor="command line")
    node_keys.follow(sign_trust()[1], datetime.now(UTC))
    after = Snapshot.objects.filter(environment=production).latest("revision")
    assert (after.revision, after.content_digest) == (before.revision + 1, before.content_digest)
    check = {"keys": node_keys, "payload_type": PAYLOAD_TYPE, "now": datetime.now(UTC)}
    assert json.loads(open_envelope(read_envelope(bytes(after.payload_zlib), after.signatures), **check))["revision"] == after.revision
    with pytest.raises(SnapshotRefused) as caught:
        open_envelope(read_envelope(bytes(before.payload_zlib), before.signatures), **check)
    assert caught.value.code == "SIGNATURE"


def stop_signers():
    return {signature["keyid"] for signature in StopStatement.objects.first().signatures}


def test_a_stop_that_a_revoked_key_signed_is_signed_anew_in_the_same_transition(production, harbor, oscar, hold):
    kill = engage_kill("tenant", target="harbor", reason="x", actor=oscar)
    node_keys, old, new = trusted(), stop_key(), Ed25519PrivateKey.generate()
    rotate(new, purpose=STOP)
    hold(new, "STEERHUB_STOP_KEY")
    revoke_signing_key(key_id(old.public_key()), actor="command line")
    stop = StopStatement.objects.first()
    node_keys.follow(sign_trust()[1], datetime.now(UTC))
    check = {"keys": node_keys, "payload_type": STOP_TYPE, "now": datetime.now(UTC), "purpose": STOP}
    statement = parse_stop(open_envelope(write_envelope(stop.payload, STOP_TYPE, stop.signatures), **check))
    assert ([each.id for each in statement.kills], stop_signers()) == ([kill.pk.hex], {key_id(new.public_key())})
    for action in ("key.added", "key.revoked"):
        named = json.loads(bytes(AuditEvent.objects.get(action=action).body))["details"]["stop_sequence"]
        assert StopStatement.objects.filter(sequence=named).exists()


def test_a_stop_whose_every_key_has_ended_is_signed_anew_by_one_that_has_not(production, harbor, oscar, hold):
    engage_kill("tenant", target="harbor", reason="x", actor=oscar)
    old, new = stop_key(), Ed25519PrivateKey.generate()
    rotate(new, purpose=STOP)
    assert stop_signers() == {key_id(old.public_key())}
    assert renew_stop() is None
    SigningKey.objects.filter(keyid=key_id(old.public_key())).update(not_before=timezone.now() - DAY, not_after=timezone.now())
    # A process without the new key has nothing better to say, and says nothing.
    assert renew_stop() is None
    hold(new, "STEERHUB_STOP_KEY")
    assert renew_stop() is not None
    assert stop_signers() == {key_id(new.public_key())}
    assert renew_stop() is None


def test_the_last_key_is_not_revoked(production):
    with pytest.raises(CommandError, match="rotate first"):
        call_command("rotate_signing_key", revoke=key_id(signing_key().public_key()))
    with pytest.raises(CommandError, match="no signing key"):
        call_command("rotate_signing_key", revoke="0" * 16)


def test_an_older_or_a_foreign_trust_document_is_not_followed(db, settings):
    held = trusted()
    _, older = sign_trust()
    rotate(Ed25519PrivateKey.generate())
    assert held.follow(sign_trust()[1], datetime.now(UTC)) is not None
    assert held.follow(older, datetime.now(UTC)) is None
    settings.STEERHUB_SIGNING_KEY = pem_of(Ed25519PrivateKey.generate())
    with pytest.raises(SnapshotRefused) as caught:
        held.follow(sign_trust()[1], datetime.now(UTC))
    assert caught.value.code == "SIGNATURE"


def test_the_command_writes_a_key_that_only_its_owner_reads(db, settings, tmp_path, capsys):
    settings.EMBEDDED, out = False, tmp_path / "new.pem"
    with pytest.raises(CommandError, match="--out"):
        call_command("rotate_signing_key")
    call_command("rotate_signing_key", out=out, purpose=STOP)
    assert out.stat().st_mode & 0o777 == 0o600
    settings.STEERHUB_STOP_KEY += out.read_text()
    assert len(signers(STOP)) == 2
    with pytest.raises(CommandError, match="never written over"):
        call_command("rotate_signing_key", out=out)
    with pytest.raises(CommandError, match="outlives"):
        call_command("rotate_signing_key", out=tmp_path / "other.pem", days=10)
    assert not (tmp_path / "other.pem").exists()


def test_the_command_adds_a_key_to_the_file_of_embedded_mode(db, settings, tmp_path):
    settings.EMBEDDED, settings.VAR_DIR = True, tmp_path
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/signing.pem").write_text(settings.STEERHUB_SIGNING_KEY)
    call_command("rotate_signing_key")
    settings.STEERHUB_SIGNING_KEY = (tmp_path / "keys/signing.pem").read_text()
    assert len(signers()) == 2


@pytest.mark.parametrize(("left", "expected"), [(31 * DAY, []), (29 * DAY, ["steerhub.W001"]), (-DAY, ["steerhub.E017"])])
def test_a_check_warns_before_a_purpose_is_without_a_key(db, left, expected):
    assert check_signing_keys(None, databases=["default"]) == []
    signers(), signers(STOP)
    assert check_signing_keys(None, databases=["default"]) == []
    SigningKey.objects.filter(purpose=STOP).update(not_before=timezone.now() - 90 * DAY, not_after=timezone.now() + left)
    found = check_signing_keys(None, databases=["default"])
    assert [problem.id for problem in found] == expected
    assert all("STEERHUB_STOP_KEY" in problem.msg for problem in found)
