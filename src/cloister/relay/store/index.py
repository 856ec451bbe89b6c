"""Finding an entry by the id that its sender made: an index that is written late.

Source: docs/spec/relay.md ("Store"). Ids are random, so an index row for each entry at once would cost a page of
the log for each entry, more than the entry itself. Instead the newest ids are kept in memory and written together,
sorted, in the transaction of some later batch. What a crash leaves unwritten is the end of each log: opening the
store reads it back.

Invariants
- A filter in memory answers for nearly all ids that are new, without asking the database: one bit of a key.
- Every id whose batch has been applied is in memory or in the snapshot that lookups read.
- The writer's thread adds and flushes, the reader's looks up and renews; the lock is taken once in a flush.
"""

from __future__ import annotations

import sqlite3
from threading import Lock
from typing import Final

from cloister.primitives.kdf import sha256

FLUSH: Final = 2_048
"""Ids kept in memory before they are written."""
FILTER: Final = 1 << 20
"""Bits of the smallest filter: at least 64 for each id that is there at the start."""
_INSERT: Final = "INSERT INTO ids VALUES (?,?)"
Keys = list[tuple[int, int]]


def key(log: bytes, entry_id: bytes) -> int:
    """Eight bytes of SHA-256, as SQLite's signed integer."""
    return int.from_bytes(sha256(log + entry_id)[:8], "big", signed=True)


class Index:
    """(key, id of the entry) pairs; two entries may share a key."""

    def __init__(self, lookup: sqlite3.Connection) -> None:
        self._query = lookup.cursor().execute
        (count,) = self._query("SELECT count(*) FROM ids").fetchone()
        bits = max(FILTER, 1 << (64 * count).bit_length())
        self._mask = bits - 1
        self._filter = bytearray(bits >> 3)
        for (k,) in self._query("SELECT k FROM ids"):
            self._note(k)
        self._new: dict[int, list[int]] = {}
        self._size = 0
        self._written: dict[int, list[int]] = {}
        self._lock = Lock()
        self._reading = False

    def _note(self, k: int) -> None:
        place = k & self._mask
        self._filter[place >> 3] |= 1 << (place & 7)

    # --- the writer's side ----------------------------------------------------------------------------------

    def due(self) -> Keys:
        """What to write in the next transaction: everything new, sorted, once there is enough of it."""
        return self.all_new() if self._size >= FLUSH else []

    def all_new(self) -> Keys:
        """Everything that is not written."""
        return sorted((k, ident) for k, idents in self._new.items() for ident in idents)

    def applied(self, keys: Keys, flushed: bool) -> None:
        """A transaction stands: with these new entries, and with what `due` gave if `flushed`."""
        if flushed:
            with self._lock:
                self._written = {**self._written, **self._new}
                self._new, self._size = {}, 0
        for k, ident in keys:
            self._note(k)
            self._new.setdefault(k, []).append(ident)
        self._size += len(keys)

    def forget(self, keys: Keys) -> None:
        """Entries are gone (their rows, too)."""
        for k, ident in keys:
            if ident in self._new.get(k, ()):
                self._new[k].remove(ident)
                self._size -= 1

    # --- the reader's side ----------------------------------------------------------------------------------

    def find(self, k: int) -> list[int]:
        """The ids of all entries with this key."""
        place = k & self._mask
        if not self._filter[place >> 3] >> (place & 7) & 1:
            return []
        while True:
            if self._written:
                self.renew()
            found = list(self._new.get(k, ()))
            if not self._reading:
                self._query("BEGIN")
                self._reading = True
            rows = self._query("SELECT id FROM ids WHERE k = ?", (k,)).fetchall()
            if not self._written:  # else a flush came between: look again
                return found + [ident for (ident,) in rows]

    def renew(self) -> None:
        """Let go of the snapshot; the next lookup sees what has been flushed."""
        with self._lock:
            if self._reading:
                self._query("COMMIT")
                self._reading = False
            if self._written:
                self._query("BEGIN")
                self._query("SELECT 1 FROM ids LIMIT 1").fetchall()  # the snapshot is taken now
                self._reading = True
                self._written = {}


def write(connection: sqlite3.Connection, keys: Keys) -> None:
    """Write index rows in the transaction that is open."""
    connection.executemany(_INSERT, keys)
