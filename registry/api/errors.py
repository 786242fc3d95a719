"""The one exception handler: every refusal leaves as a problem document, and bad input never as a 500."""

import logging
from collections.abc import Iterator
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import DataError, IntegrityError, OperationalError, ProgrammingError
from django.http import Http404, HttpResponse, JsonResponse
from rest_framework import exceptions

from registry.api.idempotency import AnsweredBefore
from registry.errors import NotReady
from registry.web.problems import PROBLEM_TYPE, problem_document, status_of, title_of
from registry.web.readiness import check_migrations
from steernode.errors import SteerError

logger = logging.getLogger(__name__)

_TITLES = {
    400: "The request is malformed.",
    401: "Who is asking is not known.",
    403: "This person may not do this.",
    404: "There is no such thing.",
    405: "Not a method of this address.",
    406: "Not a form this answer has.",
    409: "The database refused the change.",
    412: "The record is not the one that was read.",
    413: "More was sent than is read.",
    415: "Not a content type this address reads.",
    422: "What was sent cannot become a record.",
    428: "The request must say more before it is tried.",
    500: "The hub failed.",
    503: "The hub cannot answer now.",
}
_CODES: dict[type[Exception], str] = {
    exceptions.ParseError: "MALFORMED_BODY",
    exceptions.AuthenticationFailed: "NOT_AUTHENTICATED",
    exceptions.NotAuthenticated: "NOT_AUTHENTICATED",
    exceptions.PermissionDenied: "PERMISSION_DENIED",
    exceptions.NotFound: "NOT_FOUND",
    exceptions.MethodNotAllowed: "METHOD_NOT_ALLOWED",
    exceptions.NotAcceptable: "NOT_ACCEPTABLE",
    exceptions.UnsupportedMediaType: "UNSUPPORTED_MEDIA_TYPE",
}


def problem(status: int, code: str, detail: str, item: str | None = None, *, title: str = "", **more: Any) -> JsonResponse:
    document = problem_document(status=status, code=code, title=title or _TITLES.get(status, "Refused."), detail=detail, item=item, **more)
    return JsonResponse(document, status=status, content_type=PROBLEM_TYPE)


def problem_response(error: Exception, context: dict[str, Any]) -> HttpResponse:
    """DRF's exception handler. Anything not foreseen is logged with its traceback and told without it."""
    if isinstance(error, AnsweredBefore):
        return error.response()
    if isinstance(error, SteerError):
        # A refusal of many documents says what is wrong with each.
        more = {"errors": error.errors} if hasattr(error, "errors") else {}
        response = problem(status_of(error), error.code, error.message, error.item, title=title_of(error), **more)
        if isinstance(error, NotReady):
            response["Retry-After"] = "10"
        return response
    if isinstance(error, exceptions.ValidationError):
        return _validation_problem(error)
    if isinstance(error, exceptions.APIException):
        return _api_problem(error)
    if isinstance(error, Http404):
        return problem(404, "NOT_FOUND", "there is nothing at this address")
    if isinstance(error, PermissionDenied):
        return problem(403, "PERMISSION_DENIED", str(error) or "not allowed")
    if isinstance(error, RequestDataTooBig):
        return problem(413, "UPLOAD_TOO_LARGE", "the body is larger than this hub reads")
    if isinstance(error, SuspiciousOperation):
        return problem(400, "MALFORMED_BODY", str(error) or "the request is malformed")
    if isinstance(error, IntegrityError):
        constraint = _constraint_of(error)
        return problem(409, "CONSTRAINT", f"the database refused the change: {constraint or 'a rule of the record'}", constraint)
    if isinstance(error, DataError):
        return problem(422, "OUT_OF_RANGE", "a value is longer or larger than the record can hold")
    if isinstance(error, ProgrammingError) and (obstacle := _find_obstacle()):
        return problem_response(obstacle, context)
    if isinstance(error, OperationalError):
        logger.error("the database did not answer: %s", error)
        response = problem(503, "UNAVAILABLE", "the database does not answer; try again")
        response["Retry-After"] = "2"
        return response
    logger.error("unforeseen error in %s", type(context.get("view")).__name__, exc_info=error)
    return problem(500, "INTERNAL", "the hub failed on this request; its log says why")


def _find_obstacle() -> NotReady | None:
    """Why a query that this code may ask cannot be answered, if that is because the database is not as new as the code."""
    try:
        check_migrations()
    except NotReady as obstacle:
        return obstacle
    return None


def _api_problem(error: exceptions.APIException) -> JsonResponse:
    code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), str(error.default_code).upper())
    response = problem(error.status_code, code, str(error.detail))
    if header := getattr(error, "auth_header", None):
        response["WWW-Authenticate"] = header
    return response


def _validation_problem(error: exceptions.ValidationError) -> JsonResponse:
    wrong = list(_flatten(error.detail))
    code = "UNKNOWN_FIELD" if any(kind == "unknown_field" for _, kind, _ in wrong) else "VALIDATION"
    # An unknown field is named first, because it may be why another one seems to be missing.
    wrong.sort(key=lambda entry: entry[1] != "unknown_field")
    path, _, message = wrong[0] if wrong else ("", "invalid", "the body is not valid")
    errors = [{"field": field, "code": kind, "message": text} for field, kind, text in wrong]
    return problem(400, code, f"{path}: {message}" if path else message, path or None, errors=errors)


def _flatten(detail: Any, path: str = "") -> Iterator[tuple[str, str, str]]:
    if isinstance(detail, dict):
        for name, inner in detail.items():
            here = path if name == "non_field_errors" else f"{path}.{name}" if path else str(name)
            yield from _flatten(inner, here)
    elif isinstance(detail, list):
        for position, inner in enumerate(detail):
            if isinstance(inner, dict | list):
                yield from _flatten(inner, f"{path}.{position}")
            else:
                yield path, getattr(inner, "code", "invalid"), str(inner)
    else:
        yield path, getattr(detail, "code", "invalid"), str(detail)


def _constraint_of(error: IntegrityError) -> str:
    diagnosis = getattr(error.__cause__, "diag", None)
    return getattr(diagnosis, "constraint_name", None) or ""
