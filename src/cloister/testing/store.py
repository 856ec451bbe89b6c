"""A device's rows in memory: what a transaction wrote survives a crash, what was not committed does not.

Implements `engine.store.Store`. A simulated client that crashes is thrown away; the next one is made over the same
store and must find everything that `apply` had returned for.

Invariants
- `apply` is all or nothing. A crash that is planted in it (`crash_at`) hits before the writes or after them: the
  caller cannot tell which, exactly as with a power cut around a commit.
- Rows come out in key order; nothing but the store's own methods reaches them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence

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
    """The store. `commits` counts transactions; `crash_at` names the one (from 1) in which the process ends."""

    def __init__(self) -> None:
        self.commits = 0
        self.crash_at: int | None = None
        self.crash_after_writes = False
        self._tables = {name: _Table() for name in TABLES}

    def get(self, table: str, key: bytes) -> bytes | None:
        """The row, or None."""
        return self._table(table).rows.get(key)

    def scan(
        self, table: str, prefix: bytes = b"", *, after: bytes = b"", newest: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows whose key begins with `prefix`, in key order beyond `after`; with `newest`, from the last down."""
        rows = self._table(table)
        first = max(bisect_left(rows.keys, prefix), bisect_right(rows.keys, after) if after else 0)
        keys = [key for key in rows.keys[first : self._end(rows.keys, prefix)] if key.startswith(prefix)]
        if newest:
            keys.reverse()
        found = [(key, rows.rows[key]) for key in keys]
        return iter(found)

    def apply(self, writes: Sequence[Write]) -> None:
        """All writes in one transaction; raises Crashed where a crash was planted."""
        self.commits += 1
        crash = self.commits == self.crash_at
        if crash and not self.crash_after_writes:
            raise Crashed(f"before transaction {self.commits}")
        tables = [self._table(write.table) for write in writes]
        for table, write in zip(tables, writes, strict=True):
            if isinstance(write, Put):
                table.put(write.key, write.value)
            else:
                table.delete(write.key)
        if crash:
            raise Crashed(f"after transaction {self.commits}")

    def snapshot(self) -> MemoryStore:
        """A copy as a backup or a thief would have it."""
        other = MemoryStore()
        other._tables = {name: table.copy() for name, table in self._tables.items()}
        return other

    def _table(self, name: str) -> _Table:
        try:
            return self._tables[name]
        except KeyError:
            raise InternalError("internal", f"no table {name}") from None

    @staticmethod
    def _end(keys: list[bytes], prefix: bytes) -> int:
        """Index beyond the last key with this prefix."""
        stripped = prefix.rstrip(b"\xff")
        if not stripped:
            return len(keys)
        return bisect_left(keys, stripped[:-1] + bytes([stripped[-1] + 1]))
