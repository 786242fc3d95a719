"""The Idempotency-Key header: under one key an actor's request runs once, and whoever sends it again gets the same answer.

The view asks here after it has decided who is asking and whether they may; so a replay is given to nobody who could not ask.
"""

import logging
import re
from contextlib import ExitStack
from hashlib import sha256

from django.db import OperationalError
from django.http import HttpResponse
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.permissions import person_of
from registry.errors import TransitionRefused
from registry.models import IdempotentAnswer
from registry.services.idempotency import find_answer, hold_key, keep_answer

logger = logging.getLogger(__name__)

MAX_KEY_LENGTH = 255
CHANGING = ("POST", "PUT", "DELETE")
# The refusals that a repeat gets again, because they are of the bytes that were sent and nothing else: no JSON, not the fields of this
# address, too large, no form that is read here. Every other is about the moment, whatever its status: a freeze ends, a kill is lifted,
# a record appears, a policy changes, a role is given. Those run again, and a refusal has done nothing that could be done twice.
KEPT_REFUSALS = (400, 413, 415)
# Headers of an answer that a repeat must show again.
_KEPT_HEADERS = ("Content-Type", "ETag", "Location")
_KEY = re.compile(rf"[\x21-\x7e]{{1,{MAX_KEY_LENGTH}}}", re.ASCII)


class BadKey(exceptions.APIException):
    status_code = 400
    default_code = "idempotency_key"
    default_detail = f"an Idempotency-Key has 1 to {MAX_KEY_LENGTH} visible ASCII characters"


class KeyRequired(exceptions.APIException):
    status_code = 428
    default_code = "idempotency_key_required"
    default_detail = "send an Idempotency-Key, so that a decision sent twice is made once; any random text of yours will do"


class AnsweredBefore(Exception):
    """Raised instead of running the request again."""

    def __init__(self, answer: IdempotentAnswer) -> None:
        super().__init__(answer.key)
        self.answer = answer

    def response(self) -> HttpResponse:
        response = HttpResponse(bytes(self.answer.body or b""), status=self.answer.status, headers=self.answer.headers)
        response["Idempotency-Replayed"] = "true"
        return response


class HeldKey:
    """A request that runs under its key: from here to `release` nobody else's does. `keep` what it was answered."""

    def __init__(self, request: Request, key: str) -> None:
        """Raises: AnsweredBefore; TransitionRefused IDEMPOTENCY_*."""
        self._actor, self._key, self._request_sha256 = person_of(request), key, _digest_of(request)
        with ExitStack() as held:
            held.enter_context(hold_key(self._actor, key))
            answer = find_answer(self._actor, key, request_sha256=self._request_sha256)
            if answer is not None and answer.body is None:
                raise TransitionRefused(
                    "IDEMPOTENCY_SECRET", "this was done, and its answer held a secret, which is not kept; revoke that and ask anew"
                )
            if answer is not None:
                raise AnsweredBefore(answer)
            self._held = held.pop_all()

    def keep(self, response: Response | HttpResponse, *, holds_secret: bool) -> None:
        """Remember the answer if it is the last word on these bytes.

        What was done is done and is answered, though the database went before the answer was kept: who has it asks no second time.
        """
        if response.status_code >= 300 and response.status_code not in KEPT_REFUSALS:
            return
        headers = {name: response[name] for name in _KEPT_HEADERS if name in response}
        body = None if holds_secret and response.status_code < 300 else response.content
        try:
            keep_answer(
                self._actor, self._key, request_sha256=self._request_sha256, status=response.status_code, headers=headers, body=body
            )
        except OperationalError as error:
            logger.warning("an answer was not kept for a repeat, the database did not answer: %s", error)

    def release(self) -> None:
        self._held.close()


def take_key(request: Request, *, is_required: bool) -> HeldKey | None:
    """The key of a changing request, held; None if it has none and needs none. Raises: KeyRequired, BadKey, and what HeldKey does."""
    key = request.headers.get("Idempotency-Key")
    if request.method not in CHANGING:
        return None
    if key is None:
        if is_required:
            raise KeyRequired
        return None
    if not _KEY.fullmatch(key):
        raise BadKey
    return HeldKey(request, key)


def bytes_of(request: Request) -> bytes:
    """The body as it was sent. Asked for before the body is parsed, it can be had as often as wanted."""
    return request._request.body


def _digest_of(request: Request) -> str:
    """Of all that decides what the request does. The credential is part of it: another token of the same person may see less."""
    credential = str(request.auth.pk) if request.auth is not None else "session"
    parts = (credential, str(request.method), request.get_full_path(), request.content_type or "")
    digest = sha256("\n".join(parts).encode())
    digest.update(b"\n" + bytes_of(request))
    return digest.hexdigest()
