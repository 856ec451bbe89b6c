"""The crashable store: refusals, order of rows, what a crash leaves."""

from __future__ import annotations

import pytest

from cloister.engine.store import Delete, Put
from cloister.errors import InternalError
from cloister.testing.store import Crashed, MemoryStore


def test_an_unknown_table_is_refused_and_nothing_is_written() -> None:
    store = MemoryStore().open()
    with pytest.raises(InternalError):
        store.apply([Put("meta", b"k", b"v"), Put("nowhere", b"k", b"v")])
    assert store.get("meta", b"k") is None


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_leaves_all_or_nothing(after: bool) -> None:
    told: list[str] = []
    store = MemoryStore()
    store.on_crash, store.on_commit = lambda: told.append("crash"), lambda writes: told.append("commit")
    first = store.open()
    first.apply([Put("meta", b"a", b"1")])
    store.crash_at, store.crash_after_writes = 2, after
    with pytest.raises(Crashed):
        first.apply([Put("meta", b"a", b"2"), Put("item", b"b", b"2")])
    second = store.open()
    assert (second.get("meta", b"a"), second.get("item", b"b")) == ((b"2", b"2") if after else (b"1", None))
    second.apply([Delete("meta", b"a")])
    assert second.get("meta", b"a") is None
    assert told == (["commit", "commit", "crash", "commit"] if after else ["commit", "crash", "commit"])


def test_a_process_that_has_ended_can_do_nothing() -> None:
    store = MemoryStore()
    process = store.open()
    process.end()
    with pytest.raises(Crashed):
        process.apply([Put("meta", b"k", b"v")])
    with pytest.raises(Crashed):
        process.get("meta", b"k")
    with pytest.raises(Crashed):
        process.scan("meta")
    assert store.open().get("meta", b"k") is None


def test_rows_come_in_the_order_of_their_keys() -> None:
    store = MemoryStore().open()
    keys = [b"a", b"a\x00", b"a\xff", b"a\xff\xff", b"b", b"\xff", b"\xff\xff", b""]
    store.apply([Put("entry", key, key) for key in reversed(keys)])
    store.apply([Put("entry", b"a", b"again"), Delete("entry", b"nothing")])
    assert [key for key, _ in store.scan("entry")] == sorted(keys)
    for prefix in keys:
        expected = [key for key in sorted(keys) if key.startswith(prefix)]
        assert [key for key, _ in store.scan("entry", prefix)] == expected
        assert [key for key, _ in store.scan("entry", prefix, newest=True)] == expected[::-1]
        for after in keys:
            beyond = [key for key in expected if key > after or not after]
            assert [key for key, _ in store.scan("entry", prefix, after=after)] == beyond


def test_a_snapshot_does_not_follow() -> None:
    store = MemoryStore()
    process = store.open()
    process.apply([Put("meta", b"k", b"old")])
    copy = store.snapshot().open()
    process.apply([Put("meta", b"k", b"new")])
    assert (copy.get("meta", b"k"), process.get("meta", b"k")) == (b"old", b"new")
