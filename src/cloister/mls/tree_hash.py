"""Tree hashes and parent hashes (RFC 9420 sections 7.8 and 7.9).

Tree hashes sum up what is in a tree, parent hashes how it came to be: each leaf's signature, by its parent
hash, vouches for the keys that its member put above it.

Invariants: a hash is computed once and kept in the tree until something below its node changes.
"""

from __future__ import annotations

from cloister.codec.tls import opaque
from cloister.mls import treemath
from cloister.mls.checks import refuse
from cloister.mls.leaf_node import SOURCE_COMMIT, LeafNode
from cloister.mls.ratchet_tree import ParentNode, RatchetTree


def node_hash(tree: RatchetTree, node: int) -> bytes:
    """The tree hash of one node, computed where it is not known."""
    known = tree.hashes[node]
    if known is not None:
        return known
    content = tree.nodes[node]
    if node & 1:
        left = node_hash(tree, treemath.left(node))
        right = node_hash(tree, treemath.right(node))
        optional = b"\0" if not isinstance(content, ParentNode) else b"\1" + content.encoded()
        computed = tree.suite.hash(b"\2" + optional + opaque(left) + opaque(right))
    else:
        optional = b"\0" if not isinstance(content, LeafNode) else b"\1" + content.encoded
        computed = tree.suite.hash(b"\1" + (node >> 1).to_bytes(4, "big") + optional)
    tree.hashes[node] = computed
    return computed


def root_hash(tree: RatchetTree) -> bytes:
    """The tree hash of the whole tree."""
    return node_hash(tree, treemath.root(tree.size))


def original_hash(tree: RatchetTree, node: int, without: tuple[int, ...]) -> bytes:
    """The tree hash of a subtree as it was before the leaves in `without` were added."""
    first, end = treemath.leaves_below(node)
    inside = tuple(leaf for leaf in without if first <= leaf < end)
    if not inside:
        return node_hash(tree, node)
    if not node & 1:
        return tree.suite.hash(b"\1" + (node >> 1).to_bytes(4, "big") + b"\0")
    content = tree.parent(node)
    optional = b"\0"
    if content is not None:
        unmerged = tuple(leaf for leaf in content.unmerged_leaves if leaf not in inside)
        optional = b"\1" + ParentNode(content.encryption_key, content.parent_hash, unmerged).encoded()
    left = original_hash(tree, treemath.left(node), inside)
    right = original_hash(tree, treemath.right(node), inside)
    return tree.suite.hash(b"\2" + optional + opaque(left) + opaque(right))


def parent_hash(tree: RatchetTree, parent: ParentNode, sibling: int) -> bytes:
    """The parent hash of a node with the copath child `sibling`."""
    original = original_hash(tree, sibling, parent.unmerged_leaves)
    return tree.suite.hash(opaque(parent.encryption_key) + opaque(parent.parent_hash) + opaque(original))


def path_hashes(
    tree: RatchetTree, path: list[tuple[int, int]], public_keys: list[bytes]
) -> tuple[list[ParentNode], bytes]:
    """The parents of a filtered path with their parent hashes, lowest first, and the leaf's parent hash.

    The copath of the path must be as it will be; the path itself plays no part.
    """
    above = b""
    parents = []
    for (_, sibling), key in zip(reversed(path), reversed(public_keys), strict=True):
        parent = ParentNode(key, above, ())
        parents.append(parent)
        above = parent_hash(tree, parent, sibling)
    parents.reverse()
    return parents, above


def verify_parent_hashes(tree: RatchetTree) -> None:
    """MLS-V101: every parent that is not blank is vouched for by exactly one node below it."""
    for node in range(1, len(tree.nodes), 2):
        parent = tree.parent(node)
        if parent is None:
            continue
        left, right = treemath.left(node), treemath.right(node)
        valid = _vouched(tree, parent, left, right) + _vouched(tree, parent, right, left)
        if valid != 1:
            refuse("MLS-V101")


def _vouched(tree: RatchetTree, parent: ParentNode, child: int, sibling: int) -> bool:
    first, end = treemath.leaves_below(child)
    unmerged = {2 * leaf for leaf in parent.unmerged_leaves if first <= leaf < end}
    resolution = tree.resolution(child)
    others = [node for node in resolution if node not in unmerged]
    if len(others) != 1 or len(resolution) != len(unmerged) + 1:
        return False
    below = tree.nodes[others[0]]
    if isinstance(below, LeafNode) and below.source != SOURCE_COMMIT:
        return False
    return below is not None and below.parent_hash == parent_hash(tree, parent, sibling)
