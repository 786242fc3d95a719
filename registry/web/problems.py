"""A refusal as other programs read it: an RFC 9457 problem document with a stable code, and the HTTP status it has."""

from typing import Any

from registry.errors import BlobMissing, ConfirmationNeeded, NotFound, NotReady, RecordChanged, TransitionRefused
from steernode.errors import SteerError

PROBLEM_TYPE = "application/problem+json"
# Codes of settings and damage on this side: the caller can do nothing about them.
_OWN_FAULTS = ("BLOB_CORRUPT",)


def problem_document(*, status: int, code: str, title: str, detail: str, item: str | None = None, **more: Any) -> dict[str, Any]:
    """`code` is what programs match on; `detail` is the sentence for people and names `item`, the offending thing."""
    return {
        "type": f"urn:steerhub:error:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "item": item,
        **more,
    }


def status_of(error: SteerError) -> int:
    """The HTTP status of a domain error."""
    if error.code in _OWN_FAULTS:
        return 500
    if isinstance(error, NotReady):
        return 503
    if isinstance(error, NotFound | BlobMissing):
        return 404
    if isinstance(error, TransitionRefused):
        return 409
    if isinstance(error, RecordChanged):
        return 412
    if isinstance(error, ConfirmationNeeded):
        return 428
    if error.code.endswith("TOO_LARGE"):
        return 413
    if error.code == "VEC_FORMAT":
        return 415
    # The body was not even JSON that we read; anything else was understood and refused.
    return 400 if error.code.startswith("JSON_") else 422


def title_of(error: SteerError) -> str:
    """The first sentence of the error's class: what kind of refusal this is."""
    return (type(error).__doc__ or "Refused.").strip().splitlines()[0]
