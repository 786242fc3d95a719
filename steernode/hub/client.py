"""What a node pulls and reports, and what a person's command line asks: the two clients of a hub."""

from __future__ import annotations

import json
import math
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from steernode.dsse import MAX_ENVELOPE_BYTES, sign_envelope
from steernode.errors import HubError
from steernode.files.vectors import MAX_FILE_BYTES
from steernode.hub.connection import MAX_DOCUMENT_BYTES, READ_SECONDS, Connection, read_document
from steernode.records.enrolment import sign_enrolment
from steernode.records.reports import REPORT_TYPE
from steernode.stop.document import MAX_ENVELOPE_BYTES as MAX_STOP_BYTES

ENVELOPE_TYPE = "application/vnd.dsse.envelope.v1+json"
# A long poll is answered late on purpose; the hub may add a sixteenth of jitter.
LONG_POLL_MARGIN_SECONDS = 10.0
# What is waited before a change is sent again, under the same key, after one of these.
RETRY_PAUSES_SECONDS = (0.5, 1.0)
_WORTH_A_RETRY = ("HUB_UNREACHABLE", "UNAVAILABLE", "IDEMPOTENCY_IN_PROGRESS")


_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SECONDS = re.compile(r"\d{1,9}(\.\d{1,9})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class NotModified:
    """The hub has nothing newer than what the ETag named, by a record that it read this long ago."""

    record_age_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Fetched:
    """A signed envelope, not yet judged, the ETag to remember once it is accepted, and how long ago the hub read its record."""

    envelope: bytes
    etag: str
    record_age_seconds: float = 0.0


class FleetClient:
    """What a serving node asks of the hub: `/fleet/v1`. It pulls by its token and signs by its key. Threads may share one.

    `stop_digest` is of the newest stop statement, by the last answer that named one, whatever else it said: empty until then, and of a
    hub that knows no stops. It is a hint to ask, and nothing is believed of it.
    """

    def __init__(self, hub_url: str, environment: str, node_name: str, token: str, key: Ed25519PrivateKey) -> None:
        self._connection = Connection(hub_url, token)
        self._connection.hear = self._hear
        self._key = key
        self.environment = environment
        self.node_name = node_name
        self.stop_digest = ""

    def snapshot(self, etag: str | None, wait_seconds: int = 0, *, stop_digest: str = "") -> NotModified | Fetched:
        """The environment's signed snapshot, or word that it is still the one of this ETag, held back for up to `wait_seconds`.

        `stop_digest` is of the stop statement that the node has: told that, a hub that has another answers at once.
        """
        return self._ask_for("snapshot", etag, wait_seconds, MAX_ENVELOPE_BYTES, {"Stop-Digest": stop_digest} if stop_digest else {})

    def stop(self, digest: str = "", wait_seconds: int = 0) -> NotModified | Fetched:
        """The newest signed stop statement, or word that it is still the one of this digest, held back likewise."""
        return self._ask_for("stop", f'"{digest}"' if digest else None, wait_seconds, MAX_STOP_BYTES, {})

    def hand_back_stop(self, envelope: bytes) -> None:
        """Gives the hub a signed stop statement that brought what its own does not list."""
        self._connection.ask(
            "POST",
            f"/fleet/v1/environments/{quote(self.environment, safe='')}/stop",
            content=envelope,
            headers={"Content-Type": "application/vnd.dsse+json"},
        )

    def _ask_for(self, what: str, etag: str | None, wait_seconds: int, max_bytes: int, headers: Mapping[str, str]) -> NotModified | Fetched:
        answer = self._connection.ask(
            "GET",
            f"/fleet/v1/environments/{quote(self.environment, safe='')}/{what}",
            headers={
                **headers,
                **({"If-None-Match": etag} if etag else {}),
                **({"Prefer": f"wait={wait_seconds}"} if wait_seconds else {}),
            },
            read_seconds=(wait_seconds + LONG_POLL_MARGIN_SECONDS) if wait_seconds else READ_SECONDS,
            max_bytes=max_bytes,
        )
        age = read_record_age(answer.headers)
        if answer.status == 304:
            if etag is None:
                raise HubError("HUB_ANSWER", "the hub answered 304 to a request without an ETag")
            return NotModified(age)
        return Fetched(answer.body, answer.headers.get("ETag", ""), age)

    def _hear(self, headers: Mapping[str, str]) -> None:
        if _DIGEST.fullmatch(named := headers.get("Stop-Digest", "")):
            self.stop_digest = named

    def blob(self, sha256: str) -> bytes:
        """The bytes the hub has under this digest; the caller checks them."""
        return self._connection.ask("GET", f"/fleet/v1/blobs/sha256/{sha256}", max_bytes=MAX_FILE_BYTES).body

    def report(self, report: Mapping[str, Any]) -> None:
        payload = json.dumps(dict(report), ensure_ascii=False, allow_nan=False).encode()
        self._connection.ask(
            "POST",
            f"/fleet/v1/nodes/{quote(self.node_name, safe='')}/report",
            content=sign_envelope(payload, REPORT_TYPE, self._key),
            headers={"Content-Type": ENVELOPE_TYPE},
        )

    def signed_trust(self, version: int) -> bytes | None:
        """The newest trust document in its envelope, not yet judged; None while it is this version."""
        answer = self._connection.ask(
            "GET", "/fleet/v1/trust/signed", headers={"If-None-Match": f'"t{version}"'}, max_bytes=MAX_ENVELOPE_BYTES
        )
        return None if answer.status == 304 else answer.body

    def trust(self) -> dict[str, Any]:
        """The hub's own word on which keys to trust. Compare it with what you were given by another road before using it."""
        document = self._connection.ask_json("GET", "/fleet/v1/trust")
        if not isinstance(document, dict):
            raise HubError("HUB_ANSWER", "the trust document is not an object")
        return document

    def close(self) -> None:
        self._connection.close()


def read_record_age(headers: Mapping[str, str]) -> float:
    """How many seconds ago the hub read what it answered from; infinite if that is not said, or is no number: then nobody vouches.

    What a cache on the way kept is older by the `Age` that it states.
    """
    stated = [headers.get("Record-Age", ""), headers.get("Age", "0")]
    return sum(float(seconds) if _SECONDS.fullmatch(seconds) else math.inf for seconds in stated)


def enroll(hub_url: str, name: str, secret: str, key: Ed25519PrivateKey) -> dict[str, Any]:
    """Enrol a node by its one-time token; the hub's answer has its environment, its token and the keys to trust. Raises: HubError."""
    connection = Connection(hub_url, secret)
    try:
        answer = connection.ask_json("POST", "/fleet/v1/enroll", content=sign_enrolment(name, key), headers={"Content-Type": ENVELOPE_TYPE})
    finally:
        connection.close()
    if not isinstance(answer, dict):
        raise HubError("HUB_ANSWER", "the answer to POST /fleet/v1/enroll is not an object")
    return answer


class HubClient:
    """What a person asks of the hub: `/api/v1`. Every refusal is a HubError with the code and sentence of the problem document."""

    def __init__(self, hub_url: str, token: str) -> None:
        self._connection = Connection(hub_url, token)

    def get(self, path: str, *, read_seconds: float = READ_SECONDS, max_bytes: int = MAX_DOCUMENT_BYTES) -> Any:
        return self._connection.ask_json("GET", f"/api/v1{path}", read_seconds=read_seconds, max_bytes=max_bytes)

    def get_tagged(self, path: str) -> tuple[Any, str]:
        """A record and its ETag, to be sent as `if_match` with a change to what was read."""
        answer = self._connection.ask("GET", f"/api/v1{path}")
        return read_document(answer, "GET", path), answer.headers.get("ETag", "")

    def post(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        read_seconds: float = READ_SECONDS,
        max_bytes: int = MAX_DOCUMENT_BYTES,
    ) -> Any:
        return self._change("POST", path, json=dict(body or {}), read_seconds=read_seconds, max_bytes=max_bytes)

    def put(self, path: str, body: Mapping[str, Any], *, if_match: str = "") -> Any:
        return self._change("PUT", path, json=dict(body), headers={"If-Match": if_match} if if_match else {})

    def delete(self, path: str) -> None:
        self._change("DELETE", path)

    def _change(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **request: Any) -> Any:
        """One change under one Idempotency-Key: when the answer is lost on the way it is sent again, and done once."""
        headers = {**(headers or {}), "Idempotency-Key": secrets.token_urlsafe(24)}
        for pause in (*RETRY_PAUSES_SECONDS, None):
            try:
                return self._connection.ask_json(method, f"/api/v1{path}", headers=headers, **request)
            except HubError as error:
                if pause is None or error.code not in _WORTH_A_RETRY:
                    raise
                time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def upload_blob(self, data: bytes) -> str:
        """Stores these bytes. Returns their digest, as the hub computed it."""
        answer = self._change("POST", "/blobs", content=data, headers={"Content-Type": "application/octet-stream"})
        if not isinstance(answer, dict) or not isinstance(answer.get("digest"), str):
            raise HubError("HUB_ANSWER", "the answer to POST /api/v1/blobs has no digest")
        return str(answer["digest"])

    def download(self, path: str, target: Path) -> int:
        return self._connection.download(f"/api/v1{path}", target)

    def close(self) -> None:
        self._connection.close()
