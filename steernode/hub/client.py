"""HTTP to the hub: what a node pulls and reports, and what a person's command line asks. Tokens go into headers and nowhere else."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from steernode import __version__
from steernode.canonical import parse_strict
from steernode.dsse import MAX_ENVELOPE_BYTES
from steernode.errors import CanonicalError, HubError
from steernode.files.vectors import MAX_FILE_BYTES

CONNECT_SECONDS = 5.0
READ_SECONDS = 15.0
# A long poll is answered late on purpose; the hub may add a sixteenth of jitter.
LONG_POLL_MARGIN_SECONDS = 10.0
# What is waited before a change is sent again, under the same key, after one of these.
RETRY_PAUSES_SECONDS = (0.5, 1.0)
_WORTH_A_RETRY = ("HUB_UNREACHABLE", "UNAVAILABLE", "IDEMPOTENCY_IN_PROGRESS")
MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
MAX_EXPORT_BYTES = 16 * 1024 * 1024 * 1024
_TOKEN = re.compile(r"[\x21-\x7e]{8,500}", re.ASCII)


@dataclass(frozen=True, slots=True)
class NotModified:
    """The hub has nothing newer than what the ETag named."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A signed envelope, not yet judged, and the ETag to remember once it is accepted."""

    envelope: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: httpx.Headers
    body: bytes


class _Connection:
    """One hub and one token. Refuses redirects, because they would carry the token elsewhere, and answers past a size."""

    def __init__(self, hub_url: str, token: str) -> None:
        try:
            urlsplit(hub_url)
            url = httpx.URL(hub_url)
        except (httpx.InvalidURL, ValueError) as error:
            raise HubError("HUB_URL", f"{hub_url!r} is not a URL: {error}", hub_url) from error
        if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query or url.fragment:
            raise HubError("HUB_URL", f"{hub_url!r} is not the plain http(s) URL of a hub, such as https://steerhub.example", hub_url)
        # The token is never shown, not even when it is wrong.
        if not _TOKEN.fullmatch(token):
            raise HubError("HUB_TOKEN", "the token is empty or holds characters no token has; copy it again")
        self.hub_url = str(url).rstrip("/")
        self._client = httpx.Client(
            base_url=self.hub_url,
            headers={"Authorization": f"Bearer {token}", "User-Agent": f"steernode/{__version__}"},
            timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            follow_redirects=False,
        )

    def close(self) -> None:
        self._client.close()

    def ask(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        read_seconds: float = READ_SECONDS,
        max_bytes: int = MAX_DOCUMENT_BYTES,
    ) -> _Answer:
        """One request. Raises: HubError for anything but a 2xx or a 304."""
        timeout = httpx.Timeout(read_seconds, connect=CONNECT_SECONDS)
        try:
            with self._client.stream(method, path, json=json, content=content, headers=headers, timeout=timeout) as response:
                body = bytearray()
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > max_bytes:
                        raise _hub_error("HUB_TOO_LARGE", f"the answer to {method} {path} is longer than {max_bytes} bytes", response)
                _refuse_failure(method, path, response, bytes(body))
                return _Answer(response.status_code, response.headers, bytes(body))
        except httpx.HTTPError as error:
            raise HubError("HUB_UNREACHABLE", f"{method} {self.hub_url}{path}: {_describe(error)}", self.hub_url) from error

    def ask_json(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        read_seconds: float = READ_SECONDS,
    ) -> Any:
        answer = self.ask(method, path, json=json, content=content, headers=headers, read_seconds=read_seconds)
        return _read_document(answer, method, path)

    def download(self, path: str, target: Path) -> int:
        """The body of a GET, straight to a file that appears only when it is whole. Returns its size in bytes."""
        partial = target.with_name(target.name + ".part")
        size = 0
        try:
            with (
                self._client.stream("GET", path, timeout=httpx.Timeout(120.0, connect=CONNECT_SECONDS)) as response,
                partial.open("wb") as stream,
            ):
                if response.status_code != 200:
                    _refuse_failure("GET", path, response, response.read()[:MAX_DOCUMENT_BYTES])
                for chunk in response.iter_bytes():
                    size += stream.write(chunk)
                    if size > MAX_EXPORT_BYTES:
                        raise _hub_error("HUB_TOO_LARGE", f"the answer to GET {path} is longer than {MAX_EXPORT_BYTES} bytes", response)
            os.replace(partial, target)
        except httpx.HTTPError as error:
            raise HubError("HUB_UNREACHABLE", f"GET {self.hub_url}{path}: {_describe(error)}", self.hub_url) from error
        except OSError as error:
            raise HubError("FILE_UNWRITABLE", f"cannot write {target}: {error.strerror or error}", str(target)) from error
        finally:
            if partial.is_file():
                partial.unlink()
        return size


class FleetClient:
    """What a serving node asks of the hub: `/fleet/v1`."""

    def __init__(self, hub_url: str, environment: str, node_name: str, token: str) -> None:
        self._connection = _Connection(hub_url, token)
        self.environment = environment
        self.node_name = node_name

    def snapshot(self, etag: str | None, wait_seconds: int = 0) -> NotModified | Fetched:
        """The environment's signed snapshot, or word that it is still the one of this ETag, held back for up to `wait_seconds`."""
        headers = {"If-None-Match": etag} if etag else {}
        if wait_seconds:
            headers["Prefer"] = f"wait={wait_seconds}"
        answer = self._connection.ask(
            "GET",
            f"/fleet/v1/environments/{quote(self.environment, safe='')}/snapshot",
            headers=headers,
            read_seconds=(wait_seconds + LONG_POLL_MARGIN_SECONDS) if wait_seconds else READ_SECONDS,
            max_bytes=MAX_ENVELOPE_BYTES,
        )
        if answer.status == 304:
            if etag is None:
                raise HubError("HUB_ANSWER", "the hub answered 304 to a request without an ETag")
            return NotModified()
        return Fetched(answer.body, answer.headers.get("ETag", ""))

    def blob(self, sha256: str) -> bytes:
        """The bytes the hub has under this digest; the caller checks them."""
        return self._connection.ask("GET", f"/fleet/v1/blobs/sha256/{sha256}", max_bytes=MAX_FILE_BYTES).body

    def report(self, report: Mapping[str, Any]) -> None:
        self._connection.ask("POST", f"/fleet/v1/nodes/{quote(self.node_name, safe='')}/report", json=dict(report))

    def trust(self) -> dict[str, Any]:
        """The hub's own word on which keys to trust. Compare it with what you were given by another road before using it."""
        document = self._connection.ask_json("GET", "/fleet/v1/trust")
        if not isinstance(document, dict):
            raise HubError("HUB_ANSWER", "the trust document is not an object")
        return document

    def close(self) -> None:
        self._connection.close()


class HubClient:
    """What a person asks of the hub: `/api/v1`. Every refusal is a HubError with the code and sentence of the problem document."""

    def __init__(self, hub_url: str, token: str) -> None:
        self._connection = _Connection(hub_url, token)

    def get(self, path: str) -> Any:
        return self._connection.ask_json("GET", f"/api/v1{path}")

    def get_tagged(self, path: str) -> tuple[Any, str]:
        """A record and its ETag, to be sent as `if_match` with a change to what was read."""
        answer = self._connection.ask("GET", f"/api/v1{path}")
        return _read_document(answer, "GET", path), answer.headers.get("ETag", "")

    def post(self, path: str, body: Mapping[str, Any] | None = None, *, read_seconds: float = READ_SECONDS) -> Any:
        return self._change("POST", path, json=dict(body or {}), read_seconds=read_seconds)

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


def _read_document(answer: _Answer, method: str, path: str) -> Any:
    if not answer.body:
        return None
    try:
        return parse_strict(answer.body, max_bytes=MAX_DOCUMENT_BYTES, max_depth=64)
    except CanonicalError as error:
        raise HubError("HUB_ANSWER", f"the answer to {method} {path} is not JSON: {error.message}") from error


def _refuse_failure(method: str, path: str, response: httpx.Response, body: bytes) -> None:
    status = response.status_code
    if 200 <= status < 300 or status == 304:
        return
    if 300 <= status < 400:
        raise _hub_error("HUB_REDIRECT", f"{method} {path} was redirected; give the hub's final URL, redirects are not followed", response)
    try:
        problem = parse_strict(body, max_bytes=MAX_DOCUMENT_BYTES)
    except CanonicalError:
        problem = None
    if isinstance(problem, dict) and isinstance(problem.get("code"), str):
        sentence = problem.get("detail") or problem.get("title") or f"{method} {path} was refused with status {status}"
        error = _hub_error(problem["code"], str(sentence), response)
        error.problem = problem
        raise error
    raise _hub_error("HUB_STATUS", f"{method} {path} was answered with status {status} and no problem document", response)


def _hub_error(code: str, message: str, response: httpx.Response) -> HubError:
    error = HubError(code, message, str(response.status_code))
    error.status = response.status_code
    retry_after = response.headers.get("Retry-After", "")
    error.retry_after_seconds = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else None
    return error


def _describe(error: httpx.HTTPError) -> str:
    # Some transport errors carry no text of their own.
    return str(error) or type(error).__name__
