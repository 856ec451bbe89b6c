"""Opening received messages in the epoch they belong to (RFC 9420 sections 6, 12.4.2, 15.3).

Invariants
- Group, epoch, membership tag or encryption, sender and signature are verified here, in this order, before a
  content is given to anybody.
- Nothing changes: the `KeyUse` of a private message is applied by the group when the content was accepted.
"""

from __future__ import annotations

from dataclasses import dataclass

from cloister.mls import private_message, public_message
from cloister.mls.authentication import check_sender
from cloister.mls.checks import refuse
from cloister.mls.epoch import Epoch
from cloister.mls.framing import APPLICATION, MEMBER, AuthenticatedContent
from cloister.mls.policy import SentProposal
from cloister.mls.private_message import PrivateMessage
from cloister.mls.public_message import PublicMessage
from cloister.mls.secret_tree import KeyUse, SecretTree


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationData:
    """A member's message; `sender` is its leaf index in `epoch`."""

    sender: int
    epoch: int
    authenticated_data: bytes
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedProposal:
    """A proposal that is now pending; `proposal.reference` names it."""

    proposal: SentProposal
    authenticated_data: bytes


@dataclass(slots=True)
class Live:
    """An epoch with its secret tree."""

    epoch: Epoch
    secrets: SecretTree


def check_group(epoch: Epoch, group_id: bytes) -> None:
    """MLS-V010: the message is for this group."""
    if group_id != epoch.context.group_id:
        refuse("MLS-V010")


def check_reached(epoch: Epoch, number: int) -> None:
    """MLS-V026: the message is not from an epoch to come."""
    if number > epoch.number:
        refuse("MLS-V026")


def check_current(epoch: Epoch, number: int) -> None:
    """MLS-V011: a handshake message is for the current epoch."""
    if number != epoch.number:
        refuse("MLS-V011")


def check_kept(live: Live | None) -> Live:
    """MLS-V025: the epoch of an application message is still kept."""
    if live is None:
        refuse("MLS-V025")
    return live


def check_sender_leaf(epoch: Epoch, leaf: int) -> None:
    """MLS-V020: sender data name a member."""
    if epoch.tree.leaf(leaf) is None:
        refuse("MLS-V020")


def check_not_own(epoch: Epoch, leaf: int) -> None:
    """MLS-V024: what comes under one's own leaf was not sent by somebody else."""
    if leaf == epoch.own:
        refuse("MLS-V024")


def open_public(epoch: Epoch, message: PublicMessage) -> AuthenticatedContent:
    """The verified content of a PublicMessage."""
    content = message.content
    framed = content.content
    check_group(epoch, framed.group_id)
    public_message.check_content_type(message)
    check_reached(epoch, framed.epoch)
    check_current(epoch, framed.epoch)
    if framed.sender.kind == MEMBER:
        public_message.check_membership_tag(epoch.suite, epoch.secrets.membership_key, message, epoch.context)
    check_sender(epoch.tree, epoch.context, content)
    return content


def open_private(live: Live, message: PrivateMessage) -> tuple[AuthenticatedContent, KeyUse]:
    """The verified content of a PrivateMessage of this epoch, and the key it consumes."""
    epoch = live.epoch
    sender_data = private_message.open_sender_data(epoch.suite, epoch.secrets.sender_data_secret, message)
    check_sender_leaf(epoch, sender_data[0])
    check_not_own(epoch, sender_data[0])
    content, use = private_message.open_content(epoch.suite, live.secrets, message, sender_data)
    check_sender(epoch.tree, epoch.context, content)
    return content, use


def check_private_epoch(epoch: Epoch, message: PrivateMessage) -> None:
    """Group and epoch of a PrivateMessage; only application data may be late."""
    check_group(epoch, message.group_id)
    check_reached(epoch, message.epoch)
    if message.content_type != APPLICATION:
        check_current(epoch, message.epoch)
