"""Suite `pair` in every order: agreeing, glare, rekeys, restarts at each step, a day's passing, restored copies."""

from __future__ import annotations

import random

import pytest

from cloister.errors import PeerError
from cloister.protocols.interface import READ_ONLY_ITEM, Add, Leave, NotReady, Rekey, SetPolicy, State
from cloister.protocols.pair.items import EPOCH
from cloister.protocols.pair.session import DAY, LATER
from cloister.protocols.pair.steps import STORED
from cloister.protocols.pair.suite import Pair
from cloister.testing.sessions import POLICY, ROOM, Net, Node, agreed

SUITE = Pair()


def two(seed: object, prekeys: int = 0) -> tuple[Net, Node, Node]:
    net = Net(seed=seed)
    a, b = net.node(SUITE, "a", 0), net.node(SUITE, "b", 1)
    if prekeys:
        b.publish_prekeys(prekeys)
    a.create(ROOM, POLICY)
    a.change(Add(b.name))
    return net, a, b


def alike(a: Node, b: Node) -> None:
    """Both stand in the same session."""
    assert a.live.view.state is b.live.view.state is State.READY
    assert a.live.view.epoch == b.live.view.epoch
    assert a.live.view.key_check == b.live.view.key_check
    assert a.live.export("x", b"", 32) == b.live.export("x", b"", 32)
    assert a.faults == b.faults == []


@pytest.mark.parametrize("seed", range(20))
def test_in_any_order_both_agree_talk_and_rekey_at_once(seed: int) -> None:
    dice = random.Random(seed)
    net, a, b = two(seed, prekeys=seed % 2)
    net.mix(dice)
    alike(a, b)
    said: list[tuple[Node, bytes]] = []
    for number in range(6):
        node = dice.choice([a, b])
        if dice.random() < 0.5:
            for each in dice.sample([a, b], 2):
                if not each.live.view.pending_changes:
                    each.change(Rekey())
        try:
            text = b"%d" % number
            node.say(text)
        except NotReady:
            continue
        said.append((node, text))
        net.mix(dice)
        if dice.random() < 0.3:
            dice.choice([a, b]).restart()
    net.mix(dice)
    alike(a, b)
    assert a.live.view.epoch >= 1


@pytest.mark.parametrize("prekeys", [0, 1])
def test_a_restart_at_each_step_loses_nothing(prekeys: int) -> None:
    net, a, b = two("restarts", prekeys)
    steps = 0
    while any(node.step() for node in (a, b)):
        steps += 1
        assert steps < 50
        a.restart()
        b.restart()
    alike(a, b)
    a.say(b"x")
    b.restart()
    net.settle()
    assert [each.content for each in b.delivered] == [b"x"]


def test_glare_ends_in_one_session() -> None:
    for seed in range(10):
        net, (a, b) = agreed(SUITE, 2, seed)
        a.change(Rekey())
        b.change(Rekey())
        net.settle()
        alike(a, b)
        assert a.live.view.epoch == 2
        assert a.live.view.pending_changes == b.live.view.pending_changes == ()


def test_a_day_brings_a_new_session_and_the_requester_asks_first() -> None:
    net, (a, b) = agreed(SUITE, 2)
    net.pass_time(DAY - 1)
    net.settle()
    assert a.live.view.epoch == 1
    net.pass_time(1)
    assert a.due()
    assert not b.due()
    net.settle()
    alike(a, b)
    assert a.live.view.epoch == 2
    a.silent = b.silent = lambda _: True
    net.pass_time(DAY + LATER)
    net.settle()
    a.silent = b.silent = None
    net.settle()
    alike(a, b)
    assert a.live.view.epoch == 3


def test_a_million_messages_bring_a_new_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloister.protocols.pair.session.MESSAGES_MOST", 4)
    net, (a, b) = agreed(SUITE, 2)
    for number in range(4):
        (a, b)[number % 2].say(b"x")
        net.settle()
    assert a.live.view.epoch == b.live.view.epoch == 2


def test_an_unanswered_request_is_made_again_after_a_week() -> None:
    net, a, b = two("week")
    b.silent = lambda _: True
    net.settle()
    (first,) = net.mail[b.name]
    net.pass_time(STORED)
    net.settle()
    assert [fault.code for fault in a.faults] == ["timeout"]
    net.pass_time(1)
    b.silent = None
    net.settle()
    assert [fault.code for fault in b.faults] == ["stale_timestamp"]
    assert a.live.view.state is b.live.view.state is State.READY
    assert first not in net.mail[b.name]


def test_a_new_title_is_for_both() -> None:
    net, (a, b) = agreed(SUITE, 2)
    a.change(SetPolicy(policy=POLICY.__class__(title="new", owners=("a",))))
    net.settle()
    assert a.live.view.policy.title == b.live.view.policy.title == "new"


@pytest.mark.parametrize("prekeys", [0, 1])
def test_who_declines_ends_it_for_both(prekeys: int) -> None:
    net, a, b = two("declined", prekeys)
    b.accepts = False
    net.settle()
    assert a.live.view.state is b.live.view.state is State.REMOVED
    assert [fault.code for fault in a.faults] == ["declined"]
    assert b.faults == []
    for node in (a, b):
        assert not {key.partition(b"/")[0] for key in node.items} - {b"id", b"room", b"seen"}


def test_nobody_answers_for_who_is_away() -> None:
    net, a, b = two("away")
    b.accepts = None
    net.settle()
    b.restart()
    assert (a.live.view.state, b.live.view.state) == (State.PENDING, State.PENDING)
    assert b.live.view.missing == (b.name,)
    b.decide(accept=True)
    net.settle()
    alike(a, b)


def test_who_was_never_answered_may_give_up() -> None:
    net, a, b = two("given up")
    a.change(Leave())
    assert a.live.view.state is State.REMOVED
    net.settle()
    assert b.live.view.state is State.PENDING


def test_the_end_wins_over_the_others_new_session() -> None:
    net, (a, b) = agreed(SUITE, 2)
    a.change(Rekey())
    net.settle([b])
    response = net.mail[a.name][0]
    a.taken(response)
    a.give(response)  # the commit stands before b's end comes
    b.change(Leave())
    (ended,) = [effect for _, effect in net.refused]
    assert b.live.view.state is State.FROZEN
    with pytest.raises(NotReady):
        b.change(Rekey())
    b.apply(b.live.answer("commit-refused", ended.entry_id, net.now, net.rng))  # type: ignore[attr-defined]
    assert b.live.view.state is State.READY
    b.change(Leave())
    net.settle()
    assert a.live.view.state is b.live.view.state is State.REMOVED or b.live.view.epoch == 2


def test_a_restored_copy_reads_and_seals_nothing_until_a_new_session() -> None:
    net, (a, b) = agreed(SUITE, 2)
    b.items[READ_ONLY_ITEM] = b""
    b.restart()
    assert b.live.view.state is State.READ_ONLY
    with pytest.raises(NotReady):
        b.say(b"two-time pad")
    a.say(b"readable")
    net.settle()
    assert [each.content for each in b.delivered] == [b"readable"]
    b.change(Rekey())
    net.settle()
    alike(a, b)
    b.say(b"again")


def test_the_peer_that_does_not_count_any_more_gets_nothing() -> None:
    net, (a, b) = agreed(SUITE, 2)
    net.directory.refuse(b.name, "revoked")
    with pytest.raises(NotReady) as error:
        a.say(b"x")
    assert error.value.missing == (b.name,)
    net.pass_time(DAY)
    net.settle([a])
    assert [fault.code for fault in a.faults] == ["revoked"]


def test_a_damaged_store_is_noticed() -> None:
    _, (a, _b) = agreed(SUITE, 2)
    for key in (b"epoch", b"send", b"room"):
        with pytest.raises(Exception, match="damaged"):
            SUITE.restore(a.me, {**a.items, key: b"\xff"})
    with pytest.raises(Exception, match="no_room"):
        SUITE.restore(a.me, {})
    assert EPOCH.decode(a.items[b"epoch"]).number == 1


def test_only_a_request_leads_into_a_room() -> None:
    net, a, b = two("join")
    (item,) = net.mail[b.name]
    with pytest.raises(PeerError, match="no_session"):
        SUITE.join(
            b.me, item.__class__(channel=item.channel, kind="chat_confirm", payload=item.payload), None, 0, net.rng
        )
    assert a.live.view.state is State.PENDING
