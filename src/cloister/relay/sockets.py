"""One WebSocket as the core's `Connection`: frames are queued here and written once per turn of the loop.

Source: docs/spec/relay.md ("Fan-out"), RFC 6455 section 5.2. A frame's bytes and WebSocket header are joined once
for all its readers (`Packer`); `flush` gives everything that is queued to the transport in one write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final, Protocol

from cloister.relay.core import Connection
from cloister.wire import limits

_FIN_BINARY: Final = b"\x82"
_CLOSE_NORMAL: Final = b"\x88\x02\x03\xe8"
_MUCH: Final = limits.SEND_BUFFER.value // 2
"""Bytes that wait for a reader who is looked after until they are fewer."""


class Packer:
    """Puts the WebSocket header before a frame; the same bytes object again costs nothing."""

    __slots__ = ("_data", "_packet")

    def __init__(self) -> None:
        self._data = b""
        self._packet = b""

    def pack(self, data: bytes) -> bytes:
        """An unmasked binary message in one frame."""
        if data is not self._data:
            size = len(data)
            if size < 126:
                head = _FIN_BINARY + size.to_bytes(1, "big")
            elif size < 65_536:
                head = _FIN_BINARY + b"\x7e" + size.to_bytes(2, "big")
            else:
                head = _FIN_BINARY + b"\x7f" + size.to_bytes(8, "big")
            self._data, self._packet = data, head + data
        return self._packet


class Owner(Protocol):
    """Who writes to sockets. It flushes those in `dirty` after every call into the core."""

    dirty: list[Socket]

    def pack(self, data: bytes) -> bytes:
        """A frame with its header."""
        ...


class Socket:
    """A connection of the core over an asyncio transport."""

    __slots__ = ("address", "buffered", "closing", "mark", "pack", "paused", "queue", "tls", "transport")

    def __init__(self, owner: Owner, transport: asyncio.Transport, address: str, tls: bytes) -> None:
        self.mark = owner.dirty.append
        self.pack = owner.pack
        self.transport = transport
        self.buffered = transport.get_write_buffer_size
        self.queue: list[bytes] = []
        self.closing = False
        self.address = address
        self.tls = tls
        self.paused = False

    @property
    def waiting(self) -> int:
        """See `Connection.waiting`."""
        queue = self.queue
        return sum(map(len, queue)) + self.buffered() if queue else self.buffered()

    def send(self, data: bytes) -> None:
        """See `Connection.send`; on a closed connection it is lost."""
        if self.closing:
            return
        queue = self.queue
        if not queue:
            self.mark(self)
        queue.append(self.pack(data))

    def send_packet(self, packet: bytes) -> None:
        """Queue a WebSocket frame that is ready: a pong."""
        if not self.closing:
            if not self.queue:
                self.mark(self)
            self.queue.append(packet)

    def close(self, code: str) -> None:
        """See `Connection.close`."""
        if not self.closing:
            self.closing = True
            if not self.queue:
                self.mark(self)

    def abort(self) -> None:
        """End now, whatever is still to be written."""
        self.transport.abort()


def broadcast(connections: Iterable[Connection], data: bytes) -> list[Connection]:
    """`ports.broadcast` for sockets: one loop without calls, because it runs for every reader of every entry."""
    behind: list[Connection] = []
    packet, size = b"", limits.SEND_BUFFER.value - len(data)
    for socket in connections:
        if not isinstance(socket, Socket):
            raise TypeError("not a connection of this server")
        queue = socket.queue
        waiting = sum(map(len, queue)) + socket.buffered() if queue else socket.buffered()
        if waiting and waiting > size:
            behind.append(socket)
        elif not socket.closing:
            packet = packet or socket.pack(data)
            if not queue:
                socket.mark(socket)
            queue.append(packet)
    return behind


def flush(sockets: Iterable[Socket]) -> list[Socket]:
    """Write what is queued, one write for each; those for whom much waited or waits."""
    slow = []
    for socket in sockets:
        queue, transport = socket.queue, socket.transport
        if transport.is_closing():
            queue.clear()
            continue
        if socket.closing:
            queue.append(_CLOSE_NORMAL)
        data = queue[0] if len(queue) == 1 else b"".join(queue)
        queue.clear()
        transport.write(data)
        if socket.closing:
            transport.close()
        elif len(data) > _MUCH or socket.buffered() > _MUCH:
            slow.append(socket)
    return slow
