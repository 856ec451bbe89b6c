"""Any bytes at any entrance: PeerError or success, nothing else, and a refusal changes nothing."""

from __future__ import annotations

import random

import pytest
from fuzz.mls_targets import TARGETS, one_input, seeds
from hypothesis import given, settings
from hypothesis import strategies as st

from cloister.codec.tls import Reader, decode, opaque
from cloister.errors import PeerError, UsageError
from cloister.mls import (
    Credential,
    PreSharedKeyId,
    PublicMessage,
    Remove,
    decode_message,
    encode_message,
    suite_of,
)
from cloister.mls.ciphersuite import SUITES
from cloister.mls.framing import AuthenticatedContent
from cloister.mls.key_index import KeyIndex
from cloister.mls.key_package import KeyPackage
from cloister.mls.proposal import read_proposal_or_ref
from cloister.mls.ratchet_tree import RatchetTree
from cloister.mls.secret_tree import MAX_SKIPPED
from cloister.mls.store import Overview
from support.mls import NOW, Client, group_of
from support.mls_evil import deliver

SEEDS = seeds()


def mutated(rng: random.Random, data: bytes) -> bytes:
    """A few bytes changed, removed, doubled or inserted."""
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(1, len(changed))
        kind = rng.randrange(4)
        if kind == 0:
            changed[at] = rng.randrange(256)
        elif kind == 1:
            del changed[at : at + rng.randrange(1, 9)]
        elif kind == 2:
            changed[at:at] = changed[at : at + rng.randrange(1, 40)]
        else:
            changed[at:at] = rng.randbytes(rng.randrange(1, 9))
        if len(changed) < 2:
            return data[:2]
    return bytes(changed)


def test_the_seeds_reach_every_entrance() -> None:
    assert {seed[0] % len(TARGETS) for seed in SEEDS} == set(range(len(TARGETS)))
    for seed in SEEDS:
        one_input(seed)


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_mutations_of_good_messages(rng: random.Random) -> None:
    for seed in SEEDS:
        one_input(mutated(rng, seed))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes(data: bytes) -> None:
    one_input(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\3",
        b"\1\x0a\x0a",
    ],
)
def test_what_is_neither_a_proposal_nor_a_reference(data: bytes) -> None:
    with pytest.raises(PeerError):
        decode(read_proposal_or_ref, data)


def test_unknown_kinds_of_keys_suites_and_messages() -> None:
    with pytest.raises(PeerError) as caught:
        decode(PreSharedKeyId.read, b"\7\0\0")
    assert caught.value.check == "MLS-V003"
    with pytest.raises(PeerError, match="unsupported"):
        suite_of(0x7777)
    package = encode_message(Client("a").package().package)
    with pytest.raises(PeerError) as caught:
        decode_message(package[:4] + b"\0\2" + package[6:])
    assert caught.value.check == "MLS-V002"
    assert repr(SUITES[1]).startswith("<CipherSuite 0x0001")


def test_a_group_context_of_another_version_is_refused() -> None:
    a, _ = group_of("a", "b")
    info = a.group.group_info()
    with pytest.raises(PeerError) as caught:
        decode_message(info[:4] + b"\0\2" + info[6:])
    assert caught.value.check == "MLS-V002"


def test_a_generation_is_not_found_twice_even_when_the_tree_is_spent() -> None:
    a, b = group_of("a", "b")
    deliver(b, a.group.protect(b"x", a.rng))
    secrets = b.group._state.live.secrets
    secrets.ratchets.clear()
    secrets.nodes.clear()
    with pytest.raises(PeerError) as caught:
        secrets.find(0, 1, 0)
    assert caught.value.check == "MLS-V022"


def test_keys_of_skipped_messages_are_bounded() -> None:
    a, b = group_of("a", "b")
    messages = [a.group.protect(b"%d" % step, a.rng) for step in range(2 * MAX_SKIPPED)]
    deliver(b, messages[MAX_SKIPPED - 1])
    deliver(b, messages[-1])
    kept = b.group._state.live.secrets.keys[0, 1]
    assert len(kept) == MAX_SKIPPED
    assert min(kept) == MAX_SKIPPED - 2
    with pytest.raises(PeerError) as caught:
        b.group.process(messages[0], NOW)
    assert caught.value.check == "MLS-V022"
    assert deliver(b, messages[MAX_SKIPPED]).data == b"%d" % MAX_SKIPPED


def test_ones_own_commit_in_a_lost_state_is_refused() -> None:
    a, _ = group_of("a", "b")
    from support.mls_evil import commit_of

    staged = commit_of(a)
    with pytest.raises(PeerError) as caught:
        a.group.process(staged.message, NOW)
    assert caught.value.check == "MLS-V024"


def test_an_update_whose_private_key_is_lost_cannot_be_taken() -> None:
    a, b = group_of("a", "b")
    deliver(a, b.group.propose_update(NOW, b.rng))
    b.group._state.updates.clear()
    staged = a.group.commit(NOW, a.rng)
    with pytest.raises(PeerError) as caught:
        b.group.process(staged.message, NOW)
    assert caught.value.check == "MLS-V095"


def test_a_path_secret_of_another_size_is_refused() -> None:
    from cloister.mls import treekem
    from support.mls_evil import commit_of

    a, b = group_of("a", "b")
    seal = a.suite.encrypt_with_label
    make = treekem.seal_path

    def short(tree: RatchetTree, *args: object) -> object:
        new = args[1]
        object.__setattr__(new, "path_secrets", tuple(each[:16] for each in new.path_secrets))
        return make(tree, *args)

    treekem.seal_path = short
    try:
        staged = commit_of(a)
    finally:
        treekem.seal_path = make
    with pytest.raises(PeerError) as caught:
        b.group.process(staged.message, NOW)
    assert caught.value.check == "MLS-V095"
    assert seal == a.suite.encrypt_with_label


def test_structures_compare_hash_and_print_by_their_bytes() -> None:
    a, b = group_of("a", "b")
    leaf = a.group.members()[0][1]
    again = a.group.members()[0][1]
    assert (leaf, hash(leaf)) == (again, hash(again))
    assert leaf != a.group.members()[1][1]
    assert leaf != b""
    assert "Credential" in repr(leaf)
    package = a.package().package
    copy = decode(KeyPackage.read, package.encoded)
    assert (package, hash(package)) == (copy, hash(copy))
    assert package != b""
    assert b.group.members()


def test_a_key_index_folds_its_differences() -> None:
    index = KeyIndex(frozenset(b"%d" % step for step in range(10)))
    for step in range(5, 200):
        index.add(b"%d" % step)
    for step in range(0, 20):
        index.discard(b"%d" % step)
    folded = index.copy()
    index.add(b"0")
    assert b"0" in index
    assert b"0" not in folded
    assert all((b"%d" % step in folded) == (step >= 20) for step in range(200))


def test_content_may_be_written_and_read_with_its_wire_format() -> None:
    a, b = group_of("a", "b")
    message = decode_message(a.group.propose(Remove(1), NOW, a.rng, public=True))
    assert isinstance(message, PublicMessage)
    from cloister.codec.tls import encode

    assert decode(AuthenticatedContent.read, encode(message.content)) == message.content
    assert encode(b.group._epoch.context) == b.group._epoch.context.encoded


def test_certificates_of_a_credential_are_read_in_order() -> None:
    from cloister.codec.tls import encode

    credential = Credential.x509((b"leaf", b"issuer"))
    assert decode(Credential.read, encode(credential)) == credential


def test_a_blank_node_has_no_key() -> None:
    a, _, _ = group_of("a", "b", "c")
    tree = a.group._epoch.tree
    blank = next(node for node, each in enumerate(tree.nodes) if each is None)
    with pytest.raises(LookupError):
        tree.public_key(blank)
    with pytest.raises(PeerError):
        Overview.decode(b"\1\0")
    with pytest.raises(UsageError):
        suite_of(1).hpke_private(b"")
    assert Reader(opaque(b"x")).opaque() == b"x"
