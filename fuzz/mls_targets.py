"""Where untrusted bytes enter the MLS engine, for the fuzzer and for a short property test.

The first byte of an input chooses where the rest goes in: the decoder, a group's `process`, a Welcome, a GroupInfo,
a tree, a tree beside a good Welcome, or a content that a member of the group signs, tags and sends: mutations reach
what lies behind signatures.
"""

from __future__ import annotations

import random
from dataclasses import replace

from cloister import mls
from cloister.codec.tls import opaque
from cloister.errors import PeerError
from cloister.mls import testing as inner
from cloister.primitives.signature import SigningKey

NOW = 1_800_000_000_000
POLICY = mls.Policy(validate=lambda credential, key, now: True)
SUITE = mls.suite_of(1)
LIMIT = 1 << 16
"""Longest input in bytes; what a room takes is bounded by its frames."""


class Client:
    """A member with seeded randomness."""

    def __init__(self, name: str) -> None:
        self.rng = random.Random(name).randbytes  # noqa: S311 - a run must be repeatable
        key = SigningKey.generate("ed25519", self.rng)
        template = mls.LeafTemplate(
            credential=mls.Credential.basic(name.encode()), capabilities=mls.Capabilities(proposals=(0x000A,))
        )
        self.identity = mls.Identity(key=key, template=template)

    def package(self) -> mls.KeyPackageSecrets:
        lifetime = mls.lifetime_from(NOW)
        return mls.make_key_package(SUITE, self.identity.key, self.identity.template, lifetime, self.rng)


ALICE, BOB, CAROL = Client("alice"), Client("bob"), Client("carol")
GROUP = mls.Group.create(ALICE.identity, SUITE, b"fuzz", POLICY, NOW, ALICE.rng)
BOBS = BOB.package()
STAGED = GROUP.commit(NOW, ALICE.rng, [mls.Add(BOBS.package)])
GROUP.merge(STAGED, NOW)
RECEIVER = mls.Group.join(BOBS, BOB.identity, STAGED.welcome or b"", POLICY, NOW)
CAROLS = CAROL.package()
ADDING = GROUP.commit(NOW, ALICE.rng, [mls.Add(CAROLS.package)], mls.CommitOptions(with_tree=False))
GROUP.discard(ADDING)


def content_of_a_member(data: bytes) -> bytes:
    """A public message around any bytes, signed and tagged by Alice."""
    epoch = GROUP._epoch  # noqa: SLF001 - the attacker is a member
    body, tag = (data[1:], bytes(32)) if data[:1] == b"\0" else (data, b"")
    signed = b"\0\1\0\1" + body + epoch.context.encoded
    signature = SUITE.sign_with_label(ALICE.identity.key, b"FramedContentTBS", signed)
    auth = opaque(signature) + (opaque(tag) if tag else b"")
    membership = SUITE.mac(epoch.secrets.membership_key, signed + auth)
    return b"\0\1\0\1" + body + auth + opaque(membership)


def read_tree(data: bytes) -> None:
    """A tree as a joiner checks it."""
    reader = inner.Reader(data)
    tree = inner.RatchetTree.read(SUITE, reader)
    situation = inner.Situation.of(SUITE, b"fuzz", (), POLICY, NOW)
    inner.check_tree(situation, tree, inner.root_hash(tree))


def join(data: bytes) -> None:
    mls.Group.open_welcome(CAROLS, data)
    mls.Group.join(CAROLS, CAROL.identity, data, POLICY, NOW)


def join_by_tree(data: bytes) -> None:
    """The tree that somebody gives beside a Welcome which is good."""
    welcome = ADDING.welcome or b""
    mls.Group.join(CAROLS, CAROL.identity, welcome, POLICY, NOW, options=mls.JoinOptions(tree=data))


def join_external(data: bytes) -> None:
    mls.Group.join_external(CAROL.identity, data, POLICY, NOW, CAROL.rng)


def process(data: bytes) -> None:
    before = RECEIVER.epoch_authenticator
    RECEIVER.process(data, NOW)
    assert RECEIVER.epoch_authenticator == before
    for each in RECEIVER.pending:
        RECEIVER.drop_proposal(each.reference)


TARGETS = (
    mls.decode_message,
    process,
    lambda data: process(content_of_a_member(data)),
    join,
    join_external,
    read_tree,
    join_by_tree,
)


def one_input(data: bytes) -> None:
    """One input of the fuzzer."""
    if not data or len(data) > LIMIT:
        return
    try:
        TARGETS[data[0] % len(TARGETS)](data[1:])
    except PeerError:
        return


def seeds() -> list[bytes]:
    """Good inputs to start from."""
    proposal = GROUP.propose(mls.Remove(1), NOW, ALICE.rng, public=True)
    GROUP.drop_proposal(GROUP.pending[0].reference)
    commit = GROUP.commit(NOW, ALICE.rng, options=replace(mls.CommitOptions(), public=True))
    bodies = []
    for message in (proposal, commit.message):
        decoded = mls.decode_message(message)
        bodies.append(decoded.content.content.encoded)
    return [
        b"\0" + proposal,
        b"\1" + commit.message,
        b"\2" + bodies[0],
        b"\2\0" + bodies[1],
        b"\3" + (STAGED.welcome or b""),
        b"\4" + GROUP.group_info(),
        b"\5" + GROUP.ratchet_tree(),
        b"\6" + ADDING.ratchet_tree(),
    ]
