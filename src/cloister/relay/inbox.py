"""WebSocket messages as they arrive: from aiohttp's parser straight into the core, without a task in between.

Source: RFC 6455 sections 4.2.2 and 5. aiohttp's `WebSocketResponse` hands each message to a waiting task through a
queue; here the parser's queue *is* the receiver. That saves a third of what it costs to take a message in, and an
idle connection has nothing but this.

Invariants
- A binary message is given away before the next one is parsed; any other kind ends the connection, ping and pong
  aside. What the parser refuses (masks, sizes, fragments, codes) ends it, too.
- Nothing that a receiver raises escapes into the parser.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Callable
from typing import Any, Final

from aiohttp import WSMsgType, web
from aiohttp._websocket.reader import WebSocketDataQueue
from aiohttp.http import WebSocketReader

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_PONG: Final = 0x8A


def accept_key(request: web.BaseRequest) -> str | None:
    """The value of Sec-WebSocket-Accept; None when this is no WebSocket handshake of version 13."""
    headers = request.headers
    key = headers.get("Sec-WebSocket-Key", "")
    try:
        nonce = base64.b64decode(key, validate=True)
    except binascii.Error:
        return None
    upgrade = headers.get("Upgrade", "").strip().lower() == "websocket"
    version = headers.get("Sec-WebSocket-Version") == "13"
    if not (upgrade and version and len(nonce) == 16 and "upgrade" in headers.get("Connection", "").lower()):
        return None
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


class Inbox(WebSocketDataQueue):
    """Where a connection's parser puts messages. `ended` is done when nothing more will come."""

    def __init__(
        self,
        protocol: Any,
        loop: asyncio.AbstractEventLoop,
        receive: Callable[[bytes], None],
        answer: Callable[[bytes], None],
    ) -> None:
        super().__init__(protocol, 2**16, loop=loop)
        self._receive = receive
        self._answer = answer
        self.ended: asyncio.Future[None] = loop.create_future()

    def parser(self, most: int) -> WebSocketReader:
        """A parser that delivers here, for messages of at most `most` bytes, without compression."""
        return WebSocketReader(self, most + 1, compress=False, decode_text=False)

    def feed_data(self, data: Any, size: int) -> None:
        """One message; called by the parser."""
        kind = data[0]
        try:
            if kind is WSMsgType.BINARY:
                self._receive(data[1])
            elif kind is WSMsgType.PING:
                payload = bytes(data[1])
                self._answer(bytes([_PONG, len(payload)]) + payload)
            elif kind is not WSMsgType.PONG:
                if kind is WSMsgType.TEXT:
                    self._receive(b"")  # not a frame: the receiver says so
                self.feed_eof()
        except Exception:  # the parser would swallow it
            self.feed_eof()

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """The parser refused something."""
        self.feed_eof()

    def feed_eof(self) -> None:
        """The connection is over."""
        if not self.ended.done():
            self.ended.set_result(None)
