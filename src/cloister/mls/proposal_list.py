"""The list of proposals that a commit covers: its rules, and its application (RFC 9420 sections 12.2, 12.3).

`sort` orders the list by kind, `check_member_list` and `check_external_list` hold the rules for the two kinds
of commits, `apply` makes the new tree: Updates, then Removes, then Adds.

Invariants
- Rules that need no tree come first, leaves are judged against the tree and extensions as they will be.
- `apply` works on a copy of the epoch's tree; the epoch is never changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cloister.mls import self_remove
from cloister.mls import validation as valid
from cloister.mls.checks import refuse
from cloister.mls.ciphersuite import MLS10, CipherSuite
from cloister.mls.extension import Extensions, parse_group_extensions
from cloister.mls.framing import MEMBER, Sender
from cloister.mls.key_package import KeyPackage
from cloister.mls.leaf_node import SOURCE_UPDATE, LeafNode
from cloister.mls.policy import SentProposal
from cloister.mls.proposal import (
    PATHLESS,
    Add,
    ExternalInit,
    GroupContextExtensions,
    PreSharedKey,
    ReInit,
    Remove,
    SelfRemove,
    Update,
)
from cloister.mls.psk import APPLICATION, RESUMPTION, PreSharedKeyId
from cloister.mls.ratchet_tree import RatchetTree

MAX_PENDING: Final = 1024
"""Proposals that may wait for a commit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalList:
    """The proposals of one commit, by kind and in their order."""

    all: tuple[SentProposal, ...]
    adds: tuple[KeyPackage, ...]
    updates: tuple[tuple[int, LeafNode], ...]
    removes: tuple[int, ...]
    psks: tuple[PreSharedKeyId, ...]
    reinits: tuple[ReInit, ...]
    external_inits: tuple[bytes, ...]
    extensions: tuple[Extensions, ...]

    @property
    def needs_path(self) -> bool:
        """Whether a commit of these must have a path."""
        return not self.all or any(sent.proposal.proposal_type not in PATHLESS for sent in self.all)


def sort(proposals: tuple[SentProposal, ...]) -> ProposalList:
    """By kind; MLS-V084 for an Update that is no member's, MLS-V081 for a SelfRemove out of place."""
    updates = []
    removes = []
    for sent in proposals:
        proposal = sent.proposal
        if isinstance(proposal, Update):
            if sent.sender.kind != MEMBER:
                refuse("MLS-V084")
            updates.append((sent.sender.index, proposal.leaf_node))
        elif isinstance(proposal, Remove):
            removes.append(proposal.removed)
        elif isinstance(proposal, SelfRemove):
            removes.append(self_remove.removed_leaf(sent))
    every = [sent.proposal for sent in proposals]
    return ProposalList(
        all=proposals,
        adds=tuple(each.key_package for each in every if isinstance(each, Add)),
        updates=tuple(updates),
        removes=tuple(removes),
        psks=tuple(each.psk for each in every if isinstance(each, PreSharedKey)),
        reinits=tuple(each for each in every if isinstance(each, ReInit)),
        external_inits=tuple(each.kem_output for each in every if isinstance(each, ExternalInit)),
        extensions=tuple(each.extensions for each in every if isinstance(each, GroupContextExtensions)),
    )


# rules


def check_committer(proposals: ProposalList, committer: int) -> None:
    """MLS-V061, MLS-V062: a committer neither updates nor removes itself by a proposal."""
    if any(index == committer for index, _ in proposals.updates):
        refuse("MLS-V061")
    if committer in proposals.removes:
        refuse("MLS-V062")


def check_leaves_once(tree: RatchetTree, proposals: ProposalList) -> None:
    """MLS-V063, MLS-V064: a leaf is changed once, and a changed leaf is a member."""
    touched = [index for index, _ in proposals.updates] + list(proposals.removes)
    if len(set(touched)) < len(touched):
        refuse("MLS-V063")
    if any(tree.leaf(index) is None for index in touched):
        refuse("MLS-V064")


def check_adds(tree: RatchetTree, proposals: ProposalList) -> None:
    """MLS-V065: nobody is added twice, nor added while staying a member."""
    added = [package.leaf_node.signature_key for package in proposals.adds]
    if len(set(added)) < len(added):
        refuse("MLS-V065")
    removed = {leaf.signature_key for index in proposals.removes if (leaf := tree.leaf(index))}
    if any(key in tree.signers and key not in removed for key in added):
        refuse("MLS-V065")


def check_psk(suite: CipherSuite, psk: PreSharedKeyId, usage: int = APPLICATION) -> None:
    """MLS-V067, MLS-V068: a resumption key has this usage, a nonce has the hash's length."""
    if psk.kind == RESUMPTION and psk.usage != usage:
        refuse("MLS-V067")
    if len(psk.nonce) != suite.nh:
        refuse("MLS-V068")


def check_psks(suite: CipherSuite, proposals: ProposalList, usage: int) -> None:
    """MLS-V066 and each key by itself; a first commit may hold one key of the usage REINIT or BRANCH."""
    if len(set(proposals.psks)) < len(proposals.psks):
        refuse("MLS-V066")
    for psk in proposals.psks:
        special = psk.kind == RESUMPTION and psk.usage == usage
        check_psk(suite, psk, usage if special else APPLICATION)


def check_extensions(proposals: ProposalList) -> None:
    """MLS-V069: at most one GroupContextExtensions, and MLS-V082: its contents parse."""
    if len(proposals.extensions) > 1:
        refuse("MLS-V069")
    for extensions in proposals.extensions:
        parse_group_extensions(extensions)


def check_reinit(proposals: ProposalList) -> None:
    """MLS-V070, MLS-V071: a ReInit stands alone and does not lower the version."""
    if not proposals.reinits:
        return
    if len(proposals.all) > 1:
        refuse("MLS-V070")
    if proposals.reinits[0].version < MLS10:
        refuse("MLS-V071")


def check_no_external_init(proposals: ProposalList) -> None:
    """MLS-V072: a member's commit holds no ExternalInit."""
    if proposals.external_inits:
        refuse("MLS-V072")


def check_member_list(tree: RatchetTree, proposals: ProposalList, committer: int, usage: int = APPLICATION) -> None:
    """All rules of section 12.2 for a member's commit that need no new tree."""
    check_no_external_init(proposals)
    check_reinit(proposals)
    check_extensions(proposals)
    check_committer(proposals, committer)
    check_leaves_once(tree, proposals)
    check_adds(tree, proposals)
    check_psks(tree.suite, proposals, usage)
    self_remove.check_supported(tree, proposals.all, set(proposals.removes))


def check_single(situation: valid.Situation, tree: RatchetTree, sent: SentProposal) -> None:
    """Whether a proposal is valid by itself, when it arrives; what depends on its company is judged later."""
    alone = sort((sent,))
    check_no_external_init(alone)
    check_reinit(alone)
    check_extensions(alone)
    check_leaves_once(tree, alone)
    check_psks(tree.suite, alone, APPLICATION)
    self_remove.check_supported(tree, alone.all, set(alone.removes))
    check_filter(situation, sent.sender, alone.all)
    for index, leaf in alone.updates:
        check_update(situation, _member(tree, index), leaf, index)
    for package in alone.adds:
        valid.check_key_package(situation, package)


def check_external_list(tree: RatchetTree, proposals: ProposalList) -> None:
    """MLS-V075 to MLS-V078: what an external commit may hold."""
    if len(proposals.external_inits) != 1:
        refuse("MLS-V075")
    allowed = (ExternalInit, Remove, PreSharedKey, SelfRemove)
    if not all(isinstance(sent.proposal, allowed) for sent in proposals.all):
        refuse("MLS-V077")
    if sum(isinstance(sent.proposal, Remove) for sent in proposals.all) > 1:
        refuse("MLS-V076")
    if any(sent.reference and not isinstance(sent.proposal, SelfRemove) for sent in proposals.all):
        refuse("MLS-V078")
    check_leaves_once(tree, proposals)
    check_psks(tree.suite, proposals, APPLICATION)
    self_remove.check_supported(tree, proposals.all, set(proposals.removes))


# application


def check_update(situation: valid.Situation, old: LeafNode, new: LeafNode, index: int) -> None:
    """An Update's leaf, in itself and as the successor of the old one."""
    valid.check_source(new, SOURCE_UPDATE)
    valid.check_replaced_key(old, new)
    valid.check_successor(situation, old, new)
    valid.check_leaf(situation, new, index)


def apply(situation: valid.Situation, tree: RatchetTree, proposals: ProposalList) -> tuple[int, ...]:
    """Judge all new leaves and change `tree` (a copy); the leaf indices of those added, in order."""
    for index, leaf in proposals.updates:
        check_update(situation, _member(tree, index), leaf, index)
    for package in proposals.adds:
        valid.check_key_package(situation, package)
    added = change_tree(tree, proposals)
    for index in (*(index for index, _ in proposals.updates), *added):
        valid.check_among(tree, _member(tree, index))
    if proposals.extensions:
        valid.check_group_extensions(situation, tree)
        valid.check_external_sender_credentials(situation)
    return added


def change_tree(tree: RatchetTree, proposals: ProposalList) -> tuple[int, ...]:
    """Updates, then Removes, then Adds; MLS-V040 and MLS-V041 for keys that stand in the tree already."""
    changed = [index for index, _ in proposals.updates]
    for index in (*changed, *proposals.removes):
        old = _member(tree, index)
        tree.keys.discard(old.encryption_key)
        tree.signers.discard(old.signature_key)
    for index, leaf in proposals.updates:
        _check_new(tree, leaf)
        tree.set_leaf(index, leaf)
        tree.blank_path(index)
    for index in proposals.removes:
        tree.remove_leaf(index)
    added: list[int] = []
    for package in proposals.adds:
        _check_new(tree, package.leaf_node)
        added.append(tree.add_leaf(package.leaf_node, added[-1] + 1 if added else 0))
    return tuple(added)


def _check_new(tree: RatchetTree, leaf: LeafNode) -> None:
    valid.check_new_signature_key(tree, leaf)
    valid.check_new_encryption_key(tree, leaf)


def _member(tree: RatchetTree, index: int) -> LeafNode:
    leaf = tree.leaf(index)
    if leaf is None:
        raise LookupError("the rules were checked before")
    return leaf


def check_room(waiting: int) -> None:
    """MLS-V085: there is room for one more pending proposal."""
    if waiting >= MAX_PENDING:
        refuse("MLS-V085")


def check_filter(situation: valid.Situation, sender: Sender, proposals: tuple[SentProposal, ...]) -> None:
    """MLS-V080: the application allows this commit or proposal."""
    if not situation.policy.accept(sender, proposals):
        refuse("MLS-V080")
