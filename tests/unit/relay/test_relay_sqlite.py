"""What is SQLite's own: modes, versions, damage, snapshots, and what the tables hold."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

from cloister.errors import UnavailableError
from cloister.relay.store import index, schema
from cloister.relay.store.interface import EntryRow, PutEntries, PutMeta, StoreFailed
from cloister.relay.store.sqlite import SqliteStore
from support.need import REPOSITORY
from support.relays import World

LOG = b"L" * 16


def documented() -> dict[str, str]:
    """Everything that the relay writes down: the table of docs/spec/relay.md."""
    text = (REPOSITORY / "docs" / "spec" / "relay.md").read_text()
    return {table: columns for table, columns in re.findall(r"^\| `(\w+)` \| ([\w ]+) \|", text, re.MULTILINE)}


def entry(seq: int) -> EntryRow:
    h = bytes(32)
    return EntryRow(LOG, seq, "application", 0, 1, h, seq.to_bytes(16, "big"), b"x", h, h, None, None, b"", 0, h)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


def test_a_database_of_a_later_version_is_refused(path: Path) -> None:
    SqliteStore(path, "OFF").close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("INSERT INTO migrations VALUES (?)", (schema.VERSION + 1,))
    connection.close()
    with pytest.raises(UnavailableError, match="version"):
        SqliteStore(path, "OFF")


def test_a_damaged_database_is_refused(path: Path) -> None:
    path.write_bytes(b"this is no database" * 1000)
    with pytest.raises(UnavailableError, match="damaged"):
        SqliteStore(path, "OFF")


def test_a_migration_is_whole_or_not_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SqliteStore(path, "OFF").close()
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, ("CREATE TABLE extra (x)", "no statement")))
        patch.setattr(schema, "VERSION", schema.VERSION + 1)
        with pytest.raises(UnavailableError, match="damaged"):
            SqliteStore(path, "OFF")
    store = SqliteStore(path, "OFF")
    store.close()
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT max(version) FROM migrations").fetchone() == (schema.VERSION,)
    assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'extra'").fetchone() == (0,)
    connection.close()


def test_the_tables_hold_what_the_specification_says_and_no_more(path: Path) -> None:
    SqliteStore(path, "OFF").close()
    connection = sqlite3.connect(path)
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = {table: " ".join(row[1] for row in connection.execute(f"PRAGMA table_info({table})")) for table in tables}
    connection.close()
    assert found == documented()


@pytest.mark.parametrize(("mode", "number"), [("FULL", 2), ("NORMAL", 1), ("OFF", 0)])
def test_the_synchronous_mode_is_the_one_asked_for(path: Path, mode: str, number: int) -> None:
    store = SqliteStore(path, mode)  # type: ignore[arg-type]
    assert store._writer.execute("PRAGMA synchronous").fetchone() == (number,)
    assert store._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._writer.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    store.close()


def test_full_is_the_mode_of_whoever_does_not_ask(path: Path) -> None:
    store = SqliteStore(path)
    assert store._writer.execute("PRAGMA synchronous").fetchone() == (2,)
    store.close()


def test_a_reader_sees_one_snapshot_until_it_is_refreshed(path: Path) -> None:
    store = SqliteStore(path, "OFF")
    assert store.meta("key") is None
    store.apply([PutMeta("key", b"value")])
    assert store.meta("key") is None
    store.refresh()
    assert store.meta("key") == b"value"
    store.close()


def test_more_logs_than_the_numbers_kept_in_memory(path: Path) -> None:
    store = SqliteStore(path, "OFF")
    rows = [entry(1)._replace(log=number.to_bytes(16, "big")) for number in range(4100)]
    store.apply([PutEntries([row]) for row in rows])
    store.apply([PutEntries([rows[0]._replace(seq=2, entry_id=b"z" * 16)])])
    assert store.last(rows[0].log) == rows[0]._replace(seq=2, entry_id=b"z" * 16)
    store.close()


def test_brief_are_entries_of_one_block_and_nothing_else(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "FLUSH", 65)
    store = SqliteStore(path, "OFF")
    large = entry(2)._replace(payload=bytes(65_536))
    brief = [PutEntries([entry(seq) for seq in range(1, 65)]), PutEntries([large])]
    longer = [PutEntries([entry(seq) for seq in range(1, 66)]), PutEntries([entry(1), large]), PutMeta("key", b"value")]
    assert [store.brief([write]) for write in brief + longer] == [True, True, False, False, False]
    assert not store.brief([brief[0], PutMeta("key", b"value")])
    store.apply([brief[0]])
    assert store.brief([PutEntries([entry(65)])])
    store.apply([PutEntries([entry(65)])])
    assert not store.brief([PutEntries([entry(66)])])  # the index is due
    store.refresh()
    assert [row.seq for row in store.entries(LOG, 0, 99)] == list(range(1, 66))
    store.close()


def test_a_full_disk_fails_the_batch_whole(path: Path) -> None:
    store = SqliteStore(path, "OFF")
    store._writer.execute("PRAGMA max_page_count = 60")
    store.apply([PutMeta("small", b"value")])
    with pytest.raises(StoreFailed, match="SQLITE_FULL"):
        store.apply([PutMeta("key", b"value"), PutMeta("large", bytes(400_000))])
    store.refresh()
    assert (store.meta("small"), store.meta("key")) == (b"value", None)
    store.close()


def test_the_rules_run_on_this_store_too(path: Path) -> None:
    store = SqliteStore(path, "OFF")
    world = World(store=store)
    ann, bob = world.client("ann"), world.client("bob")
    ann.create(LOG, b"t" * 32)
    ann.present(LOG, b"t" * 32)
    for number in range(50):
        ann.post(LOG, b"t" * 32, number.to_bytes(16, "big"))
    page = bob.present(LOG, b"t" * 32)
    assert world.chain(LOG).extend(page.entries, page.head, world.head_keys).seq == 51
    assert ann.post(LOG, b"t" * 32, (3).to_bytes(16, "big")) == 5
    world.start()
    again = world.client("ann")
    assert again.present(LOG, b"t" * 32, after=51).head.seq == 51
    world.core.tick(world.now)
    world.step()
    store.close()
