"""The relay's one port: WebSocket over TLS 1.3 for frames, plain HTTP answers for health, nothing else.

Source: docs/spec/relay.md ("Server"), docs/spec/wire.md ("Transport").

One turn of the loop: frames that arrived are given to the core; then `_turn` hands the gathered batch to the
writer (if it is idle) and writes each dirty connection once. When the writer is done, `_stored` lets the core sign,
acknowledge and push, and takes the next turn.

Invariants
- TLS 1.3 only, no compression, no HTML, no version in any answer; a stranger has 10 s for each of TLS handshake,
  HTTP request and first frame, and limits.CONNECTIONS places for each address.
- A connection is not read while it is `busy`: while its answers wait, or too many of its requests are under way.
- A slow reader holds back limits.SEND_BUFFER and one frame; nobody waits for it.
- Out of file descriptors: nothing is accepted for a while, what stands goes on.
- `stop` stores and acknowledges what was accepted, says Bye, and is done in less than five seconds.
"""

from __future__ import annotations

import asyncio
import errno
import socket as sockets_module
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from cloister.relay.core import Batch, RelayCore
from cloister.relay.gate import Gate, place_of
from cloister.relay.inbox import Inbox, accept_key
from cloister.relay.journal import Journal
from cloister.relay.sockets import Packer, Socket, flush
from cloister.relay.store.interface import Store
from cloister.relay.writer import Writer
from cloister.wire import limits

PATH: Final = "/v1"
_SECONDS: Final = limits.HANDSHAKE.value / 1000
_TICK: Final = 1.0
_LAG: Final = 0.02
"""Seconds between looks at readers for whom much waits."""
_STOP: Final = 4.0
_NO_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_SEND_KERNEL: Final = 256 * limits.KIB
_BYTES = {"Server": "cloister", "Content-Type": "text/plain"}


@dataclass(eq=False, slots=True)
class _Opening:
    """A connection on its way in: it holds a place at the gate until it has logged in or ended."""

    gate: Gate
    address: str
    timer: asyncio.TimerHandle | None = None
    requested: bool = False
    inside: bool = True

    def expect_request(self, timer: asyncio.TimerHandle) -> None:
        """TLS stands: `timer` ends the connection unless a request comes (or has come already)."""
        self.timer = timer
        if self.requested:
            self.begun()

    def begun(self) -> None:
        """The HTTP request is here."""
        self.requested = True
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def end(self) -> None:
        """The place is free."""
        self.begun()
        if self.inside:
            self.inside = False
            self.gate.leave(self.address)


class _Protocol(RequestHandler):
    """aiohttp's HTTP protocol, with an opening, and with error answers that say nothing."""

    __slots__ = ("opening",)

    def __init__(self, manager: Any, loop: asyncio.AbstractEventLoop, opening: _Opening) -> None:
        quiet: Any = None  # no access log: it would name addresses
        super().__init__(
            manager, loop=loop, access_log=quiet, tcp_keepalive=False, keepalive_timeout=0, lingering_time=0
        )
        self.opening = opening

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection ended before or after its request."""
        self.opening.end()
        super().connection_lost(exc)

    def handle_error(
        self, request: Any, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """A bare status."""
        return _plain(status)


def _plain(status: int, body: str = "") -> web.Response:
    response = web.Response(status=status, body=body.encode(), headers=_BYTES)
    response.force_close()
    return response


def tls_context(certificate: str) -> ssl.SSLContext:
    """TLS 1.3 only, from a PEM file with certificate and key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(certificate)
    return context


def listen(host: str, port: int) -> sockets_module.socket:
    """A listening socket; an empty host is every address of this machine."""
    if not host and sockets_module.has_dualstack_ipv6():
        listener = sockets_module.create_server(
            ("", port), family=sockets_module.AF_INET6, dualstack_ipv6=True, backlog=1024
        )
    else:
        family = sockets_module.AF_INET6 if ":" in host else sockets_module.AF_INET
        listener = sockets_module.create_server((host, port), family=family, backlog=1024)
    listener.setblocking(False)
    return listener


class Server:
    """The running relay: core, store and connections on one event loop."""

    def __init__(
        self,
        core: RelayCore,
        store: Store,
        listener: sockets_module.socket,
        tls: ssl.SSLContext,
        tls_hash: bytes,
        *,
        now: Callable[[], int],
        journal: Journal,
        disk_full: Callable[[], bool] = lambda: False,
    ) -> None:
        self._core = core
        self._store = store
        self._listener = listener
        self._tls = tls
        self._tls_hash = tls_hash
        self._now = now
        self._journal = journal
        self._disk_full = disk_full
        self._loop = asyncio.get_running_loop()
        self._gate = Gate(limits.CONNECTIONS.value)
        self._http = web.Server(self._request)
        self._writer = Writer(store, self._loop, self._stored, self._failed)
        self._sockets: set[Socket] = set()
        self.dirty: list[Socket] = []
        self._lagging: set[Socket] = set()
        self._lag_timer: asyncio.TimerHandle | None = None
        self._turn_due = False
        self._writing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._over: asyncio.Future[Exception | None] = self._loop.create_future()
        self._packer = Packer()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def connections(self) -> int:
        """WebSockets that stand."""
        return len(self._sockets)

    # --- running --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until `stop`; StoreFailed when a batch could not be stored."""
        self._spawn(self._accept())
        self._spawn(self._ticking())
        self._journal.say("started", port=self.port)
        error = await self._over
        if error is not None:
            raise error

    async def stop(self) -> None:
        """Accept nothing more, finish what was accepted, say goodbye, end."""
        self._journal.say("stopping", connections=len(self._sockets))
        self._listener.close()
        deadline = self._loop.time() + _STOP
        self._turn()
        await self._until(lambda: not self._writing or self._over.done(), deadline)
        self._core.stop("closed")
        self._turn()
        await self._until(lambda: not self._sockets, deadline)
        await self._end(None)

    async def _until(self, reached: Callable[[], bool], deadline: float) -> None:
        while not reached():
            self._changed.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._changed.wait()
            except TimeoutError:
                return

    async def _end(self, error: Exception | None) -> None:
        self._listener.close()
        for socket in list(self._sockets):
            socket.abort()
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)
        if error is None:
            self._writer.stop()
        if not self._over.done():
            self._over.set_result(error)
        self._journal.say("stopped")

    def _spawn(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._journal.say("internal")

    async def _ticking(self) -> None:
        """Once a second: deadlines, disk, retention."""
        while True:
            await asyncio.sleep(_TICK)
            self.check_disk()
            self._core.tick(self._now())
            self.wake()

    def check_disk(self) -> None:
        """Refuse what needs room before there is none."""
        full = self._disk_full()
        if full != self._core.full:
            self._core.full = full
            self._journal.say("disk_full" if full else "disk_free")

    # --- turns ----------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Take a turn after what is due now; called after every call into the core."""
        if not self._turn_due:
            self._turn_due = True
            self._loop.call_soon(self._turn)

    def pack(self, data: bytes) -> bytes:
        """See `Owner.pack`."""
        return self._packer.pack(data)

    def _turn(self) -> None:
        self._turn_due = False
        if not self._writing and not self._over.done():
            batch = self._core.take_batch()
            if batch is not None:
                if batch.writes:
                    self._writing = True
                    self._writer.submit(batch)
                else:
                    self._core.committed(batch, self._now())
        self._flush()

    def _stored(self, batch: Batch) -> None:
        self._writing = False
        self._turn_due = True  # it is taken here, at once
        self._core.committed(batch, self._now())
        self._turn()
        self._changed.set()

    def _failed(self, error: Exception) -> None:
        self._journal.say("store_failed")
        self._core.failed()
        self._flush()
        self._spawn(self._end(error))

    def _flush(self) -> None:
        if self.dirty:
            for socket in flush(self.dirty):
                self._lag(socket)
            self.dirty.clear()

    # --- slow readers ---------------------------------------------------------------------------------------

    def _lag(self, socket: Socket) -> None:
        self._lagging.add(socket)
        if self._lag_timer is None:
            self._lag_timer = self._loop.call_later(_LAG, self._look)

    def _look(self) -> None:
        """Who has read enough to be given more, and to be read from again?"""
        self._lag_timer = None
        for socket in list(self._lagging):
            if socket.waiting * 2 < limits.SEND_BUFFER.value:
                self._lagging.discard(socket)
                self._core.drained(socket, self._now())
            if socket.paused:
                if self._core.busy(socket):
                    self._lagging.add(socket)
                else:
                    socket.paused = False
                    socket.transport.resume_reading()
        if self._lagging:
            self._lag_timer = self._loop.call_later(_LAG, self._look)
        self.wake()

    # --- connections ----------------------------------------------------------------------------------------

    async def _accept(self) -> None:
        while True:
            try:
                accepted, peer = await self._loop.sock_accept(self._listener)
            except OSError as error:
                if error.errno not in _NO_FILES:
                    return  # the listener was closed
                self._journal.say("out_of_files", connections=len(self._sockets))
                await asyncio.sleep(0.25)
                continue
            self._spawn(self._open(accepted, place_of(peer[0])))

    async def _open(self, accepted: sockets_module.socket, address: str) -> None:
        """TLS for one connection, once it has a place."""
        if not await self._gate.enter(address):
            accepted.close()
            return
        opening = _Opening(self._gate, address)
        try:
            _tune(accepted)
            transport, _ = await self._loop.connect_accepted_socket(
                lambda: _Protocol(self._http, self._loop, opening),
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=_SECONDS,
                ssl_shutdown_timeout=2.0,
            )
        except (OSError, ssl.SSLError, TimeoutError):
            accepted.close()
            opening.end()
            return
        opening.expect_request(self._loop.call_later(_SECONDS, transport.abort))

    async def _request(self, request: web.BaseRequest) -> web.StreamResponse:
        """One HTTP request."""
        opening = request.protocol.opening  # type: ignore[attr-defined]
        opening.begun()
        if request.method != "GET":
            return _plain(405)
        if request.path == PATH:
            return await self._websocket(request, opening)
        if request.path == "/healthz":
            return _plain(200, "ok\n")
        if request.path == "/readyz":
            ready = not self._core.full and not self._over.done()
            return _plain(200 if ready else 503, "ready\n" if ready else "not ready\n")
        return _plain(404)

    async def _websocket(self, request: web.BaseRequest, opening: _Opening) -> web.StreamResponse:
        accept = accept_key(request)
        if accept is None:
            return _plain(400)
        headers = {
            "Server": "cloister",
            "Upgrade": "websocket",
            "Connection": "upgrade",
            "Sec-WebSocket-Accept": accept,
        }
        response = web.StreamResponse(status=101, headers=headers)
        response.force_close()
        await response.prepare(request)
        transport = request.transport
        if transport is None:
            return response
        socket = Socket(self, transport, opening.address, self._tls_hash)
        inbox = Inbox(request.protocol, self._loop, partial(self._receive, socket, opening), socket.send_packet)
        self._sockets.add(socket)
        self._core.connect(socket, self._now())
        request.protocol.set_parser(inbox.parser(limits.FRAME.value))
        request.protocol.keep_alive(False)
        self.wake()
        try:
            await inbox.ended
        finally:
            self._turn()  # what was said last is still written
            self._core.disconnect(socket, self._now())
            self._sockets.discard(socket)
            self._lagging.discard(socket)
            opening.end()
            self._changed.set()
            self.wake()
        return response

    def _receive(self, socket: Socket, opening: _Opening, data: bytes) -> None:
        """One message of a client."""
        read_on = self._core.frame(socket, data, self._now())
        if not self._turn_due:
            self.wake()
        if opening.inside and self._core.known(socket):
            opening.end()
        if not read_on and not socket.paused:
            socket.paused = True
            socket.transport.pause_reading()
            self._lag(socket)


def _tune(accepted: sockets_module.socket) -> None:
    """Notice a dead peer within half a minute; let the kernel hold back a bounded amount."""
    accepted.setblocking(False)
    for level, option, value in (
        (sockets_module.SOL_SOCKET, sockets_module.SO_KEEPALIVE, 1),
        (sockets_module.SOL_SOCKET, sockets_module.SO_SNDBUF, _SEND_KERNEL),
        (sockets_module.IPPROTO_TCP, sockets_module.TCP_NODELAY, 1),
        (sockets_module.IPPROTO_TCP, getattr(sockets_module, "TCP_KEEPIDLE", 0), 15),
        (sockets_module.IPPROTO_TCP, getattr(sockets_module, "TCP_KEEPINTVL", 0), 5),
        (sockets_module.IPPROTO_TCP, getattr(sockets_module, "TCP_KEEPCNT", 0), 3),
        (sockets_module.IPPROTO_TCP, getattr(sockets_module, "TCP_USER_TIMEOUT", 0), 30_000),
    ):
        if option:
            accepted.setsockopt(level, option, value)
