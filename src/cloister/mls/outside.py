"""Proposals by those who are not members (RFC 9420 section 12.1.8), and members' proposals seen from outside.

An external sender registered in the group context proposes under its index, a new member proposes to add itself.
A joiner who commits from outside takes over the pending SelfRemoves: `read_self_remove` verifies them as far
as somebody without the membership key can.
"""

from __future__ import annotations

from cloister.errors import UsageError
from cloister.mls.authentication import check_sender
from cloister.mls.checks import refuse
from cloister.mls.ciphersuite import CipherSuite
from cloister.mls.framing import (
    EXTERNAL,
    NEW_MEMBER_PROPOSAL,
    PUBLIC_MESSAGE,
    AuthenticatedContent,
    FramedContent,
    Sender,
)
from cloister.mls.group_context import GroupContext
from cloister.mls.key_package import KeyPackage
from cloister.mls.message import decode_message, encode_message
from cloister.mls.policy import SentProposal
from cloister.mls.proposal import EXTERNAL_PROPOSALS, Add, Proposal, SelfRemove
from cloister.mls.public_message import PublicMessage
from cloister.mls.ratchet_tree import RatchetTree
from cloister.primitives.signature import SigningKey


def _message(
    suite: CipherSuite, key: SigningKey, sender: Sender, group_id: bytes, epoch: int, proposal: Proposal
) -> bytes:
    content = FramedContent(group_id=group_id, epoch=epoch, sender=sender, content=proposal)
    unused = GroupContext(
        suite_id=suite.suite_id,
        group_id=group_id,
        epoch=epoch,
        tree_hash=b"",
        confirmed_transcript_hash=b"",
    )
    signed = AuthenticatedContent.sign(suite, key, PUBLIC_MESSAGE, content, unused)
    return encode_message(PublicMessage(content=signed))


def external_proposal(
    suite: CipherSuite, key: SigningKey, index: int, group_id: bytes, epoch: int, proposal: Proposal
) -> bytes:
    """A proposal by the external sender at `index`; UsageError for a type that it may not propose."""
    if proposal.proposal_type not in EXTERNAL_PROPOSALS:
        raise UsageError("not_allowed", "an external sender cannot propose this")
    return _message(suite, key, Sender(EXTERNAL, index), group_id, epoch, proposal)


def join_proposal(suite: CipherSuite, key: SigningKey, group_id: bytes, epoch: int, package: KeyPackage) -> bytes:
    """A new member's proposal to add itself; `key` is the one in the package's leaf."""
    return _message(suite, key, Sender(NEW_MEMBER_PROPOSAL), group_id, epoch, Add(package))


def read_self_remove(tree: RatchetTree, context: GroupContext, message: bytes) -> SentProposal:
    """A pending SelfRemove for one's external commit; everything but its membership tag is verified."""
    decoded = decode_message(message)
    if not isinstance(decoded, PublicMessage):
        refuse("MLS-V081")
    content = decoded.content
    framed = content.content
    if framed.group_id != context.group_id:
        refuse("MLS-V010")
    if framed.epoch != context.epoch:
        refuse("MLS-V011")
    if not isinstance(framed.content, SelfRemove):
        refuse("MLS-V081")
    check_sender(tree, context, content)
    reference = content.proposal_ref(tree.suite)
    return SentProposal(sender=framed.sender, proposal=framed.content, reference=reference, public=True)
