"""Which of the proposals received in an epoch go into one's own commit (RFC 9420 sections 12.2 and 12.4).

All that form a valid list: a Remove beats an Update of the same leaf, the newest Update beats older ones, a
ReInit waits while there is anything else, one's own Update is left out (the path does its work).
"""

from __future__ import annotations

from collections.abc import Iterable

from cloister.mls.framing import MEMBER
from cloister.mls.policy import SentProposal
from cloister.mls.proposal import Add, PreSharedKey, ReInit, Remove, SelfRemove, Update


def _slot(sent: SentProposal) -> object:
    """Proposals of the same slot exclude each other."""
    proposal = sent.proposal
    if isinstance(proposal, Update | SelfRemove):
        return ("leaf", sent.sender.index)
    if isinstance(proposal, Remove):
        return ("leaf", proposal.removed)
    if isinstance(proposal, Add):
        return ("add", proposal.key_package.leaf_node.signature_key)
    if isinstance(proposal, PreSharedKey):
        return proposal.psk
    return proposal.proposal_type


def _rank(sent: SentProposal) -> int:
    if isinstance(sent.proposal, SelfRemove):
        return 2
    return 1 if isinstance(sent.proposal, Remove) else 0


def _about_own_leaf(sent: SentProposal, own: int) -> bool:
    proposal = sent.proposal
    if isinstance(proposal, Remove):
        return proposal.removed == own
    mine = sent.sender.kind == MEMBER and sent.sender.index == own
    return mine and isinstance(proposal, Update | SelfRemove)


def select(pending: Iterable[SentProposal], own_values: tuple[SentProposal, ...], own: int) -> tuple[SentProposal, ...]:
    """The pending proposals that go with the committer's own, in the order they came."""
    taken = {_slot(sent) for sent in own_values}
    chosen: dict[object, SentProposal] = {}
    for sent in pending:
        slot = _slot(sent)
        if slot in taken or _about_own_leaf(sent, own):
            continue
        before = chosen.get(slot)
        if before is None or _rank(sent) >= _rank(before):
            chosen[slot] = sent
    kept = tuple(chosen.values())
    others = [sent for sent in (*kept, *own_values) if not isinstance(sent.proposal, ReInit)]
    if others:
        kept = tuple(sent for sent in kept if not isinstance(sent.proposal, ReInit))
    return kept
