"""The TLS presentation language (RFC 8446 section 3) with the vectors of RFC 9420 section 2.1.2.

`Reader` walks over bytes and gives values; `Writer` collects the encoding of values. A vector `<V>` is a
length of 1, 2 or 4 bytes (the two top bits say which, 0b11 is invalid) and that many bytes.

Invariants
- Strict: a length in more bytes than it needs, a length beyond the end of what holds it, an optional that
  is neither 0 nor 1, and bytes after the end of a value are refused.
- One value has one encoding: whatever decodes encodes to the very same bytes.
- A length is compared with what is there before anything is allocated, and all vectors of one decoding have
  MAX_ITEMS elements at most, so memory is bounded whatever the input says.
- Only PeerError("bad_encoding") leaves the decoder.

Left out: vectors with a fixed-size length prefix, which MLS does not use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Never, Protocol, Self, TypeVar

from cloister.errors import PeerError, UsageError

T = TypeVar("T")

MAX_LENGTH: Final = 2**30 - 1
"""Longest vector in bytes that a length can name."""


def _malformed(detail: str) -> Never:
    raise PeerError("bad_encoding", detail)


MAX_ITEMS: Final = 2**19
"""Most elements of all vectors of one decoding together; a value of Python is far larger than two bytes of input."""


class Reader:
    """Reads values from `data[position:end]`; a nested vector is a reader of its own over the same bytes."""

    __slots__ = ("_items", "data", "end", "position")

    def __init__(self, data: bytes, position: int = 0, end: int | None = None, items: list[int] | None = None) -> None:
        self.data = data
        self.position = position
        self.end = len(data) if end is None else end
        self._items = [MAX_ITEMS] if items is None else items

    def fixed(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        start = self.position
        stop = start + size
        if stop > self.end:
            _malformed("a value ends too early")
        self.position = stop
        return self.data[start:stop]

    def u8(self) -> int:
        """uint8."""
        position = self.position
        if position >= self.end:
            _malformed("a value ends too early")
        self.position = position + 1
        return self.data[position]

    def u16(self) -> int:
        """uint16, big-endian as all integers here."""
        return int.from_bytes(self.fixed(2), "big")

    def u32(self) -> int:
        """uint32."""
        return int.from_bytes(self.fixed(4), "big")

    def u64(self) -> int:
        """uint64."""
        return int.from_bytes(self.fixed(8), "big")

    def length(self) -> int:
        """The length of a vector, in its shortest form and not beyond the end."""
        position = self.position
        if position >= self.end:
            _malformed("a value ends too early")
        first = self.data[position]
        if first < 0x40:
            size, value = 1, first
        else:
            size, value = self._long_length(first)
        self.position = position + size
        if value > self.end - self.position:
            _malformed("a vector is longer than what holds it")
        return value

    def _long_length(self, first: int) -> tuple[int, int]:
        if first >= 0xC0:
            _malformed("a length starts with the invalid prefix")
        size = 2 if first < 0x80 else 4
        raw = self.data[self.position : self.position + size]
        if self.position + size > self.end:
            _malformed("a value ends too early")
        value = int.from_bytes(raw, "big") & (0x3FFF if size == 2 else MAX_LENGTH)
        if value < (0x40 if size == 2 else 0x4000):
            _malformed("a length is not in its shortest form")
        return size, value

    def opaque(self) -> bytes:
        """The bytes of `opaque x<V>`."""
        size = self.length()
        start = self.position
        self.position = start + size
        return self.data[start : self.position]

    def nested(self) -> Reader:
        """A reader over the next vector's bytes; this one moves past them."""
        size = self.length()
        start = self.position
        self.position = start + size
        return Reader(self.data, start, start + size, self._items)

    def vector(self, read: Callable[[Reader], T]) -> tuple[T, ...]:
        """All values of `T x<V>`."""
        inner = self.nested()
        items = self._items
        values = []
        while inner.position < inner.end:
            items[0] -= 1
            if items[0] < 0:
                _malformed("a value has too many elements")
            values.append(read(inner))
        return tuple(values)

    def vector_u16(self) -> tuple[int, ...]:
        """All values of `uint16 x<V>`."""
        return self.vector(Reader.u16)

    def vector_u32(self) -> tuple[int, ...]:
        """All values of `uint32 x<V>`."""
        return self.vector(Reader.u32)

    def present(self) -> bool:
        """The first byte of `optional<T>`: whether a value follows."""
        flag = self.u8()
        if flag > 1:
            _malformed("an optional is neither absent nor present")
        return flag == 1

    def optional(self, read: Callable[[Reader], T]) -> T | None:
        """The value of `optional<T>` or None."""
        return read(self) if self.present() else None

    def rest(self) -> bytes:
        """Everything up to the end."""
        start, self.position = self.position, self.end
        return self.data[start : self.end]

    def finish(self) -> None:
        """PeerError unless everything was read."""
        if self.position != self.end:
            _malformed("bytes follow the end of a value")


def decode(read: Callable[[Reader], T], data: bytes) -> T:
    """The one value that all of `data` encodes."""
    reader = Reader(data)
    value = read(reader)
    reader.finish()
    return value


def prefix(size: int) -> bytes:
    """The shortest length prefix of a vector of `size` bytes."""
    if size < 0x40:
        return size.to_bytes(1, "big")
    if size < 0x4000:
        return (size | 0x4000).to_bytes(2, "big")
    if size <= MAX_LENGTH:
        return (size | 0x80000000).to_bytes(4, "big")
    raise UsageError("usage", "a vector has more than 2**30 - 1 bytes")


def opaque(data: bytes) -> bytes:
    """`opaque x<V>`: the length and the bytes."""
    size = len(data)
    if size < 0x40:
        return size.to_bytes(1, "big") + data
    return prefix(size) + data


class Writer:
    """Collects parts of an encoding; `done` joins them."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def raw(self, data: bytes) -> Self:
        """Bytes as they are."""
        self._parts.append(data)
        return self

    def u8(self, value: int) -> Self:
        """uint8."""
        return self.raw(value.to_bytes(1, "big"))

    def u16(self, value: int) -> Self:
        """uint16."""
        return self.raw(value.to_bytes(2, "big"))

    def u32(self, value: int) -> Self:
        """uint32."""
        return self.raw(value.to_bytes(4, "big"))

    def u64(self, value: int) -> Self:
        """uint64."""
        return self.raw(value.to_bytes(8, "big"))

    def opaque(self, data: bytes) -> Self:
        """`opaque x<V>`."""
        return self.raw(opaque(data))

    def vector(self, items: tuple[Encodable, ...]) -> Self:
        """`T x<V>` of values that know how to write themselves."""
        inner = Writer()
        for item in items:
            item.write(inner)
        return self.opaque(inner.done())

    def vector_u16(self, values: tuple[int, ...]) -> Self:
        """`uint16 x<V>`."""
        return self.opaque(b"".join([value.to_bytes(2, "big") for value in values]))

    def vector_u32(self, values: tuple[int, ...]) -> Self:
        """`uint32 x<V>`."""
        return self.opaque(b"".join([value.to_bytes(4, "big") for value in values]))

    def optional(self, value: Encodable | None) -> Self:
        """`optional<T>`."""
        if value is None:
            return self.u8(0)
        value.write(self.u8(1))
        return self

    def done(self) -> bytes:
        """The whole encoding."""
        return b"".join(self._parts)


class Encodable(Protocol):
    """A structure that writes its fields in the order of its definition."""

    def write(self, writer: Writer) -> None:
        """Append the encoding to `writer`."""
        ...


def encode(value: Encodable) -> bytes:
    """The encoding of one structure."""
    writer = Writer()
    value.write(writer)
    return writer.done()
