"""The secret tree: one-time keys for every message of every member (RFC 9420 section 9).

From the root (`encryption_secret`) a secret flows down to each leaf, where two ratchets start: one for
handshake messages, one for application messages. Each step gives one key and nonce.

Invariants
- Forward secrecy: a tree secret, ratchet secret or key is deleted as soon as something derived from it has been
  used; what is kept derives nothing that was used before.
- Receiving is in two steps: `find` derives and changes nothing, `use` deletes and moves on. A message that
  fails between the two leaves no trace.
- Bounded: a generation more than MAX_AHEAD steps ahead is refused (MLS-V023), at most MAX_SKIPPED keys of
  skipped messages are kept for a ratchet, the oldest go first.
- `changed` names every stored item that changed since the last look, for persistence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cloister.mls import treemath
from cloister.mls.checks import refuse
from cloister.mls.ciphersuite import CipherSuite
from cloister.mls.key_schedule import EncryptionSecret

HANDSHAKE: Final = 0
APPLICATION: Final = 1
_LABELS: Final = (b"handshake", b"application")

MAX_AHEAD: Final = 1000
"""Steps that one message may move a ratchet."""
MAX_SKIPPED: Final = 1000
"""Keys of skipped messages kept for one ratchet."""

ItemKey = tuple[str, int, int, int]
"""("node", index, 0, 0), ("ratchet", leaf, kind, 0) or ("key", leaf, kind, generation)."""


@dataclass(frozen=True, slots=True, repr=False)
class MessageKey:
    """Key and nonce of one generation."""

    generation: int
    key: bytes
    nonce: bytes


class KeyUse:
    """What `find` derived, to be given to `use` when the message has proved good."""

    __slots__ = ("generation", "key", "kind", "leaf", "next_secret", "nodes", "nonce", "other", "skipped", "spent")

    def __init__(self, leaf: int, kind: int, found: MessageKey) -> None:
        self.leaf = leaf
        self.kind = kind
        self.generation = found.generation
        self.key = found.key
        self.nonce = found.nonce
        self.next_secret: bytes | None = None
        self.skipped: list[MessageKey] = []
        self.nodes: dict[int, bytes] = {}
        self.spent: list[int] = []
        self.other: bytes | None = None


class SecretTree:
    """The unused secrets of one epoch."""

    __slots__ = ("changed", "keys", "nodes", "ratchets", "size", "suite")

    def __init__(self, suite: CipherSuite, size: int, secret: EncryptionSecret | None = None) -> None:
        self.suite = suite
        self.size = size
        self.nodes: dict[int, bytes] = {}
        self.ratchets: dict[tuple[int, int], tuple[int, bytes]] = {}
        self.keys: dict[tuple[int, int], dict[int, MessageKey]] = {}
        self.changed: set[ItemKey] = set()
        if secret is not None:
            top = treemath.root(size)
            self.nodes[top] = secret
            self.changed.add(("node", top, 0, 0))

    def next_key(self, leaf: int, kind: int) -> MessageKey:
        """The sender's next key, used up by this call."""
        ratchet = self.ratchets.get((leaf, kind))
        generation = 0 if ratchet is None else ratchet[0]
        use = self.find(leaf, kind, generation)
        self.use(use)
        return MessageKey(generation, use.key, use.nonce)

    def find(self, leaf: int, kind: int, generation: int) -> KeyUse:
        """The key of one generation; MLS-V022 when it was used, MLS-V023 when it is too far ahead."""
        ratchet = self.ratchets.get((leaf, kind))
        if ratchet is None:
            return self._first(leaf, kind, generation)
        current, secret = ratchet
        if generation < current:
            return self._skipped(leaf, kind, generation)
        return self._walk(leaf, kind, current, secret, generation)

    def _skipped(self, leaf: int, kind: int, generation: int) -> KeyUse:
        found = self.keys.get((leaf, kind), {}).get(generation)
        if found is None:
            refuse("MLS-V022")
        return KeyUse(leaf, kind, found)

    def _first(self, leaf: int, kind: int, generation: int) -> KeyUse:
        node = 2 * leaf
        path = [node, *treemath.direct_path(node, self.size)]
        start = next((step for step, above in enumerate(path) if above in self.nodes), None)
        if start is None:  # both ratchets were derived from this leaf, so the tree has nothing above it
            refuse("MLS-V022")
        secret = self.nodes[path[start]]
        copath: dict[int, bytes] = {}
        expand, size = self.suite.expand_with_label, self.suite.nh
        for above, below in zip(reversed(path[1 : start + 1]), reversed(path[:start]), strict=True):
            left = expand(secret, b"tree", b"left", size)
            right = expand(secret, b"tree", b"right", size)
            if below < above:
                secret, copath[treemath.right(above)] = left, right
            else:
                secret, copath[treemath.left(above)] = right, left
        use = self._walk(leaf, kind, 0, expand(secret, _LABELS[kind], b"", size), generation)
        use.other = expand(secret, _LABELS[1 - kind], b"", size)
        use.nodes = copath
        use.spent = [path[start]]
        return use

    def _walk(self, leaf: int, kind: int, current: int, secret: bytes, generation: int) -> KeyUse:
        if generation - current > MAX_AHEAD:
            refuse("MLS-V023")
        skipped = []
        for step in range(current, generation):
            key, nonce, secret = self.suite.ratchet_step(secret, step)
            skipped.append(MessageKey(step, key, nonce))
        key, nonce, following = self.suite.ratchet_step(secret, generation)
        use = KeyUse(leaf, kind, MessageKey(generation, key, nonce))
        use.next_secret = following
        use.skipped = skipped
        return use

    def use(self, use: KeyUse) -> None:
        """Delete what a message consumed and keep what may still be needed."""
        place = (use.leaf, use.kind)
        if use.next_secret is None:
            del self.keys[place][use.generation]
            self.changed.add(("key", use.leaf, use.kind, use.generation))
            return
        self.ratchets[place] = (use.generation + 1, use.next_secret)
        self.changed.add(("ratchet", use.leaf, use.kind, 0))
        if use.other is not None:
            self._open_leaf(use, use.other)
        if use.skipped:
            self._keep(place, use.skipped)

    def _open_leaf(self, use: KeyUse, other: bytes) -> None:
        self.ratchets[use.leaf, 1 - use.kind] = (0, other)
        self.changed.add(("ratchet", use.leaf, 1 - use.kind, 0))
        for node in use.spent:
            del self.nodes[node]
            self.changed.add(("node", node, 0, 0))
        self.nodes.update(use.nodes)
        self.changed.update(("node", node, 0, 0) for node in use.nodes)

    def _keep(self, place: tuple[int, int], skipped: list[MessageKey]) -> None:
        kept = self.keys.setdefault(place, {})
        for each in skipped:
            kept[each.generation] = each
            self.changed.add(("key", *place, each.generation))
        for generation in sorted(kept)[: max(0, len(kept) - MAX_SKIPPED)]:
            del kept[generation]
            self.changed.add(("key", *place, generation))
