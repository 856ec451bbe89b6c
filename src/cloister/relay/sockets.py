"""One WebSocket as the core's `Connection`: frames are queued here and written once per turn of the loop.

Source: docs/spec/relay.md ("Fan-out"), RFC 6455 section 5.2. A frame's bytes and WebSocket header are joined once
for all its readers (`Packer`); `flush` gives everything that is queued to the transport in one write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

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
    """Who flushes sockets."""

    pack: Callable[[bytes], bytes]

    def dirty(self, socket: Socket) -> None:
        """This socket has something to write."""
        ...


class Socket:
    """A connection of the core over an asyncio transport."""

    __slots__ = ("_buffered", "_closing", "_owner", "_queue", "_transport", "address", "room", "tls")

    def __init__(self, owner: Owner, transport: asyncio.WriteTransport, address: str, tls: bytes) -> None:
        self._owner = owner
        self._transport = transport
        self._buffered = transport.get_write_buffer_size
        self._queue: list[bytes] = []
        self._closing = False
        self.address = address
        self.tls = tls
        self.room: asyncio.Future[None] | None = None

    @property
    def waiting(self) -> int:
        """See `Connection.waiting`."""
        queue = self._queue
        return sum(map(len, queue)) + self._buffered() if queue else self._buffered()

    def send(self, data: bytes) -> None:
        """See `Connection.send`; on a closed connection it is lost."""
        if self._closing:
            return
        queue = self._queue
        if not queue:
            self._owner.dirty(self)
        queue.append(self._owner.pack(data))

    def close(self, code: str) -> None:
        """See `Connection.close`."""
        if not self._closing:
            self._closing = True
            if not self._queue:
                self._owner.dirty(self)

    def flush(self) -> bool:
        """Write what is queued; end the connection if that was asked for. True when much waited or waits."""
        queue, self._queue = self._queue, []
        if self._transport.is_closing():
            return False
        if self._closing:
            queue.append(_CLOSE_NORMAL)
        data = queue[0] if len(queue) == 1 else b"".join(queue)
        self._transport.write(data)
        if self._closing:
            self._transport.close()
        return len(data) > _MUCH or self._buffered() > _MUCH

    def abort(self) -> None:
        """End now, whatever is still to be written."""
        self._transport.abort()
