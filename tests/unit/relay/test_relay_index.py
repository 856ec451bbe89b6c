"""The index that is written late: nothing is ever missing from it, whatever was flushed when and whoever died."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloister.relay.store import index
from cloister.relay.store.interface import EntryRow, Purge, PutEntries, PutRun, RunRow
from cloister.relay.store.sqlite import SqliteStore
from cloister.wire import limits

LOGS = (b"L" * 16, b"M" * 16)


def entry(log: bytes, seq: int) -> EntryRow:
    h = bytes(32)
    ident = log[:8] + seq.to_bytes(8, "big")
    return EntryRow(log, seq, "application", 0, 1, h, ident, b"x", h, h, None, None, b"", 0, h)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


def written(store: SqliteStore) -> int:
    count: int = store._writer.execute("SELECT count(*) FROM ids").fetchone()[0]
    return count


def all_found(store: SqliteStore, upto: int) -> bool:
    rows = [entry(log, seq) for log in LOGS for seq in range(1, upto + 1)]
    return all(store.entry(row.log, row.entry_id) == row for row in rows)


def test_ids_are_found_before_during_and_after_the_flush(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "FLUSH", 10)
    store = SqliteStore(path, "OFF")
    for seq in range(1, 31):
        store.apply([PutEntries([entry(log, seq)]) for log in LOGS])
        store.refresh()
        assert all_found(store, seq)
        assert store.entry(LOGS[0], entry(LOGS[0], seq + 1).entry_id) is None
        if seq % 7 == 0:
            store.idle()
    assert 40 <= written(store) < 60
    store.close()


def test_what_a_crash_left_unwritten_is_read_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "FLUSH", 10)
    for life in range(1, 4):
        store = SqliteStore(path, "OFF")
        for seq in range(8 * life - 7, 8 * life + 1):
            store.apply([PutEntries([entry(log, seq)]) for log in LOGS])
        store.refresh()
        assert all_found(store, 8 * life)
        store.close()  # without a last flush: like a crash
    store = SqliteStore(path, "OFF")
    assert written(store) < 48
    assert all_found(store, 24)
    store.close()


def test_a_flush_between_two_lookups_hides_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "FLUSH", 4)
    store = SqliteStore(path, "OFF")
    store.apply([PutEntries([entry(LOGS[0], seq) for seq in range(1, 5)])])
    store.refresh()
    assert store.entry(LOGS[0], entry(LOGS[0], 1).entry_id) is not None  # takes the old snapshot
    store.apply([PutEntries([entry(LOGS[0], 5)])])  # flushes the four
    store.apply([PutEntries([entry(LOGS[0], seq) for seq in range(6, 12)])])
    store.apply([PutEntries([entry(LOGS[0], 12)])])  # and the next before anybody looked
    store.refresh()
    rows = [entry(LOGS[0], seq) for seq in range(1, 13)]
    assert [store.entry(row.log, row.entry_id) for row in rows] == rows
    store.close()


def test_a_lookup_that_a_flush_overtakes_looks_again(path: Path) -> None:
    store = SqliteStore(path, "OFF")
    row = entry(LOGS[0], 1)
    store.apply([PutEntries([row])])
    found = store._index
    found._note([row.entry_id])
    original = found._query
    overtaken = []

    def query(sql: str, *values: object) -> object:
        result = original(sql, *values)
        if sql.startswith("SELECT id") and not overtaken:
            overtaken.append(sql)
            store._writer.execute("INSERT INTO ids VALUES (?, ?)", (row.entry_id, 1 << 40 | 1))
            found.applied([], flushed=True)
        return result

    found._query = query  # type: ignore[assignment]
    assert set(found.find(row.entry_id)) == {1 << 40 | 1}
    assert overtaken
    store.close()


def test_ids_of_a_forgotten_run_are_forgotten(path: Path) -> None:
    store = SqliteStore(path, "OFF")
    run = entry(LOGS[1], 1)
    put_run = PutRun(RunRow(LOGS[1], None, None, 0, bytes(32)))
    store.apply([put_run, PutEntries([run]), PutEntries([entry(LOGS[0], 1)])])
    store.apply([Purge(limits.COMMIT_LIFE.value + 1)])
    store.refresh()
    assert store.entry(run.log, run.entry_id) is None
    assert store._index.all_new() == [(entry(LOGS[0], 1).entry_id, 2 << 40 | 1)]
    store.close()


def test_one_id_in_several_logs_is_found_in_each(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "FLUSH", 2)
    store = SqliteStore(path, "OFF")
    same = b"the same entry  "
    for log in (*LOGS, b"N" * 16):
        store.apply([PutEntries([entry(log, 1)._replace(entry_id=same)])])
        store.refresh()
        assert store.entry(log, same) == entry(log, 1)._replace(entry_id=same)
    assert [store.entry(log, same).log for log in LOGS] == list(LOGS)  # type: ignore[union-attr]
    assert store.entry(b"O" * 16, same) is None
    store.close()


def test_entries_of_one_batch_are_split_into_blocks_and_read_from_anywhere(path: Path) -> None:
    store = SqliteStore(path, "OFF")
    rows = [entry(LOGS[0], seq)._replace(payload=bytes(40_000 if seq % 5 == 0 else 10)) for seq in range(1, 151)]
    store.apply([PutEntries(rows)])
    store.refresh()
    assert store._writer.execute("SELECT count(*) FROM blocks").fetchone()[0] > 10
    for after in (0, 1, 4, 63, 64, 65, 149, 150, 999):
        assert list(store.entries(LOGS[0], after, 120)) == rows[after:120]
    assert store.last(LOGS[0]) == rows[-1]
    store.close()
