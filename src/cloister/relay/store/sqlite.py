"""The store on SQLite: WAL, synchronous=FULL, one writer, one reader.

Source: docs/spec/relay.md ("Store"). `apply` is called by one thread at a time (the server's writer), everything
else by the thread that made the store; each has a connection of its own.

Invariants
- With FULL a transaction that `apply` has returned from survives a power cut. The mode is an argument only so
  that the power-cut test can show that it bites (NORMAL and OFF lose).
- The reader holds one snapshot from its first read until `refresh`; lookups by entry id have a connection of
  their own, whose snapshot lasts longer (`index`). What was applied after it is known as under way.
- A database of a later version is refused (`version`), a damaged one too (`damaged`); nothing is repaired.
- Files are made with the mode 0600 by the umask of the process (`files`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from cloister.errors import UnavailableError
from cloister.relay.store import index, retention, schema
from cloister.relay.store.interface import (
    AckMail,
    Counts,
    DropLog,
    DropMailbox,
    DropPrekey,
    DropPrekeys,
    DropStaged,
    EntryRow,
    EpochRow,
    InviteRow,
    Mailbox,
    MailRow,
    PrekeyRow,
    Purge,
    PutEnrolment,
    PutEntries,
    PutEpoch,
    PutGroupInfo,
    PutInvite,
    PutMail,
    PutMailKey,
    PutMeta,
    PutPart,
    PutPrekey,
    PutRun,
    RunRow,
    StagedRow,
    StoreFailed,
    Write,
)
from cloister.wire.frames import REALM_LOG

Synchronous = Literal["FULL", "NORMAL", "OFF"]
_SEQ_BITS: Final = 40
_SEQ_MASK: Final = (1 << _SEQ_BITS) - 1
_SWEEP: Final = 2_000
"""Blocks looked at by one purge; the next goes on where it stopped."""
_BLOCK: Final = 64
_BLOCK_BYTES: Final = 65_536
"""Entries and bytes of payload of one block; a larger entry has a block of its own."""
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[EntryRow]).decode


def _connect(path: Path, synchronous: Synchronous) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    try:
        connection.execute("PRAGMA busy_timeout = 10000")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA cache_size = -16000")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema to this code's version, one transaction for each step."""
    connection.execute("CREATE TABLE IF NOT EXISTS migrations (version INTEGER PRIMARY KEY)")
    (version,) = connection.execute("SELECT coalesce(max(version), 0) FROM migrations").fetchone()
    if version > schema.VERSION:
        raise UnavailableError("version", f"the database has schema {version}, this program knows {schema.VERSION}")
    for number, statements in enumerate(schema.MIGRATIONS[version:], version + 1):
        connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            connection.execute(statement)
        connection.execute("INSERT INTO migrations VALUES (?)", (number,))
        connection.execute("COMMIT")


class SqliteStore:
    """All rows in one database file."""

    def __init__(self, path: Path, synchronous: Synchronous = "FULL") -> None:
        with ExitStack() as undo:
            try:
                self._writer = undo.enter_context(closing(_connect(path, synchronous)))
                _migrate(self._writer)
                self._reader = undo.enter_context(closing(_connect(path, synchronous)))
                self._lookup = _connect(path, synchronous)
            except sqlite3.Error as error:
                raise UnavailableError("damaged", "the relay's database cannot be opened") from error
            undo.pop_all()
        self._numbers: dict[bytes, int] = {}
        self._index = index.Index(self._lookup)
        self._index.applied(self._unindexed(), flushed=False)
        self._fresh: index.Keys = []
        self._sweep = 0
        self._reading = False
        self._query = self._reader.cursor().execute
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            **{kind: partial(self._put_fields, sql) for kind, sql in _FIELDS.items()},
            **{kind: partial(self._put_rows, sql) for kind, sql in _ROWS.items()},
            PutEntries: self._put_entries,
            PutMail: self._put_mail,
            PutInvite: self._put_invites,
            DropMailbox: self._drop_mailboxes,
            DropLog: self._drop_logs,
            Purge: self._purge,
        }

    # --- writing --------------------------------------------------------------------------------------------

    def brief(self, writes: Sequence[Write]) -> bool:
        """See `Store.brief`: entries of one log that make one block, and no index rows that are due."""
        if len(writes) != 1 or not isinstance(writes[0], PutEntries) or self._index.full:
            return False
        rows = writes[0].rows
        if len(rows) == 1:
            return True
        return len(rows) <= _BLOCK and sum([len(row.payload or b"") for row in rows]) <= _BLOCK_BYTES

    def apply(self, writes: Sequence[Write]) -> None:
        """See `Store.apply`."""
        execute = self._writer.execute
        self._fresh = []
        due = self._index.due()
        try:
            if self.brief(writes):
                self._put_entries(writes)  # one statement is a transaction of its own
            else:
                execute("BEGIN IMMEDIATE")
                for kind, group in groupby(writes, type):
                    self._handlers[kind](list(group))
                if due:
                    index.write(self._writer, due)
                execute("COMMIT")
        except sqlite3.Error as error:
            self._numbers.clear()
            if self._writer.in_transaction:
                execute("ROLLBACK")
            raise StoreFailed("disk", str(getattr(error, "sqlite_errorname", "sqlite"))) from error
        self._index.applied(self._fresh, flushed=bool(due))

    def _put_fields(self, sql: str, group: list[Any]) -> None:
        self._writer.executemany(sql, group)

    def _put_rows(self, sql: str, group: list[Any]) -> None:
        self._writer.executemany(sql, [write.row for write in group])

    def close(self) -> None:
        """End the connections; the log is written back into the database."""
        self._end_reading()
        self._reader.close()
        self._lookup.close()
        self._writer.close()

    def _unindexed(self) -> index.Keys:
        """The entries at the end of each log whose ids were not written before the last process ended."""
        keys: index.Keys = []
        query = self._writer.execute
        for (number,) in query("SELECT no FROM logs").fetchall():
            first = number << _SEQ_BITS
            blocks = query(
                "SELECT data FROM blocks WHERE id BETWEEN ? AND ? ORDER BY id DESC", (first, first | _SEQ_MASK)
            )
            for (data,) in blocks:
                found = [(row.entry_id, first | row.seq) for row in _decode(data)]
                if query("SELECT 1 FROM ids WHERE entry_id = ? AND id = ?", found[0]).fetchone():
                    break
                keys.extend(found)
        return keys

    def _number(self, log: bytes) -> int:
        """The number of a log, given at its first entry."""
        number = self._numbers.get(log)
        if number is None:
            self._writer.execute("INSERT OR IGNORE INTO logs (log) VALUES (?)", (log,))
            (number,) = self._writer.execute("SELECT no FROM logs WHERE log = ?", (log,)).fetchone()
            if len(self._numbers) > 4096:
                self._numbers.clear()
            self._numbers[log] = number
        return number

    def _put_entries(self, group: Sequence[Any]) -> None:
        blocks = []
        for (rows,) in group:
            log = rows[0].log
            first = (self._numbers.get(log) or self._number(log)) << _SEQ_BITS
            for part, size in _parts(rows):
                blocks.append((first | part[0].seq, len(part), size, part[-1].ts_ms, 1, _encode(part)))
            for row in rows:
                self._fresh.append((row.entry_id, first | row.seq))
        self._writer.executemany("INSERT INTO blocks VALUES (?,?,?,?,?,?)", blocks)

    def _put_mail(self, group: list[PutMail]) -> None:
        self._writer.executemany("INSERT INTO mail VALUES (?,?,?,?,?,?)", [write.row for write in group])
        self._writer.executemany(
            "INSERT OR REPLACE INTO mailboxes VALUES (?,?)", [(write.row.device, write.row.number) for write in group]
        )

    def _drop_mailboxes(self, group: list[DropMailbox]) -> None:
        for table in ("mail", "mail_keys"):
            self._writer.executemany(f"DELETE FROM {table} WHERE device = ?", group)  # noqa: S608 - our own names

    def _put_invites(self, group: list[PutInvite]) -> None:
        self._writer.executemany("INSERT OR REPLACE INTO invites VALUES (?,?,?,?,?)", [write.row for write in group])
        self._writer.execute("DELETE FROM invites WHERE uses < 1")

    def _purge(self, group: list[Purge]) -> None:
        now = group[-1].now
        times = retention.Times.at(now)
        execute = self._writer.execute
        self._empty(times)
        for (run,) in execute("SELECT run FROM runs WHERE deadline < ? LIMIT 100", (times.runs,)).fetchall():
            self._forget_log(run)
        execute(
            "DELETE FROM mail WHERE ts_ms < CASE WHEN body IS NULL THEN ? ELSE ? END", (times.delivered, times.mail)
        )
        execute("DELETE FROM group_infos WHERE ts_ms < ?", (times.mail,))
        execute("DELETE FROM invites WHERE expires < ?", (now,))
        execute("DELETE FROM parts WHERE expires < ?", (now,))
        execute("DELETE FROM enrolments WHERE ts_ms < ?", (times.enrolments,))
        execute("DELETE FROM prekeys WHERE not_after < ?", (now,))
        execute("PRAGMA incremental_vacuum(1000)").fetchall()

    def _empty(self, times: retention.Times) -> None:
        """Empty payloads past their time, a part of the table at a time."""
        execute = self._writer.execute
        realm = self._number(REALM_LOG)
        found = execute(
            'SELECT id, "full", ts_ms FROM blocks WHERE id > ? ORDER BY id LIMIT ?', (self._sweep, _SWEEP)
        ).fetchall()
        for place, full, ts_ms in found:
            if full and place >> _SEQ_BITS != realm and ts_ms < times.messages:
                (data,) = execute("SELECT data FROM blocks WHERE id = ?", (place,)).fetchone()
                rows = [row._replace(payload=None) if times.over(row.kind, row.ts_ms) else row for row in _decode(data)]
                left = [len(row.payload) for row in rows if row.payload is not None]
                execute(
                    'UPDATE blocks SET bytes = ?, "full" = ?, data = ? WHERE id = ?',
                    (sum(left), bool(left), _encode(rows), place),
                )
        self._sweep = found[-1][0] if len(found) == _SWEEP else 0

    def _drop_logs(self, group: list[DropLog]) -> None:
        for write in group:
            self._forget_log(write.log)

    def _forget_log(self, log: bytes) -> None:
        execute = self._writer.execute
        first = self._number(log) << _SEQ_BITS
        span = (first, first | _SEQ_MASK)
        blocks = execute("SELECT data FROM blocks WHERE id BETWEEN ? AND ?", span).fetchall()
        keys = [(row.entry_id, first | row.seq) for (data,) in blocks for row in _decode(data)]
        self._writer.executemany("DELETE FROM ids WHERE entry_id = ? AND id = ?", keys)
        self._index.forget(keys)
        execute("DELETE FROM blocks WHERE id BETWEEN ? AND ?", span)
        execute("DELETE FROM epochs WHERE log = ?", (log,))
        execute("DELETE FROM runs WHERE run = ?", (log,))
        execute("DELETE FROM logs WHERE log = ?", (log,))
        del self._numbers[log]

    # --- reading --------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """See `Store.refresh`."""
        self._end_reading()

    def idle(self) -> None:
        """See `Store.idle`."""
        self._end_reading()
        self._index.renew()

    def _end_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._query("COMMIT")

    def _all(self, sql: str, values: tuple[object, ...] = ()) -> list[Any]:
        if not self._reading:
            self._query("BEGIN")
            self._reading = True
        return self._query(sql, values).fetchall()

    def _one(self, sql: str, values: tuple[object, ...]) -> Any:
        rows = self._all(sql, values)
        return rows[0] if rows else None

    def _first(self, log: bytes) -> int | None:
        """The id before a log's first entry, None when it has none."""
        row = self._one("SELECT no FROM logs WHERE log = ?", (log,))
        return None if row is None else row[0] << _SEQ_BITS

    def meta(self, key: str) -> bytes | None:
        """See `Store`."""
        row = self._one("SELECT value FROM meta WHERE key = ?", (key,))
        return None if row is None else bytes(row[0])

    def last(self, log: bytes) -> EntryRow | None:
        """See `Store`."""
        first = self._first(log)
        if first is None:
            return None
        row = self._one(
            "SELECT data FROM blocks WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT 1", (first, first | _SEQ_MASK)
        )
        return None if row is None else _decode(row[0])[-1]

    def entry(self, log: bytes, entry_id: bytes) -> EntryRow | None:
        """See `Store`."""
        for place in self._index.find(entry_id):
            if place & ~_SEQ_MASK == self._first(log):
                seq = place & _SEQ_MASK
                return next(self.entries(log, seq - 1, seq))
        return None

    def entries(self, log: bytes, after: int, upto: int) -> Iterator[EntryRow]:
        """See `Store`."""
        first = self._first(log)
        if first is None:
            return
        start = first + min(after, _SEQ_MASK - 1) + 1
        begin = self._one("SELECT max(id) FROM blocks WHERE id BETWEEN ? AND ?", (first, start))[0]
        cursor = self._reader.execute(
            "SELECT data FROM blocks WHERE id BETWEEN ? AND ? ORDER BY id",
            (start if begin is None else begin, first + min(upto, _SEQ_MASK)),
        )
        try:
            for (data,) in cursor:
                for row in _decode(data):
                    if after < row.seq <= upto:
                        yield row
        finally:
            cursor.close()

    def epoch(self, log: bytes, token_hash: bytes) -> EpochRow | None:
        """See `Store`."""
        row = self._one("SELECT * FROM epochs WHERE log = ? AND token_hash = ?", (log, token_hash))
        return None if row is None else EpochRow(*row)

    def group_info(self, log: bytes, seq: int, offset: int, most: int) -> tuple[int, bytes] | None:
        """See `Store`."""
        row: tuple[int, bytes] | None = self._one(
            "SELECT length(body), substr(body, ?, ?) FROM group_infos WHERE log = ? AND seq = ?",
            (offset + 1, most, log, seq),
        )
        return row

    def run(self, run: bytes) -> RunRow | None:
        """See `Store`."""
        row = self._one("SELECT * FROM runs WHERE run = ?", (run,))
        return None if row is None else RunRow(*row)

    def runs_of(self, room: bytes) -> list[RunRow]:
        """See `Store`."""
        return [RunRow(*row) for row in self._all("SELECT * FROM runs WHERE room = ?", (room,))]

    def mailbox(self, device: str) -> Mailbox:
        """See `Store`."""
        last = self._one("SELECT last FROM mailboxes WHERE device = ?", (device,))
        items, size = self._one(
            "SELECT count(*), coalesce(sum(length(body)), 0) FROM mail WHERE device = ? AND body IS NOT NULL", (device,)
        )
        return Mailbox(last[0] if last else 0, items, size)

    def mail(self, device: str, after: int, most: int) -> list[MailRow]:
        """See `Store`."""
        rows = self._all(
            "SELECT * FROM mail WHERE device = ? AND number > ? AND body IS NOT NULL ORDER BY number LIMIT ?",
            (device, after, most),
        )
        return [MailRow(*row) for row in rows]

    def mail_item(self, device: str, item_id: bytes) -> MailRow | None:
        """See `Store`."""
        row = self._one("SELECT * FROM mail WHERE device = ? AND item_id = ?", (device, item_id))
        return None if row is None else MailRow(*row)

    def mail_key(self, device: str) -> bytes | None:
        """See `Store`."""
        row = self._one("SELECT statement FROM mail_keys WHERE device = ?", (device,))
        return None if row is None else bytes(row[0])

    def invite(self, invite: bytes) -> InviteRow | None:
        """See `Store`."""
        row = self._one("SELECT * FROM invites WHERE invite = ?", (invite,))
        return None if row is None else InviteRow(*row)

    def invites_of(self, owner: str, now: int) -> int:
        """See `Store`."""
        count: int = self._one("SELECT count(*) FROM invites WHERE owner = ? AND expires >= ?", (owner, now))[0]
        return count

    def enrolment(self, invite: bytes, digest: bytes) -> bytes | None:
        """See `Store`."""
        row = self._one("SELECT reply FROM enrolments WHERE invite = ? AND digest = ?", (invite, digest))
        return None if row is None else bytes(row[0])

    def staged(self, device: str) -> list[StagedRow]:
        """See `Store`."""
        rows = self._all(
            "SELECT hash, max(size), sum(length(data)), max(expires) FROM parts WHERE device = ? GROUP BY hash",
            (device,),
        )
        return [StagedRow(*row) for row in rows]

    def parts(self, device: str, digest: bytes) -> bytes:
        """See `Store`."""
        rows = self._all("SELECT data FROM parts WHERE device = ? AND hash = ? ORDER BY start", (device, digest))
        return b"".join([row[0] for row in rows])

    def prekeys(self, device: str, suite: str) -> list[PrekeyRow]:
        """See `Store`."""
        rows = self._all(
            "SELECT device, suite, ref, not_before, not_after, last_resort, x'' FROM prekeys "
            "WHERE device = ? AND suite = ? ORDER BY rowid",
            (device, suite),
        )
        return [_prekey(row) for row in rows]

    def prekey(self, device: str, suite: str, ref: bytes) -> PrekeyRow | None:
        """See `Store`."""
        row = self._one("SELECT * FROM prekeys WHERE device = ? AND suite = ? AND ref = ?", (device, suite, ref))
        return None if row is None else _prekey(row)

    def counts(self) -> Counts:
        """See `Store`."""
        row = self._one(
            "SELECT (SELECT count(*) FROM logs), (SELECT coalesce(sum(count), 0) FROM blocks), "
            "(SELECT coalesce(sum(bytes), 0) FROM blocks), "
            "(SELECT count(*) FROM mail WHERE body IS NOT NULL)",
            (),
        )
        return Counts(*row)


def _prekey(row: Any) -> PrekeyRow:
    return PrekeyRow(*row)._replace(last_resort=bool(row[5]))


def _parts(rows: list[EntryRow]) -> Iterator[tuple[list[EntryRow], int]]:
    """The rows as blocks, each with its bytes of payload."""
    part: list[EntryRow] = []
    size = 0
    for row in rows:
        more = len(row.payload or b"")
        if part and (len(part) >= _BLOCK or size + more > _BLOCK_BYTES):
            yield part, size
            part, size = [], 0
        part.append(row)
        size += more
    yield part, size


_FIELDS: Final[dict[type[Any], str]] = {
    PutMeta: "INSERT OR REPLACE INTO meta VALUES (?,?)",
    PutGroupInfo: "INSERT INTO group_infos VALUES (?,?,?,?)",
    AckMail: (  # numbered parameters with a sequence are deprecated in Python 3.12
        "WITH ack(device, upto, at) AS (VALUES (?,?,?)) UPDATE mail SET body = NULL, ts_ms = (SELECT at FROM ack) "
        "WHERE device = (SELECT device FROM ack) AND number <= (SELECT upto FROM ack) AND body IS NOT NULL"
    ),
    PutMailKey: "INSERT OR REPLACE INTO mail_keys VALUES (?,?)",
    PutEnrolment: "INSERT OR REPLACE INTO enrolments VALUES (?,?,?,?)",
    PutPart: "INSERT INTO parts VALUES (?,?,?,?,?,?)",
    DropStaged: "DELETE FROM parts WHERE device = ? AND hash = ?",
    DropPrekey: "DELETE FROM prekeys WHERE device = ? AND suite = ? AND ref = ?",
    DropPrekeys: "DELETE FROM prekeys WHERE device = ?",
}
"""Writes that are one statement, bound to their fields."""
_ROWS: Final[dict[type[Any], str]] = {
    PutEpoch: "INSERT OR REPLACE INTO epochs VALUES (?,?,?,?,?,?)",
    PutRun: "INSERT INTO runs VALUES (?,?,?,?,?)",
    PutPrekey: "INSERT OR REPLACE INTO prekeys VALUES (?,?,?,?,?,?,?)",
}
"""Writes that are one statement, bound to their row."""
