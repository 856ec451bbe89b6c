"""Suite `code` as a machine: any order, a restart at any step, both at once, and what follows from the items alone."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from cloister.protocols.code.items import CREATOR, EPOCH, JOINER, PAIRING, SEND, Phase
from cloister.protocols.code.pairing import TRANSITIONS
from cloister.protocols.code.steps import Committed, Finished, Opened, Public
from cloister.protocols.code.suite import Code
from cloister.protocols.interface import ChannelKind, Leave, NotReady, Rekey, State
from cloister.testing.pairs import CODE, created, joined, met, ready, word
from cloister.testing.sessions import Net, Node
from support.need import REPOSITORY

ID = CODE[:6]


def same(*nodes: Node) -> None:
    """Both hold one key, in one epoch, ready."""
    views = [node.live.view for node in nodes]
    assert {view.state for view in views} == {State.READY}, views
    assert len({(view.epoch, view.key_check, view.room) for view in views}) == 1
    assert not [fault for node in nodes for fault in node.faults]


def test_the_table_of_states_is_the_mapping() -> None:
    page = (REPOSITORY / "docs" / "spec" / "classic" / "code.md").read_text()
    rows = {
        row[0].strip(): [cell.strip() for cell in row[2:]]
        for row in (line.strip("|").split("|") for line in page.splitlines() if line.startswith("| EXPECT_"))
    }
    assert set(rows) == {phase.name for phase in Phase}
    kinds = (Committed, Public, Opened, Finished)
    for phase in Phase:
        listed = [bool(cell) for cell in rows[phase.name]]
        assert listed == [(phase, kind) in TRANSITIONS for kind in kinds], phase


def test_the_members_are_roles_and_nobody_has_a_name() -> None:
    _net, (creator, joiner) = ready(Code())
    assert creator.live.view.roster == joiner.live.view.roster == (CREATOR, JOINER)
    assert creator.live.view.policy.owners == ()
    assert Code().caps.identity == "none"
    assert Code().prekeys(creator.me, 5, 0, creator.rng) == ()


@pytest.mark.parametrize("made", [CODE, ID])
def test_a_restart_at_every_step_changes_nothing(made: str) -> None:
    net, (creator, joiner) = met(Code(), made=made)
    for _ in range(60):
        for node in (creator, joiner):
            node.restart()
            node.step()
    if made == ID:
        for node in (creator, joiner):
            node.restart()
            node.apply(node.live.answer("sas", b"\x01", net.now, node.rng))
            node.restart()
        net.settle()
    same(creator, joiner)
    creator.say(b"over restarts")
    net.settle()
    assert joiner.delivered[-1].content == b"over restarts"


@pytest.mark.parametrize("seed", range(6))
def test_texts_in_any_order_arrive_once_each(seed: int) -> None:
    net, nodes = ready(Code(), seed=seed)
    dice = random.Random(seed)
    texts: dict[str, list[bytes]] = {node.name: [] for node in nodes}
    for number in range(30):
        node = dice.choice(nodes)
        text = b"%d" % number
        texts[node.name].append(text)
        node.say(text)
        if dice.random() < 0.3:
            net.mix(dice, nodes)
    room = net.rooms[nodes[0].live.view.room]
    for node, other in (nodes, nodes[::-1]):
        pending = [entry for entry in room.entries if entry.seq not in node.read.get(room.id, set())]
        dice.shuffle(pending)
        for entry in pending:  # the log is ordered; a session would bear any order within the window
            node.taken(entry)
            node.give(entry)
        assert sorted(deliver.content for deliver in node.delivered) == sorted(texts[other.name])
        assert all(deliver.sender == (JOINER if node is nodes[0] else CREATOR) for deliver in node.delivered)
        assert not node.faults


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("both", [False, True])
def test_either_may_meet_again_and_both_at_once(first: int, both: bool) -> None:
    net, nodes = ready(Code(), seed=(first, both))
    before = nodes[0].live.view.key_check
    nodes[first].change(Rekey())
    if both:
        nodes[1 - first].change(Rekey())
    net.settle()
    same(*nodes)
    assert (nodes[0].live.view.epoch, nodes[0].live.view.key_check != before) == (2, True)
    for node in nodes:
        node.say(b"again")
    net.settle()
    assert [node.delivered[-1].content for node in nodes] == [b"again", b"again"]


def test_meeting_again_goes_on_where_an_opener_was_lost() -> None:
    net, (creator, joiner) = ready(Code())
    creator.change(Rekey())
    creator.silent = joiner.silent = lambda envelope: True
    del creator.items[PAIRING.key(b"")]  # its memory of the run is gone
    creator.restart()
    creator.silent = joiner.silent = None
    net.settle()
    assert creator.live.view.epoch == 1
    creator.change(Rekey())
    net.settle()
    same(creator, joiner)
    assert creator.live.view.epoch == 2


def test_the_joiner_meets_again_where_the_creators_run_has_stood_a_minute() -> None:
    net, (creator, joiner) = ready(Code())
    creator.change(Rekey())
    joiner.silent = lambda envelope: envelope.kind == "handshake"
    net.settle()
    net.now += 61_000
    joiner.silent = None
    joiner.change(Rekey())
    net.settle()
    same(creator, joiner)
    assert creator.live.view.epoch == 2


def test_the_answerer_posts_the_entry_where_the_opener_does_not() -> None:
    net, (creator, joiner) = met(Code())
    while PAIRING.key(b"") in joiner.items and PAIRING.decode(joiner.items[PAIRING.key(b"")]).agreed is None:
        creator.step()
        joiner.step()
    net.passed.clear()  # D4 is lost
    net.now += 10_000
    joiner.wake()
    net.settle([joiner])
    assert joiner.live.view.state is State.READY


def test_both_may_end_at_once() -> None:
    net, nodes = ready(Code())
    for node in nodes:
        node.change(Leave())
        assert node.live.view.state is State.FROZEN
    net.settle()
    assert [node.live.view.state for node in nodes] == [State.REMOVED, State.REMOVED]
    assert len(net.refused) == 1
    assert not [fault for node in nodes for fault in node.faults]


def test_a_session_that_has_not_begun_ends_by_being_forgotten() -> None:
    net, (creator, _joiner) = met(Code())
    creator.change(Leave())
    assert creator.live.view.state is State.REMOVED
    assert set(creator.items) == {b"room"}
    creator.change(Leave())
    assert net.rooms == {}


def test_a_try_after_a_failed_one_draws_everything_anew() -> None:
    net = Net()
    creator = created(net, Code())
    joined(net, Code(), creator, CODE[:-1] + "0")
    first = PAIRING.decode(creator.items[PAIRING.key(b"")])
    net.settle()
    creator.give(word(CODE, "left"))
    second_joiner = joined(net, Code(), creator, CODE, index=2)
    second = PAIRING.decode(creator.items[PAIRING.key(b"")])
    assert first.exponent != second.exponent
    assert first.commitment != second.commitment
    net.settle()
    assert creator.live.view.state is second_joiner.live.view.state is State.READY
    assert creator.live.view.key_check == second_joiner.live.view.key_check


def test_what_is_stored_leads_back_to_no_earlier_text() -> None:
    net, (creator, joiner) = ready(Code())
    chain = SEND.decode(creator.items[SEND.key(b"")]).key
    creator.say(b"one")
    net.settle()
    thief = creator.items | joiner.items
    assert not any(chain in value for value in thief.values())
    creator.change(Rekey())
    epoch = EPOCH.decode(creator.items[EPOCH.key(b"")])
    net.settle()
    assert not any(epoch.exporter in value for node in (creator, joiner) for value in node.items.values())


def test_the_key_is_for_its_code_its_mode_and_its_room() -> None:
    net, (creator, _joiner) = ready(Code())
    other, (second, _) = ready(Code(), made=ID)
    assert creator.live.view.room != second.live.view.room
    entry = replace(
        net.rooms[creator.live.view.room].entries[0], channel=other.rooms[second.live.view.room].entries[0].channel
    )
    second.give(entry)
    assert second.faults[-1].code == "wrong_context"
    assert creator.live.export("x", b"", 32) != second.live.export("x", b"", 32)
    with pytest.raises(NotReady):
        creator.live.export("x", b"", 32, pending=True)
    assert entry.channel.kind is ChannelKind.ROOM
