"""What a group puts into an encrypted store: small keyed items, replaced and deleted as it moves on.

Items by key (docs/spec/mls-state.md lists them byte by byte):
    g                                    version, state, epoch, past epochs
    e + epoch(8)                         context, own leaf, secrets, private tree keys of one epoch
    t + epoch(8)                         its ratchet tree
    n + epoch(8) + node(4)               an unused secret of its secret tree
    r + epoch(8) + leaf(4) + kind(1)     a ratchet: generation and NEXT secret
    k + epoch(8) + leaf(4) + kind(1) + generation(4)   the key of one skipped message
    p + reference                        a proposal of this epoch
    m + SHA-256(message)                 the reference of one's own proposal, to know it when it comes back
    u + public key                       the private key of one's own Update
    c + SHA-256(message)                 one's own commit that has not come back yet

Invariants
- Nothing stored derives a key that was used: a ratchet's item holds its next secret only, a used key and a
  consumed tree secret are dropped in the same change.
- `Changes` belong in one transaction with the messages that they account for, before anything is sent.
- The first byte of `g` is the format's version; every released version stays readable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final

from cloister.codec.tls import Reader, Writer, decode
from cloister.errors import UnavailableError, UsageError
from cloister.mls.ciphersuite import CipherSuite
from cloister.mls.epoch import Epoch, Identity
from cloister.mls.extension import read_extensions
from cloister.mls.framing import Sender
from cloister.mls.group_context import GroupContext
from cloister.mls.key_schedule import EncryptionSecret, EpochSecrets
from cloister.mls.leaf_node import LeafNode
from cloister.mls.policy import SentProposal
from cloister.mls.proposal import ReInit, read_proposal, write_proposal
from cloister.mls.secret_tree import ItemKey, MessageKey, SecretTree
from cloister.mls.staged import StagedCommit

VERSION: Final = 1

ACTIVE: Final = 0
SUSPENDED: Final = 1
LEFT: Final = 2

Items = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Changes:
    """Items to write and keys to delete, in one transaction."""

    put: dict[bytes, bytes]
    drop: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The item `g`: the state, the newest epoch, past epochs with when they passed (ms), the ReInit agreed on."""

    state: int
    epoch: int
    past: tuple[tuple[int, int], ...]
    reinit: ReInit | None

    def encode(self) -> bytes:
        """With the version in front."""
        past = Writer()
        for number, passed_at in self.past:
            past.u64(number).u64(passed_at)
        writer = Writer().u8(VERSION).u8(self.state).u64(self.epoch).opaque(past.done())
        return writer.optional(self.reinit).done()

    @classmethod
    def decode(cls, data: bytes) -> Overview:
        """UnavailableError("version") for a format that is newer than this code."""
        reader = Reader(data)
        version = reader.u8()
        if version != VERSION:
            raise UnavailableError("version", f"stored groups of format {version} are not known here")
        overview = cls(
            state=reader.u8(),
            epoch=reader.u64(),
            past=reader.vector(lambda each: (each.u64(), each.u64())),
            reinit=reader.optional(ReInit.read),
        )
        reader.finish()
        return overview


def epoch_key(number: int) -> bytes:
    """The key of an epoch's state."""
    return b"e" + number.to_bytes(8, "big")


def tree_key(number: int) -> bytes:
    """The key of an epoch's ratchet tree."""
    return b"t" + number.to_bytes(8, "big")


# secret trees

_LETTERS: Final = {"node": b"n", "ratchet": b"r", "key": b"k"}


def secret_key(number: int, item: ItemKey) -> bytes:
    """The key of one item of an epoch's secret tree."""
    what, index, kind, generation = item
    key = _LETTERS[what] + number.to_bytes(8, "big") + index.to_bytes(4, "big")
    if what != "node":
        key += kind.to_bytes(1, "big")
    return key + generation.to_bytes(4, "big") if what == "key" else key


def secret_value(tree: SecretTree, item: ItemKey) -> bytes | None:
    """The item's value; None when it is to be deleted."""
    what, index, kind, generation = item
    if what == "node":
        return tree.nodes.get(index)
    if what == "ratchet":
        step, secret = tree.ratchets[index, kind]
        return step.to_bytes(4, "big") + secret
    found = tree.keys.get((index, kind), {}).get(generation)
    return None if found is None else found.key + found.nonce


def secret_items(tree: SecretTree) -> list[ItemKey]:
    """All items that a secret tree has now."""
    items: list[ItemKey] = [("node", node, 0, 0) for node in tree.nodes]
    items += [("ratchet", leaf, kind, 0) for leaf, kind in tree.ratchets]
    items += [("key", *place, number) for place, kept in tree.keys.items() for number in kept]
    return items


def read_secret_trees(items: Items, suites: Mapping[int, tuple[CipherSuite, int]]) -> dict[int, SecretTree]:
    """The secret trees of these epochs; `suites` gives each one's suite and size."""
    trees = {number: SecretTree(suite, size) for number, (suite, size) in suites.items()}
    for key, value in items.items():
        tree = trees.get(int.from_bytes(key[1:9], "big")) if key[:1] in b"nrk" else None
        if tree is None:
            continue
        index = int.from_bytes(key[9:13], "big")
        if key[:1] == b"n":
            tree.nodes[index] = value
        elif key[:1] == b"r":
            tree.ratchets[index, key[13]] = (int.from_bytes(value[:4], "big"), value[4:])
        else:
            generation, size = int.from_bytes(key[14:18], "big"), tree.suite.key_size
            kept = tree.keys.setdefault((index, key[13]), {})
            kept[generation] = MessageKey(generation, value[:size], value[size:])
    return trees


def stored_secrets(items: Items) -> list[tuple[str, bytes]]:
    """(kind, value) of every secret in stored items: what an audit looks for where it must never be.

    Left out: the epoch authenticator, which people may compare aloud, and one's own commit that is under way.
    """
    found: list[tuple[str, bytes]] = []
    for key, value in items.items():
        letter = key[:1]
        if letter == b"e":
            found += _epoch_secrets(value)
        elif letter == b"n":
            found.append(("secret of a message tree", value))
        elif letter == b"r":
            found.append(("ratchet secret", value[4:]))
        elif letter == b"k":
            found.append(("key of a skipped message", value))
        elif letter == b"u":
            found.append(("leaf key", value))
    return found


def _epoch_secrets(state: bytes) -> Iterator[tuple[str, bytes]]:
    reader = Reader(state)
    GroupContext.read(reader)
    reader.opaque()
    reader.u32()
    secrets = EpochSecrets.read(reader)
    for each in fields(secrets):
        value: bytes = getattr(secrets, each.name)
        if value and each.name != "epoch_authenticator":
            yield each.name.replace("_", " "), value
    for _, private in reader.vector(lambda each: (each.u32(), each.opaque())):
        yield "key of a tree node", private


# proposals


def encode_sent(sent: SentProposal) -> bytes:
    """A proposal with its sender."""
    writer = Writer()
    sent.sender.write(writer)
    writer.opaque(sent.reference).u8(sent.public)
    write_proposal(writer, sent.proposal)
    return writer.done()


def read_sent(reader: Reader) -> SentProposal:
    """Read what `encode_sent` gave."""
    sender, reference, public = Sender.read(reader), reader.opaque(), reader.u8() == 1
    return SentProposal(sender=sender, proposal=read_proposal(reader), reference=reference, public=public)


# one's own commits


def _write_leaves(writer: Writer, leaves: tuple[tuple[int, LeafNode], ...]) -> None:
    inner = Writer()
    for index, leaf in leaves:
        inner.u32(index).raw(leaf.encoded)
    writer.opaque(inner.done())


def _read_leaves(reader: Reader) -> tuple[tuple[int, LeafNode], ...]:
    return reader.vector(lambda each: (each.u32(), LeafNode.read(each)))


def encode_staged(staged: StagedCommit) -> bytes:
    """One's own commit, to be merged when it comes back after a restart."""
    writer = Writer()
    staged.sender.write(writer)
    writer.u32(staged.committer).opaque(staged.authenticated_data).u8(staged.has_path)
    for leaves in (staged.added, staged.removed, staged.updated):
        _write_leaves(writer, leaves)
    proposals = Writer()
    for sent in staged.proposals:
        proposals.raw(encode_sent(sent))
    writer.opaque(proposals.done())
    writer.u8(staged.extensions is not None).vector(staged.extensions or ())
    writer.opaque(staged.message).opaque(staged.welcome or b"").opaque(staged.group_info)
    epoch = staged.pending
    writer.opaque(staged.encryption_secret or b"").opaque(epoch.encode_state()).raw(epoch.tree.encode())
    return writer.opaque(epoch.identity.key.public.raw).done()


def identity_of(signature_key: bytes, identities: Sequence[Identity]) -> Identity:
    """The identity with this public key; UsageError when it is not among those that were given."""
    for identity in identities:
        if identity.key.public.raw == signature_key:
            return identity
    raise UsageError("usage", "none of these identities is the one of the stored group")


def decode_staged(data: bytes, base: Epoch, identities: Sequence[Identity]) -> StagedCommit:
    """Read what `encode_staged` gave; the commit may bring another identity than the base's."""

    def read(reader: Reader) -> StagedCommit:
        sender, committer, authenticated = Sender.read(reader), reader.u32(), reader.opaque()
        has_path = reader.u8() == 1
        added, removed, updated = (_read_leaves(reader) for _ in range(3))
        proposals = reader.vector(read_sent)
        changed, extensions = reader.u8() == 1, read_extensions(reader)
        message, welcome, info = reader.opaque(), reader.opaque(), reader.opaque()
        secret, state = EncryptionSecret(reader.opaque()), reader.opaque()
        start = reader.position
        reader.nested()
        tree = reader.data[start : reader.position]
        identity = identity_of(reader.opaque(), identities)
        reinits = [sent.proposal for sent in proposals if isinstance(sent.proposal, ReInit)]
        return StagedCommit(
            sender=sender,
            committer=committer,
            added=added,
            removed=removed,
            updated=updated,
            proposals=proposals,
            extensions=extensions if changed else None,
            reinit=reinits[0] if reinits else None,
            authenticated_data=authenticated,
            has_path=has_path,
            message=message,
            welcome=welcome or None,
            group_info=info,
            base=base,
            next_epoch=Epoch.read_state(Reader(state), tree, identity),
            encryption_secret=secret,
        )

    return decode(read, data)
