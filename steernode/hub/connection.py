"""One hub under one token: what of its answers is refused, and how that is told. Tokens go into headers and nowhere else."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from steernode import __version__
from steernode.canonical import parse_strict
from steernode.errors import CanonicalError, HubError

CONNECT_SECONDS = 5.0
READ_SECONDS = 15.0
MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
# A plan of as much as an export may hold says each field twice, with its path.
MAX_PLAN_BYTES = 64 * 1024 * 1024
MAX_EXPORT_BYTES = 16 * 1024 * 1024 * 1024
_TOKEN = re.compile(r"[\x21-\x7e]{8,500}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: httpx.Headers
    body: bytes


class Connection:
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
        # Told of the headers of every answer, a refusal's too.
        self.hear: Callable[[httpx.Headers], None] = lambda _headers: None
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
    ) -> Answer:
        """One request. Raises: HubError for anything but a 2xx or a 304."""
        timeout = httpx.Timeout(read_seconds, connect=CONNECT_SECONDS)
        try:
            with self._client.stream(method, path, json=json, content=content, headers=headers, timeout=timeout) as response:
                self.hear(response.headers)
                body = bytearray()
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > max_bytes:
                        raise _hub_error("HUB_TOO_LARGE", f"the answer to {method} {path} is longer than {max_bytes} bytes", response)
                _refuse_failure(method, path, response, bytes(body))
                return Answer(response.status_code, response.headers, bytes(body))
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
        max_bytes: int = MAX_DOCUMENT_BYTES,
    ) -> Any:
        answer = self.ask(method, path, json=json, content=content, headers=headers, read_seconds=read_seconds, max_bytes=max_bytes)
        return read_document(answer, method, path)

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


def read_document(answer: Answer, method: str, path: str) -> Any:
    if not answer.body:
        return None
    try:
        return parse_strict(answer.body, max_bytes=MAX_PLAN_BYTES, max_depth=64)
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
