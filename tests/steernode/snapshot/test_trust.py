import base64
import itertools
import json
from datetime import timedelta
from decimal import Decimal

import pytest

from steernode.canonical import canonical_json
from steernode.dsse import (
    MAX_ENVELOPE_BYTES,
    OFFLINE_STOP,
    STOP,
    TrustedKeys,
    encode_preauthentication,
    open_envelope,
    open_signed,
    sign_envelope,
)
from steernode.errors import AlphaError, SnapshotRefused
from steernode.snapshot.document import PAYLOAD_TYPE
from steernode.snapshot.trust import TrustedSnapshots
from steernode.strict import format_time
from steernode.words import UNITS
from tests.support.hub_simulator import (
    CAPABILITIES,
    FINGERPRINT,
    NOW,
    Signer,
    make_component,
    make_content,
    make_document,
    make_flag,
    make_profile,
    trust,
)


@pytest.fixture(scope="module")
def hub():
    return Signer()


def trusted(hub, **changes):
    settings = {
        "environment": "production",
        "keys": trust(hub),
        "fingerprint": FINGERPRINT,
        "highest": None,
        "capabilities": CAPABILITIES,
    }
    return TrustedSnapshots(**(settings | changes))


def refusal(trusted_snapshots, envelope, now=NOW):
    with pytest.raises(SnapshotRefused) as caught:
        trusted_snapshots.consider(envelope, now)
    assert caught.value.message
    return caught.value.code


def edited(envelope, **changes):
    return canonical_json(json.loads(envelope) | changes)


def test_a_good_snapshot_is_believed(hub):
    snapshot = trusted(hub).consider(hub.sign(make_document(4)), NOW)
    assert (snapshot.revision, snapshot.environment) == (4, "production")


def test_what_is_signed_is_the_preauthentication_encoding_of_dsse():
    assert (
        encode_preauthentication("http://example.com/HelloWorld", b"hello world")
        == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_considering_changes_nothing_until_the_snapshot_is_accepted(hub):
    rules = trusted(hub)
    second = rules.consider(hub.sign(make_document(2)), NOW)
    rules.consider(hub.sign(make_document(1)), NOW)
    rules.accept(second)
    assert rules.highest == (2, second.content_digest)
    assert refusal(rules, hub.sign(make_document(1))) == "ROLLBACK"


@pytest.mark.parametrize(
    "envelope",
    [
        b"",
        b"nonsense",
        b"[]",
        b'{"payload":"e30=","payload":"e30=","payloadType":"x","signatures":[]}',
        b"[" * 5000,
        b"\xff",
    ],
)
def test_what_is_no_envelope_is_refused(hub, envelope):
    assert refusal(trusted(hub), envelope) == "ENVELOPE"


@pytest.mark.parametrize(
    "change",
    [
        {"payloadType": "application/json"},
        {"payloadType": None},
        {"payload": "not base64!"},
        {"payload": 5},
        {"signatures": []},
        {"signatures": {}},
        {"signatures": [5]},
        {"signatures": [{"keyid": "x"}]},
        {"signatures": [{"keyid": 5, "sig": "AAAA"}]},
        {"signatures": [{"sig": "AAAA"}] * 65},
    ],
)
def test_an_envelope_of_the_wrong_shape_is_refused(hub, change):
    assert refusal(trusted(hub), edited(hub.sign(make_document()), **change)) == "ENVELOPE"


def test_an_oversized_envelope_is_refused_unread(hub):
    assert refusal(trusted(hub), b"x" * (MAX_ENVELOPE_BYTES + 1)) == "LIMIT"


def test_a_signature_by_a_stranger_or_over_other_bytes_is_refused(hub):
    assert refusal(trusted(hub), Signer().sign(make_document())) == "SIGNATURE"
    other = base64.b64encode(canonical_json(make_document(9))).decode()
    assert refusal(trusted(hub), edited(hub.sign(make_document()), payload=other)) == "SIGNATURE"
    assert refusal(trusted(hub), edited(hub.sign(make_document()), signatures=[{"keyid": hub.keyid, "sig": "AAAA"}])) == "SIGNATURE"


def test_a_signature_of_another_payload_type_is_refused(hub):
    envelope = hub.sign(make_document(), payload_type="application/vnd.steerhub.kill.v1+json")
    assert refusal(trusted(hub), envelope) == "ENVELOPE"
    assert refusal(trusted(hub), edited(envelope, payloadType=PAYLOAD_TYPE)) == "SIGNATURE"


def test_a_key_counts_only_within_its_validity(hub):
    early = trusted(hub, keys=trust(hub, not_before=format_time(NOW + timedelta(seconds=1))))
    late = trusted(hub, keys=trust(hub, not_after=format_time(NOW - timedelta(seconds=1))))
    endless = trusted(hub, keys=trust(hub, not_after=None))
    envelope = hub.sign(make_document())
    assert refusal(early, envelope) == "SIGNATURE"
    assert refusal(late, envelope) == "SIGNATURE"
    assert endless.consider(envelope, NOW).revision == 1


@pytest.mark.parametrize("keyid", [None, "", "0" * 16, "wrong"])
def test_a_missing_or_wrong_key_id_is_only_a_bad_hint(hub, keyid):
    signature = json.loads(hub.sign(make_document()))["signatures"][0] | {"keyid": keyid}
    if keyid is None:
        del signature["keyid"]
    assert trusted(hub).consider(edited(hub.sign(make_document()), signatures=[signature]), NOW).revision == 1


def test_the_key_id_of_a_trusted_key_does_not_lend_trust(hub):
    signature = json.loads(Signer().sign(make_document()))["signatures"][0] | {"keyid": hub.keyid}
    assert refusal(trusted(hub), edited(hub.sign(make_document()), signatures=[signature])) == "SIGNATURE"


def test_url_safe_base64_is_accepted(hub):
    def url_safe(text):
        return text.replace("+", "-").replace("/", "_")

    for revision in range(1, 20):
        document = json.loads(hub.sign(make_document(revision)))
        signature = document["signatures"][0]
        envelope = edited(
            canonical_json(document),
            payload=url_safe(document["payload"]),
            signatures=[signature | {"sig": url_safe(signature["sig"])}],
        )
        assert trusted(hub).consider(envelope, NOW).revision == revision


def test_signatures_of_strangers_beside_a_good_one_are_ignored(hub):
    good = hub.sign(make_document())
    strangers = [json.loads(Signer().sign(make_document()))["signatures"][0] for _ in range(20)]
    assert trusted(hub).consider(edited(good, signatures=strangers + json.loads(good)["signatures"]), NOW).revision == 1


def test_a_key_that_signs_twice_counts_once(hub):
    other = Signer()
    keys = trust(hub, other)
    payload = canonical_json(make_document())
    first, second = (json.loads(signer.sign(payload))["signatures"][0] for signer in (hub, other))

    def opened(signatures):
        envelope = edited(hub.sign(payload), signatures=signatures)
        return open_envelope(envelope, keys=keys, payload_type=PAYLOAD_TYPE, now=NOW, signers_needed=2)

    assert opened([first, second]) == payload
    with pytest.raises(SnapshotRefused, match="1 of 2") as caught:
        opened([first, first | {"keyid": ""}])
    assert caught.value.code == "SIGNATURE"


def test_another_environments_snapshot_is_refused(hub):
    assert refusal(trusted(hub), hub.sign(make_document(environment="staging"))) == "ENVIRONMENT"


def test_a_revision_only_rises_and_an_equal_one_must_say_the_same(hub):
    content = make_content(flags=[])
    digest = make_document()["content_digest"]
    rules = trusted(hub, highest=(5, digest))
    assert refusal(rules, hub.sign(make_document(4))) == "ROLLBACK"
    assert refusal(rules, hub.sign(make_document(5, content=content))) == "EQUIVOCATION"
    assert rules.consider(hub.sign(make_document(5)), NOW).revision == 5
    assert rules.consider(hub.sign(make_document(6, content=content)), NOW).revision == 6


def test_a_rollback_is_a_higher_revision_with_earlier_content(hub):
    rules = trusted(hub, highest=(5, "ab" * 32))
    snapshot = rules.consider(hub.sign(make_document(6, rollback_of=5)), NOW)
    assert (snapshot.revision, snapshot.rollback_of) == (6, 5)


def test_an_expired_snapshot_is_refused_to_the_second(hub):
    envelope = hub.sign(make_document(expires_at=format_time(NOW)))
    assert refusal(trusted(hub), envelope) == "EXPIRED"
    assert trusted(hub).consider(envelope, NOW - timedelta(seconds=1)).revision == 1


@pytest.mark.parametrize(
    "payload",
    [
        b"nonsense",
        b"[]",
        canonical_json(make_document() | {"schema": "steerhub.snapshot/3"}),
        canonical_json(make_document() | {"revision": "7"}),
        canonical_json(make_document() | {"content_digest": "short"}),
        canonical_json(make_document() | {"expires_at": "tomorrow"}),
        canonical_json({name: value for name, value in make_document().items() if name != "flags"}),
        canonical_json(make_document() | {"surprise": 1}),
        canonical_json(make_document())[:-1] + b',"revision":8}',
    ],
)
def test_a_signed_document_that_is_no_snapshot_is_refused(hub, payload):
    assert refusal(trusted(hub), hub.sign(payload)) == "SCHEMA"


def test_what_the_engine_cannot_do_is_a_problem_of_the_profile_that_needs_it_and_else_refused(hub):
    content = make_content(profiles=[make_profile(components=[make_component(operator="ablate")])])
    content["capabilities"] = sorted({*content["capabilities"], "operator:ablate"})
    snapshot = trusted(hub).consider(hub.sign(make_document(content=content)), NOW)
    problem = trusted(hub).find_problem(snapshot.profiles[0], snapshot)
    assert (problem.code, problem.item) == ("CAPABILITY", "operator:ablate")
    unused = make_content(capabilities=[*make_content()["capabilities"], "telepathy"])
    assert refusal(trusted(hub), hub.sign(make_document(content=unused))) == "CAPABILITY"


def test_a_snapshot_without_this_nodes_model_is_refused(hub):
    assert refusal(trusted(hub, fingerprint="11" * 32), hub.sign(make_document())) == "BASE_MODEL_MISMATCH"


def test_a_node_that_reads_its_model_by_another_architecture_refuses(hub):
    ours, theirs = "aa" * 32, "bb" * 32

    def listing(*digests):
        entries = [
            {"name": f"model-{number}", "fingerprint": FINGERPRINT, **({"architecture_digest": digest} if digest else {})}
            for number, digest in enumerate(digests)
        ]
        return hub.sign(make_document(content=make_content(base_models=entries)))

    node = trusted(hub, architecture_digest=ours)
    assert refusal(node, listing(theirs)) == "ARCHITECTURE_MISMATCH"
    # The same files under two names; one that was registered before this was kept; an engine that has no such file.
    for listed in ((ours,), (theirs, ours), ("",), (theirs, "")):
        assert node.consider(listing(*listed), NOW).base_models[0].architecture_digest == listed[0]
    trusted(hub).consider(listing(theirs), NOW)
    wrong = make_content(base_models=[{"name": "m", "fingerprint": FINGERPRINT, "architecture_digest": "short"}])
    assert refusal(node, hub.sign(make_document(content=wrong))) == "SCHEMA"


@pytest.mark.parametrize(
    "content",
    [
        make_content(flags=[make_flag(alpha_scale="1.3")]),
        make_content(profiles=[make_profile(components=[make_component(alpha_max="3")])]),
    ],
)
def test_a_coefficient_past_its_cap_is_refused(hub, content):
    assert refusal(trusted(hub), hub.sign(make_document(content=content))) == "ALPHA_CAP"


def test_a_coefficient_past_the_nodes_own_cap_is_a_problem_of_its_profile(hub):
    own = {"absolute": Decimal(1), "mean_difference": Decimal("0.1"), "residual": Decimal(1)}
    rules = trusted(hub, alpha_cap=own)
    snapshot = rules.consider(hub.sign(make_document()), NOW)
    assert rules.find_problem(snapshot.profiles[0], snapshot).code == "ALPHA_CAP"
    assert trusted(hub).find_problem(snapshot.profiles[0], snapshot) is None


@pytest.mark.parametrize("units", [some for size in range(len(UNITS) + 1) for some in itertools.combinations(UNITS, size)])
def test_a_node_caps_the_units_that_it_names_and_leaves_the_others_to_the_snapshot(hub, units):
    rules = trusted(hub, alpha_cap=dict.fromkeys(units, Decimal("0.1")))
    snapshot = rules.consider(hub.sign(make_document()), NOW)
    problem = rules.find_problem(snapshot.profiles[0], snapshot)
    assert (problem and problem.code) == ("ALPHA_CAP" if "mean_difference" in units else None)
    beyond = make_content(profiles=[make_profile(components=[make_component(alpha_max="3")])])
    high = dict.fromkeys(units, Decimal(900))
    assert refusal(trusted(hub, alpha_cap=high), hub.sign(make_document(content=beyond))) == "ALPHA_CAP"


def test_a_node_caps_no_unit_that_nobody_knows(hub):
    with pytest.raises(AlphaError, match="furlong") as caught:
        trusted(hub, alpha_cap={"furlong": Decimal(1)})
    assert caught.value.code == "ALPHA_UNIT"


def test_the_checks_come_in_their_order(hub):
    """A document wrong in every way is refused for the first thing; put that right, and for the next."""
    content = make_content(flags=[make_flag(alpha_scale="1.3")], capabilities=[*sorted(CAPABILITIES), "telepathy"])
    document = make_document(4, content=content, environment="staging", expires_at="2026-01-01T00:00:00Z", surprise=1)
    rules = trusted(hub, highest=(5, "ab" * 32), fingerprint="11" * 32)
    met = [refusal(rules, Signer().sign(document))]
    steps = [
        {},
        {"environment": "production"},
        {"revision": 5},
        {"revision": 6},
        {"expires_at": format_time(NOW + timedelta(hours=1))},
    ]
    for step in steps:
        document |= step
        met.append(refusal(rules, hub.sign(document)))
    del document["surprise"]
    met.append(refusal(rules, hub.sign(document)))
    document = make_document(6, content=make_content(flags=[make_flag(alpha_scale="1.3")]))
    met.append(refusal(rules, hub.sign(document)))
    met.append(refusal(trusted(hub), hub.sign(document)))
    order = ["SIGNATURE", "ENVIRONMENT", "ROLLBACK", "EQUIVOCATION", "EXPIRED", "SCHEMA", "CAPABILITY", "BASE_MODEL_MISMATCH", "ALPHA_CAP"]
    assert met == order


def test_a_refusal_names_the_revision_once_it_is_known(hub):
    with pytest.raises(SnapshotRefused) as caught:
        trusted(hub).consider(hub.sign(make_document(8, environment="staging")), NOW)
    assert caught.value.revision == 8


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"schema": "steerhub.trust/2", "keys": []},
        {"schema": "steerhub.trust/1", "keys": []},
        {"schema": "steerhub.trust/1", "keys": [{}]},
        {"schema": "steerhub.trust/1", "keys": [Signer().key_document(public_key="AAAA")]},
        {"schema": "steerhub.trust/1", "keys": [Signer().key_document(public_key="!")]},
        {"schema": "steerhub.trust/1", "keys": [Signer().key_document(keyid="0" * 16)]},
        {"schema": "steerhub.trust/1", "keys": [Signer().key_document(not_before="now")]},
        {"schema": "steerhub.trust/1", "keys": [Signer().key_document(surprise=1)]},
        {"schema": "steerhub.trust/1", "keys": [Signer().key_document(purposes="snapshot")]},
        {"schema": "steerhub.trust/1", "keys": [Signer().key_document(purposes=[1])]},
        {"schema": "steerhub.trust/1", "keys": [Signer().key_document(issuer="")]},
        [],
    ],
)
def test_a_trust_document_is_read_strictly(document):
    with pytest.raises(SnapshotRefused) as caught:
        TrustedKeys.from_document(document)
    assert caught.value.code == "SCHEMA"


@pytest.mark.parametrize("purposes", [["stop"], ["offline-stop"], ["a purpose of later"], []])
def test_a_key_of_another_purpose_signs_no_snapshot(hub, purposes):
    keys = trust(hub, purposes=purposes)
    with pytest.raises(SnapshotRefused) as caught:
        open_envelope(hub.sign(make_document()), keys=keys, payload_type=PAYLOAD_TYPE, now=NOW)
    assert caught.value.code == "SIGNATURE"


def test_a_key_of_before_purposes_signs_snapshots_and_nothing_else(hub):
    envelope, keys = hub.sign(make_document()), trust(hub)
    assert open_envelope(envelope, keys=keys, payload_type=PAYLOAD_TYPE, now=NOW)
    with pytest.raises(SnapshotRefused) as caught:
        open_envelope(envelope, keys=keys, payload_type=PAYLOAD_TYPE, now=NOW, purpose=STOP)
    assert caught.value.code == "SIGNATURE"


def test_an_envelope_says_who_issued_it():
    safe, ops = Signer(), Signer()
    documents = [safe.key_document(purposes=["offline-stop"], issuer="safe"), ops.key_document(purposes=["offline-stop"], issuer="ops")]
    keys = TrustedKeys.from_document({"schema": "steerhub.trust/1", "keys": documents})
    payload, signers = open_signed(ops.sign(b"{}"), keys=keys, payload_type=PAYLOAD_TYPE, now=NOW, purpose=OFFLINE_STOP)
    assert (payload, [signer.issuer for signer in signers]) == (b"{}", ["ops"])


def test_signing_the_same_bytes_gives_the_same_envelope(hub):
    payload = canonical_json(make_document())
    envelope = sign_envelope(payload, PAYLOAD_TYPE, hub.private_key)
    assert envelope == hub.sign(payload) == canonical_json(json.loads(envelope))
