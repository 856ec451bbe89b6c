"""Finding an entry by the id that its sender made: an index that is written late.

Source: docs/spec/relay.md ("Store"). Ids are random, so an index row for each entry at once would cost a page of
the log for each entry, more than the entry itself. Instead the newest ids are kept in memory and written together,
sorted, in the transaction of some later batch. What a crash leaves unwritten is the end of each log: opening the
store reads it back.

Invariants
- Every id whose batch has been applied is in memory or in the snapshot that lookups read.
- A filter in memory answers for nearly all ids that are new, without asking the database. Its hash is drawn anew
  by each process, so nobody can aim at it.
- The writer's thread adds and flushes, the reader's looks up and renews; the lock is taken once in a flush.
"""

from __future__ import annotations

import sqlite3
from threading import Lock
from typing import Final

FLUSH: Final = 8_192
"""Ids kept in memory before they are written."""
FILTER: Final = 1 << 20
"""Bits of the smallest filter: at least 64 for each id that is there at the start."""
_INSERT: Final = "INSERT INTO ids VALUES (?,?)"
Keys = list[tuple[bytes, int]]
"""(entry id, place of the entry); one entry id may stand in several logs."""


class Index:
    """The entry ids of all logs."""

    def __init__(self, lookup: sqlite3.Connection) -> None:
        self._query = lookup.cursor().execute
        (count,) = self._query("SELECT count(*) FROM ids").fetchone()
        bits = max(FILTER, 1 << (64 * count).bit_length())
        self._mask = bits - 1
        self._filter = bytearray(bits >> 3)
        self._note([entry_id for (entry_id,) in self._query("SELECT entry_id FROM ids")])
        self._new: dict[bytes, tuple[int, ...]] = {}
        self._size = 0
        self._written: dict[bytes, tuple[int, ...]] = {}
        self._lock = Lock()
        self._reading = False

    def _note(self, ids: list[bytes]) -> None:
        bits, mask = self._filter, self._mask
        for entry_id in ids:
            place = hash(entry_id) & mask
            bits[place >> 3] |= 1 << (place & 7)

    # --- the writer's side ----------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether there is enough to be written."""
        return self._size >= FLUSH

    def due(self) -> Keys:
        """What to write in the next transaction: everything new, sorted, once there is enough of it."""
        return self.all_new() if self.full else []

    def all_new(self) -> Keys:
        """Everything that is not written."""
        return sorted((entry_id, place) for entry_id, places in self._new.items() for place in places)

    def applied(self, keys: Keys, flushed: bool) -> None:
        """A transaction stands: with these new entries, and with what `due` gave if `flushed`."""
        if flushed:
            self._note(list(self._new))
            with self._lock:
                self._written = {**self._written, **self._new}
                self._new, self._size = {}, 0
        new = self._new
        for entry_id, place in keys:
            new[entry_id] = (*new[entry_id], place) if entry_id in new else (place,)
        self._size += len(keys)

    def forget(self, keys: Keys) -> None:
        """Entries are gone (their rows, too)."""
        for entry_id, place in keys:
            places = self._new.get(entry_id, ())
            if place in places:
                self._new[entry_id] = tuple(each for each in places if each != place)
                self._size -= 1

    # --- the reader's side ----------------------------------------------------------------------------------

    def find(self, entry_id: bytes) -> tuple[int, ...]:
        """The places of all entries with this id."""
        while True:
            if self._written:
                self.renew()
            found = self._new.get(entry_id, ())
            place = hash(entry_id) & self._mask
            if self._filter[place >> 3] >> (place & 7) & 1:
                found = (*found, *self._stored(entry_id))
            if not self._written:  # else a flush came between: look again
                return found

    def _stored(self, entry_id: bytes) -> list[int]:
        if not self._reading:
            self._query("BEGIN")
            self._reading = True
        return [place for (place,) in self._query("SELECT id FROM ids WHERE entry_id = ?", (entry_id,)).fetchall()]

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
