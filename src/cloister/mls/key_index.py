"""Sets and counters over a tree's members that are cheap to copy: for uniqueness and for what all support.

A tree is copied for every commit, and most commits touch a few of thousands of keys. `KeyIndex` therefore
shares one large set between copies and keeps the differences aside, until they are worth a new large set;
`Support` counts capabilities, so that "does every member support it" costs one look.

Invariants: a copy never changes its original.
"""

from __future__ import annotations

from typing import Final

from cloister.mls.leaf_node import LeafNode

_FOLD: Final = 64

EXTENSION: Final = 0 << 16
PROPOSAL: Final = 1 << 16
CREDENTIAL: Final = 2 << 16
CREDENTIAL_IN_USE: Final = 3 << 16


class KeyIndex:
    """A set of keys with copies in the order of their differences, not of their size."""

    __slots__ = ("_added", "_base", "_removed")

    def __init__(self, base: frozenset[bytes] = frozenset()) -> None:
        self._base = base
        self._added: set[bytes] = set()
        self._removed: set[bytes] = set()

    def copy(self) -> KeyIndex:
        """An independent copy."""
        if len(self._added) + len(self._removed) > max(_FOLD, len(self._base) >> 3):
            return KeyIndex((self._base - self._removed) | self._added)
        copy = KeyIndex(self._base)
        copy._added = self._added.copy()
        copy._removed = self._removed.copy()
        return copy

    def __contains__(self, key: bytes) -> bool:
        return key in self._added or (key in self._base and key not in self._removed)

    def add(self, key: bytes) -> None:
        """Put a key in."""
        if key in self._base:
            self._removed.discard(key)
        else:
            self._added.add(key)

    def discard(self, key: bytes) -> None:
        """Take a key out, where it is in."""
        if key in self._base:
            self._removed.add(key)
        else:
            self._added.discard(key)


def features(leaf: LeafNode) -> set[int]:
    """What one leaf counts for: its capabilities and the credential type it uses."""
    capabilities = leaf.capabilities
    found = {EXTENSION | value for value in capabilities.extensions}
    found.update(PROPOSAL | value for value in capabilities.proposals)
    found.update(CREDENTIAL | value for value in capabilities.credentials)
    found.add(CREDENTIAL_IN_USE | leaf.credential.credential_type)
    return found


class Support:
    """How many members list each capability."""

    __slots__ = ("_counts",)

    def __init__(self, counts: dict[int, int] | None = None) -> None:
        self._counts = counts or {}

    def copy(self) -> Support:
        """An independent copy."""
        return Support(self._counts.copy())

    def change(self, leaf: LeafNode, step: int) -> None:
        """Count a leaf in (1) or out (-1)."""
        counts = self._counts
        for feature in features(leaf):
            count = counts.get(feature, 0) + step
            if count:
                counts[feature] = count
            else:
                del counts[feature]

    def count(self, feature: int) -> int:
        """How many members list it."""
        return self._counts.get(feature, 0)

    def credentials_in_use(self) -> set[int]:
        """The credential types that members bear."""
        return {feature & 0xFFFF for feature in self._counts if feature >= CREDENTIAL_IN_USE}
