"""Suites `nonces`, `shares`: whatever the order in which a member reads a run's entries, all agree on the same key."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, replace
from functools import cache

import pytest

from cloister.primitives.rsa import RsaSigningKey
from cloister.protocols.interface import Channel, ChannelKind, Envelope, EpochChanged, Post, State
from support.insider import SUITES
from support.suite_net import POLICY, ROOM, Net, Node, agreed, assembly, seeded

both = pytest.mark.parametrize("suite", SUITES)


@dataclass(frozen=True)
class Made:
    """A whole run's entries, made once, and the last member as it was when it had said its own hello."""

    receiver: Node
    items: dict[bytes, bytes]
    others: tuple[Envelope, ...]
    hello: Envelope
    key_check: str
    commit: Envelope


class QuickSign(RsaSigningKey):
    """Signs nothing: what the copies of the receiver say is read by nobody."""

    __slots__ = ()

    def sign(self, message: bytes) -> bytes:
        return bytes(384)


@cache
def made(suite: str, n: int) -> Made:
    net, nodes = assembly(SUITES[suite], n)
    receiver = nodes[-1]
    receiver.silent = lambda envelope: envelope.channel.kind is ChannelKind.RUN
    receiver.step()
    items = dict(receiver.items)
    (run_id,) = net.runs
    own = {post.entry_id for effects in receiver.effects for post in effects if isinstance(post, Post)}
    receiver.silent = None
    net.settle()
    own |= {post.entry_id for effects in receiver.effects for post in effects if isinstance(post, Post)}
    entries = net.runs[run_id].entries
    mine = [entry for entry in entries if entry.entry_id in own]
    others = tuple(entry for entry in entries if entry.entry_id not in own)
    assert len(others) == 3 * (n - 1)
    commit = net.rooms[ROOM].entries[0]
    return Made(receiver, items, others, mine[0], nodes[0].live.view.key_check, commit)


def read(case: Made, order: list[Envelope], seed: object) -> str:
    """A copy of the receiver reads the others' entries in this order and its own as it makes them; its key check.

    The copy's own messages are new ones with the old nonce, so the others' confirms hold.
    """
    keys = case.receiver.me.keys
    assert keys.rsa_sign is not None
    me = replace(case.receiver.me, keys=replace(keys, rsa_sign=QuickSign(keys.rsa_sign._key)))
    session = case.receiver.suite.restore(me, case.items)
    rng = seeded(seed)
    now = case.receiver.net.now
    waiting = [case.hello, *order]
    seq = len(order)
    run_id = case.hello.channel.id
    pending: list[EpochChanged] = []
    while waiting:
        for effect in session.receive(waiting.pop(0), now, rng):
            if isinstance(effect, Post):
                seq += 1
                echo = replace(case.hello, payload=effect.payload, entry_id=effect.entry_id, seq=seq, hash=bytes(32))
                waiting.insert(0, replace(echo, channel=Channel(ChannelKind.RUN, run_id)))
            if isinstance(effect, EpochChanged) and effect.access_token is not None:
                pending.append(effect)
    assert len(pending) == 1, "the key is not agreed"
    assert session.view.missing == ()
    return session.export("order", b"", 16, pending=True).hex()


def expected(case: Made) -> str:
    return case.receiver.live.export("order", b"", 16).hex()


@pytest.mark.parametrize(
    ("suite", "first"),
    [
        *(("nonces", first) for first in range(6)),
        ("shares", 0),
        *(pytest.param("shares", first, marks=pytest.mark.slow) for first in range(1, 6)),
    ],
)
def test_n3_all_orders_of_the_six_messages_of_the_others(suite: str, first: int) -> None:
    case = made(suite, 3)
    orders = [order for order in itertools.permutations(case.others) if order[0] is case.others[first]]
    assert len(orders) == 120
    for number, order in enumerate(orders):
        assert read(case, list(order), number) == expected(case)


@pytest.mark.parametrize(
    ("suite", "n"),
    [
        ("nonces", 4),
        pytest.param("shares", 4, marks=pytest.mark.slow),
        *(pytest.param(suite, n, marks=pytest.mark.slow) for suite in SUITES for n in (8, 16, 32)),
    ],
)
def test_200_seeded_orders_to_one_receiver(suite: str, n: int) -> None:
    case = made(suite, n)
    for seed in range(200):
        order = list(case.others)
        random.Random(seed).shuffle(order)
        assert read(case, order, seed) == expected(case)


def _agree(suite: str, n: int, seed: object) -> None:
    net, nodes = assembly(SUITES[suite], n, seed)
    net.mix(random.Random(repr(seed)))
    _all_agree(net, nodes)


def _all_agree(net: Net, nodes: list[Node]) -> None:
    views = [node.live.view for node in nodes]
    assert {view.state for view in views} == {State.READY}
    assert len({view.key_check for view in views}) == 1
    assert len({node.live.export("x", b"", 32) for node in nodes}) == 1
    assert [node.faults for node in nodes] == [[] for _ in nodes]
    assert net.refused == []


@pytest.mark.parametrize(
    ("suite", "n"),
    [*(("nonces", n) for n in (2, 3, 5, 8)), *(("shares", n) for n in (2, 5))],
)
def test_all_receiving_in_drawn_turns_agree(suite: str, n: int) -> None:
    for seed in range(5 if n < 8 else 2):
        _agree(suite, n, seed)


@pytest.mark.slow
@both
def test_all_receiving_20_runs_of_8_members_agree(suite: str) -> None:
    for seed in range(20):
        _agree(suite, 8, ("slow", seed))


@pytest.mark.slow
@both
@pytest.mark.parametrize(("n", "runs"), [(16, 3), (32, 1)])
def test_all_receiving_many_members_agree(suite: str, n: int, runs: int) -> None:
    for seed in range(runs):
        _agree(suite, n, seed)


@both
def test_every_member_reads_every_other(suite: str) -> None:
    net, nodes = agreed(SUITES[suite], 3, "talk")
    for node in nodes:
        node.say(f"from {node.name}".encode())
    net.settle()
    for node in nodes:
        assert {d.sender for d in node.delivered} == {other.name for other in nodes if other is not node}
        assert all(d.content == f"from {d.sender}".encode() for d in node.delivered)


@both
def test_33_members_are_refused(suite: str) -> None:
    from cloister.errors import UsageError
    from cloister.protocols.interface import Add

    net = Net()
    node = net.node(SUITES[suite], "a", 0)

    node.create(ROOM, POLICY)
    with pytest.raises(UsageError) as error:
        node.change(*(Add(net.directory.enrol(f"u{i:02}", 0)) for i in range(32)))
    assert error.value.code == "quota"
    node.session = None
    node.create(bytes(16), POLICY)
    node.change(*(Add(f"cloister://home/u/u{i:02}/d/phone") for i in range(31)))
    assert len(node.live.view.roster) == 32
