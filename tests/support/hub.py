"""A real hub for tests: the whole ASGI application on a real socket."""

from contextlib import AbstractContextManager

from tests.support.serving import served


def serve_hub(**options: int) -> AbstractContextManager[str]:
    """`with serve_hub() as url:`, or serve_hub(max_held=1)."""
    from django.core.asgi import get_asgi_application

    from registry.fleet.app import FleetApplication

    return served(FleetApplication(get_asgi_application(), **options))
