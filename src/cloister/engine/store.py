"""What the engine asks of a client's store: keyed rows, read at any time, written in one durable transaction.

Source: docs/architecture.md ("Life of a message"). Implementations: `client.store` (encrypted SQLite) and
`testing.store` (a dictionary that can crash).

Invariants
- `apply` is all or nothing and durable when it returns; nothing is sent before it has returned.
- A deleted row is beyond recovery (secure delete): rows hold ratchet keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

TABLES: Final = (
    "meta",  # single values by name
    "entry",  # log id + seq(8) -> hash(32) + entry or stub
    "head",  # log id + seq(8) -> signed head
    "room",  # room id -> RoomRow
    "item",  # room id + session key -> session item
    "run",  # run id -> RunRow
    "outbox",  # number(8) -> Outgoing
    "intent",  # room id + number(8) -> Intent
    "message",  # cursor(8) -> MessageInfo
    "inroom",  # room id + cursor(8) -> empty
    "entryid",  # room id + entry id -> seq(8)
    "invite",  # invite id -> OwnInvite
    "found",  # seq(8) of the realm log -> hash(32) there + what judging that record has found
    "prekey",  # reference(32) -> OwnPrekey
)
"""Tables of bytes -> bytes and what their keys are made of."""


@dataclass(frozen=True, slots=True)
class Put:
    """Set a row."""

    table: str
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a row, beyond recovery."""

    table: str
    key: bytes


Write = Put | Delete


class Store(Protocol):
    """A device's rows."""

    def get(self, table: str, key: bytes) -> bytes | None:
        """The row, or None."""
        ...

    def scan(
        self, table: str, prefix: bytes = b"", *, after: bytes = b"", newest: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows whose key begins with `prefix`, in key order beyond `after`; with `newest`, from the last down."""
        ...

    def apply(self, writes: Sequence[Write]) -> None:
        """All writes in one transaction, durable on return."""
        ...
