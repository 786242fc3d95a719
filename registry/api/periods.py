"""A period of time in a query: `since` and `until`, each a moment with its time zone."""

from datetime import datetime, timedelta

from rest_framework import serializers
from rest_framework.request import Request

PARAMETERS = ("since", "until")
# Far longer than any record lives; what asks for more is a mistake.
LONGEST = timedelta(days=3660)


def read_period(request: Request) -> tuple[datetime | None, datetime | None]:
    """Raises: ValidationError for no moment, one without a time zone, an end before its beginning, or more than ten years."""
    since, until = (_read_moment(request, name) for name in PARAMETERS)
    if since is not None and until is not None:
        if until < since:
            raise serializers.ValidationError({"until": ["ends before it begins"]})
        if until - since > LONGEST:
            raise serializers.ValidationError({"until": [f"want at most {LONGEST.days} days"]})
    return since, until


def _read_moment(request: Request, name: str) -> datetime | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    # In a query a plus sign is a space; whoever forgets to escape it means the time zone.
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError as error:
        raise serializers.ValidationError({name: ["want a moment such as 2026-08-01T12:00:00Z"]}) from error
    if moment.tzinfo is None:
        raise serializers.ValidationError({name: ["want a time zone, such as Z or +02:00"]})
    return moment
