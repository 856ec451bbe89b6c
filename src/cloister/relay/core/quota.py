"""Rates: token buckets that forget who has been quiet, and a bounded cache of states.

Source: docs/spec/limits.md. A bucket holds at most `burst` and gains one each `interval` ms; it starts full.

Invariants
- `take` is all or nothing; time that runs backwards gains nothing.
- The memory of `Buckets` is bounded: of more than SIZE keys the least recently used one is forgotten, and a
  forgotten key starts full again, which is what a full bucket would say anyway after `burst * interval` ms.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from itertools import islice
from typing import Final, Generic, TypeVar

SIZE: Final = 65_536
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Bucket:
    """One rate."""

    __slots__ = ("_at", "_burst", "_interval", "_level")

    def __init__(self, interval: float, burst: float, now: int) -> None:
        self._interval = interval
        self._burst = burst
        self._level = float(burst)
        self._at = now

    def has(self, now: int, cost: float = 1) -> bool:
        """Whether `take` would succeed."""
        self.take(now, 0)
        return self._level >= cost

    def take(self, now: int, cost: float = 1) -> bool:
        """Take `cost`, or nothing and False."""
        level = self._level
        if now > self._at:
            level += (now - self._at) / self._interval
            if level > self._burst:
                level = self._burst
            self._at = now
        enough = level >= cost
        self._level = level - cost if enough else level
        return enough


class Buckets(Generic[Key]):
    """A bucket for each key that was seen lately."""

    __slots__ = ("_buckets", "_burst", "_interval", "_size")

    def __init__(self, interval: float, burst: float, size: int = SIZE) -> None:
        self._interval = interval
        self._burst = burst
        self._size = size
        self._buckets: OrderedDict[Key, Bucket] = OrderedDict()

    def of(self, key: Key, now: int) -> Bucket:
        """The key's bucket."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(self._interval, self._burst, now)
            if len(self._buckets) > self._size:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket


class Cache(Generic[Key, Value]):
    """States loaded on demand; what `pinned` says is in use is never forgotten."""

    __slots__ = ("_load", "_pinned", "_size", "_values")

    def __init__(self, load: Callable[[Key], Value], pinned: Callable[[Value], bool], size: int) -> None:
        self._load = load
        self._pinned = pinned
        self._size = size
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def peek(self, key: Key) -> Value | None:
        """The value if it is loaded."""
        return self._values.get(key)

    def get(self, key: Key) -> Value:
        """The value, loaded if need be."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
            return value
        value = self._values[key] = self._load(key)
        if len(self._values) > self._size:
            self._shrink(key)
        return value

    def _shrink(self, keep: Key) -> None:
        """Forget the oldest values that are not in use, a few at a time."""
        for key in list(islice(self._values, 8)):
            if key != keep and not self._pinned(self._values[key]):
                del self._values[key]
            else:
                self._values.move_to_end(key)

    def drop(self, key: Key) -> None:
        """Forget a value, in use or not."""
        self._values.pop(key, None)

    def __len__(self) -> int:
        return len(self._values)
