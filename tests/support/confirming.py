"""A form of the console that raises steering, sent as somebody sends it who reads the plan and says yes."""

from typing import Any

from django.http import HttpResponse
from django.test import Client


def send(client: Client, path: str, data: dict[str, Any], **options: Any) -> HttpResponse:
    answer = client.post(path, data, **options)
    if (answer.context or {}).get("plan") is None:
        return answer
    return client.post(path, {"reason": "As planned.", **data, "confirm": answer.context["plan"].digest}, **options)
