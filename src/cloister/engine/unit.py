"""A unit of work: what handling one input writes and sends. The driver stores the writes, then does the rest.

Invariants
- Reads see the unit's own writes.
- Outputs are carried out after `writes` are durable, in order; a crash before that loses both together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cloister.engine.store import Delete, Put, Store, Write
from cloister.engine.values import Event
from cloister.errors import CloisterError
from cloister.primitives import Rng


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send this frame on the current connection."""

    frame: bytes


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close the connection; `code` says why. The driver dials again with back-off unless it is final."""

    code: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class Notify:
    """Tell whoever listens."""

    event: Event


@dataclass(frozen=True, slots=True)
class Reply:
    """The result of a command, or the error it ended with."""

    ticket: int
    result: Any = None
    error: CloisterError | None = None


Output = Transmit | Disconnect | Notify | Reply


class Unit:
    """Collects writes and outputs while one input is handled."""

    __slots__ = ("_cursor", "_overlay", "now", "outputs", "rng", "store")

    def __init__(self, store: Store, now: int, rng: Rng, cursor: Callable[[], int]) -> None:
        self.store = store
        self.now = now
        self.rng = rng
        self.outputs: list[Output] = []
        self._overlay: dict[tuple[str, bytes], Write] = {}
        self._cursor = cursor

    @property
    def writes(self) -> list[Write]:
        """The last write to each row, in the order of first use."""
        return list(self._overlay.values())

    def put(self, table: str, key: bytes, value: bytes) -> None:
        """Set a row."""
        self._overlay[table, key] = Put(table, key, value)

    def delete(self, table: str, key: bytes) -> None:
        """Remove a row."""
        self._overlay[table, key] = Delete(table, key)

    def drop_all(self, table: str, prefix: bytes) -> None:
        """Remove every row whose key begins so, this unit's own too."""
        written = [key for name, key in self._overlay if name == table and key.startswith(prefix)]
        for key in [*written, *(key for key, _value in self.store.scan(table, prefix))]:
            self.delete(table, key)

    def get(self, table: str, key: bytes) -> bytes | None:
        """A row as this unit will leave it."""
        write = self._overlay.get((table, key))
        if write is None:
            return self.store.get(table, key)
        return write.value if isinstance(write, Put) else None

    def transmit(self, frame: bytes) -> None:
        """Send a frame after the writes."""
        self.outputs.append(Transmit(frame))

    def notify(self, make: Callable[[int], Event]) -> None:
        """Tell an event, made with the newest message's cursor."""
        self.outputs.append(Notify(make(self._cursor())))

    def disconnect(self, code: str, *, final: bool = False) -> None:
        """Close the connection after the writes."""
        self.outputs.append(Disconnect(code, final))

    def reply(self, ticket: int, result: Any = None, error: CloisterError | None = None) -> None:
        """Answer a command."""
        self.outputs.append(Reply(ticket, result, error))
