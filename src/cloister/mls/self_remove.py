"""SelfRemove: a member asks to be removed, and even a joiner may carry it out (draft-ietf-mls-extensions).

Unlike a Remove, it may be part of an external commit, so nobody who leaves is held by a burst of joiners.

Rules: all members support the type (MLS-V073); it is sent as a PublicMessage by a member and committed by
reference by somebody else, with a path (MLS-V081, MLS-V062); it counts as the removal of its sender's leaf.
"""

from __future__ import annotations

from cloister.mls import key_index
from cloister.mls.checks import refuse
from cloister.mls.framing import MEMBER
from cloister.mls.policy import SentProposal
from cloister.mls.proposal import SELF_REMOVE, SelfRemove
from cloister.mls.ratchet_tree import RatchetTree


def removed_leaf(sent: SentProposal) -> int:
    """The leaf that a SelfRemove removes; MLS-V081 unless it came from a member, publicly and by reference."""
    if sent.sender.kind != MEMBER or not sent.reference or not sent.public:
        refuse("MLS-V081")
    return sent.sender.index


def check_supported(tree: RatchetTree, proposals: tuple[SentProposal, ...], leaving: set[int]) -> None:
    """MLS-V073: every member that stays supports SelfRemove, where the commit holds one."""
    if not any(isinstance(sent.proposal, SelfRemove) for sent in proposals):
        return
    missing = tree.member_count - tree.support.count(key_index.PROPOSAL | SELF_REMOVE)
    excused = sum(
        1
        for index in leaving
        if (leaf := tree.leaf(index)) is not None and SELF_REMOVE not in leaf.capabilities.proposals
    )
    if missing > excused:
        refuse("MLS-V073")
