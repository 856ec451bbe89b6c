"""Deterministic CBOR, strictly: one value has one encoding, and nothing else decodes.

Source: RFC 8949 section 4.2 (core deterministic encoding); docs/spec/encoding.md.

Invariants
- `decode(encode(x)) == x` up to MAX_DEPTH, and whatever decodes encodes to the very same bytes.
- Values are None, bool, int (64 bits, either sign), bytes, str, list and, where a caller allows
  maps, dict with integer, text or byte string keys. No floats, tags, simple values, `undefined`
  or indefinite lengths.
- Nesting is at most MAX_DEPTH; a length that exceeds the input fails before memory is taken.
- Only PeerError("bad_encoding") leaves the decoder.

Why a second pass: cbor2 parses quickly but accepts several encodings of one value. Encoding the
result again and comparing closes every such door at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Never

import cbor2

from cloister.errors import PeerError, UsageError

MAX_DEPTH: Final = 16
"""Deepest nesting of arrays and maps that is read."""

_INT_MIN: Final = -(2**64)
_INT_MAX: Final = 2**64 - 1
_PLAIN: Final = frozenset({bytes, str, bool, type(None)})
"""Types that are allowed whatever their value."""


def _unfit() -> UsageError:
    return UsageError("usage", "this value has no strict CBOR form")


def _foreign() -> PeerError:
    return PeerError("bad_encoding", "a type that is not allowed")


def _refuse_tag(*_args: object) -> Never:
    raise PeerError("bad_encoding", "tags are not allowed")


# The library resolves these tags by itself (dates, big numbers, regular expressions, shared and cyclic
# references, ...); every other tag reaches `tag_hook`.
_KNOWN_TAGS: Final = (
    *range(6),
    25,
    28,
    29,
    30,
    35,
    36,
    37,
    100,
    256,
    258,
    260,
    261,
    1004,
    43000,
    52,
    54,
    55799,
)
_REFUSE: Final = dict.fromkeys(_KNOWN_TAGS, _refuse_tag)


def encode(value: object) -> bytes:
    """The one encoding of `value`; UsageError for what strict CBOR cannot hold."""
    has_map = _check(value, _unfit, maps=True)
    try:
        return _dump(value, has_map=has_map)
    except UnicodeEncodeError:  # half a surrogate pair
        raise _unfit() from None


def enc(*items: object) -> bytes:
    """`enc(x...)` of the specifications: the deterministic encoding of the array of all arguments."""
    return encode(items)


def decode(data: bytes, *, maps: bool = False) -> Any:
    """The value that `data` encodes; PeerError("bad_encoding") unless it is its only encoding.

    Maps are refused unless `maps`: protocol messages are arrays, only content uses maps.
    """
    try:
        value = cbor2.loads(
            data,
            tag_hook=_refuse_tag,
            semantic_decoders=_REFUSE,
            max_depth=MAX_DEPTH - 1,  # the library counts from 0
            allow_indefinite=False,
            allow_duplicate_keys=False,
        )
    except Exception as error:  # the library raises its own errors, and ValueError or TypeError from within
        raise PeerError("bad_encoding", "not CBOR") from error
    has_map = _check(value, _foreign, maps=maps)
    if _dump(value, has_map=has_map) != data:
        raise PeerError("bad_encoding", "not the deterministic encoding")
    return value


def _check(value: object, refusal: Callable[[], Exception], *, maps: bool) -> bool:
    """Raise a `refusal` unless `value` consists of allowed types only; whether a map is among them."""
    has_map = False
    todo: list[object] = [value]
    for item in todo:  # it grows while it is read
        if type(item) in _PLAIN or isinstance(item, (bytes, str)):
            continue
        if isinstance(item, int):
            if not _INT_MIN <= item <= _INT_MAX:
                raise refusal()
        elif isinstance(item, (list, tuple)):
            todo.extend(item)
        elif isinstance(item, dict) and maps:
            if not all(isinstance(key, (int, str, bytes)) and not isinstance(key, bool) for key in item):
                raise refusal()
            has_map = True
            todo.extend(item.values())
            todo.extend(item.keys())
        else:
            raise refusal()
    return has_map


def _dump(value: object, *, has_map: bool) -> bytes:
    """The encoding of checked values: shortest heads, map keys in bytewise order (RFC 8949 section 4.2.1)."""
    return cbor2.dumps(_ordered(value) if has_map else value)


def _ordered(value: object) -> object:
    """`value` with every map's keys in order: the library's own is that of RFC 7049, by length first."""
    if isinstance(value, (list, tuple)):
        return [_ordered(item) for item in value]
    if isinstance(value, dict):
        return {key: _ordered(value[key]) for key in sorted(value, key=cbor2.dumps)}
    return value


class Fields:
    """Reads an array field by field; each method takes the next item and checks it.

    Every mismatch, and a surplus or missing item, is PeerError("bad_encoding") with the field's name.
    """

    __slots__ = ("_at", "_items", "_what")

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, (list, tuple)):
            raise PeerError("bad_encoding", f"{what} is not an array")
        self._items: Sequence[object] = value
        self._at = 0
        self._what = what

    @classmethod
    def decode(cls, data: bytes, what: str) -> Fields:
        """A reader over the array that `data` encodes."""
        return cls(decode(data), what)

    def _refuse(self, name: str) -> Never:
        raise PeerError("bad_encoding", f"{self._what}: {name}")

    def any(self, name: str) -> object:
        """The next item, whatever it is."""
        if self._at >= len(self._items):
            self._refuse(f"{name} is missing")
        item = self._items[self._at]
        self._at += 1
        return item

    def kind(self, expected: str) -> None:
        """The next item must be exactly this text: the message's kind."""
        if self.any("kind") != expected:
            self._refuse("another kind")

    def octets(self, name: str, size: int | None = None, most: int = 2**24) -> bytes:
        """A byte string of exactly `size` bytes, or of at most `most`."""
        item = self.any(name)
        if not isinstance(item, bytes):
            self._refuse(name)
        if (size is not None and len(item) != size) or len(item) > most:
            self._refuse(f"{name} has a wrong size")
        return item

    def octets_or_none(self, name: str, size: int | None = None, most: int = 2**24) -> bytes | None:
        """A byte string as in `octets`, or null."""
        if self._at < len(self._items) and self._items[self._at] is None:
            self._at += 1
            return None
        return self.octets(name, size, most)

    def text(self, name: str, most: int = 256) -> str:
        """A text of at most `most` UTF-8 bytes."""
        item = self.any(name)
        if not isinstance(item, str) or len(item.encode()) > most:
            self._refuse(name)
        return item

    def uint(self, name: str, bits: int = 64) -> int:
        """An unsigned integer below 2**bits."""
        item = self.any(name)
        if isinstance(item, bool) or not isinstance(item, int) or not 0 <= item < 2**bits:
            self._refuse(name)
        return item

    def flag(self, name: str) -> bool:
        """True or false."""
        item = self.any(name)
        if not isinstance(item, bool):
            self._refuse(name)
        return item

    def array(self, name: str, most: int = 2**16) -> list[object]:
        """An array of at most `most` items."""
        item = self.any(name)
        if not isinstance(item, (list, tuple)) or len(item) > most:
            self._refuse(name)
        return list(item)

    def fields(self, name: str) -> Fields:
        """A nested array as a reader of its own."""
        return Fields(self.any(name), f"{self._what}.{name}")

    @property
    def done(self) -> bool:
        """Whether every item was read."""
        return self._at == len(self._items)

    def end(self) -> None:
        """Nothing may be left."""
        if self._at != len(self._items):
            self._refuse("surplus items")
