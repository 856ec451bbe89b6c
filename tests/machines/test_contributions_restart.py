"""Suites `nonces`, `shares`: restarts at every step, crashes around the transaction, and no (key, nonce) twice."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from cloister.errors import CloisterError, UnavailableError, UsageError
from cloister.primitives.aead import Aead, aes_ctr
from cloister.protocols import record as records
from cloister.protocols.interface import Add, Effects, Rekey, Remove, State
from cloister.protocols.ratchet import MessageKey
from cloister.protocols.record import CtrHmac
from cloister.protocols.rounds.agreement import Phase
from support.insider import SUITES
from support.suite_net import MINUTE, POLICY, ROOM, Net, Node, agreed, assembly, dump

both = pytest.mark.parametrize("suite", SUITES)


def _restarting(net: Net) -> None:
    """Everything there is, with every device restarted before each of its steps."""
    while True:
        able = [node for node in net.nodes if node.pending() or node.due()]
        if not able:
            return
        node = able[0]
        node.restart()
        node.step()


@both
def test_a_restart_before_every_step_changes_nothing(suite: str) -> None:
    net, nodes = assembly(SUITES[suite], 3, "every step")
    _restarting(net)
    assert len({node.live.view.key_check for node in nodes}) == 1
    nodes[2].change(Rekey())
    _restarting(net)
    nodes[1].say(b"after restarts")
    new = net.node(SUITES[suite], "d", 3)
    nodes[0].change(Remove(nodes[2].name), Add(new.name))
    _restarting(net)
    assert {node.live.view.epoch for node in (nodes[0], nodes[1], new)} == {3}
    assert nodes[2].live.view.state is State.REMOVED
    assert [d.content for d in nodes[0].delivered] == [b"after restarts"]
    assert all(not node.faults for node in nodes[:2])


@pytest.mark.parametrize("phase", list(Phase))
@both
def test_a_session_is_the_same_after_a_restart_in_every_phase(suite: str, phase: Phase) -> None:
    _, nodes = assembly(SUITES[suite], 3, "phases")
    seen = False
    while any(node.step() for node in nodes):
        for node in nodes:
            if node.session is not None and phase.value.encode() in b"".join(node.items.values()):
                copy = SUITES[suite].restore(node.me, node.items)
                assert dump(copy) == node.items == dump(node.live)
                assert copy.view == node.live.view
                seen = True
    assert seen


# --- crashes, and what was sealed ---


@dataclass
class Sealed:
    """Every (key, nonce) that sealed something which left its device."""

    uses: list[tuple[bytes, bytes]] = field(default_factory=list)

    def since(self, mark: int) -> None:
        """What was sealed after `mark` never left: its device died before the transaction."""
        del self.uses[mark:]

    def twice(self) -> list[tuple[bytes, bytes]]:
        return [use for use, count in Counter(self.uses).items() if count > 1]


@pytest.fixture
def sealed(monkeypatch: pytest.MonkeyPatch) -> Sealed:
    """Aead and the sealing of records, writing down what they are used for."""
    record = Sealed()
    made = Aead.aes_gcm.__func__  # type: ignore[attr-defined]

    class Recording(Aead):
        __slots__ = ("_secret",)
        _secret: bytes

        def seal(self, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
            record.uses.append((self._secret, nonce))
            return super().seal(nonce, plaintext, aad)

    def aes_gcm(cls: type[Aead], key: bytes) -> Aead:
        aead: Recording = made(Recording, key)
        aead._secret = key
        return aead

    def ctr(key: bytes, block: bytes, data: bytes) -> bytes:
        record.uses.append((key, block))
        return aes_ctr(key, block, data)

    def seal(self: CtrHmac, key: MessageKey, seq: int, plaintext: bytes, ad: bytes) -> tuple[bytes, bytes]:
        with monkeypatch.context() as patch:
            patch.setattr(records, "aes_ctr", ctr)
            return sealing(self, key, seq, plaintext, ad)

    sealing = CtrHmac.seal
    monkeypatch.setattr(CtrHmac, "seal", seal)
    monkeypatch.setattr(Aead, "aes_gcm", classmethod(aes_gcm))
    return record


class Mortal(Node):
    """A device that may die at each call: before its transaction, or after it and before it sends."""

    dice: random.Random
    record: Sealed
    outbox: list[Effects]
    mark: int

    def apply(self, effects: Effects) -> Effects:
        fate = self.dice.random()
        if fate < 0.15:
            raise _DiedError
        stored = tuple(e for e in effects if type(e).__name__ in ("Put", "Drop"))
        sent = tuple(e for e in effects if e not in stored)
        super().apply(stored)
        self.mark = len(self.record.uses)
        self.outbox.append(sent)
        if fate < 0.3:
            raise _DiedError
        self.flush()
        return effects

    def flush(self) -> None:
        while self.outbox:
            super().apply(self.outbox.pop(0))
        self.mark = len(self.record.uses)


class _DiedError(Exception):
    """kill -9."""


def _alive(node: Mortal) -> None:
    """Start again: state from the items, the outbox sent, the wake called; it may die in that, too."""
    while True:
        try:
            node.record.since(node.mark)
            node.flush()
            if node.items:
                node.session = node.suite.restore(node.me, dict(node.items))
                node.wake()
            else:
                node.session = None
        except _DiedError:
            continue
        return


def _step(node: Mortal) -> None:
    found = node.pending()
    node.mark = len(node.record.uses)
    try:
        if found:
            node.give(found[0])
            node.taken(found[0])
        else:
            node.wake()
    except _DiedError:
        stored = bool(node.outbox)
        _alive(node)
        if found and stored:
            node.taken(found[0])


def _mortals(suite: str, sealed: Sealed, seed: int) -> tuple[Net, list[Mortal]]:
    net = Net(seed=("mortal", seed))
    plain = [net.node(SUITES[suite], user, index) for index, user in enumerate("abc")]
    nodes = []
    for node in plain:
        mortal = Mortal(net=net, suite=SUITES[suite], me=node.me, rng=node.rng)
        mortal.dice, mortal.record, mortal.outbox, mortal.mark = random.Random(repr((seed, node.name))), sealed, [], 0
        nodes.append(mortal)
    net.nodes = list(nodes)
    return net, nodes


def _asked(node: Mortal, call: object) -> None:
    """A call of a person, repeated when the device died before it was stored."""
    while True:
        node.mark = len(node.record.uses)
        try:
            call()  # type: ignore[operator]
        except _DiedError:
            stored = bool(node.outbox)
            _alive(node)
            if not stored:
                continue
        return


def _run(net: Net, nodes: list[Mortal]) -> None:
    while True:
        able = [node for node in nodes if node.pending() or node.due()]
        if not able:
            return
        _step(able[0])


@pytest.mark.parametrize("seed", range(8))
@both
def test_no_key_and_nonce_twice_over_crashes(suite: str, sealed: Sealed, seed: int) -> None:

    net, nodes = _mortals(suite, sealed, seed)
    a, b, c = nodes
    _asked(a, lambda: a.create(ROOM, POLICY))
    _asked(a, lambda: a.change(Add(b.name), Add(c.name)))
    _run(net, nodes)
    for round_ in range(6):
        for node in nodes:
            content = f"{round_} {node.name}".encode()
            _asked(node, lambda node=node, content=content: node.say(content))  # type: ignore[misc]
        if round_ == 2:
            _asked(b, lambda: b.change(Rekey()))
        _run(net, nodes)
    net.pass_time(MINUTE)
    _run(net, nodes)
    assert {node.live.view.epoch for node in nodes} == {2}
    assert sealed.twice() == []
    assert len(sealed.uses) > 60
    for node in nodes:
        texts = [d.content for d in node.delivered]
        assert len(texts) == len(set(texts)) == 12
        assert not [fault for fault in node.faults if fault.code != "stale_epoch"]


@both
def test_a_clone_that_writes_is_noticed(suite: str) -> None:
    """Two copies of one device: what the one seals, the other's owner sees as a copy's; its peers see a replay."""
    net, nodes = agreed(SUITES[suite], 2, "clone")
    a, b = nodes
    twin = SUITES[suite].restore(a.me, dict(a.items))
    a.say(b"from the one")
    effects = twin.seal(b"from the other", bytes(16), None, net.now, a.rng)
    twin_node = Node(net=net, suite=SUITES[suite], me=a.me, rng=a.rng, session=twin, token=a.token)
    twin_node.apply(effects)
    net.settle()
    assert [d.content for d in b.delivered] == [b"from the one"]
    assert [fault.code for fault in b.faults] == ["replay"]


@both
def test_damaged_items_are_said_to_be_damaged(suite: str) -> None:
    _, nodes = agreed(SUITES[suite], 2, "damaged")
    items = dict(nodes[0].items)
    for key in items:
        if key in (b"id", b"room"):
            continue
        with pytest.raises(UnavailableError) as error:
            SUITES[suite].restore(nodes[0].me, {**items, key: b"\xff"})
        assert error.value.code == "damaged"
    with pytest.raises(UnavailableError):
        SUITES[suite].restore(nodes[0].me, {**items, b"stranger/1": b""})
    with pytest.raises(CloisterError):
        SUITES[suite].restore(nodes[0].me, {**items, b"room": b"\xff"})
    with pytest.raises(UsageError):
        SUITES[suite].restore(nodes[0].me, {})
