"""ETag and If-Match: a change is made to the record that its author read, or not at all.

The tag of a record is a digest of what it says. The service compares it again under the row's lock; the header only carries it.
"""

from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response


class IfMatchRequired(exceptions.APIException):
    status_code = 428
    default_code = "if_match_required"
    default_detail = "read the record first and send the ETag of that answer as If-Match, so that nobody's change is lost"


def tagged(response: Response, tag: str) -> Response:
    response["ETag"] = f'"{tag}"'
    return response


def read_if_match(request: Request, *, is_required: bool = False) -> str | None:
    """The tag of the If-Match header without its quotes; None where there is none, or `*`: any state will do.

    A weak tag, or a list of tags, is given as it is and so matches nothing: those name no single state.
    """
    header = request.headers.get("If-Match", "").strip()
    if not header:
        if is_required:
            raise IfMatchRequired
        return None
    if header == "*":
        return None
    return header[1:-1] if len(header) >= 2 and header[0] == header[-1] == '"' else header
