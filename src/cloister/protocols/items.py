"""A session's items, decoded in memory, and the draft in which one call changes them.

Source: docs/spec/suites.md ("Persistence"). A session is nothing but its items: shelves of small immutable values,
each under its own key. A call works on a `Draft` over them; when it fails the draft is forgotten, so a refused input
leaves the state as it was, and when it succeeds the difference is exactly the `Put` and `Drop` effects.

Invariants
- An item's key is the shelf's name, a slash and a suffix (a single item: the name alone); values are strict CBOR.
- An item that a draft puts with the same value is not written again.
- `restore` reads what `Put` wrote and refuses everything else (`damaged`): the store is ours, not a peer's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from cloister.errors import CloisterError, UnavailableError
from cloister.protocols.interface import DeviceId, Drop, Effect, Effects, EpochChanged, Put, SessionView

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shelf(Generic[T]):
    """All items of one kind: the key's first part, and the form of the values."""

    name: bytes
    encode: Callable[[T], bytes]
    decode: Callable[[bytes], T]

    def key(self, suffix: bytes) -> bytes:
        """The full key of an item."""
        return self.name + b"/" + suffix if suffix else self.name


Stock = dict[bytes, dict[bytes, object]]
"""Shelf name -> suffix -> value: everything that a session holds."""


def stock_of(items: Mapping[bytes, bytes], shelves: Mapping[bytes, Shelf[Any]]) -> Stock:
    """The decoded items; UnavailableError("damaged") for one that no shelf can read."""
    stock: Stock = {name: {} for name in shelves}
    for key, value in items.items():
        name, _, suffix = key.partition(b"/")
        try:
            stock[name][suffix] = shelves[name].decode(value)
        except (KeyError, CloisterError) as error:
            raise UnavailableError("damaged", "an item of a session") from error
    return stock


class Draft:
    """One call's view of the items: reads fall through to the stock, writes stay here until `apply`."""

    def __init__(self, stock: Stock, shelves: Mapping[bytes, Shelf[Any]]) -> None:
        self._stock = stock
        self._shelves = shelves
        self._changed: dict[bytes, dict[bytes, object | None]] = {}
        self._effects: list[Effect] = []

    def get(self, shelf: Shelf[T], suffix: bytes = b"") -> T | None:
        """The item, or None."""
        changed = self._changed.get(shelf.name)
        if changed is not None and suffix in changed:
            return cast("T | None", changed[suffix])
        return cast("T | None", self._stock.get(shelf.name, {}).get(suffix))

    def put(self, shelf: Shelf[T], suffix: bytes, value: T) -> None:
        """Set the item."""
        self._changed.setdefault(shelf.name, {})[suffix] = value

    def drop(self, shelf: Shelf[Any], suffix: bytes = b"") -> None:
        """Take the item away, if it is there."""
        self._changed.setdefault(shelf.name, {})[suffix] = None

    def all(self, shelf: Shelf[T], prefix: bytes = b"") -> Iterator[tuple[bytes, T]]:
        """The shelf's items whose suffix begins so, in the order of the suffixes."""
        merged = {**self._stock.get(shelf.name, {}), **self._changed.get(shelf.name, {})}
        for suffix in sorted(merged):
            if suffix.startswith(prefix) and merged[suffix] is not None:
                yield suffix, cast("T", merged[suffix])

    def drop_all(self, shelf: Shelf[Any], prefix: bytes = b"") -> None:
        """Take away every item whose suffix begins so."""
        for suffix in [suffix for suffix, _ in self.all(shelf, prefix)]:
            self.drop(shelf, suffix)

    def emit(self, *effects: Effect) -> None:
        """Add effects; they follow the puts and drops in this order."""
        self._effects.extend(effects)

    def tell(
        self, view: SessionView, *, token: bytes | None = None, began_by: int = 0, proposer: DeviceId = ""
    ) -> None:
        """Say that the session's state moved, and to what; the others as in EpochChanged."""
        changed = EpochChanged(
            epoch=view.epoch,
            roster=view.roster,
            state=view.state,
            missing=view.missing,
            key_check=view.key_check,
            access_token=token,
            began_by=began_by,
            parked=view.parked,
            proposer=proposer,
        )
        self.emit(changed)

    @property
    def moved(self) -> bool:
        """Whether anything would be stored or sent."""
        return bool(self._effects) or next(self._differences(), None) is not None

    def _differences(self) -> Iterator[tuple[bytes, bytes, object | None]]:
        for name, changed in self._changed.items():
            standing = self._stock.get(name, {})
            for suffix, value in changed.items():
                if value != standing.get(suffix):
                    yield name, suffix, value

    def apply(self) -> Effects:
        """Make the stock as drafted; what must be stored, and then the effects in order."""
        stored: list[Effect] = []
        for name, suffix, value in list(self._differences()):
            shelf = self._shelves[name]
            if value is None:
                del self._stock[name][suffix]
                stored.append(Drop(key=shelf.key(suffix)))
            else:
                self._stock.setdefault(name, {})[suffix] = value
                stored.append(Put(key=shelf.key(suffix), value=shelf.encode(value)))
        return (*stored, *self._effects)
