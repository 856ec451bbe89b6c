"""The device's database: encrypted SQLite, one table for each kind of row.

Source: docs/architecture.md ("Dependencies": apsw-sqlite3mc); implements `engine.store.Store`.

Invariants
- Every page of the file is encrypted (ChaCha20-Poly1305) under a 32-byte key that only the profile's vault opens.
- WAL with synchronous=FULL: `apply` returns when the transaction is on the disk, or raises.
- secure_delete: a deleted row's bytes are overwritten, so that no used key stays in a free page.
- What was altered on the disk is `damaged`, where it is read; it is never wrong data.
- The schema's version stands in `user_version`; a database of a later version is refused, an earlier one migrated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import apsw

from cloister.engine.store import TABLES, Put, Write
from cloister.errors import UnavailableError

_CREATE: Final = 'CREATE TABLE "{}" (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;'
_SINCE: Final = {"prekey": 2, "found": 3}
"""Tables that came after version 1, and with which version."""
MIGRATIONS: Final = tuple(
    "".join(_CREATE.format(name) for name in TABLES if _SINCE.get(name, 1) == version) for version in (1, 2, 3)
)
"""Statements that lead from version n to n + 1, for each n."""

_GET: Final = {name: f'SELECT value FROM "{name}" WHERE key = ?' for name in TABLES}  # noqa: S608 - fixed names
_PUT: Final = {name: f'INSERT OR REPLACE INTO "{name}" VALUES (?, ?)' for name in TABLES}  # noqa: S608
_DELETE: Final = {name: f'DELETE FROM "{name}" WHERE key = ?' for name in TABLES}  # noqa: S608
_SCAN: Final = {
    (name, order): f'SELECT key, value FROM "{name}" WHERE key > ? AND key >= ? AND key < ? ORDER BY key {order}'  # noqa: S608
    for name in TABLES
    for order in ("ASC", "DESC")
}
_END: Final = b"\xff" * 96
"""Beyond every key."""


MEMORY: Final = Path(":memory:")
"""In the place of a file: nothing reaches the disk, and nothing needs a key."""


class DeviceStore:
    """The rows of one profile."""

    def __init__(self, path: Path, key: bytes) -> None:
        try:
            self._db = apsw.Connection(str(path))
            if path != MEMORY:
                self._db.pragma("key", f"raw:{key.hex()}")
            self._db.pragma("journal_mode", "WAL")
            self._db.pragma("synchronous", "FULL")
            self._db.pragma("secure_delete", "ON")
            self._migrate()
        except apsw.Error as error:
            raise _unavailable(error) from error

    def _migrate(self) -> None:
        version = int(self._db.pragma("user_version") or 0)
        if version > len(MIGRATIONS):
            raise UnavailableError("version", "the profile was written by a later cloister")
        for step in range(version, len(MIGRATIONS)):
            with self._db:
                self._db.execute(MIGRATIONS[step])
                self._db.pragma("user_version", step + 1)

    def get(self, table: str, key: bytes) -> bytes | None:
        """The row, or None."""
        try:
            row = self._db.execute(_GET[table], (key,)).fetchone()
        except apsw.Error as error:
            raise _unavailable(error) from error
        return None if row is None else bytes(row[0])

    def scan(
        self, table: str, prefix: bytes = b"", *, after: bytes = b"", newest: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows whose key begins with `prefix`, in key order beyond `after`; with `newest`, from the last down."""
        statement = _SCAN[table, "DESC" if newest else "ASC"]
        try:
            for key, value in self._db.execute(statement, (after, prefix, prefix + _END)):
                yield bytes(key), bytes(value)
        except apsw.Error as error:
            raise _unavailable(error) from error

    def apply(self, writes: Sequence[Write]) -> None:
        """All writes in one transaction, durable on return; UnavailableError disk or damaged when it cannot be."""
        if not writes:
            return
        try:
            with self._db:
                for write in writes:
                    if isinstance(write, Put):
                        self._db.execute(_PUT[write.table], (write.key, write.value))
                    else:
                        self._db.execute(_DELETE[write.table], (write.key,))
        except apsw.Error as error:
            raise _unavailable(error) from error

    def close(self) -> None:
        """Fold the write-ahead log in and release the file."""
        self._db.close()


def _unavailable(error: apsw.Error) -> UnavailableError:
    """Every page has a tag under the key, which the vault vouches for: what does not verify was altered on the disk."""
    if isinstance(error, apsw.NotADBError | apsw.CorruptError):
        return UnavailableError("damaged", "the profile's database")
    return UnavailableError("disk", str(error))
