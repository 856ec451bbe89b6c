"""One connection as the core's `Connection` and as asyncio's protocol: frames are queued here, written once a turn.

Source: docs/spec/relay.md ("Fan-out"). A frame's packet is made once for all its readers (`framing.Packer`); `flush`
gives everything that is queued to the transport in one write, and `broadcast` writes at once where nothing is queued
(the transport sends what it was given in one turn together). What arrives goes through a reader of `framing` straight
into the core, without a task in between.

Invariants
- A socket that is held gives nothing to its owner, neither from the network nor of what it has read already.
- Nothing that is done with a message escapes into the transport: a fault of ours ends this connection.
- The transport says when it holds back too much (`pause_writing`), so nobody asks it for every frame.
- `direct` is the packer while nothing is queued, the transport holds back little and nothing was closed; else None.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Protocol, cast

from cloister.relay.core import Connection
from cloister.relay.framing import Packer, Reader
from cloister.relay.gate import Place
from cloister.wire import limits

MUCH: Final = limits.SEND_BUFFER.value // 2
"""Bytes held back by the transport from which on its reader counts as slow."""


class Owner(Protocol):
    """Who serves sockets. It flushes those in `dirty` after every call into the core."""

    dirty: list[Socket]

    def opened(self, socket: Socket) -> None:
        """The socket stands."""
        ...

    def received(self, socket: Socket, data: bytes) -> None:
        """A message; an empty one stands for bytes that are none."""
        ...

    def touched(self, socket: Socket) -> None:
        """Something was queued outside the core: take a turn, and hold the socket if too much waits."""
        ...

    def drained(self, socket: Socket) -> None:
        """A slow reader has taken most of what waited."""
        ...

    def closed(self, socket: Socket) -> None:
        """The last bytes were written; the transport ends when they have been read, which may be never."""
        ...

    def lost(self, socket: Socket) -> None:
        """The socket is gone."""
        ...

    def faulty(self) -> None:
        """A message met an error of our own."""
        ...


class Socket(asyncio.Protocol):
    """A connection over an asyncio transport. `slow`: its transport holds back MUCH.

    `most` is the size of the longest message (bytes) once it has logged in; the reader begins with that of a stranger.
    """

    __slots__ = (
        "_ended", "_most", "_owner", "_queued", "_reader", "address", "closing", "direct", "mark", "message", "packer",
        "place", "queue", "slow", "tls", "transport", "write",
    )  # fmt: skip

    transport: asyncio.Transport

    def __init__(
        self,
        owner: Owner,
        packer: Packer,
        reader: Callable[[Socket], Reader],
        most: int,
        place: Place,
        tls: bytes,
        ended: Callable[[Exception | None], None] = lambda error: None,
    ) -> None:
        self._owner = owner
        self.message: Callable[[bytes], None] = partial(owner.received, self)  # see `framing.Receiver`
        self._reader = reader(self)
        self._most = most
        self._ended = ended
        self.mark = owner.dirty.append
        self.packer = packer
        self.direct: Packer | None = packer
        self.queue: list[bytes] = []
        self._queued = 0
        self.closing = False
        self.slow = False
        self.place = place
        self.address = place.address
        self.tls = tls

    # --- the transport's calls ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Over `transport`."""
        self.transport = cast("asyncio.Transport", transport)
        self.write = self.transport.write
        self.transport.set_write_buffer_limits(high=MUCH - 1, low=MUCH // 2)
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        """Bytes of the client."""
        try:
            self._reader.feed(data)
        except Exception:  # whatever it is: the transport would only print it
            self._owner.faulty()
            self.abort()

    def eof_received(self) -> None:
        """The client writes no more: what was answered is written, then it ends."""
        if self.queue:
            flush([self])
        self._owner.closed(self)

    def pause_writing(self) -> None:
        """The transport holds back MUCH."""
        self.slow = True
        self.direct = None

    def resume_writing(self) -> None:
        """The transport holds back little again."""
        self.slow = False
        self.settle()
        self._owner.drained(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        self.closing = True
        self.direct = None
        self.place.leave()
        self._owner.lost(self)
        self._ended(exc)

    def let_in(self) -> None:
        """It has logged in: its place is free, its messages may be `most` bytes long."""
        self.place.leave()
        self._reader.most = self._most

    def hold(self) -> None:
        """Read no more, until `read_on`."""
        if not self._reader.held:
            self._reader.held = True
            self.transport.pause_reading()

    def read_on(self) -> None:
        """First what was read already; it may lead to another `hold`."""
        self._reader.held = False
        self.data_received(b"")
        if not self._reader.held:
            self.transport.resume_reading()

    # --- the reader's calls ---------------------------------------------------------------------------------

    def answer(self, packet: bytes) -> None:
        """See `framing.Receiver`."""
        if not self.closing:
            self._queue(packet)
            self._owner.touched(self)

    def leave(self) -> None:
        """See `framing.Receiver`."""
        self.close("closed")
        self._owner.touched(self)

    # --- the core's calls -----------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """See `Connection.waiting`."""
        return self._queued + self.transport.get_write_buffer_size()

    def send(self, data: bytes) -> None:
        """See `Connection.send`; on a closed connection it is lost."""
        if not self.closing:
            self._queue(self.packer.pack(data))

    def _queue(self, packet: bytes) -> None:
        if not self.queue:
            self.direct = None
            self.mark(self)
        self.queue.append(packet)
        self._queued += len(packet)

    def take(self) -> bytes:
        """What is queued, which is not any more."""
        data = self.queue[0] if len(self.queue) == 1 else b"".join(self.queue)
        self.queue.clear()
        self._queued = 0
        return data

    def settle(self) -> None:
        """May a packet be written at once?"""
        if not (self.queue or self.slow or self.closing):
            self.direct = self.packer

    def close(self, code: str) -> None:
        """See `Connection.close`."""
        if not self.closing:
            self.closing = True
            self._queue(self.packer.goodbye)

    def finish(self) -> None:
        """Nothing more is written."""
        self.transport.close()
        self._owner.closed(self)

    def abort(self) -> None:
        """End now, whatever is still to be written."""
        self.transport.abort()


def broadcast(connections: Iterable[Connection], data: bytes) -> list[Connection]:
    """`ports.broadcast` for sockets: hardly a call in the loop, because it runs for every reader of every entry.

    A `direct` reader has less than MUCH waiting: a pushed frame of up to MUCH may be added.
    """
    behind: list[Connection] = []
    room = limits.SEND_BUFFER.value - len(data)
    packer: Packer | None = None
    packet = b""
    for socket in cast("Iterable[Socket]", connections):
        direct = socket.direct
        if direct is None or room < MUCH:
            if (waiting := socket.waiting) and waiting > room:
                behind.append(socket)
            else:
                socket.send(data)
        elif direct is packer:
            socket.write(packet)
        else:
            packer = direct
            packet = packer.pack(data)
            socket.write(packet)
    return behind


def flush(sockets: Iterable[Socket]) -> list[Socket]:
    """Write what is queued, one write for each; those for whom much was queued and who have taken it already."""
    taken = []
    for socket in sockets:
        if not socket.queue:
            continue
        data, transport = socket.take(), socket.transport
        if transport.is_closing():
            continue
        socket.settle()
        transport.write(data)
        if socket.closing:
            socket.finish()
        elif len(data) >= MUCH and not socket.slow:
            taken.append(socket)
    return taken
