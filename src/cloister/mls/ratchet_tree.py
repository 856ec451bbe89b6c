"""The ratchet tree: members at the leaves, shared keys at the parents (RFC 9420 sections 4, 7.1 and 7.7).

The tree lies in an array (`treemath`). An epoch's tree is never changed: a commit works on a `copy`, which
shares all nodes and hashes with its original and costs one copy of two lists of references.

Invariants
- `nodes` has 2 * size - 1 entries, `size` a power of two; leaves at even places, parents at odd ones.
- `hashes` holds the tree hash of each node where it is known; whatever changes below a node forgets the node's.
- `keys` and `signers` hold the encryption keys of all nodes and the signature keys of all leaves, `support`
  counts what members support. `duplicate` is set when a tree that was read holds a key twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final, Self

from cloister.codec.tls import Reader, Writer, opaque
from cloister.mls import treemath
from cloister.mls.checks import refuse
from cloister.mls.ciphersuite import CipherSuite
from cloister.mls.key_index import KeyIndex, Support
from cloister.mls.leaf_node import LeafNode
from cloister.primitives.kem import PublicKey


class ParentNode:
    """A parent's public key, the hash of what is above it, and the leaves below that do not know its secret."""

    __slots__ = ("_public", "encryption_key", "parent_hash", "unmerged_leaves")

    def __init__(self, encryption_key: bytes, parent_hash: bytes, unmerged_leaves: tuple[int, ...]) -> None:
        self.encryption_key = encryption_key
        self.parent_hash = parent_hash
        self.unmerged_leaves = unmerged_leaves
        self._public: PublicKey | None = None

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Read one; MLS-V005 unless the unmerged leaves are in rising order."""
        encryption_key, parent_hash, unmerged = reader.opaque(), reader.opaque(), reader.vector_u32()
        if any(one >= other for one, other in pairwise(unmerged)):
            refuse("MLS-V005")
        return cls(encryption_key, parent_hash, unmerged)

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.opaque(self.encryption_key).opaque(self.parent_hash).vector_u32(self.unmerged_leaves)

    def encoded(self) -> bytes:
        """The encoding."""
        unmerged = b"".join([leaf.to_bytes(4, "big") for leaf in self.unmerged_leaves])
        return opaque(self.encryption_key) + opaque(self.parent_hash) + opaque(unmerged)

    def with_unmerged(self, leaf: int) -> ParentNode:
        """The same node with one more unmerged leaf."""
        copy = ParentNode(self.encryption_key, self.parent_hash, tuple(sorted((*self.unmerged_leaves, leaf))))
        copy._public = self._public
        return copy

    def encryption_public(self, suite: CipherSuite) -> PublicKey:
        """The parsed public key; PeerError("bad_encoding") when it is none of the suite's."""
        if self._public is None:
            self._public = suite.hpke_public(self.encryption_key)
        return self._public


Node = LeafNode | ParentNode

MAX_LEAVES: Final = 2**17
"""A limit of this engine: what a tree of blanks costs grows with its size, not with its members."""


def check_size(leaves: int) -> None:
    """MLS-V122: a tree has at most MAX_LEAVES leaves."""
    if leaves > MAX_LEAVES:
        refuse("MLS-V122")


def _read_node(reader: Reader) -> Node | None:
    if not reader.present():
        return None
    kind = reader.u8()
    if kind == 1:
        return LeafNode.read(reader)
    if kind == 2:
        return ParentNode.read(reader)
    refuse("MLS-V003", "neither a leaf nor a parent")


class RatchetTree:
    """One epoch's tree, or a copy on which a commit works."""

    __slots__ = (
        "_last",
        "duplicate",
        "hashes",
        "keys",
        "member_count",
        "nodes",
        "signers",
        "size",
        "suite",
        "support",
    )

    def __init__(self, suite: CipherSuite, nodes: list[Node | None]) -> None:
        """A tree over `nodes`, which ends with one that is not blank and is filled up with blanks."""
        self.suite = suite
        self.size = treemath.size_for((len(nodes) >> 1) + 1)
        width = treemath.node_width(self.size)
        self.nodes: list[Node | None] = nodes + [None] * (width - len(nodes))
        self.hashes: list[bytes | None] = [None] * width
        self.support = Support()
        keys: set[bytes] = set()
        signers: set[bytes] = set()
        self._last = self.member_count = filled = 0
        for index, node in enumerate(nodes):
            if node is None:
                continue
            filled += 1
            keys.add(node.encryption_key)
            if isinstance(node, LeafNode):
                self.member_count += 1
                self._last = index >> 1
                signers.add(node.signature_key)
                self.support.change(node, 1)
        self.keys = KeyIndex(frozenset(keys))
        self.signers = KeyIndex(frozenset(signers))
        self.duplicate = len(keys) < filled or len(signers) < self.member_count

    @classmethod
    def of_creator(cls, suite: CipherSuite, leaf: LeafNode) -> RatchetTree:
        """The tree of a new group."""
        return cls(suite, [leaf])

    @classmethod
    def read(cls, suite: CipherSuite, reader: Reader) -> RatchetTree:
        """Read `ratchet_tree`: MLS-V006 for a blank end, MLS-V007 for nodes in the wrong places."""
        nodes = list(reader.vector(_read_node))
        if not nodes or nodes[-1] is None:
            refuse("MLS-V006")
        check_size((len(nodes) >> 1) + 1)
        for index, node in enumerate(nodes):
            if node is not None and isinstance(node, LeafNode) != (index & 1 == 0):
                refuse("MLS-V007")
        return cls(suite, nodes)

    def encode(self) -> bytes:
        """The `ratchet_tree` vector, without its blank end."""
        parts = []
        end = len(self.nodes)
        while self.nodes[end - 1] is None:
            end -= 1
        for node in self.nodes[:end]:
            if node is None:
                parts.append(b"\0")
            elif isinstance(node, LeafNode):
                parts.append(b"\1\1" + node.encoded)
            else:
                parts.append(b"\1\2" + node.encoded())
        return opaque(b"".join(parts))

    def copy(self) -> RatchetTree:
        """A tree that may be changed without changing this one."""
        copy = object.__new__(RatchetTree)
        copy.suite = self.suite
        copy.size = self.size
        copy.nodes = self.nodes.copy()
        copy.hashes = self.hashes.copy()
        copy.keys = self.keys.copy()
        copy.signers = self.signers.copy()
        copy.support = self.support.copy()
        copy.member_count = self.member_count
        copy._last = self._last
        copy.duplicate = self.duplicate
        return copy

    # reading

    def leaf(self, index: int) -> LeafNode | None:
        """The member at a leaf index, None for a blank leaf or one beyond the tree."""
        if index >= self.size:
            return None
        node = self.nodes[2 * index]
        return node if isinstance(node, LeafNode) else None

    def parent(self, node: int) -> ParentNode | None:
        """The parent node at a node index, None when it is blank."""
        found = self.nodes[node]
        return found if isinstance(found, ParentNode) else None

    def members(self) -> Iterator[tuple[int, LeafNode]]:
        """All (leaf index, leaf node), from the left."""
        for index in range(0, len(self.nodes), 2):
            node = self.nodes[index]
            if isinstance(node, LeafNode):
                yield index >> 1, node

    def resolution(self, node: int, exclude: frozenset[int] = frozenset()) -> list[int]:
        """The nodes that together cover all members below `node`, without the leaves in `exclude`."""
        found: list[int] = []
        self._resolve(node, exclude, found)
        return found

    def _resolve(self, node: int, exclude: frozenset[int], found: list[int]) -> None:
        content = self.nodes[node]
        if content is None:
            if node & 1 and (node - (1 << treemath.level(node)) + 1) >> 1 <= self._last:
                self._resolve(treemath.left(node), exclude, found)
                self._resolve(treemath.right(node), exclude, found)
        elif isinstance(content, ParentNode):
            found.append(node)
            found.extend(2 * leaf for leaf in content.unmerged_leaves if leaf not in exclude)
        elif node >> 1 not in exclude:
            found.append(node)

    def _empty(self, node: int) -> bool:
        first, end = treemath.leaves_below(node)
        if first > self._last:
            return True
        return all(self.nodes[2 * leaf] is None for leaf in range(first, min(end, self._last + 1)))

    def filtered_path(self, leaf: int) -> list[tuple[int, int]]:
        """(parent, its child on the copath) from the lowest up, without parents whose copath is empty."""
        path = []
        below = 2 * leaf
        for node in treemath.direct_path(below, self.size):
            other = treemath.left(node) if below > node else treemath.right(node)
            if not self._empty(other):
                path.append((node, other))
            below = node
        return path

    def public_key(self, node: int) -> PublicKey:
        """The parsed encryption key of a node that is not blank."""
        content = self.nodes[node]
        if content is None:
            raise LookupError("a blank node has no key")
        return content.encryption_public(self.suite)

    # changing (on a copy)

    def forget_hashes(self, node: int) -> None:
        """Forget the hashes of a node and of everything above it."""
        self.hashes[node] = None
        for above in treemath.direct_path(node, self.size):
            self.hashes[above] = None

    def set_leaf(self, index: int, leaf: LeafNode) -> None:
        """Put a member at an index, in place of whoever is there."""
        self.forget_leaf(index)
        self.nodes[2 * index] = leaf
        self.keys.add(leaf.encryption_key)
        self.signers.add(leaf.signature_key)
        self.support.change(leaf, 1)
        self.member_count += 1
        self._last = max(self._last, index)
        self.forget_hashes(2 * index)

    def forget_leaf(self, index: int) -> None:
        """Blank a leaf and forget its keys, without shrinking the tree."""
        old = self.leaf(index)
        if old is None:
            return
        self.nodes[2 * index] = None
        self.keys.discard(old.encryption_key)
        self.signers.discard(old.signature_key)
        self.support.change(old, -1)
        self.member_count -= 1
        self.forget_hashes(2 * index)

    def set_parent(self, node: int, content: ParentNode | None) -> None:
        """Put or blank a parent; its hashes are forgotten by whoever changes the leaf below."""
        old = self.parent(node)
        if old is not None:
            self.keys.discard(old.encryption_key)
        if content is not None:
            self.keys.add(content.encryption_key)
        self.nodes[node] = content
        self.hashes[node] = None

    def blank_path(self, leaf: int) -> None:
        """Blank all parents above a leaf."""
        for node in treemath.direct_path(2 * leaf, self.size):
            self.set_parent(node, None)

    def free_leaf(self, start: int = 0) -> int:
        """The leftmost blank leaf from `start` on; the tree grows when there is none."""
        for index in range(start, self.size):
            if self.nodes[2 * index] is None:
                return index
        check_size(self.size + 1)
        width = len(self.nodes)
        self.nodes.extend([None] * (width + 1))
        self.hashes.extend([None] * (width + 1))
        self.size *= 2
        return self.size >> 1

    def add_leaf(self, leaf: LeafNode, start: int = 0) -> int:
        """Add a member at the leftmost blank leaf from `start` on; it is unmerged at every parent above."""
        index = self.free_leaf(start)
        self.set_leaf(index, leaf)
        for node in treemath.direct_path(2 * index, self.size):
            content = self.parent(node)
            if content is not None:
                self.nodes[node] = content.with_unmerged(index)
        return index

    def remove_leaf(self, index: int) -> None:
        """Remove a member, blank what is above it, and cut off a right half that is all blank."""
        self.forget_leaf(index)
        self.blank_path(index)
        while self._last and self.nodes[2 * self._last] is None:
            self._last -= 1
        size = treemath.size_for(self._last + 1)
        if size < self.size:
            width = treemath.node_width(size)
            for node in range(width, len(self.nodes), 2):
                self.set_parent(node, None)
            del self.nodes[width:]
            del self.hashes[width:]
            self.size = size
