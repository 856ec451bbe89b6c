"""Who sent a message, and is it so: senders and signatures (RFC 9420 sections 6.1 and 12.1.8).

Invariants: `check_sender` runs before anything in a message is believed, stored or applied.
"""

from __future__ import annotations

from cloister.errors import PeerError
from cloister.mls.checks import refuse
from cloister.mls.ciphersuite import CipherSuite
from cloister.mls.commit import Commit
from cloister.mls.extension import external_senders
from cloister.mls.framing import (
    EXTERNAL,
    MEMBER,
    NEW_MEMBER_PROPOSAL,
    AuthenticatedContent,
    Content,
    Sender,
)
from cloister.mls.group_context import GroupContext
from cloister.mls.proposal import EXTERNAL_PROPOSALS, Add
from cloister.mls.ratchet_tree import RatchetTree
from cloister.primitives.signature import VerifyKey


def _member_key(tree: RatchetTree, index: int) -> VerifyKey:
    """MLS-V013: a member stands at the sender's leaf."""
    leaf = tree.leaf(index)
    if leaf is None:
        refuse("MLS-V013")
    return leaf.verify_key(tree.suite)


def _external_key(suite: CipherSuite, context: GroupContext, sender: Sender, content: Content) -> VerifyKey:
    """MLS-V016, MLS-V017: an external sender is registered and proposes what it may."""
    senders = external_senders(context.extensions)
    if sender.index >= len(senders):
        refuse("MLS-V017")
    if isinstance(content, bytes | Commit) or content.proposal_type not in EXTERNAL_PROPOSALS:
        refuse("MLS-V016")
    return suite.signature_key(senders[sender.index].signature_key)


def _joiner_key(suite: CipherSuite, content: Content) -> VerifyKey:
    """MLS-V018: a new member's proposal adds the one who signs it."""
    if not isinstance(content, Add):
        refuse("MLS-V018")
    return content.key_package.leaf_node.verify_key(suite)


def _committer_key(suite: CipherSuite, content: Content) -> VerifyKey:
    """MLS-V019: a new member's commit has a path, whose leaf signs it."""
    if not isinstance(content, Commit) or content.path is None:
        refuse("MLS-V019")
    return content.path.leaf_node.verify_key(suite)


def sender_key(tree: RatchetTree, context: GroupContext, sender: Sender, content: Content) -> VerifyKey:
    """The key that must have signed a content of this sender."""
    if sender.kind == MEMBER:
        return _member_key(tree, sender.index)
    if sender.kind == EXTERNAL:
        return _external_key(tree.suite, context, sender, content)
    if sender.kind == NEW_MEMBER_PROPOSAL:
        return _joiner_key(tree.suite, content)
    return _committer_key(tree.suite, content)


def check_sender(tree: RatchetTree, context: GroupContext, content: AuthenticatedContent) -> None:
    """MLS-V015 unless the content's sender signed it."""
    framed = content.content
    try:
        key = sender_key(tree, context, framed.sender, framed.content)
        content.verify(tree.suite, key, context)
    except PeerError as error:
        if error.check:
            raise
        refuse("MLS-V015", cause=error)
