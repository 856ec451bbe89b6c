"""One epoch of a group as one member holds it (RFC 9420 sections 8, 12.4.3).

Invariants
- An `Epoch` is never changed: a commit makes the next one beside it.
- `init_secret` and private tree keys exist in the newest epoch only; `passed` gives what may be kept of an old
  one: enough to open late messages and to prove membership (resumption), nothing that leads to the next epoch.
- The encryption secret is not here but in the epoch's `SecretTree`, which deletes it piece by piece.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cloister.codec.tls import Reader, Writer
from cloister.errors import UsageError
from cloister.mls import key_schedule, tree_hash
from cloister.mls.ciphersuite import CipherSuite, suite_of
from cloister.mls.extension import Extension, Extensions
from cloister.mls.group_context import GroupContext
from cloister.mls.group_info import GroupInfo, external_pub_extension, tree_extension
from cloister.mls.key_schedule import EpochSecrets, InitSecret
from cloister.mls.leaf_node import LeafNode, LeafTemplate
from cloister.mls.policy import Policy
from cloister.mls.ratchet_tree import RatchetTree
from cloister.mls.transcript import interim_hash
from cloister.mls.treekem import PrivateKeys
from cloister.mls.validation import Situation
from cloister.primitives.signature import SigningKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A client: its signature key and what it puts into its leaves."""

    key: SigningKey
    template: LeafTemplate


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """Context, tree and secrets of one epoch; `own` is this member's leaf index."""

    suite: CipherSuite
    context: GroupContext
    tree: RatchetTree
    secrets: EpochSecrets
    confirmation_tag: bytes
    own: int
    identity: Identity
    private_keys: PrivateKeys

    @property
    def number(self) -> int:
        """The epoch's number."""
        return self.context.epoch

    @property
    def interim_transcript_hash(self) -> bytes:
        """What the next commit's transcript hash starts from."""
        return interim_hash(self.suite, self.context.confirmed_transcript_hash, self.confirmation_tag)

    def situation(self, policy: Policy, now: int, extensions: Extensions | None = None) -> Situation:
        """What leaves are judged by; `extensions` replace the epoch's where a commit changes them."""
        context = self.context
        chosen = context.extensions if extensions is None else extensions
        return Situation.of(self.suite, context.group_id, chosen, policy, now)

    def leaf(self, index: int) -> LeafNode:
        """The member at an index; UsageError when there is none."""
        leaf = self.tree.leaf(index)
        if leaf is None:
            raise UsageError("usage", f"there is no member at leaf {index}")
        return leaf

    def export(self, label: str, context: bytes, length: int) -> bytes:
        """MLS-Exporter: a secret of `length` bytes that every member of the epoch can make."""
        return key_schedule.export(self.suite, self.secrets.exporter_secret, label, context, length)

    def group_info(
        self, *, with_tree: bool = True, with_external_pub: bool = False, extensions: Extensions = ()
    ) -> GroupInfo:
        """The signed GroupInfo of this epoch."""
        parts: list[Extension] = list(extensions)
        if with_tree:
            parts.append(tree_extension(self.tree))
        if with_external_pub:
            key = key_schedule.external_key(self.suite, self.secrets.external_secret)
            parts.append(external_pub_extension(key.public))
        info = GroupInfo(
            context=self.context,
            extensions=tuple(parts),
            confirmation_tag=self.confirmation_tag,
            signer=self.own,
        )
        return info.signed(self.suite, self.identity.key)

    def passed(self) -> Epoch:
        """What is kept when the group has moved on."""
        return replace(self, secrets=replace(self.secrets, init_secret=InitSecret(b"")), private_keys={})

    # an encrypted store

    def encode_state(self) -> bytes:
        """Everything but the tree and the identity."""
        writer = Writer().raw(self.context.encoded).opaque(self.confirmation_tag).u32(self.own)
        self.secrets.write(writer)
        keys = Writer()
        for node, key in self.private_keys.items():
            keys.u32(node).opaque(key.raw)
        return writer.opaque(keys.done()).done()

    @classmethod
    def read_state(cls, reader: Reader, tree: bytes, identity: Identity) -> Epoch:
        """Read what `encode_state` and the tree's `encode` gave."""
        context = GroupContext.read(reader)
        suite = suite_of(context.suite_id)
        tag, own, secrets = reader.opaque(), reader.u32(), EpochSecrets.read(reader)
        keys = reader.vector(lambda each: (each.u32(), each.opaque()))
        tree_reader = Reader(tree)
        ratchet_tree = RatchetTree.read(suite, tree_reader)
        return cls(
            suite=suite,
            context=context,
            tree=ratchet_tree,
            secrets=secrets,
            confirmation_tag=tag,
            own=own,
            identity=identity,
            private_keys={node: suite.hpke_private(raw) for node, raw in keys},
        )


def next_context(epoch_context: GroupContext, tree: RatchetTree, extensions: Extensions) -> GroupContext:
    """The provisional context of the next epoch: the new tree and extensions, the old transcript."""
    return epoch_context.with_(
        epoch=epoch_context.epoch + 1, tree_hash=tree_hash.root_hash(tree), extensions=extensions
    )
