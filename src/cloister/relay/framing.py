"""Where one message ends and the next begins: WebSocket (RFC 6455) and length prefixes, bytes in, messages out.

Source: RFC 6455 sections 4.2.2 and 5, docs/spec/wire.md ("Transport"). Pure: a reader is fed what arrived and gives
each whole message away at once; a packer puts the header before a message that goes out.

Invariants
- At most one message of `most` bytes and one read of the network are kept, however the bytes are cut up. `most` grows
  when who speaks has logged in.
- One read of the network brings at most limits.BESIDE frames that are no whole message: they cost as much work.
- A reader that is `held` gives nothing more away, also of what it was fed already, until it is fed again (or nothing).
- What breaks the framing is given away once as an empty message, which is no frame: the receiver says so and ends
  the connection. Nothing is read after it.
- Clients mask, lengths have their shortest form, reserved bits are zero, control frames are whole and short.
- A message's bytes are packed once for all its readers.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from cloister.errors import PeerError
from cloister.wire import limits

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUATION, TEXT, BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_FIN: Final = 0x80
_LONGEST_CONTROL: Final = 125
_BESIDE: Final = limits.BESIDE.value
CLOSE_NORMAL: Final = b"\x88\x02\x03\xe8"
"""A close frame with status 1000."""


def accept_key(headers: Mapping[str, str]) -> str | None:
    """The value of Sec-WebSocket-Accept; None when this is no WebSocket handshake of version 13."""
    key = headers.get("Sec-WebSocket-Key", "")
    try:
        nonce = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        return None
    upgrade = headers.get("Upgrade", "").strip().lower() == "websocket"
    version = headers.get("Sec-WebSocket-Version") == "13"
    if not (upgrade and version and len(nonce) == 16 and "upgrade" in headers.get("Connection", "").lower()):
        return None
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


# --- going out ----------------------------------------------------------------------------------------------


def _message(opcode: int, data: bytes) -> bytes:
    size = len(data)
    if size < 126:
        return bytes((_FIN | opcode, size)) + data
    if size < 65_536:
        return bytes((_FIN | opcode, 126)) + size.to_bytes(2, "big") + data
    return bytes((_FIN | opcode, 127)) + size.to_bytes(8, "big") + data


def binary_message(data: bytes) -> bytes:
    """An unmasked binary message in one WebSocket frame."""
    return _message(BINARY, data)


def text_message(data: bytes) -> bytes:
    """An unmasked text message in one WebSocket frame."""
    return _message(TEXT, data)


def prefixed(data: bytes) -> bytes:
    """A message after its length (4 bytes, big-endian)."""
    return len(data).to_bytes(4, "big") + data


class Packer:
    """Makes packets of messages; the same bytes object again costs nothing. `goodbye` are the last bytes sent."""

    __slots__ = ("_data", "_make", "_packet", "goodbye")

    def __init__(self, make: Callable[[bytes], bytes], goodbye: bytes) -> None:
        self._make = make
        self._data: bytes | None = None
        self._packet = b""
        self.goodbye = goodbye

    def pack(self, data: bytes) -> bytes:
        """The packet of a message."""
        if data is not self._data:
            self._data, self._packet = data, self._make(data)
        return self._packet


# --- coming in ----------------------------------------------------------------------------------------------


class Reader(Protocol):
    """Takes bytes as they arrive; its owner sets `held`, and `most`, the bytes of the longest message."""

    held: bool
    most: int

    def feed(self, data: bytes) -> None:
        """The next bytes of the connection."""
        ...


class Receiver(Protocol):
    """Who gets what a reader finds."""

    def message(self, data: bytes) -> None:
        """A whole message; an empty one stands for bytes that break the framing."""
        ...

    def answer(self, packet: bytes) -> None:
        """A packet to send back: a pong."""
        ...

    def leave(self) -> None:
        """The other end has said goodbye."""
        ...


class Translated:
    """A receiver in another encoding: each message is translated before `inner` gets it, or stays unreadable."""

    __slots__ = ("_inner", "_translate")

    def __init__(self, inner: Receiver, translate: Callable[[bytes], bytes]) -> None:
        self._inner = inner
        self._translate = translate

    def message(self, data: bytes) -> None:
        """See `Receiver`."""
        try:
            data = self._translate(data)
        except PeerError:
            data = b""
        self._inner.message(data)

    def answer(self, packet: bytes) -> None:
        """See `Receiver`."""
        self._inner.answer(packet)

    def leave(self) -> None:
        """See `Receiver`."""
        self._inner.leave()


class _Kept(ABC):
    """Bytes that do not make a whole unit yet, and how many would."""

    __slots__ = ("_beside", "_bytes", "_need", "held", "most", "over")

    def __init__(self, most: int) -> None:
        self._bytes = bytearray()
        self._need = 0
        self._beside = 0
        self.most = most
        self.held = False
        self.over = False

    def feed(self, data: bytes) -> None:
        """The next bytes of the connection."""
        self._beside = 0
        if self._bytes:
            self._bytes += data
            if len(self._bytes) < self._need:
                return
            data = bytes(self._bytes)
            self._bytes.clear()
        at, end = 0, len(data)
        while at < end and not (self.over or self.held):
            taken = self._unit(data, at, end)
            if not taken:
                self._bytes += data[at:]
                return
            at += taken
        if at < end and not self.over:
            self._bytes += data[at:]
            self._wait(0)

    def _wait(self, need: int) -> int:
        self._need = need
        return 0

    @abstractmethod
    def _unit(self, data: bytes, at: int, end: int) -> int:
        """Take what begins at `at`; how many bytes it was, 0 when more must come."""


class LengthReader(_Kept):
    """Messages after their length (4 bytes, big-endian)."""

    __slots__ = ("_receiver",)

    def __init__(self, receiver: Receiver, most: int) -> None:
        super().__init__(most)
        self._receiver = receiver

    def _unit(self, data: bytes, at: int, end: int) -> int:
        if end - at < 4:
            return self._wait(4)
        size = int.from_bytes(data[at : at + 4], "big")
        if not 0 < size <= self.most:
            self.over = True
            self._receiver.message(b"")
        elif end - at < 4 + size:
            return self._wait(4 + size)
        else:
            self._receiver.message(data[at + 4 : at + 4 + size])
        return 4 + size


class WebSocketReader(_Kept):
    """Messages of one kind (`opcode`: TEXT or BINARY) from a client."""

    __slots__ = ("_message", "_opcode", "_parts", "_receiver", "_whole")

    def __init__(self, receiver: Receiver, most: int, opcode: int) -> None:
        super().__init__(most)
        self._receiver = receiver
        self._message = receiver.message
        self._whole = _FIN | opcode
        self._opcode = opcode
        self._parts: bytearray | None = None

    def _unit(self, data: bytes, at: int, end: int) -> int:
        have = end - at
        if have < 2:
            return self._wait(2)
        size = data[at + 1] & 0x7F
        head = 6
        if size > _LONGEST_CONTROL:
            head = 8 if size == 126 else 14
            if have < head:
                return self._wait(head)
            least = 126 if size == 126 else 65_536
            size = int.from_bytes(data[at + 2 : at + head - 4], "big")
            if size < least:
                return self._broken()
        if data[at + 1] < 0x80 or size > self.most:  # not masked, or too long
            return self._broken()
        if have < head + size:
            return self._wait(head + size)
        begin, first = at + head, data[at]
        payload = _unmasked(data[begin - 4 : begin], data[begin : begin + size])
        if first == self._whole and payload and self._parts is None:
            self._message(payload)
        else:
            self._frame(first, payload)
        return head + size

    def _frame(self, first: int, payload: bytes) -> None:
        """Anything but a whole message that is not empty."""
        self._beside += 1
        if first == self._whole or self._beside > _BESIDE:
            self._broken()
        elif first & 0x70:  # reserved bits
            self._broken()
        elif first & 8:
            self._control(first, payload)
        else:
            self._part(first, payload)

    def _control(self, first: int, payload: bytes) -> None:
        if not first & _FIN or len(payload) > _LONGEST_CONTROL:
            self._broken()
        elif first == _FIN | _PING:
            self._receiver.answer(_message(_PONG, payload))
        elif first == _FIN | _CLOSE:
            self.over = True
            self._receiver.leave()
        elif first != _FIN | _PONG:
            self._broken()

    def _part(self, first: int, payload: bytes) -> None:
        """A frame of a message in several."""
        begins = first & 0x0F != _CONTINUATION
        if begins is (self._parts is not None) or (begins and first & 0x0F != self._opcode):
            self._broken()
            return
        if self._parts is None:
            self._parts = bytearray()
        self._parts += payload
        if len(self._parts) > self.most:
            self._broken()
        elif first & _FIN:
            whole, self._parts = bytes(self._parts), None
            self._receiver.message(whole)

    def _broken(self) -> int:
        """End it: what follows cannot be told apart any more."""
        self.over = True
        self._parts = None
        self._receiver.message(b"")
        return 1


def _unmasked(mask: bytes, data: bytes) -> bytes:
    """XOR with the mask, again and again: one operation on long integers."""
    size = len(data)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
    return (int.from_bytes(data, "little") ^ key).to_bytes(size, "little")
