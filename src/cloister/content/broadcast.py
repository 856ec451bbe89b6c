"""Copies of one broadcast: one text, in several rooms of two, that its readers can compare.

Source: docs/spec/classic/pair.md ("Broadcast"), document 003's broadcast chat.

    copy    = ["bcast", bcast id(16), audience hash(32), salt(32), content]      content: the MIMI form, of its own room
    receipt = ["receipt", author's device, bcast id(16), audience hash(32), content id(32)]
    audience hash = H("broadcast audience", sorted device ids)       content id = H("broadcast content", salt, text)

Invariants
- All copies have the same id, audience hash and salt; only `content` differs, for it names its room.
- Who reads two copies, or a receipt of another reader, sees whether text and audience are the same; the salt keeps a
  text that could be guessed out of the content id.
Left out: who gets a copy, and who compares (`engine.broadcast`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cloister.codec.cbor import Fields, enc
from cloister.content.message import MAX_CONTENT
from cloister.primitives.labelled import hash_of

ID_SIZE: Final = 16
SALT_SIZE: Final = 32
_HASH: Final = 32
_DEVICE: Final = 128


def audience_hash(devices: Iterable[str]) -> bytes:
    """The hash of those who get a copy, 32 bytes."""
    return hash_of("broadcast audience", sorted(devices))


def content_id(salt: bytes, text: str) -> bytes:
    """What all copies of one text have in common, 32 bytes."""
    return hash_of("broadcast content", salt, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One copy: its broadcast, for whom all copies are, the salt, and the message in its room's form."""

    id: bytes
    audience: bytes
    salt: bytes
    content: bytes

    def encode(self) -> bytes:
        """The content of a record of type `bcast`."""
        return enc("bcast", self.id, self.audience, self.salt, self.content)

    @classmethod
    def read(cls, data: bytes) -> Copy | None:
        """The copy in a message's content; None for other content, PeerError("bad_encoding") for a bad one."""
        if not _begins(data, "bcast"):
            return None
        fields = Fields.decode(data, "copy")
        fields.kind("bcast")
        copy = cls(
            id=fields.octets("id", ID_SIZE),
            audience=fields.octets("audience", _HASH),
            salt=fields.octets("salt", SALT_SIZE),
            content=fields.octets("content", most=MAX_CONTENT),
        )
        fields.end()
        return copy


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a reader has got: whose broadcast, which, for whom, and the hash of its text."""

    author: str
    id: bytes
    audience: bytes
    content: bytes

    @property
    def check(self) -> str:
        """Ten digits that all readers of the same broadcast see."""
        shown = hash_of("broadcast check", self.id, self.audience, self.content)[:5].hex()
        return f"{shown[:5]}-{shown[5:]}"

    def encode(self) -> bytes:
        """The content of a record of type `receipt`."""
        return enc("receipt", self.author, self.id, self.audience, self.content)

    @classmethod
    def read(cls, data: bytes) -> Receipt | None:
        """The receipt in a message's content; None for other content, PeerError("bad_encoding") for a bad one."""
        if not _begins(data, "receipt"):
            return None
        fields = Fields.decode(data, "receipt")
        fields.kind("receipt")
        receipt = cls(
            author=fields.text("author", _DEVICE),
            id=fields.octets("id", ID_SIZE),
            audience=fields.octets("audience", _HASH),
            content=fields.octets("content", _HASH),
        )
        fields.end()
        return receipt


def _begins(data: bytes, kind: str) -> bool:
    """Whether this is an array that begins with the text `kind`: no MIMI content does."""
    mark = enc(kind)[1:]
    return data[1 : 1 + len(mark)] == mark
