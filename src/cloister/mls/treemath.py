"""Index arithmetic of full binary trees in an array (RFC 9420 appendix C).

Leaf `i` of a tree stands at node index `2i`; the level of a node is the number of its trailing one bits.
A tree is always full: its number of leaves is a power of two, called `size` here.

Invariants: indices do not change when a tree grows or shrinks at its right edge.
"""

from __future__ import annotations

from functools import lru_cache


def level(node: int) -> int:
    """0 for leaves, one more than its children for a parent."""
    return (node ^ (node + 1)).bit_length() - 1


def node_width(size: int) -> int:
    """The number of nodes of a tree with `size` leaves."""
    return 2 * size - 1


def size_for(leaves: int) -> int:
    """The smallest power of two that holds `leaves` leaves."""
    return 1 << (leaves - 1).bit_length() if leaves > 1 else 1


def root(size: int) -> int:
    """The root of a tree with `size` leaves."""
    return size - 1


def left(node: int) -> int:
    """The left child of a parent node."""
    return node ^ (1 << (level(node) - 1))


def right(node: int) -> int:
    """The right child of a parent node."""
    return node ^ (3 << (level(node) - 1))


def parent(node: int) -> int:
    """The parent of a node that is not the root."""
    step = 1 << level(node)
    return (node | step) & ~(step << 1)


def sibling(node: int) -> int:
    """The other child of the node's parent."""
    above = parent(node)
    return right(above) if node < above else left(above)


@lru_cache(maxsize=4096)
def direct_path(leaf_node: int, size: int) -> tuple[int, ...]:
    """The parents of a node from the lowest up to the root."""
    path = []
    top = root(size)
    while leaf_node != top:
        leaf_node = parent(leaf_node)
        path.append(leaf_node)
    return tuple(path)


def in_subtree(node: int, below: int) -> bool:
    """Whether `below` is `node` or a descendant of it."""
    reach = (1 << level(node)) - 1
    return node - reach <= below <= node + reach


def common_ancestor(one: int, other: int) -> int:
    """The lowest node that has both below it (or is one of them)."""
    while not in_subtree(one, other):
        one = parent(one)
    return one


def leaves_below(node: int) -> tuple[int, int]:
    """The first leaf index under a node, and one past the last."""
    reach = (1 << level(node)) - 1
    return (node - reach) >> 1, ((node + reach) >> 1) + 1
