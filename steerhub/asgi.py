"""The web process: serving nodes are answered by the fleet application, everyone else by Django."""

import gc
import os

import django
from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest
from django.http.response import HttpResponseBase

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "steerhub.settings")
django.setup(set_prefix=False)

from registry.fleet.app import FleetApplication  # noqa: E402  (Django must be set up before its models are imported)
from registry.web.descriptors import raise_limit  # noqa: E402
from steerhub.startup import refuse_wrong_settings  # noqa: E402


class SyncHandler(ASGIHandler):
    """Django in one thread from the first middleware to the view and back: all of ours are sync.

    Left to itself Django asks each middleware from the event loop, and goes to a thread and back for every one.
    """

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        return await sync_to_async(self.get_response)(request)


refuse_wrong_settings()
# What is kept of snapshots are a million small objects that live on. By default Python looks through all of them every dozen
# requests, for as long as three requests take. Looking less often through more of the young ones pauses for a third of one.
gc.freeze()
gc.set_threshold(10_000, 5, 50)
# Before the places for held connections are counted.
raise_limit()
application = FleetApplication(fallback=SyncHandler())
