"""A group of N members with a warm tree, made quickly: every parent holds a key, no leaf is unmerged.

Joining N members one after another would take N joins of O(N) each. Here all leaves are made first and then one leaf
of each pair writes its path, directly on the tree; what comes out is a tree that N commits could have left, and
passes every check of a joiner. Only the founder's keys are kept. The founder has the last leaf, so that whoever it adds
is unmerged nowhere (ts-mls refuses some trees with unmerged leaves).
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.mls.peers import POLICY, SUITE, Ours, now

from cloister.mls import Credential, Group, lifetime_from
from cloister.mls.group_state import GroupState
from cloister.mls.joining import create
from cloister.mls.leaf_node import SOURCE_KEY_PACKAGE, LeafNode, LeafPlace, make_leaf
from cloister.mls.ratchet_tree import ParentNode, RatchetTree
from cloister.mls.testing import from_epoch_secret, make_path, root_hash
from cloister.primitives.signature import SigningKey


def warm_group(members: int, group_id: bytes, founder: Ours) -> Group:
    """`founder`'s group of `members`, as after many commits."""
    epoch, _ = create(founder.identity, SUITE, group_id, (), POLICY, now(), founder.rng)
    place = LeafPlace(source=SOURCE_KEY_PACKAGE, lifetime=lifetime_from(now()))
    own = members - 1
    signers = [SigningKey.generate("ed25519", founder.rng) for _ in range(own)] + [founder.identity.key]
    base = founder.identity.template
    templates = [replace(base, credential=Credential.basic(b"%d" % each)) for each in range(own)] + [base]
    nodes: list[LeafNode | ParentNode | None] = [None] * (2 * members - 1)
    for index, (key, template) in enumerate(zip(signers, templates, strict=True)):
        encryption = SUITE.derive_key_pair(founder.rng(32)).public
        nodes[2 * index] = make_leaf(SUITE, key, template, encryption, place)
    tree = RatchetTree(SUITE, nodes)
    for index in range(0, own, 2):
        make_path(tree, index, group_id, signers[index], templates[index], founder.rng)
    new = make_path(tree, own, group_id, founder.identity.key, base, founder.rng)
    context = epoch.context.with_(tree_hash=root_hash(tree), epoch=members)
    secrets, encryption_secret = from_epoch_secret(SUITE, founder.rng(SUITE.nh))
    following = replace(
        epoch,
        context=context,
        tree=tree,
        secrets=secrets,
        confirmation_tag=SUITE.mac(secrets.confirmation_key, context.confirmed_transcript_hash),
        own=own,
        private_keys=new.private_keys,
    )
    founder.group = Group(GroupState.start(following, encryption_secret), POLICY)
    return founder.group
