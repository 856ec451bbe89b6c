"""The running relay: core, store, listeners and connections on one event loop.

Source: docs/spec/relay.md ("Server"), docs/spec/wire.md ("Transport").

One turn of the loop: frames that arrived are given to the core; then `_turn` hands the gathered batch to the
writer (if it is idle) and writes each dirty connection once. When the writer is done, `_stored` lets the core sign,
acknowledge and push, and takes the next turn.

Invariants
- A connection is not read while it is `busy`: while its answers wait, or too many of its requests are under way.
- A stranger's message is at most limits.LOGIN_FRAME long; who does not read its goodbye is cut off.
- A slow reader holds back limits.SEND_BUFFER and one frame; nobody waits for it.
- `stop` stores and acknowledges what was accepted, says Bye, and is done in less than five seconds.
"""

from __future__ import annotations

import asyncio
import socket as sockets_module
import ssl
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

from cloister.relay.core import Batch, RelayCore
from cloister.relay.framing import (
    BINARY,
    CLOSE_NORMAL,
    TEXT,
    LengthReader,
    Packer,
    Reader,
    Translated,
    WebSocketReader,
    binary_message,
    prefixed,
    text_message,
)
from cloister.relay.gate import Gate, Place
from cloister.relay.http import Http
from cloister.relay.journal import Journal
from cloister.relay.listener import Listener
from cloister.relay.sockets import Socket, flush
from cloister.relay.store.interface import Store
from cloister.relay.writer import Writer
from cloister.wire import json, limits
from cloister.wire.login import NO_TLS

_TICK: Final = 1.0
_STOP: Final = 4.0
_GOODBYE: Final = limits.GOODBYE.value / 1000


class Server:
    """The running relay."""

    def __init__(
        self,
        core: RelayCore,
        store: Store,
        listening: sockets_module.socket,
        tls: ssl.SSLContext,
        tls_hash: bytes,
        *,
        now: Callable[[], int],
        journal: Journal,
        disk_full: Callable[[], bool] = lambda: False,
        tcp: sockets_module.socket | None = None,
    ) -> None:
        self._core = core
        self._tls_hash = tls_hash
        self._now = now
        self._journal = journal
        self._disk_full = disk_full
        self._loop = asyncio.get_running_loop()
        self._writer = Writer(store, self._loop, self._stored, self._failed)
        self._sockets: set[Socket] = set()
        self.dirty: list[Socket] = []
        self._held: set[Socket] = set()
        self._turn_due = False
        self._writing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._over: asyncio.Future[Exception | None] = self._loop.create_future()
        self._prefixed = Packer(prefixed, b"")
        binary = partial(self._websocket, Packer(binary_message, CLOSE_NORMAL), _binary, limits.FRAME.value)
        objects = partial(self._websocket, Packer(_json_message, CLOSE_NORMAL), _json, json.MOST)
        http = Http({"": binary, json.SUBPROTOCOL: objects}, lambda: not core.full and not self._over.done())
        listener = partial(Listener, tls=tls, gate=Gate(limits.CONNECTIONS.value), out_of_files=self._out_of_files)
        self._listeners = [
            listener(listening, made=lambda place, _: http.protocol(place), first_request=True, plain_at_home=False)
        ]
        if tcp is not None:
            self._listeners.append(listener(tcp, made=self._stream, first_request=False, plain_at_home=True))

    @property
    def port(self) -> int:
        """The port that WebSockets are accepted on."""
        return self._listeners[0].port

    @property
    def tcp_port(self) -> int | None:
        """The port of raw TCP, None where it is not served."""
        return self._listeners[1].port if len(self._listeners) > 1 else None

    @property
    def connections(self) -> int:
        """Connections that stand."""
        return len(self._sockets)

    # --- running --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until `stop`; StoreFailed when a batch could not be stored."""
        for listener in self._listeners:
            self._spawn(listener.accept(self._spawn))
        self._spawn(self._ticking())
        self._journal.say("started", port=self.port)
        error = await self._over
        if error is not None:
            raise error

    async def stop(self) -> None:
        """Accept nothing more, finish what was accepted, say goodbye, end."""
        self._journal.say("stopping", connections=len(self._sockets))
        self._close_listeners()
        deadline = self._loop.time() + _STOP
        self._turn()
        await self._until(lambda: not self._writing or self._over.done(), deadline)
        self._core.stop("closed")
        self._turn()
        await self._until(lambda: not self._sockets, deadline)
        await self._end(None)

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()

    async def _until(self, reached: Callable[[], bool], deadline: float) -> None:
        while not reached():
            self._changed.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._changed.wait()
            except TimeoutError:
                return

    async def _end(self, error: Exception | None) -> None:
        self._close_listeners()
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

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.faulty()

    def _out_of_files(self) -> None:
        self._journal.say("out_of_files", connections=len(self._sockets))

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
                self.drained(socket)
            self.dirty.clear()
        if self._held:
            self._release()

    def _release(self) -> None:
        """Read on from those that are not busy any more."""
        for socket in [each for each in self._held if not self._core.busy(each)]:
            self._held.discard(socket)
            socket.read_on()

    # --- sockets (see `sockets.Owner`) ----------------------------------------------------------------------

    def _websocket(
        self,
        packer: Packer,
        reader: Callable[[Socket], Reader],
        most: int,
        place: Place,
        ended: Callable[[Exception | None], None],
    ) -> Socket:
        return Socket(self, packer, reader, most, place, self._tls_hash, ended)

    def _stream(self, place: Place, secured: bool) -> Socket:
        """A connection of the raw TCP listener; without TLS the login's `tls` is zeros."""
        tls = self._tls_hash if secured else NO_TLS
        return Socket(self, self._prefixed, _length, limits.FRAME.value, place, tls)

    def opened(self, socket: Socket) -> None:
        """See `Owner`."""
        self._sockets.add(socket)
        self._core.connect(socket, self._now())
        self.wake()

    def received(self, socket: Socket, data: bytes) -> None:
        """See `Owner`."""
        read_on = self._core.frame(socket, data, self._now())
        if not self._turn_due:
            self._turn_due = True
            self._loop.call_soon(self._turn)
        if socket.place.held and self._core.known(socket):
            socket.let_in()
        if not read_on:
            self._hold(socket)

    def _hold(self, socket: Socket) -> None:
        self._held.add(socket)
        socket.hold()

    def touched(self, socket: Socket) -> None:
        """See `Owner`."""
        self.wake()
        if self._core.busy(socket):
            self._hold(socket)

    def drained(self, socket: Socket) -> None:
        """See `Owner`; on the next turn of the loop, because transports say it in the middle of a write."""
        self._loop.call_soon(self._drained, socket)

    def _drained(self, socket: Socket) -> None:
        self._core.drained(socket, self._now())
        self.wake()

    def closed(self, socket: Socket) -> None:
        """See `Owner`."""
        self._loop.call_later(_GOODBYE, socket.abort)

    def lost(self, socket: Socket) -> None:
        """See `Owner`."""
        self._core.disconnect(socket, self._now())
        self._sockets.discard(socket)
        self._held.discard(socket)
        self._changed.set()
        self.wake()

    def faulty(self) -> None:
        """See `Owner`."""
        self._journal.say("internal")


def _binary(socket: Socket) -> Reader:
    return WebSocketReader(socket, limits.LOGIN_FRAME.value, BINARY)


def _json(socket: Socket) -> Reader:
    return WebSocketReader(Translated(socket, json.binary), json.MOST_LOGIN, TEXT)


def _json_message(data: bytes) -> bytes:
    return text_message(json.text(data))


def _length(socket: Socket) -> Reader:
    return LengthReader(socket, limits.LOGIN_FRAME.value)
