"""What a browser is shown when a page fails: that the hub is not ready, if that is why; else nothing but that it failed."""

from django.db import DatabaseError, OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseServerError
from django.utils.html import escape

from registry.errors import NotReady
from registry.web.readiness import check_migrations


def answer_failure(request: HttpRequest) -> HttpResponse:
    """Django's handler of a 500, which has logged it. Written without a template, because a page of the console asks the database."""
    try:
        check_migrations()
    except NotReady as error:
        return _answer_503(f"{error.message} ({error.code})")
    except OperationalError:
        return _answer_503("the database does not answer; try again (UNAVAILABLE)")
    except DatabaseError:
        pass
    return HttpResponseServerError(_PAGE.format(title="The hub failed", text="The hub failed on this request; its log says why."))


def _answer_503(sentence: str) -> HttpResponse:
    page = _PAGE.format(title="The hub is not ready", text=f"The hub cannot answer now: {escape(sentence)}")
    return HttpResponse(page, status=503, headers={"Retry-After": "10"})


_PAGE = "<!doctype html><meta charset=utf-8><title>{title}</title><h1>{title}</h1><p>{text}</p>"
