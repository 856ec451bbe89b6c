"""HTTP at the relay's port: health in plain text, and the step up to WebSocket. Nothing else, and no HTML.

Source: docs/spec/relay.md ("Server"), RFC 6455 section 4.2. aiohttp parses the request; once it has been answered
with 101 the transport belongs to a `Socket`, and aiohttp is told of nothing but its end.

Invariants
- Errors get a bare status; no answer names a version or an address, and nothing is logged.
- A connection is for one request.
- What a client sends after its request and before the answer 101 is not read: it ends at the relay's deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from cloister.relay.framing import accept_key
from cloister.relay.gate import Place
from cloister.relay.sockets import Socket

PATH: Final = "/v1"
_HEADERS: Final = {"Server": "cloister", "Content-Type": "text/plain"}
MakeSocket = Callable[[Place, Callable[[Exception | None], None]], Socket]
"""Makes a socket for who holds this place; the callback hears of its end."""


class HttpProtocol(RequestHandler):
    """aiohttp's HTTP protocol, with a place at the gate, and with error answers that say nothing."""

    __slots__ = ("place",)

    def __init__(self, manager: Any, loop: asyncio.AbstractEventLoop, place: Place) -> None:
        quiet: Any = None  # no access log: it would name addresses
        super().__init__(
            manager, loop=loop, access_log=quiet, tcp_keepalive=False, keepalive_timeout=0, lingering_time=0
        )
        self.place = place

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection ended before or after its request."""
        self.place.leave()
        super().connection_lost(exc)

    def handle_error(
        self, request: Any, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """A bare status."""
        return _plain(status)


def _plain(status: int, body: str = "") -> web.Response:
    response = web.Response(status=status, body=body.encode(), headers=_HEADERS)
    response.force_close()
    return response


class Http:
    """Answers requests; `sockets` makes a socket for each subprotocol ("" is none), `ready` is for /readyz."""

    def __init__(self, sockets: Mapping[str, MakeSocket], ready: Callable[[], bool]) -> None:
        self._sockets = sockets
        self._ready = ready
        self._server = web.Server(self._request)

    def protocol(self, place: Place) -> HttpProtocol:
        """The protocol of a new connection."""
        return HttpProtocol(self._server, asyncio.get_running_loop(), place)

    async def _request(self, request: web.BaseRequest) -> web.StreamResponse:
        protocol = cast("HttpProtocol", request.protocol)
        protocol.place.requested()
        if request.method != "GET":
            return _plain(405)
        if request.path == PATH:
            return await self._websocket(request, protocol)
        if request.path == "/healthz":
            return _plain(200, "ok\n")
        if request.path == "/readyz":
            ready = self._ready()
            return _plain(200 if ready else 503, "ready\n" if ready else "not ready\n")
        return _plain(404)

    async def _websocket(self, request: web.BaseRequest, protocol: HttpProtocol) -> web.StreamResponse:
        accept = accept_key(request.headers)
        if accept is None:
            return _plain(400)
        headers = {"Server": "cloister", "Upgrade": "websocket", "Connection": "upgrade"}
        subprotocol = self._subprotocol(request.headers.get("Sec-WebSocket-Protocol", ""))
        if subprotocol:
            headers["Sec-WebSocket-Protocol"] = subprotocol
        response = web.StreamResponse(status=101, headers=headers | {"Sec-WebSocket-Accept": accept})
        response.force_close()
        await response.prepare(request)
        transport = request.transport
        if transport is None:
            return response
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def end(error: Exception | None) -> None:
            protocol.connection_lost(error)
            if not ended.done():
                ended.set_result(None)

        socket = self._sockets[subprotocol](protocol.place, end)
        transport.set_protocol(socket)
        socket.connection_made(transport)
        await ended
        return response

    def _subprotocol(self, offered: str) -> str:
        """The first one offered that is spoken here, "" for none."""
        return next((name for name in map(str.strip, offered.split(",")) if name in self._sockets), "")
