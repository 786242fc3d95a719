"""How the web server treats connections: `uvicorn steerhub.asgi:application --http steerhub.protocol:RoomyProtocol`."""

import asyncio
import time

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from registry.web.descriptors import count_connections

# How long a connection may be open before its first request is there.
FIRST_REQUEST_SECONDS = 10.0


class RoomyProtocol(HttpToolsProtocol):
    """Whoever comes finds a place: where as many connections are open as there may be, one that is idle gives way.

    Left to itself the server runs out of descriptors, and then turns away whoever comes next: a kill as soon as anybody.
    """

    made_at = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if len(self.connections) >= count_connections():
            idle = [each for each in self.connections if isinstance(each, RoomyProtocol) and each.is_idle]
            # Those that were answered first: nobody waits for anything there.
            gives_way = min(idle, key=lambda each: (each.cycle is None, each.made_at), default=None)
            if gives_way is not None:
                gives_way.transport.abort()
        super().connection_made(transport)
        self.made_at = time.monotonic()
        self.loop.call_later(FIRST_REQUEST_SECONDS, self._close_if_nothing_came)

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _close_if_nothing_came(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()
