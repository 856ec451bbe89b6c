"""Document 000 without its fixes: what the attacks of `lab.attacks.nonces` do not say of it."""

from __future__ import annotations

import pytest

from cloister.errors import PeerError
from cloister.lab.attacks.nonces import read_what_was_said
from cloister.lab.originals.nonces import (
    BareHash,
    Document,
    FewAnswers,
    InClear,
    KeyAtRest,
    NoCommitment,
    NoConfirm,
    NoWrap,
    PlusOne,
)
from cloister.protocols.contributions import steps as steps_of
from cloister.protocols.interface import State
from cloister.protocols.nonces.steps import Steps
from cloister.protocols.nonces.suite import Nonces
from cloister.protocols.ratchet import RecvChain, next_key
from support.suite_net import MINUTE, agreed, assembly


def test_f14_a_bare_hash_gives_one_key_in_two_contexts() -> None:
    nonces = (bytes([1]) * 32, bytes([2]) * 32)
    assert BareHash().combine(b"one room", nonces) == BareHash().combine(b"another room", nonces)
    assert Steps().combine(b"one room", nonces) != Steps().combine(b"another room", nonces)
    short = (b"ab", b"c"), (b"a", b"bc")
    assert BareHash().combine(b"", short[0]) == BareHash().combine(b"", short[1])
    with pytest.raises(PeerError):
        steps_of.check_opening(Steps(), bytes(32), 0, bytes(63), bytes(32))


def test_f18_a_key_at_rest_reads_what_was_said_before_and_the_suites_store_does_not() -> None:
    assert read_what_was_said(Nonces(KeyAtRest())) is True
    assert read_what_was_said(Nonces()) is False


def test_a_thief_of_the_suites_store_cannot_go_back_along_a_chain() -> None:
    """K4: the stored chain key is the next one; the one that opened the message before is not among its descendants."""
    net, nodes = agreed(Nonces(), 2, "K4")
    nodes[0].say(b"one")
    before = dict(nodes[1].items)
    net.settle()
    after = dict(nodes[1].items)
    (key,) = [key for key in after if key.startswith(b"recv/")]

    old, new = RecvChain.decode(before[key]), RecvChain.decode(after[key])
    assert new.seq == old.seq + 1
    assert new.key == next_key(old.key)
    assert all(old.key not in value for value in after.values())


def test_the_document_as_a_whole_agrees_and_talks() -> None:
    net, nodes = agreed(Nonces(Document()), 3, "document")
    assert {node.live.view.state for node in nodes} == {State.READY}
    nodes[0].say(b"as published")
    net.settle()
    assert nodes[2].delivered[0].content == b"as published"


@pytest.mark.parametrize(
    "original", [InClear, PlusOne, FewAnswers, BareHash, NoCommitment, NoConfirm, NoWrap, KeyAtRest, Document]
)
def test_nobody_is_talked_into_an_original(original: type[Steps]) -> None:
    net, nodes = assembly(Nonces(original()), 3, original.__name__)
    for node in nodes[1:]:
        node.suite = Nonces()
    net.settle()
    assert {fault.code for node in nodes[1:] for fault in node.faults} == {"not_allowed"}
    net.pass_time(10 * MINUTE)
    net.settle()
    assert nodes[0].live.view.missing == tuple(node.name for node in nodes[1:])
