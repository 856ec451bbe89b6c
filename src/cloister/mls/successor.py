"""Groups that follow from groups: reinitialisation and branches (RFC 9420 sections 11.2, 11.3, 12.4.3.1).

The new group's first commit holds a resumption key of the old group with the usage `reinit` or `branch`; a joiner
who is a member of the old group verifies that the new one is what was agreed.
"""

from __future__ import annotations

from dataclasses import dataclass

from cloister.mls.checks import refuse
from cloister.mls.ciphersuite import MLS10, CipherSuite
from cloister.mls.credential import Credential
from cloister.mls.group_context import GroupContext
from cloister.mls.policy import Policy
from cloister.mls.proposal import ReInit
from cloister.mls.proposal_list import check_psk
from cloister.mls.psk import BRANCH, REINIT, RESUMPTION, PreSharedKeyId
from cloister.mls.ratchet_tree import RatchetTree


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The old group: its last context, its members' credentials and, if it ended so, its ReInit."""

    context: GroupContext
    credentials: tuple[Credential, ...]
    reinit: ReInit | None


def special_psk(suite: CipherSuite, psks: tuple[PreSharedKeyId, ...]) -> PreSharedKeyId | None:
    """MLS-V114: of the keys with usage reinit or branch there is one at most; MLS-V068 for short nonces."""
    special = [psk for psk in psks if psk.kind == RESUMPTION and psk.usage in (REINIT, BRANCH)]
    if len(special) > 1:
        refuse("MLS-V114")
    for psk in psks:
        check_psk(suite, psk, psk.usage)
    return special[0] if special else None


def _same_members(policy: Policy, old: Credential, new: tuple[Credential, ...]) -> bool:
    return any(policy.successor(old, each) for each in new)


def check_reinit(origin: Origin, psk: PreSharedKeyId, context: GroupContext) -> None:
    """MLS-V116: the parameters are those of the ReInit that ended the old group."""
    agreed = origin.reinit
    if agreed is None or (psk.group_id, psk.epoch) != (origin.context.group_id, origin.context.epoch):
        refuse("MLS-V116")
    wanted = (agreed.group_id, agreed.version, agreed.suite_id, agreed.extensions)
    if wanted != (context.group_id, context.version, context.suite_id, context.extensions):
        refuse("MLS-V116")


def check_all_members(origin: Origin, tree: RatchetTree, policy: Policy) -> None:
    """MLS-V117: every member of the old group is one of the new."""
    now = tuple(leaf.credential for _, leaf in tree.members())
    if not all(_same_members(policy, old, now) for old in origin.credentials):
        refuse("MLS-V117")


def check_branch(origin: Origin, context: GroupContext) -> None:
    """MLS-V118: version and suite are those of the old group."""
    if context.version != MLS10 or context.suite_id != origin.context.suite_id:
        refuse("MLS-V118")


def check_subset(origin: Origin, tree: RatchetTree, policy: Policy) -> None:
    """MLS-V119: every member of the new group is one of the old."""
    for _, leaf in tree.members():
        if not any(policy.successor(old, leaf.credential) for old in origin.credentials):
            refuse("MLS-V119")


def check_first_epoch(context: GroupContext) -> None:
    """MLS-V115: the new group is at epoch 1."""
    if context.epoch != 1:
        refuse("MLS-V115")


def check_origin(
    psk: PreSharedKeyId | None, origin: Origin | None, context: GroupContext, tree: RatchetTree, policy: Policy
) -> None:
    """All checks of a group that follows from another; one that does not is left alone."""
    if psk is None:
        return
    check_first_epoch(context)
    if origin is None or psk.group_id != origin.context.group_id:
        refuse("MLS-V116" if psk.usage == REINIT else "MLS-V118", "the old group is not at hand")
    if psk.usage == REINIT:
        check_reinit(origin, psk, context)
        check_all_members(origin, tree, policy)
    else:
        check_branch(origin, context)
        check_subset(origin, tree, policy)
