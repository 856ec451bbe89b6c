"""The device's database: encrypted, durable, erasing."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from cloister.client.store import MIGRATIONS, DeviceStore
from cloister.engine.store import TABLES, Delete, Put
from cloister.errors import CloisterError, UnavailableError

KEY = bytes(range(32))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def test_another_key_does_not_open_it(path: Path) -> None:
    DeviceStore(path, KEY).close()
    with pytest.raises(CloisterError) as caught:
        DeviceStore(path, bytes(32))
    assert caught.value.code == "damaged"


def test_an_altered_page_is_never_wrong_data(path: Path) -> None:
    store = DeviceStore(path, KEY)
    store.apply([Put("meta", str(number).encode(), bytes(1000)) for number in range(64)])
    store.close()
    whole = path.read_bytes()
    for place in (100, *range(4096 + 100, len(whole), 4096)):
        data = bytearray(whole)
        data[place] ^= 1
        path.write_bytes(bytes(data))
        with pytest.raises(UnavailableError) as caught:
            _read_all(path)
        assert caught.value.code == "damaged"


def _read_all(path: Path) -> None:
    store = DeviceStore(path, KEY)
    try:
        for table in TABLES:
            assert all(store.get(table, key) == value for key, value in store.scan(table))
    finally:
        store.close()


def test_a_database_of_a_later_version_is_refused(path: Path) -> None:
    store = DeviceStore(path, KEY)
    store._db.pragma("user_version", len(MIGRATIONS) + 1)
    store.close()
    with pytest.raises(UnavailableError, match="version"):
        DeviceStore(path, KEY)


def test_a_transaction_that_cannot_be_written_changes_nothing(path: Path) -> None:
    store = DeviceStore(path, KEY)
    store._db.execute("PRAGMA max_page_count = 40")
    with pytest.raises(UnavailableError) as caught:
        store.apply([Put("meta", b"small", b"1"), Put("meta", b"large", bytes(1_000_000))])
    assert caught.value.code == "disk"
    assert store.get("meta", b"small") is None
    store.close()


def test_neither_rows_nor_deleted_rows_stand_in_the_files(path: Path) -> None:
    store = DeviceStore(path, KEY)
    canary = b"a canary that is easy to find"
    store.apply([Put("item", b"key", canary)])
    store.apply([Delete("item", b"key")])
    for file in path.parent.iterdir():
        assert canary not in file.read_bytes()
    store.close()
    plain = apsw.Connection(str(path))
    with pytest.raises(apsw.NotADBError):
        plain.execute("SELECT 1 FROM meta").fetchall()


def test_it_is_synchronous_and_erasing(path: Path) -> None:
    store = DeviceStore(path, KEY)
    assert store._db.pragma("synchronous") == 2
    assert store._db.pragma("secure_delete") == 1
    assert store._db.pragma("journal_mode") == "wal"
    store.close()


def test_rows_come_back_in_order_after_opening_again(path: Path) -> None:
    store = DeviceStore(path, KEY)
    rows = [(b"room" + bytes([n]), bytes([n])) for n in range(5)]
    store.apply([Put("message", key, value) for key, value in reversed(rows)])
    store.apply([Put("message", b"rooo\xff", b"before"), Put("message", b"rop", b"behind"), Delete("message", b"no")])
    store.apply([])
    store.close()
    store = DeviceStore(path, KEY)
    assert list(store.scan("message", b"room")) == rows
    assert list(store.scan("message", b"room", newest=True)) == rows[::-1]
    assert list(store.scan("message", b"room", after=rows[2][0])) == rows[3:]
    assert store.get("message", b"rop") == b"behind"
    assert store.get("message", b"none") is None
    assert all(list(store.scan(table)) == [] for table in TABLES if table != "message")
    store.close()
