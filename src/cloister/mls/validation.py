"""Checks of leaf nodes, key packages and whole trees (RFC 9420 sections 5.3.1, 7.3, 10.1 and 12.4.3.1).

Each function is one check or a list of checks; it returns None or refuses by id. `Situation` is what the
group contributes: its context and the tree as it will be.

Invariants
- A check changes nothing.
- Uniqueness and support are looked up in the tree's indexes: the cost per leaf does not grow with the group.
"""

from __future__ import annotations

from dataclasses import dataclass

from cloister.errors import PeerError
from cloister.mls import key_index, treemath
from cloister.mls.checks import refuse
from cloister.mls.ciphersuite import MLS10, CipherSuite
from cloister.mls.extension import (
    DEFAULT_EXTENSIONS,
    Extensions,
    RequiredCapabilities,
    external_senders,
    required_capabilities,
)
from cloister.mls.key_package import KeyPackage
from cloister.mls.leaf_node import SOURCE_KEY_PACKAGE, Capabilities, LeafNode
from cloister.mls.policy import Policy
from cloister.mls.proposal import DEFAULT_PROPOSALS
from cloister.mls.ratchet_tree import RatchetTree
from cloister.mls.tree_hash import root_hash, verify_parent_hashes


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Against what leaves are judged; `now` in milliseconds since the epoch."""

    suite: CipherSuite
    group_id: bytes
    extensions: Extensions
    required: RequiredCapabilities | None
    policy: Policy
    now: int

    @classmethod
    def of(cls, suite: CipherSuite, group_id: bytes, extensions: Extensions, policy: Policy, now: int) -> Situation:
        """With the required capabilities of these extensions."""
        return cls(
            suite=suite,
            group_id=group_id,
            extensions=extensions,
            required=required_capabilities(extensions),
            policy=policy,
            now=now,
        )


# one leaf by itself


def check_leaf_signature(situation: Situation, leaf: LeafNode, index: int) -> None:
    """MLS-V030: the leaf is signed by its own key, for this group and place."""
    content = leaf.to_be_signed(situation.group_id, index)
    try:
        key = leaf.verify_key(situation.suite)
        situation.suite.verify_with_label(key, b"LeafNodeTBS", content, leaf.signature)
    except PeerError as error:
        refuse("MLS-V030", cause=error)


def check_keys(suite: CipherSuite, leaf: LeafNode, init_key: bytes | None = None) -> None:
    """MLS-V046: the keys are the suite's, so that nobody fails later who encrypts or verifies."""
    try:
        leaf.encryption_public(suite)
        leaf.verify_key(suite)
        if init_key is not None:
            suite.hpke_public(init_key)
    except PeerError as error:
        refuse("MLS-V046", cause=error)


def check_source(leaf: LeafNode, source: int) -> None:
    """MLS-V031: a key package, Update or path holds a leaf made for it."""
    if leaf.source != source:
        refuse("MLS-V031")


def check_own_extensions(leaf: LeafNode) -> None:
    """MLS-V032: the leaf lists the types of its own extensions."""
    listed = leaf.capabilities.extensions
    for extension in leaf.extensions:
        kind = extension.extension_type
        if kind not in DEFAULT_EXTENSIONS and kind not in listed:
            refuse("MLS-V032")


def check_own_credential(leaf: LeafNode) -> None:
    """MLS-V033: the leaf lists the type of its own credential."""
    if leaf.credential.credential_type not in leaf.capabilities.credentials:
        refuse("MLS-V033")


def check_supports_group(situation: Situation, capabilities: Capabilities) -> None:
    """MLS-V034: version, suite and every extension of the group context."""
    if MLS10 not in capabilities.versions or situation.suite.suite_id not in capabilities.cipher_suites:
        refuse("MLS-V034")
    for extension in situation.extensions:
        kind = extension.extension_type
        if kind not in DEFAULT_EXTENSIONS and kind not in capabilities.extensions:
            refuse("MLS-V034")


def check_supports_required(situation: Situation, capabilities: Capabilities) -> None:
    """MLS-V035: what the group's required capabilities list."""
    required = situation.required
    if required is None:
        return
    missing = (
        set(required.extensions) - DEFAULT_EXTENSIONS - set(capabilities.extensions),
        set(required.proposals) - DEFAULT_PROPOSALS - set(capabilities.proposals),
        set(required.credentials) - set(capabilities.credentials),
    )
    if any(missing):
        refuse("MLS-V035")


def check_lifetime_length(situation: Situation, leaf: LeafNode) -> None:
    """MLS-V038: the total lifetime is within the policy's limit."""
    lifetime = leaf.lifetime
    if lifetime is not None and lifetime.not_after - lifetime.not_before > situation.policy.max_lifetime:
        refuse("MLS-V038")


def check_lifetime_now(situation: Situation, leaf: LeafNode) -> None:
    """MLS-V039: now lies within the lifetime."""
    lifetime = leaf.lifetime
    if lifetime is not None and not lifetime.not_before <= situation.now // 1000 <= lifetime.not_after:
        refuse("MLS-V039")


def check_credential(situation: Situation, leaf: LeafNode) -> None:
    """MLS-V043: the authentication service accepts the credential for the leaf's signature key."""
    if not situation.policy.validate(leaf.credential, leaf.signature_key, situation.now):
        refuse("MLS-V043")


def check_leaf(situation: Situation, leaf: LeafNode, index: int) -> None:
    """Everything that can be said of one leaf without the rest of the tree."""
    check_keys(situation.suite, leaf)
    check_own_extensions(leaf)
    check_own_credential(leaf)
    check_supports_group(situation, leaf.capabilities)
    check_supports_required(situation, leaf.capabilities)
    check_lifetime_length(situation, leaf)
    check_credential(situation, leaf)
    check_leaf_signature(situation, leaf, index)


# one leaf among others


def check_credential_supported(tree: RatchetTree, leaf: LeafNode) -> None:
    """MLS-V036: all members support the leaf's credential type."""
    feature = key_index.CREDENTIAL | leaf.credential.credential_type
    if tree.support.count(feature) < tree.member_count:
        refuse("MLS-V036")


def check_supports_credentials(tree: RatchetTree, leaf: LeafNode) -> None:
    """MLS-V037: the leaf supports all credential types in use."""
    if not tree.support.credentials_in_use() <= set(leaf.capabilities.credentials):
        refuse("MLS-V037")


def check_new_signature_key(tree: RatchetTree, leaf: LeafNode) -> None:
    """MLS-V040: no other member has the leaf's signature key (the leaf is not in the tree yet)."""
    if leaf.signature_key in tree.signers:
        refuse("MLS-V040")


def check_new_encryption_key(tree: RatchetTree, leaf: LeafNode) -> None:
    """MLS-V041: no other node has the leaf's encryption key (the leaf is not in the tree yet)."""
    if leaf.encryption_key in tree.keys:
        refuse("MLS-V041")


def check_replaced_key(old: LeafNode, new: LeafNode) -> None:
    """MLS-V042: the new leaf has another encryption key."""
    if old.encryption_key == new.encryption_key:
        refuse("MLS-V042")


def check_successor(situation: Situation, old: LeafNode, new: LeafNode) -> None:
    """MLS-V044: the new credential may take the old one's place."""
    if not situation.policy.successor(old.credential, new.credential):
        refuse("MLS-V044")


def check_among(tree: RatchetTree, leaf: LeafNode) -> None:
    """What a leaf that now stands in the tree and the other members must support of each other."""
    check_credential_supported(tree, leaf)
    check_supports_credentials(tree, leaf)


# key packages


def check_key_package_suite(situation: Situation, package: KeyPackage) -> None:
    """MLS-V051: the version and suite are the group's."""
    if package.version != MLS10 or package.suite_id != situation.suite.suite_id:
        refuse("MLS-V051")


def check_key_package_signature(suite: CipherSuite, package: KeyPackage) -> None:
    """MLS-V050: the package is signed by its leaf's key."""
    try:
        key = package.leaf_node.verify_key(suite)
        suite.verify_with_label(key, b"KeyPackageTBS", package.to_be_signed(), package.signature)
    except PeerError as error:
        refuse("MLS-V050", cause=error)


def check_init_key(package: KeyPackage) -> None:
    """MLS-V052: init key and encryption key differ."""
    if package.init_key == package.leaf_node.encryption_key:
        refuse("MLS-V052")


def check_key_package_extensions(package: KeyPackage) -> None:
    """MLS-V053: the leaf lists the types of the package's extensions."""
    listed = package.leaf_node.capabilities.extensions
    for extension in package.extensions:
        kind = extension.extension_type
        if kind not in DEFAULT_EXTENSIONS and kind not in listed:
            refuse("MLS-V053")


def check_key_package(situation: Situation, package: KeyPackage) -> None:
    """Everything about a key package without the rest of the tree."""
    check_key_package_suite(situation, package)
    check_source(package.leaf_node, SOURCE_KEY_PACKAGE)
    check_init_key(package)
    check_keys(situation.suite, package.leaf_node, package.init_key)
    check_key_package_extensions(package)
    check_lifetime_now(situation, package.leaf_node)
    check_leaf(situation, package.leaf_node, 0)
    check_key_package_signature(situation.suite, package)


# group context extensions


def check_group_extensions(situation: Situation, tree: RatchetTree) -> None:
    """MLS-V074: all members of the tree support the group's extensions and required capabilities."""
    needed = {
        key_index.EXTENSION | each.extension_type
        for each in situation.extensions
        if each.extension_type not in DEFAULT_EXTENSIONS
    }
    required = situation.required
    if required is not None:
        needed |= {key_index.EXTENSION | kind for kind in set(required.extensions) - DEFAULT_EXTENSIONS}
        needed |= {key_index.PROPOSAL | kind for kind in set(required.proposals) - DEFAULT_PROPOSALS}
        needed |= {key_index.CREDENTIAL | kind for kind in required.credentials}
    if any(tree.support.count(feature) < tree.member_count for feature in needed):
        refuse("MLS-V074")


def check_external_sender_credentials(situation: Situation) -> None:
    """MLS-V043 for the credentials of the group's external senders."""
    for sender in external_senders(situation.extensions):
        if not situation.policy.validate(sender.credential, sender.signature_key, situation.now):
            refuse("MLS-V043")


# a whole tree, when joining


def check_tree_hash(tree: RatchetTree, expected: bytes) -> None:
    """MLS-V100: the tree is the one of the group context."""
    if root_hash(tree) != expected:
        refuse("MLS-V100")


def check_unique_keys(tree: RatchetTree) -> None:
    """MLS-V040, MLS-V041: no key stands twice in the tree."""
    if not tree.duplicate:
        return
    signers = [leaf.signature_key for _, leaf in tree.members()]
    if len(set(signers)) < len(signers):
        refuse("MLS-V040")
    refuse("MLS-V041")


def check_unmerged_leaves(tree: RatchetTree) -> None:
    """MLS-V102, MLS-V103: unmerged leaves are members below, and known to all parents in between."""
    for node in range(1, len(tree.nodes), 2):
        parent = tree.parent(node)
        if parent is None or not parent.unmerged_leaves:
            continue
        first, end = treemath.leaves_below(node)
        for leaf in parent.unmerged_leaves:
            if not first <= leaf < end or tree.leaf(leaf) is None:
                refuse("MLS-V102")
            _check_between(tree, leaf, node)


def _check_between(tree: RatchetTree, leaf: int, node: int) -> None:
    for above in treemath.direct_path(2 * leaf, tree.size):
        if above == node:
            return
        between = tree.parent(above)
        if between is not None and leaf not in between.unmerged_leaves:
            refuse("MLS-V103")


def check_parent_keys(tree: RatchetTree) -> None:
    """MLS-V123: every parent's key is one of the suite."""
    try:
        for node in range(1, len(tree.nodes), 2):
            if tree.nodes[node] is not None:
                tree.public_key(node)
    except PeerError as error:
        refuse("MLS-V123", cause=error)


def check_tree(situation: Situation, tree: RatchetTree, tree_hash: bytes) -> None:
    """Everything that a joiner verifies of the tree it is given."""
    check_tree_hash(tree, tree_hash)
    check_unique_keys(tree)
    check_parent_keys(tree)
    check_unmerged_leaves(tree)
    verify_parent_hashes(tree)
    check_group_extensions(situation, tree)
    check_external_sender_credentials(situation)
    for index, leaf in tree.members():
        check_leaf(situation, leaf, index)
        check_among(tree, leaf)
