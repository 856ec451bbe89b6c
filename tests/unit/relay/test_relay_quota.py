"""Token buckets and the bounded cache."""

from __future__ import annotations

from cloister.relay.core.quota import Bucket, Buckets, Cache


def test_a_bucket_starts_full_and_gains_one_each_interval() -> None:
    bucket = Bucket(100, 3, now=0)
    assert [bucket.take(0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(99)
    assert bucket.take(100)
    assert not bucket.take(100)


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    bucket = Bucket(100, 2, now=0)
    assert [bucket.take(10_000) for _ in range(3)] == [True, True, False]


def test_time_that_runs_backwards_gains_nothing() -> None:
    bucket = Bucket(100, 1, now=1000)
    assert bucket.take(1000)
    assert not bucket.take(0)
    assert not bucket.take(1050)
    assert bucket.take(1100)


def test_a_take_is_all_or_nothing() -> None:
    bucket = Bucket(100, 5, now=0)
    assert not bucket.take(0, 6)
    assert bucket.has(0, 5)
    assert bucket.take(0, 5)


def test_buckets_forget_who_was_quiet_longest() -> None:
    buckets: Buckets[str] = Buckets(100, 1, size=2)
    for key in "ab":
        assert buckets.of(key, 0).take(0)
    assert not buckets.of("a", 0).take(0)
    assert buckets.of("c", 0).take(0)  # b is forgotten
    assert not buckets.of("a", 0).take(0)
    assert buckets.of("b", 0).take(0)


def test_a_cache_loads_once_and_forgets_what_is_not_in_use() -> None:
    loaded: list[int] = []

    def load(key: int) -> list[int]:
        loaded.append(key)
        return [key]

    cache: Cache[int, list[int]] = Cache(load, lambda value: value == [1], size=2)
    for key in (1, 2, 1, 3, 4, 5):
        assert cache.get(key) == [key]
    assert cache.peek(1) == [1]
    assert len(cache) <= 3
    assert loaded == [1, 2, 3, 4, 5]
    assert cache.get(2) == [2]
    assert loaded[-1] == 2
    assert cache.peek(77) is None
