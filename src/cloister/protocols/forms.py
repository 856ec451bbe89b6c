"""Lists of one kind inside protocol arrays, and signed heads: what `codec.cbor.Fields` leaves to its users.

Source: docs/spec/encoding.md. Every mismatch is PeerError("bad_encoding"); lengths are bounded by the caller.
"""

from __future__ import annotations

from typing import Final

from cloister.codec.cbor import Fields
from cloister.protocols.interface import SignedHead

HASH: Final = 32
ID: Final = 16
DEVICE_MOST: Final = 128
SIGNATURE_MOST: Final = 1024


def texts(fields: Fields, name: str, most: int, size: int = DEVICE_MOST) -> tuple[str, ...]:
    """An array of at most `most` texts of at most `size` bytes each."""
    items = fields.array(name, most)
    inner = Fields(items, name)
    return tuple(inner.text(name, size) for _ in items)


def octet_strings(fields: Fields, name: str, most: int, size: int) -> tuple[bytes, ...]:
    """An array of at most `most` byte strings of at most `size` bytes each."""
    items = fields.array(name, most)
    inner = Fields(items, name)
    return tuple(inner.octets(name, most=size) for _ in items)


def head_items(head: SignedHead | None) -> list[object] | None:
    """What travels for a head that may be absent."""
    return None if head is None else head.items()


def read_head(fields: Fields, name: str) -> SignedHead | None:
    """A signed head or null."""
    item = fields.any(name)
    if item is None:
        return None
    inner = Fields(item, name)
    head = SignedHead(
        incarnation=inner.uint("incarnation"),
        seq=inner.uint("seq"),
        hash=inner.octets("hash", HASH),
        signature=inner.octets("signature", most=SIGNATURE_MOST),
    )
    inner.end()
    return head
