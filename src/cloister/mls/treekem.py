"""TreeKEM: fresh keys along a member's path, and who learns which (RFC 9420 sections 7.4 to 7.6).

Invariants
- `make_path` and `apply_path` work on a copy of an epoch's tree, after the proposals were applied to it.
- What `apply_path` checks is public; what `open_path` checks is private: it needs a key of the receiver.
- Path secrets do not outlive the functions here, except those that a Welcome must carry.
"""

from __future__ import annotations

from dataclasses import dataclass

from cloister.errors import PeerError
from cloister.mls import treemath
from cloister.mls.checks import refuse
from cloister.mls.ciphersuite import CipherSuite
from cloister.mls.commit import HpkeCiphertext, UpdatePath, UpdatePathNode
from cloister.mls.key_schedule import CommitSecret
from cloister.mls.leaf_node import SOURCE_COMMIT, LeafPlace, LeafTemplate, make_leaf
from cloister.mls.ratchet_tree import RatchetTree
from cloister.mls.tree_hash import path_hashes
from cloister.primitives import Rng
from cloister.primitives.kem import PrivateKey, same_key
from cloister.primitives.signature import SigningKey

PrivateKeys = dict[int, PrivateKey]
"""A member's private keys by node index: its leaf's and those of parents above it."""
FilteredPath = list[tuple[int, int]]
"""(parent, its child on the copath), lowest first."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class NewPath:
    """A path that was made and put into the tree; the secrets are still to be encrypted."""

    path: FilteredPath
    path_secrets: tuple[bytes, ...]
    private_keys: PrivateKeys
    commit_secret: CommitSecret

    def secret_for(self, sender: int, leaf: int) -> bytes:
        """The path secret that a new member at `leaf` must learn: that of the lowest node above both."""
        ancestor = treemath.common_ancestor(2 * sender, 2 * leaf)
        at = next(step for step, (node, _) in enumerate(self.path) if node == ancestor)
        return self.path_secrets[at]


def derive_node(suite: CipherSuite, path_secret: bytes) -> PrivateKey:
    """The key pair of the node with this path secret."""
    return suite.derive_key_pair(suite.derive_secret(path_secret, b"node"))


def next_path_secret(suite: CipherSuite, path_secret: bytes) -> bytes:
    """The path secret of the next node up, or the commit secret after the last."""
    return suite.derive_secret(path_secret, b"path")


def make_path(
    tree: RatchetTree, sender: int, group_id: bytes, key: SigningKey, template: LeafTemplate, rng: Rng
) -> NewPath:
    """Fresh keys for `sender`'s leaf and the parents above it, put into `tree`."""
    suite = tree.suite
    path = tree.filtered_path(sender)
    secret = rng(suite.nh)
    secrets = []
    private_keys = {}
    for node, _ in path:
        secrets.append(secret)
        private_keys[node] = derive_node(suite, secret)
        secret = next_path_secret(suite, secret)
    leaf_key = suite.derive_key_pair(rng(max(suite.nh, 66)))
    tree.blank_path(sender)
    parents, above = path_hashes(tree, path, [private_keys[node].public for node, _ in path])
    for (node, _), parent in zip(path, parents, strict=True):
        tree.set_parent(node, parent)
    place = LeafPlace(source=SOURCE_COMMIT, group_id=group_id, leaf_index=sender, parent_hash=above)
    tree.set_leaf(sender, make_leaf(suite, key, template, leaf_key.public, place))
    private_keys[2 * sender] = leaf_key
    return NewPath(
        path=path,
        path_secrets=tuple(secrets),
        private_keys=private_keys,
        commit_secret=CommitSecret(secret),
    )


def seal_path(
    tree: RatchetTree, sender: int, new: NewPath, context: bytes, exclude: frozenset[int], rng: Rng
) -> UpdatePath:
    """The path as it travels; `context` is the provisional group context, `exclude` the leaves just added."""
    suite = tree.suite
    info = suite.encrypt_context(b"UpdatePathNode", context)
    nodes = []
    for (node, sibling), secret in zip(new.path, new.path_secrets, strict=True):
        sealed = [
            HpkeCiphertext(*suite.encrypt_with_label(tree.public_key(target), info, secret, rng))
            for target in tree.resolution(sibling, exclude)
        ]
        nodes.append(UpdatePathNode(new.private_keys[node].public, tuple(sealed)))
    leaf = tree.leaf(sender)
    if leaf is None:
        raise LookupError("the path's leaf is not in the tree")
    return UpdatePath(leaf, tuple(nodes))


def check_path_shape(tree: RatchetTree, path: FilteredPath, update: UpdatePath, exclude: frozenset[int]) -> None:
    """MLS-V091, MLS-V092: one node for each filtered parent, one ciphertext for each resolved key."""
    if len(update.nodes) != len(path):
        refuse("MLS-V091")
    for node, (_, sibling) in zip(update.nodes, path, strict=True):
        if len(node.ciphertexts) != len(tree.resolution(sibling, exclude)):
            refuse("MLS-V092")


def check_path_keys(tree: RatchetTree, update: UpdatePath) -> None:
    """MLS-V094: the path's public keys are well-formed, differ, and stand nowhere in the tree."""
    fresh = [update.leaf_node.encryption_key, *(node.encryption_key for node in update.nodes)]
    if len(set(fresh)) < len(fresh) or any(key in tree.keys for key in fresh):
        refuse("MLS-V094")
    try:
        for key in fresh:
            tree.suite.hpke_public(key)
    except PeerError as error:
        refuse("MLS-V094", cause=error)


def apply_path(tree: RatchetTree, sender: int, path: FilteredPath, update: UpdatePath) -> None:
    """Put a received path into `tree`; MLS-V093 when the leaf's parent hash is not the path's."""
    tree.blank_path(sender)
    parents, above = path_hashes(tree, path, [node.encryption_key for node in update.nodes])
    if update.leaf_node.parent_hash != above:
        refuse("MLS-V093")
    for (node, _), parent in zip(path, parents, strict=True):
        tree.set_parent(node, parent)
    tree.set_leaf(sender, update.leaf_node)


def _open_secret(
    tree: RatchetTree, sibling: int, node: UpdatePathNode, keys: PrivateKeys, context: bytes, new: frozenset[int]
) -> bytes:
    """MLS-V095: the path secret that is encrypted to one of our keys."""
    suite = tree.suite
    info = suite.encrypt_context(b"UpdatePathNode", context)
    for target, sealed in zip(tree.resolution(sibling, new), node.ciphertexts, strict=True):
        if target in keys:
            try:
                secret = suite.decrypt_with_label(keys[target], info, sealed.kem_output, sealed.ciphertext)
            except PeerError as error:
                refuse("MLS-V095", cause=error)
            if len(secret) == suite.nh:
                return secret
    refuse("MLS-V095")


def open_path(
    tree: RatchetTree,
    own: int,
    path: FilteredPath,
    update: UpdatePath,
    keys: PrivateKeys,
    context: bytes,
    exclude: frozenset[int],
) -> tuple[PrivateKeys, CommitSecret]:
    """Our new private keys and the commit secret; MLS-V096 when they do not fit the path's public keys."""
    start = next(step for step, (_, sibling) in enumerate(path) if treemath.in_subtree(sibling, 2 * own))
    secret = _open_secret(tree, path[start][1], update.nodes[start], keys, context, exclude)
    fresh, commit_secret = climb(tree, [node for node, _ in path[start:]], secret, "MLS-V096")
    return {**keys, **fresh}, commit_secret


def climb(tree: RatchetTree, nodes: list[int], path_secret: bytes, check: str) -> tuple[PrivateKeys, CommitSecret]:
    """The key pairs that follow from a path secret for `nodes` upwards; `check` is refused for other keys."""
    keys = {}
    for node in nodes:
        key = derive_node(tree.suite, path_secret)
        parent = tree.parent(node)
        if parent is None or not same_key(key, parent.encryption_key):
            refuse(check)
        keys[node] = key
        path_secret = next_path_secret(tree.suite, path_secret)
    return keys, CommitSecret(path_secret)


def still_valid(tree: RatchetTree, keys: PrivateKeys) -> PrivateKeys:
    """Those of a member's private keys that the tree still uses; the rest is to be forgotten."""
    valid = {}
    for node, key in keys.items():
        content = tree.nodes[node] if node < len(tree.nodes) else None
        if content is not None and content.encryption_key == key.public:
            valid[node] = key
    return valid
