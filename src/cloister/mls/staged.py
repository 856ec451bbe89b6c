"""A commit that was checked or made, but not merged: what it would change, for the application to judge.

The next epoch is complete in here (its exporter too), and nothing of it is in the group until `Group.merge`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cloister.errors import UsageError
from cloister.mls.epoch import Epoch
from cloister.mls.extension import Extensions
from cloister.mls.framing import Sender
from cloister.mls.key_schedule import EncryptionSecret
from cloister.mls.leaf_node import LeafNode
from cloister.mls.policy import SentProposal
from cloister.mls.proposal import ReInit
from cloister.mls.secret_tree import KeyUse


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedCommit:
    """What one commit does. Members are named by leaf index and leaf node.

    `committer` is the leaf index of who commits, in the new tree for an external commit. `message`, `welcome` and
    `group_info` are set on one's own commits: bytes to be sent, the last two only once the commit is accepted
    (`welcome` is None when nobody is added, `group_info` empty unless it was asked for). `key_use` is the handshake
    key that a received commit consumes when it is merged.
    """

    sender: Sender
    committer: int
    added: tuple[tuple[int, LeafNode], ...]
    removed: tuple[tuple[int, LeafNode], ...]
    updated: tuple[tuple[int, LeafNode], ...]
    proposals: tuple[SentProposal, ...]
    extensions: Extensions | None
    reinit: ReInit | None
    authenticated_data: bytes
    has_path: bool
    message: bytes = b""
    welcome: bytes | None = None
    group_info: bytes = b""
    base: Epoch = field(repr=False)
    next_epoch: Epoch | None = field(repr=False)
    encryption_secret: EncryptionSecret | None = field(repr=False)
    key_use: KeyUse | None = field(default=None, repr=False)

    @property
    def epoch(self) -> int:
        """The number of the epoch that the commit starts."""
        return self.base.number + 1

    @property
    def removes_me(self) -> bool:
        """Whether this member is among the removed; such a commit ends the group for it."""
        return self.next_epoch is None

    @property
    def epoch_authenticator(self) -> bytes:
        """The pending epoch's authenticator: equal for all who are in the same state."""
        return self.pending.secrets.epoch_authenticator

    @property
    def pending(self) -> Epoch:
        """The epoch to come; UsageError when this member has no part in it."""
        if self.next_epoch is None:
            raise UsageError("usage", "this member is removed by the commit")
        return self.next_epoch

    def ratchet_tree(self) -> bytes:
        """The pending epoch's public tree, for newcomers whose Welcome does not hold it."""
        return self.pending.tree.encode()

    def export(self, label: str, context: bytes, length: int) -> bytes:
        """The pending epoch's exporter: `length` bytes."""
        return self.pending.export(label, context, length)
