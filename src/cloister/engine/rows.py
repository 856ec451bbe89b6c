"""The rows of the engine's tables: MessagePack arrays, read back strictly, never shared with a peer.

Invariants: a field is only ever added at the end, with a default, so that stored state of every release stays
readable.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct


class RoomRow(Struct, array_like=True, kw_only=True):
    """A room: its suite, the token of the newest epoch, how far its log was given to the session.

    `entering` are the tokens of agreed keys whose commit is awaited, `offered_by` the users who proposed them, in the
    same order; `inviter` is a user's URI, `opened_at` in ms, `yields_to` the room that a crossing request made.
    """

    suite: str
    token: bytes | None
    delivered: int
    alarms: list[str]
    entering: list[bytes] = []
    inviter: str = ""
    opened_at: int = 0
    offered_by: list[str] = []
    yields_to: bytes = b""


class RunRow(Struct, array_like=True, kw_only=True):
    """A run that is followed for a room."""

    room: bytes
    token: bytes
    delivered: int


class Outgoing(Struct, array_like=True, kw_only=True):
    """Something that must reach the relay.

    `log` is its lane: rows of one lane leave in order. `frame` is the encoded request with rid 0, empty until it can
    be made; `plain` are mailbox items (device, kind, body) still to be sealed. A text keeps its content until its
    entry was read in the log; `acked` says that the relay has stored and signed it.
    """

    number: int
    kind: Literal["text", "post", "commit", "run", "mail"]
    room: bytes
    log: bytes
    frame: bytes = b""
    plain: list[tuple[str, str, bytes]] = []
    content: bytes = b""
    message_id: bytes = b""
    entry_id: bytes = b""
    token_hash: bytes = b""
    acked: bool = False


class OwnPrekey(Struct, array_like=True, kw_only=True):
    """A key package of this device with its private half; `expires` in ms."""

    suite: str
    public: bytes
    private: bytes
    expires: int
    last_resort: bool


class MailboxKeys(Struct, array_like=True, kw_only=True):
    """When the mailbox key was changed (ms), whether the relay has its statement, and the private key before it."""

    since: int
    told: bool
    old: bytes = b""


class Intent(Struct, array_like=True, kw_only=True):
    """A membership change that the person asked for and that is not true yet."""

    kind: Literal["add", "remove", "rekey", "owners", "leave"]
    devices: list[str]
    """Of `owners`: users."""
    epoch: int
    """In which it was asked for; of `leave`: in which it was asked last, -1 before."""


class OwnInvite(Struct, array_like=True, kw_only=True):
    """A link made here: its secret checks the tags of those who use it."""

    secret: bytes
    expires: int


def encode(row: Struct) -> bytes:
    """The bytes of a row."""
    return msgspec.msgpack.encode(row)


def key(number: int) -> bytes:
    """A number as a key that sorts."""
    return number.to_bytes(8, "big")
