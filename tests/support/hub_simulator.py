"""A hub made of a dictionary: it signs snapshots, serves them over a real socket, and can be made to misbehave."""

import copy
import json
import threading
from datetime import UTC, datetime, timedelta

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from steernode.canonical import canonical_json, sha256_hex
from steernode.dsse import TrustedKeys, key_id, open_from, sign_envelope, write_public_key
from steernode.files.vectors import write_vector
from steernode.node.responder import Generation
from steernode.records.decoding import GREEDY
from steernode.records.enrolment import Enrolment
from steernode.records.reports import REPORT_TYPE
from steernode.snapshot.conditions import NO_FACTS, parse_condition_bytes, profile_vectors
from steernode.snapshot.document import PAYLOAD_TYPE, SCHEMA, SCHEMA_WITH_KILLS, digest_content, fields_of_content
from steernode.snapshot.resolve import apply_conditions
from steernode.stop.document import HUB, StoppedKill, StopStatement, write_stop
from steernode.stop.document import PAYLOAD_TYPE as STOP_TYPE
from steernode.strict import format_time

FINGERPRINT = "f0" * 32
NOW = datetime.now(UTC).replace(microsecond=0)
D_MODEL = 16
CAPABILITIES = frozenset({"operator:add", "site:resid_post", "scope:generated", "schedule:constant"})
CONDITIONS = frozenset({"condition:intent", "condition:attribute", "condition:harmful"})
NODE_TOKEN = "shn_" + "n" * 43
# What is kept of who asks for a snapshot, and the header that says it.
ASKED = {"etag": "if-none-match", "prefer": "prefer", "stop": "stop-digest"}
NODE_KEY = Ed25519PrivateKey.generate()
ENROLMENT_TOKEN = "she_" + "e" * 43


def make_vector(seed=1, fingerprint=FINGERPRINT):
    values = np.random.default_rng(seed).normal(size=D_MODEL)
    lineage = {
        "schema": "steerhub.vector/1",
        "base_model_fingerprint": fingerprint,
        "layer": 6,
        "site": "resid_post",
        "method": "mean_difference",
        "read_position": "last_prompt_token",
        "contrast_set_digest": "cd" * 32,
        "norm": "41.2",
        "mean_residual_norm": "180.1",
        "engine_version": "0.1.0",
        "seed": seed,
        "pairs": 800,
    }
    return write_vector(values / np.linalg.norm(values), lineage)


VECTOR = make_vector()


def make_component(vector=VECTOR, **changes):
    return {
        "vector": {"sha256": sha256_hex(vector), "bytes": len(vector), "dtype": "F32", "shape": [D_MODEL]},
        "layer": 6,
        "site": "resid_post",
        "operator": "add",
        "alpha": "0.5",
        "alpha_min": "0",
        "alpha_max": "0.6",
        "unit": "mean_difference",
        "norm": "41.2",
        "mean_residual_norm": "180.1",
        "scope": "generated",
        "schedule": {"kind": "constant"},
        "condition": None,
    } | changes


def make_profile(**changes):
    return {
        "id": "harbor-empathy",
        "revision": 3,
        "revision_digest": "aa" * 32,
        "evidence_digest": "bb" * 32,
        "base_model": FINGERPRINT,
        "risk_class": "low",
        "stale_policy": "zero",
        "max_staleness_seconds": 900,
        "components": [make_component()],
    } | changes


def make_flag(**changes):
    return {"tenant": "harbor", "route": "", "profile": "harbor-empathy", "enabled": True, "alpha_scale": "1"} | changes


def make_content(**changes):
    return {
        "base_models": [{"name": "harbor-model", "fingerprint": FINGERPRINT}],
        "profiles": [make_profile()],
        "flags": [make_flag()],
        "limits": {"max_components": 8, "alpha_cap": {"absolute": "1000", "mean_difference": "2", "residual": "1"}},
        "capabilities": sorted(CAPABILITIES),
    } | changes


def make_document(revision=1, *, content=None, **changes):
    """A whole payload document. Unlike the real compile step it will write any nonsense."""
    content = copy.deepcopy(content or make_content())
    return {
        **{name: content[name] for name in fields_of_content(content)},
        "schema": SCHEMA_WITH_KILLS if "kills" in content else SCHEMA,
        "environment": "production",
        "revision": revision,
        "content_digest": digest_content(content),
        "rollback_of": None,
        "issued_at": format_time(NOW - timedelta(minutes=1)),
        "expires_at": format_time(NOW + timedelta(hours=1)),
    } | changes


class Signer:
    def __init__(self, **said):
        self.private_key, self._said = Ed25519PrivateKey.generate(), said
        self.keyid = key_id(self.private_key.public_key())

    def sign(self, document, payload_type=PAYLOAD_TYPE):
        payload = document if isinstance(document, bytes) else canonical_json(document)
        return sign_envelope(payload, payload_type, self.private_key)

    def key_document(self, **changes):
        return {
            "keyid": self.keyid,
            "public_key": write_public_key(self.private_key.public_key()),
            "not_before": "2026-01-01T00:00:00Z",
            "not_after": "2036-01-01T00:00:00Z",
            **self._said,
        } | changes


def trust(*signers, **changes):
    return TrustedKeys.from_document({"schema": "steerhub.trust/1", "keys": [signer.key_document(**changes) for signer in signers]})


class FakeEngine:
    """Answers with what it would have been steered by. Real where a node looks: staging checks its vectors, swapping is whole."""

    name, version, fingerprint, capabilities, d_model = "echo", "1", FINGERPRINT, CAPABILITIES | CONDITIONS, D_MODEL

    def __init__(self):
        self.staged_in_use = None
        self.stage_error = None
        self.sampled = GREEDY

    def stage(self, profiles, vectors):
        if self.stage_error is not None:
            raise self.stage_error
        needed = {entry.sha256 for profile in profiles for entry in profile_vectors(profile)}
        return {digest: vectors[digest] for digest in needed}

    def swap(self, staged):
        self.staged_in_use = staged

    def generate(self, messages, effective, *, max_tokens, sampling=GREEDY, facts=NO_FACTS, stop_reason=None):
        self.sampled = sampling
        effective = apply_conditions(effective, lambda document: parse_condition_bytes(document).holds(facts))
        for entry in effective.components:
            assert entry.component.vector.sha256 in self.staged_in_use
        warmth = sum(float(entry.coefficient) for entry in effective.components)
        text = f"warmth {warmth:.2f} for {messages[-1].content}"
        return Generation(text, len(messages), min(3, max_tokens), 1.5, "stop" if max_tokens >= 3 else "length", effective)


class HubSimulator:
    """The fleet protocol over a dictionary.

    `fail_with` makes every answer that status, as the hub itself would say it; `proxy_with` as somebody on the way would; and
    `fail_snapshots_with` only the answers to who asks for a snapshot. `cut_blobs` sends half of each vector. Until the first
    `publish_stop` it is a hub that knows no stops. `holds_stops` is whether it holds a poll for the next one back. Reports of
    `boots_over` are late.
    """

    def __init__(self):
        self.signer = Signer()
        self.stop_signer = Signer(purposes=["stop"])
        self.envelope, self.etag = None, '"r0"'
        self.stop_envelope, self.stop_sequence, self.stop_digest = None, 0, ""
        self.blobs = {sha256_hex(VECTOR): VECTOR}
        self.reports, self.requests, self.stop_requests, self.handed_back = [], [], [], []
        self.fail_with, self.fail_snapshots_with, self.proxy_with, self.refuse_hand_backs_with = None, None, None, None
        self.cut_blobs, self.holds_stops, self.record_age, self.boots_over = False, True, 0.0, set[str]()
        self.node_key, self.signed_trust, self.fail_code = NODE_KEY.public_key(), None, "UNAVAILABLE"
        self._changed = threading.Condition()

    @property
    def keys(self):
        return trust(self.signer, self.stop_signer)

    def publish(self, revision=1, *, signer=None, **changes):
        self.publish_bytes((signer or self.signer).sign(make_document(revision, **changes)))

    def publish_bytes(self, envelope):
        with self._changed:
            self.envelope, self.etag = envelope, f'"{sha256_hex(envelope)[:16]}"'
            self._changed.notify_all()

    def publish_stop(self, *kills, sequence=None, released=(), adopted=(), signer=None):
        """The statement of these kills, which are of `make_kill`. Returns its envelope."""
        sequence = sequence or self.stop_sequence + 1
        payload = write_stop(StopStatement(HUB, sequence, NOW, tuple(kills), frozenset(released), frozenset(adopted)))
        envelope = (signer or self.stop_signer).sign(payload, STOP_TYPE)
        with self._changed:
            self.stop_envelope, self.stop_sequence, self.stop_digest = envelope, sequence, sha256_hex(payload)
            self._changed.notify_all()
        return envelope

    @property
    def app(self):
        return Starlette(
            routes=[
                Route("/fleet/v1/environments/{environment}/snapshot", self._snapshot),
                Route("/fleet/v1/environments/{environment}/stop", self._stop),
                Route("/fleet/v1/environments/{environment}/stop", self._take_back, methods=["POST"]),
                Route("/fleet/v1/blobs/sha256/{digest}", self._blob),
                Route("/fleet/v1/nodes/{name}/report", self._report, methods=["POST"]),
                Route("/fleet/v1/enroll", self._enroll, methods=["POST"]),
                Route("/fleet/v1/trust", self._trust),
                Route("/fleet/v1/trust/signed", self._signed_trust),
            ]
        )

    def _snapshot(self, request):
        headers = request.headers
        self.requests.append({name: headers.get(field) for name, field in ASKED.items()})
        if failure := self._failure(request, self.fail_snapshots_with):
            return failure
        if self.envelope is None:
            return self._refuse(503)
        known_stop = headers.get("stop-digest", self.stop_digest)
        self._hold(request, lambda: headers.get("if-none-match") != self.etag or known_stop != self.stop_digest)
        if headers.get("if-none-match") == self.etag:
            return self._say(Response(status_code=304, headers={"ETag": self.etag}))
        return self._say(Response(self.envelope, headers={"ETag": self.etag}, media_type="application/vnd.dsse+json"))

    def _stop(self, request):
        self.stop_requests.append({name: request.headers.get(ASKED[name]) for name in ("etag", "prefer")})
        if failure := self._failure(request):
            return failure
        if self.stop_envelope is None:
            return self._refuse(404, "NOT_FOUND")
        if self.holds_stops:
            self._hold(request, lambda: request.headers.get("if-none-match") != f'"{self.stop_digest}"')
        headers = {"ETag": f'"{self.stop_digest}"'}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return self._say(Response(status_code=304, headers=headers))
        return self._say(Response(self.stop_envelope, headers=headers, media_type="application/vnd.dsse+json"))

    async def _take_back(self, request):
        if failure := self._failure(request, self.refuse_hand_backs_with):
            return failure
        self.handed_back.append(await request.body())
        return self._say(Response(status_code=204))

    def _blob(self, request):
        data = self.blobs.get(request.path_params["digest"])
        if data is None:
            return self._refuse(404, "NOT_FOUND")
        return Response(data[: len(data) // 2] if self.cut_blobs else data, media_type="application/octet-stream")

    async def _report(self, request):
        if failure := self._failure(request):
            return failure
        report = json.loads(open_from(await request.body(), public_key=self.node_key, payload_type=REPORT_TYPE))
        if report.get("boot_id") in self.boots_over:
            return self._refuse(409, "REPORT_LATE")
        self.reports.append(report)
        return Response(status_code=204)

    async def _enroll(self, request):
        if request.headers.get("authorization") != f"Bearer {ENROLMENT_TOKEN}":
            return JSONResponse({"code": "ENROLMENT_TOKEN", "detail": "unknown, used or expired"}, status_code=422)
        enrolment = Enrolment.from_document(read_payload(await request.body()))
        self.node_key = enrolment.public_key
        return JSONResponse({"environment": "production", "token": NODE_TOKEN, "trust": self.trust_document})

    @property
    def trust_document(self):
        return {"schema": "steerhub.trust/1", "keys": [self.signer.key_document(), self.stop_signer.key_document()]}

    def _signed_trust(self, request):
        if self.signed_trust is None:
            return Response(status_code=304)
        return Response(self.signed_trust, media_type="application/vnd.dsse.envelope.v1+json")

    def _trust(self, request):
        return JSONResponse(self.trust_document)

    def _hold(self, request, is_news):
        wait = float((request.headers.get("prefer") or "wait=0").removeprefix("wait="))
        with self._changed:
            self._changed.wait_for(is_news, wait)

    def _failure(self, request, own=None):
        if self.proxy_with:
            return Response("<h1>Forbidden</h1>", status_code=self.proxy_with, media_type="text/html")
        if request.headers.get("authorization") != f"Bearer {NODE_TOKEN}":
            return self._refuse(401, "NOT_AUTHENTICATED")
        return self._refuse(self.fail_with or own, self.fail_code) if self.fail_with or own else None

    def _refuse(self, status, code="UNAVAILABLE"):
        body = {"type": f"urn:steerhub:error:{code}", "code": code, "detail": "the hub says no"}
        return self._say(JSONResponse(body, status_code=status, headers={"Retry-After": "1"} if status == 503 else {}))

    def _say(self, answer):
        """What every answer says of stops and of the record, once the hub knows stops."""
        if self.stop_envelope is not None:
            answer.headers["Stop-Sequence"], answer.headers["Stop-Digest"] = str(self.stop_sequence), self.stop_digest
        if self.record_age is not None:
            answer.headers["Record-Age"] = str(self.record_age)
        return answer


def make_kill(target="harbor", *, kind="tenant", environment="", id=None):
    return StoppedKill(kind, environment, target, id or sha256_hex(f"{kind} {environment} {target}".encode())[:32])


def read_payload(envelope):
    import base64

    return json.loads(base64.b64decode(json.loads(envelope)["payload"]))
