"""A device's rows in memory: what a transaction wrote survives a crash, what was not committed does not.

    store = MemoryStore()
    process = store.open()            # implements engine.store.Store
    process.apply(...)
    process.end()                     # the process is gone: whatever it still tries raises Crashed
    process = store.open()            # the next one finds what was committed

Invariants
- `apply` is all or nothing. A crash that is planted in it (`crash_at`) hits before the writes or after them: the
  caller cannot tell which, exactly as with a power cut around a commit. `on_crash` is told, and the process is over.
- A process that has ended can neither read nor write: nothing of it leaks into the next one.
- Rows come out in key order.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Sequence

from cloister.engine.store import TABLES, Put, Write
from cloister.errors import InternalError


class Crashed(Exception):
    """The process ends here: whatever was in memory is gone."""


class _Table:
    """Rows of one table, their keys sorted."""

    __slots__ = ("keys", "rows")

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.keys: list[bytes] = []

    def put(self, key: bytes, value: bytes) -> None:
        if key not in self.rows:
            insort(self.keys, key)
        self.rows[key] = value

    def delete(self, key: bytes) -> None:
        if self.rows.pop(key, None) is not None:
            del self.keys[bisect_left(self.keys, key)]

    def copy(self) -> _Table:
        other = _Table()
        other.rows, other.keys = dict(self.rows), list(self.keys)
        return other


class MemoryStore:
    """The rows. `commits` counts transactions; `crash_at` names the one (from 1) in which the process ends.

    `on_commit` is called after each transaction with its writes, `on_crash` when a planted crash hits.
    """

    def __init__(self) -> None:
        self.commits = 0
        self.crash_at: int | None = None
        self.crash_after_writes = False
        self.on_commit: Callable[[Sequence[Write]], None] = lambda writes: None
        self.on_crash: Callable[[], None] = lambda: None
        self._tables = {name: _Table() for name in TABLES}

    def open(self) -> OpenStore:
        """The store as one process has it."""
        return OpenStore(self)

    def rows(self, table: str) -> _Table:
        """A table."""
        try:
            return self._tables[table]
        except KeyError:
            raise InternalError("internal", f"no table {table}") from None

    def write(self, writes: Sequence[Write]) -> None:
        """One transaction, or a planted crash before or after it."""
        self.commits += 1
        crash = self.commits == self.crash_at
        tables = [self.rows(write.table) for write in writes]
        if not crash or self.crash_after_writes:
            for table, write in zip(tables, writes, strict=True):
                if isinstance(write, Put):
                    table.put(write.key, write.value)
                else:
                    table.delete(write.key)
            self.on_commit(writes)
        if crash:
            self.on_crash()
            raise Crashed(f"{'after' if self.crash_after_writes else 'before'} transaction {self.commits}")

    def snapshot(self) -> MemoryStore:
        """A copy as a backup or a thief would have it."""
        other = MemoryStore()
        other._tables = {name: table.copy() for name, table in self._tables.items()}
        return other


class OpenStore:
    """One process's store; `end` cuts it off."""

    __slots__ = ("_ended", "_store")

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._ended = False

    def end(self) -> None:
        """The process is gone."""
        self._ended = True

    def get(self, table: str, key: bytes) -> bytes | None:
        """The row, or None."""
        return self._rows(table).rows.get(key)

    def scan(
        self, table: str, prefix: bytes = b"", *, after: bytes = b"", newest: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows whose key begins with `prefix`, in key order beyond `after`; with `newest`, from the last down."""
        rows = self._rows(table)
        first = max(bisect_left(rows.keys, prefix), bisect_right(rows.keys, after) if after else 0)
        keys = rows.keys[first : _end(rows.keys, prefix)]
        if newest:
            keys.reverse()
        found = [(key, rows.rows[key]) for key in keys]
        return iter(found)

    def apply(self, writes: Sequence[Write]) -> None:
        """All writes in one transaction; raises Crashed where a crash was planted."""
        if self._ended:
            raise Crashed("the process has ended")
        self._store.write(writes)

    def _rows(self, table: str) -> _Table:
        if self._ended:
            raise Crashed("the process has ended")
        return self._store.rows(table)


def _end(keys: list[bytes], prefix: bytes) -> int:
    """Index beyond the last key with this prefix."""
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return len(keys)
    return bisect_left(keys, stripped[:-1] + bytes([stripped[-1] + 1]))
