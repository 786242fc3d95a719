"""Idempotency keys: a request that is sent again under its key is answered again and done once.

The lock, not a row, says that a request is under way: it ends with its connection, so a process that dies blocks nobody.
What such a process had committed is found by running the request again; services refuse what is done already.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.utils import timezone

from registry.errors import TransitionRefused
from registry.locks import try_request
from registry.models import IdempotentAnswer, User

KEPT_FOR = timedelta(hours=24)


@contextmanager
def hold_key(actor: User, key: str) -> Iterator[None]:
    """Only one request of this actor runs under this key at a time. Raises: TransitionRefused IDEMPOTENCY_IN_PROGRESS."""
    with try_request(f"{actor.pk} {key}") as is_held:
        if not is_held:
            message = "a request with this Idempotency-Key is still running; ask again in a moment"
            raise TransitionRefused("IDEMPOTENCY_IN_PROGRESS", message)
        yield


def find_answer(actor: User, key: str, *, request_sha256: str) -> IdempotentAnswer | None:
    """What this request was answered before. Raises: TransitionRefused IDEMPOTENCY_MISMATCH when the key was another request's."""
    answer = IdempotentAnswer.objects.filter(actor=actor, key=key, answered_at__gt=timezone.now() - KEPT_FOR).first()
    if answer is not None and answer.request_sha256 != request_sha256:
        raise TransitionRefused("IDEMPOTENCY_MISMATCH", "this Idempotency-Key was used for another request; make a new one")
    return answer


def keep_answer(actor: User, key: str, *, request_sha256: str, status: int, headers: dict[str, str], body: bytes | None) -> None:
    """Written while the key is held. An answer too old to be given again makes room."""
    kept = {"request_sha256": request_sha256, "status": status, "headers": headers, "body": body, "answered_at": timezone.now()}
    IdempotentAnswer.objects.update_or_create(actor=actor, key=key, defaults=kept)


def forget_old_answers() -> int:
    """How many answers were older than a day. The sweeper calls this."""
    return IdempotentAnswer.objects.filter(answered_at__lte=timezone.now() - KEPT_FOR).delete()[0]
