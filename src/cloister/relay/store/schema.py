"""The SQLite schema, as the migrations that lead to it.

Source: docs/spec/relay.md ("Tables"). `MIGRATIONS[n]` brings version n to n + 1; a released one is never changed.
A migration and its row in `migrations` are one transaction, so a database is of one version or the other, never
between. What each column is for stands on that page; a test compares the two.

A row of `blocks` holds entries that follow each other in one log and came in one batch, as one MessagePack value:
`id` is (number of the log << 40) | seq of the first, `full` says whether payloads are left in it. An index row in
`ids` names an entry's own place, (number of the log << 40) | seq.
"""

from __future__ import annotations

from typing import Final

_VERSION_1: Final = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE logs (no INTEGER PRIMARY KEY, log BLOB NOT NULL UNIQUE)",
    """CREATE TABLE blocks (
        id INTEGER PRIMARY KEY, count INTEGER NOT NULL, bytes INTEGER NOT NULL, ts_ms INTEGER NOT NULL,
        "full" INTEGER NOT NULL, data BLOB NOT NULL)""",
    "CREATE TABLE ids (entry_id BLOB NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (entry_id, id)) WITHOUT ROWID",
    """CREATE TABLE epochs (
        log BLOB NOT NULL, token_hash BLOB NOT NULL, label INTEGER NOT NULL, begin INTEGER NOT NULL,
        "end" INTEGER NOT NULL, next BLOB, PRIMARY KEY (log, token_hash)) WITHOUT ROWID""",
    """CREATE TABLE runs (
        run BLOB PRIMARY KEY, room BLOB, epoch BLOB, deadline INTEGER NOT NULL, digest BLOB NOT NULL) WITHOUT ROWID""",
    "CREATE INDEX runs_room ON runs (room) WHERE room IS NOT NULL",
    "CREATE INDEX runs_deadline ON runs (deadline)",
    """CREATE TABLE group_infos (
        log BLOB NOT NULL, seq INTEGER NOT NULL, ts_ms INTEGER NOT NULL, body BLOB NOT NULL, UNIQUE (log, seq))""",
    "CREATE TABLE mailboxes (device TEXT PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TABLE mail (
        device TEXT NOT NULL, number INTEGER NOT NULL, item_id BLOB NOT NULL, body BLOB, body_hash BLOB NOT NULL,
        ts_ms INTEGER NOT NULL, UNIQUE (device, number))""",
    "CREATE INDEX mail_items ON mail (device, item_id)",
    "CREATE TABLE mail_keys (device TEXT PRIMARY KEY, statement BLOB NOT NULL) WITHOUT ROWID",
    """CREATE TABLE invites (
        invite BLOB PRIMARY KEY, secret_hash BLOB NOT NULL, uses INTEGER NOT NULL, expires INTEGER NOT NULL,
        owner TEXT NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE enrolments (
        invite BLOB NOT NULL, digest BLOB NOT NULL, reply BLOB NOT NULL, ts_ms INTEGER NOT NULL,
        PRIMARY KEY (invite, digest)) WITHOUT ROWID""",
    """CREATE TABLE parts (
        device TEXT NOT NULL, hash BLOB NOT NULL, size INTEGER NOT NULL, start INTEGER NOT NULL, data BLOB NOT NULL,
        expires INTEGER NOT NULL, UNIQUE (device, hash, start))""",
)

_VERSION_2: Final = (
    """CREATE TABLE prekeys (
        device TEXT NOT NULL, suite TEXT NOT NULL, ref BLOB NOT NULL, not_before INTEGER NOT NULL,
        not_after INTEGER NOT NULL, last_resort INTEGER NOT NULL, package BLOB NOT NULL,
        UNIQUE (device, suite, ref))""",
    "CREATE INDEX prekeys_end ON prekeys (not_after)",
)

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (_VERSION_1, _VERSION_2)
"""Statements of each migration."""
VERSION: Final = len(MIGRATIONS)
"""The version that this code reads and writes."""
