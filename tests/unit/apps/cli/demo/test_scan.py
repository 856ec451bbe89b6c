"""The search proves itself: whatever is planted is found, in every form and at every place."""

from __future__ import annotations

import base64
import os
import sqlite3
from pathlib import Path

import msgspec
import pytest

from cloister.apps.cli.demo import scan
from cloister.apps.cli.demo.scan import Find, Needle, Scanner, names_in_log, names_outside_directory
from cloister.apps.cli.demo.stored import stored
from cloister.relay.store import schema
from cloister.relay.store.interface import EntryRow

CANARY = b"canary \xc3\xbc 4711"
KEY = bytes(range(7, 39))
NEEDLES = (Needle(name="text", value=CANARY, is_text=True), Needle(name="key", value=KEY))
ROOM, RUN = b"r" * 16, b"u" * 16


def database(folder: Path) -> sqlite3.Connection:
    """A relay's database with a realm log, a room and a run."""
    connection = sqlite3.connect(folder / "relay.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    for statements in schema.MIGRATIONS:
        for statement in statements:
            connection.execute(statement)
    for number, log in enumerate((scan.REALM_LOG, ROOM, RUN), 1):
        connection.execute("INSERT INTO logs VALUES (?, ?)", (number, log))
    connection.execute("INSERT INTO epochs VALUES (?, ?, 1, 1, 0, NULL)", (ROOM, b"t" * 32))
    connection.execute("INSERT INTO runs VALUES (?, ?, NULL, 5, ?)", (RUN, ROOM, b"d" * 32))
    entry(connection, 1, b"cloister://home/u/alice/d/main")
    entry(connection, 2, b"sealed" * 10)
    entry(connection, 3, b"agreed" * 10)
    return connection


def entry(connection: sqlite3.Connection, log: int, payload: bytes, kind: str = "application") -> None:
    (count,) = connection.execute("SELECT count(*) FROM blocks WHERE id >> 40 = ?", (log,)).fetchone()
    name = {1: scan.REALM_LOG, 2: ROOM, 3: RUN}[log]
    row = EntryRow(
        name, count + 1, kind, 0, 1, b"t" * 32, os.urandom(16), payload, b"h" * 32, b"a" * 32,
        None, None, b"", 1, b"e" * 32,
    )  # fmt: skip
    connection.execute(
        "INSERT INTO blocks VALUES (?, 1, ?, 1, 1, ?)",
        (log << 40 | row.seq, len(payload), msgspec.msgpack.encode([row])),
    )


def in_base64(value: bytes, shift: int, *, url: bool) -> bytes:
    encode = base64.urlsafe_b64encode if url else base64.b64encode
    return encode(os.urandom(shift) + value + os.urandom(2))


FORMS = {
    "raw": lambda value: value,
    "hex": lambda value: value.hex().encode(),
    "HEX": lambda value: value.hex().upper().encode(),
    **{
        f"base64 {shift} {url}": lambda value, shift=shift, url=url: in_base64(value, shift, url=url)
        for shift in range(4)
        for url in (False, True)
    },
}


def test_without_a_canary_nothing_is_found(tmp_path: Path) -> None:
    database(tmp_path).close()
    (tmp_path / "relay.log").write_text("listening\n")
    assert Scanner(NEEDLES).in_folder(tmp_path) == []
    assert names_outside_directory(tmp_path / "relay.db", ["alice", "bob"]) == []
    assert names_in_log(tmp_path / "relay.log", ["alice", "bob"]) == []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("needle", NEEDLES, ids=lambda needle: needle.name)
def test_a_canary_row_is_found_in_every_form(needle: Needle, form: str, tmp_path: Path) -> None:
    connection = database(tmp_path)
    entry(connection, 2, b"....." + FORMS[form](needle.value) + b".....")
    connection.close()
    found = Scanner(NEEDLES).in_folder(tmp_path)
    assert found == [Find(name=needle.name, form=form.split()[0].lower(), place="relay.db")]


def test_a_canary_in_the_write_ahead_log_is_found_while_the_relay_runs(tmp_path: Path) -> None:
    connection = database(tmp_path)
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    entry(connection, 2, CANARY)
    assert "relay.db-wal" in {find.place for find in Scanner(NEEDLES).in_folder(tmp_path)}
    connection.close()


@pytest.mark.parametrize("at", [0, 1, 4000, scan._CHUNK - 5, scan._CHUNK - 1, scan._CHUNK, 2 * scan._CHUNK - 3])
def test_a_canary_is_found_wherever_it_stands_in_a_large_file(at: int, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"x" * at + KEY + b"x" * scan._CHUNK)
    assert [find.name for find in Scanner(NEEDLES).in_folder(tmp_path)] == ["key"]


def test_a_text_in_utf_16_is_found(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(CANARY.decode().encode("utf-16"))
    assert [find.form for find in Scanner(NEEDLES).in_folder(tmp_path)] == ["UTF-16"]


def test_what_is_too_short_to_look_for_is_refused() -> None:
    with pytest.raises(ValueError, match="too short"):
        Scanner([Needle(name="x", value=b"abcd")])


def test_a_file_that_cannot_be_read_fails_the_search(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="none"):
        Scanner(NEEDLES).in_file(tmp_path / "none", "none")


def test_a_name_in_a_room_is_found(tmp_path: Path) -> None:
    connection = database(tmp_path)
    entry(connection, 2, b"...alice...")
    connection.close()
    assert [str(find) for find in names_outside_directory(tmp_path / "relay.db", ["alice", "bob"])] == [
        "the name alice (raw) in blocks"
    ]


@pytest.mark.parametrize("table", ["runs", "epochs"])
def test_a_name_in_another_table_is_found(table: str, tmp_path: Path) -> None:
    connection = database(tmp_path)
    value = b"cloister://home/u/bob/d/main"
    connection.execute(f"UPDATE {table} SET {'digest' if table == 'runs' else 'next'} = ?", (value,))
    connection.close()
    assert [find.place for find in names_outside_directory(tmp_path / "relay.db", ["bob"])] == [table]


def test_names_may_stand_where_the_relay_delivers(tmp_path: Path) -> None:
    connection = database(tmp_path)
    connection.execute("INSERT INTO mailboxes VALUES ('cloister://home/u/alice/d/main', 1)")
    connection.close()
    assert names_outside_directory(tmp_path / "relay.db", ["alice"]) == []


def test_the_tables_that_may_name_a_device_are_those_that_are_kept_by_device(tmp_path: Path) -> None:
    connection = database(tmp_path)
    by_device = {
        table
        for table in scan.tables(connection)
        for column in connection.execute(f"PRAGMA table_info({table})")
        if column[1] in ("device", "owner")
    }
    connection.close()
    assert by_device | {"enrolments", "meta"} == set(scan.HOME_OF_NAMES)


def test_a_name_in_the_process_log_is_found(tmp_path: Path) -> None:
    (tmp_path / "relay.log").write_text("login of cloister://home/u/bob/d/main\n")
    assert [find.name for find in names_in_log(tmp_path / "relay.log", ["alice", "bob"])] == ["the name bob"]


def test_what_the_relay_stored_is_counted_by_log(tmp_path: Path) -> None:
    connection = database(tmp_path)
    entry(connection, 2, b"\x01\x02" * 20)
    connection.close()
    found = stored(tmp_path / "relay.db")
    assert found.entries == 4
    assert found.logs == {
        "realm log": (1, 30),
        f"room {ROOM.hex()[:8]}": (2, 100),
        f"run {RUN.hex()[:8]}": (1, 60),
    }
    assert [(row.log[:4], row.size, row.first) for row in found.rows][-1] == ("run ", 60, b"agreedagreedagre".hex())
    assert found.bytes >= (tmp_path / "relay.db").stat().st_size


@pytest.mark.parametrize(
    "value", [b"abcde", bytes(5), os.urandom(5), os.urandom(33)], ids=["text", "zeros", "five", "many"]
)
def test_the_shortest_needle_is_found_in_each_form_at_the_end_of_the_bytes(value: bytes) -> None:
    for form, data in scan.forms(Needle(name="canary", value=value)):
        assert len(data) >= scan.NEEDLE_LEAST
        found = Scanner([Needle(name="canary", value=value)]).in_bytes(b"\x01\x02" + data, "here")
        assert Find(name="canary", form=form, place="here") in found
