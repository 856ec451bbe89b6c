"""What frames are made of: bounded types, entries and heads of logs, mailbox items, staged bytes.

Source: docs/spec/wire.md. Invariants: every field has a type and a size; a part is a struct of its own tag, so that
what is signed (`frames.signed_form`) names it.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from cloister.wire import limits

Id = Annotated[bytes, Meta(min_length=16, max_length=16)]
Hash = Annotated[bytes, Meta(min_length=32, max_length=32)]
Sig = Annotated[bytes, Meta(min_length=1, max_length=512)]
Uint = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Device = Annotated[str, Meta(min_length=1, max_length=limits.DEVICE_ID.value)]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Kind = Annotated[str, Meta(min_length=1, max_length=16)]
Chain = Annotated[list[Annotated[bytes, Meta(max_length=8192)]], Meta(max_length=4)]
MailBody = Annotated[bytes, Meta(max_length=limits.MAIL_ITEM.value)]

REALM_LOG: Final = bytes(16)
"""The log id of the realm log; rooms and runs draw theirs at random."""
NO_TOKEN: Final = bytes(32)
"""The token hash of a create, of a run's and of the realm log's entries' predecessors: no epoch."""


class Frame(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Base of all frames."""


# --- parts of frames ----------------------------------------------------------------------------------------


class Head(Frame, frozen=True, tag="head"):
    """A signed head of a log: Sign_headkey("head", realm, log, incarnation, seq, hash)."""

    incarnation: Uint
    seq: Uint
    hash: Hash
    signature: Sig


class HeadKey(Frame, frozen=True, tag="headkey"):
    """The relay's head-signing key and Sign_identity("head key", realm, key, not_before)."""

    key: Hash
    not_before: Uint
    signature: Sig


class Entry(Frame, frozen=True, tag="entry"):
    """A log entry with its payload, as far as a reader may see it."""

    seq: Uint
    kind: Kind
    flags: Uint
    epoch: Uint
    token_hash: Hash
    entry_id: Id
    payload: Annotated[bytes, Meta(max_length=limits.COMMIT.value)]
    ts_ms: Uint
    next_token_hash: Hash | None = None
    group_info_hash: Hash | None = None
    item_hashes: list[Hash] = []


class Stub(Frame, frozen=True, tag="stub"):
    """What of an entry is needed to go on hashing: for readers whose token does not open it."""

    seq: Uint
    kind: Kind
    flags: Uint
    epoch: Uint
    token_hash: Hash
    entry_id: Id
    payload_hash: Hash
    attachments_hash: Hash
    ts_ms: Uint


class Mail(Frame, frozen=True, tag="mail"):
    """A sealed mailbox item on its way to a device."""

    device: Device
    item_id: Id
    body: MailBody


class Staged(Frame, frozen=True, tag="staged"):
    """Stands for bytes that went up in parts: their SHA-256 and length."""

    hash: Hash
    size: Annotated[int, Meta(ge=1, le=limits.STAGE.value)]


class Item(Frame, frozen=True, tag="item"):
    """An item in this device's mailbox; `number` orders them."""

    number: Uint
    item_id: Id
    body: MailBody


Payload = Annotated[bytes, Meta(max_length=limits.COMMIT.value)] | Staged
