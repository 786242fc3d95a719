"""A real hub for tests: uvicorn in a thread on a free port of 127.0.0.1, with the whole ASGI application."""

import threading
import time

import uvicorn


class serve:
    """`with serve() as url:`, or serve(max_held=1)."""

    def __init__(self, **options: int) -> None:
        from django.core.asgi import get_asgi_application

        from registry.fleet.app import FleetApplication

        self.application = FleetApplication(get_asgi_application(), **options)
        config = uvicorn.Config(self.application, host="127.0.0.1", port=0, log_config=None, timeout_graceful_shutdown=1, lifespan="on")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)

    def __enter__(self) -> str:
        self.thread.start()
        wait_until(lambda: self.server.started, seconds=10)
        return f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(10)


def wait_until(holds, *, seconds: float) -> float:
    """Until the condition holds; the seconds it took."""
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < seconds, "it did not happen in time"
        time.sleep(0.01)
    return time.monotonic() - started
