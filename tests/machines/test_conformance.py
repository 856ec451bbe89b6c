"""One conformance suite over all suites: whatever the protocol, rooms agree, and nothing else gets in.

The short form runs in `make test`; every bit, a hundred orders and the large rooms in `make system`. What a suite
lacks, its case says with the reason (`tests/support/conformance.py`).
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from cloister.errors import UsageError
from cloister.protocols.interface import (
    READ_ONLY_ITEM,
    Add,
    Channel,
    ChannelKind,
    Deliver,
    EntryKind,
    Envelope,
    EpochChanged,
    Fault,
    NotReady,
    State,
)
from support.conformance import (
    CASES,
    OTHER_ROOM,
    Case,
    Given,
    Mortality,
    at_one,
    counting,
    dice,
    flipped,
    given_again,
    harmless,
    persistent,
    recorded,
    say_through,
    speaker,
    talk,
    texts,
    twin,
)
from support.suite_net import DAY, POLICY, ROOM, Node, device_name, seeded

every = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


QUESTIONS: set[str] = set()


def asked(question: str) -> pytest.MarkDecorator:
    """Of every suite but those that say why it makes no sense for them."""
    QUESTIONS.add(question)
    return pytest.mark.parametrize(
        "case", [case for case in CASES if question not in case.lacks], ids=lambda case: case.name
    )


def test_what_a_suite_lacks_is_a_question_that_is_asked() -> None:
    assert {question for case in CASES for question in case.lacks} <= QUESTIONS


def sizes(kind: str) -> list[object]:
    return [
        pytest.param(case, n, id=f"{case.name}-{n}", marks=[pytest.mark.slow] if kind == "many" else [])
        for case in CASES
        for n in getattr(case, kind)
    ]


# --- agreeing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("case", "n"), [*sizes("sizes"), *sizes("many")])
def test_all_agree_and_read_each_other(case: Case, n: int) -> None:
    net, nodes = case.agreed(n, "agree")
    at_one(nodes)
    assert set(nodes[0].live.view.roster) == {speaker(node) for node in nodes}
    if n <= 16:
        talk(net, nodes[:5])
    assert net.refused == []


@every
def test_one_member_more_than_the_limit_is_refused(case: Case) -> None:
    _, (first, *_) = case.members(2, "limit")
    first.create(ROOM, POLICY)
    limit = case.suite.caps.max_members
    with pytest.raises(UsageError) as error:
        first.change(*(Add(device_name(f"u{i:05}")) for i in range(limit)))
    assert error.value.code in ("quota", "not_allowed", "usage")


def _in_drawn_order(case: Case, seed: object) -> None:
    drawn = dice((case.name, seed))
    net, nodes = case.begin(case.orders, seed)
    net.mix(drawn)
    at_one(nodes)
    case.rekey(net, nodes, drawn.randrange(len(nodes)))
    say_through(net, nodes, drawn)
    at_one(nodes)
    for node in nodes:
        assert sorted(texts(node)) == sorted(other.name.encode() for other in nodes if other is not node)


@every
@pytest.mark.parametrize("seed", range(8))
def test_whatever_the_order_all_agree(case: Case, seed: int) -> None:
    _in_drawn_order(case, seed)


@every
@pytest.mark.slow
def test_in_a_hundred_orders_all_agree(case: Case) -> None:
    for seed in range(100, 200):
        _in_drawn_order(case, seed)


@every
def test_a_repetition_changes_nothing(case: Case) -> None:
    net, nodes = case.begin(case.orders, "twice")
    given = recorded(nodes)
    net.settle()
    talk(net, nodes)
    before = [(dict(node.items), node.live.view, texts(node)) for node in nodes]
    for moment in list(given):
        effects = moment.node.live.receive(moment.envelope, net.now, seeded("twice"))
        assert not [each for each in effects if isinstance(each, Deliver)], moment.envelope.kind
    for node, (_, view, told) in zip(nodes, before, strict=True):
        assert (node.live.view, texts(node)) == (view, told)
    talk(net, nodes, "afterwards")


# --- absence --------------------------------------------------------------------------------------------------


@asked("absence")
def test_who_is_away_holds_up_no_talk_and_reads_all_of_it_later(case: Case) -> None:
    net, nodes = case.agreed(case.orders, "away")
    away = nodes[-1]
    away.silent = lambda envelope: True
    case.rekey(net, nodes)
    here = nodes[:-1]
    net.settle(here)
    views = [node.live.view for node in here]
    assert {view.state for view in views} == {State.READY}
    assert (
        {view.epoch for view in views} == {1 + nodes[-1].live.view.epoch} if not case.waits else {away.live.view.epoch}
    )
    nodes[0].say(b"while you were out")
    net.settle(here)
    net.pass_time(25 * 60 * 60_000)
    net.settle(here)
    assert [node.live.view.state for node in here] == [State.READY] * len(here)
    away.silent = None
    net.settle()
    assert texts(away) == [b"while you were out"]
    case.rekey(net, nodes)
    net.settle()
    assert {node.live.view.epoch for node in nodes} == {nodes[0].live.view.epoch}
    talk(net, nodes, "all back")


@asked("absence")
def test_who_never_comes_is_named_and_the_others_can_do_without(case: Case) -> None:
    net, nodes = case.begin(case.orders, "never")
    never, here = nodes[-1], nodes[:-1]
    never.silent = lambda envelope: True
    net.settle(here)
    if case.waits:
        assert {node.live.view.state for node in here} == {State.PENDING}
        assert {node.live.view.missing for node in here} == {(never.name,)}
        net.pass_time(25 * 60 * 60_000)
        net.settle(here)
        ended = [(fault.code, fault.detail) for fault in nodes[0].faults]
        assert ended == [("timeout", never.name)] or nodes[0].live.view.missing == (never.name,)
        assert not [node for node in here if node.live.view.epoch]
        again, others = case.begin(2, "never again", OTHER_ROOM)
        again.settle()
        at_one(others)
    else:
        assert {node.live.view.state for node in here} == {State.READY}
        talk(net, here)


# --- alterations ----------------------------------------------------------------------------------------------


def _moments(case: Case, n: int) -> list[Given]:
    """Everything that was given in a room's life: agreeing, talking, a new key."""
    net, nodes = case.begin(n, ("flips", n))
    given = recorded(nodes)
    net.settle()
    nodes[0].say(b"alter me")
    net.settle()
    case.rekey(net, nodes)
    net.settle()
    at_one(nodes)
    return [moment for moment in given if moment.envelope.payload and not moment.own and case.reads(moment)]


def _flip(case: Case, moment: Given, bit: int) -> None:
    envelope = moment.envelope
    effects = given_again(case, moment, replace(envelope, payload=flipped(envelope.payload, bit)))
    assert harmless(effects), (envelope.kind, bit, effects)


def _flips(case: Case, n: int, total: int) -> None:
    drawn, moments = dice(("flips", n)), _moments(case, n)
    for _ in range(total):
        moment = drawn.choice(moments)
        _flip(case, moment, drawn.randrange(8 * len(moment.envelope.payload)))


@every
def test_no_bit_can_be_altered(case: Case) -> None:
    _flips(case, 2, 300)


@every
@pytest.mark.slow
def test_not_any_bit_of_the_smallest_room_can_be_altered(case: Case) -> None:
    for moment in _moments(case, 2):
        for bit in range(8 * len(moment.envelope.payload)):
            _flip(case, moment, bit)


@pytest.mark.parametrize(("case", "n"), sizes("altered"))
@pytest.mark.slow
def test_none_of_2000_drawn_bits_of_larger_rooms_can_be_altered(case: Case, n: int) -> None:
    _flips(case, n, 2000)


def test_an_alteration_that_is_judged_later_ends_the_agreement() -> None:
    """Suite `code`: D1 and D2 bind what D3 and D4 show."""
    case = next(case for case in CASES if case.name == "code")
    drawn = dice("later")
    for number in range(12):
        _, nodes = case.begin(2, ("later", number))
        reads, altered = drawn.randrange(2), False
        while able := [node for node in nodes if node.pending()]:
            envelope = able[0].pending()[0]
            able[0].taken(envelope)
            moment = Given(able[0], envelope, {}, False, frozenset())
            if not altered and not case.reads(moment) and (reads := reads - 1) < 0:
                bit = drawn.randrange(8 * len(envelope.payload))
                envelope, altered = replace(envelope, payload=flipped(envelope.payload, bit)), True
            able[0].give(envelope)
        assert altered
        assert State.READY not in {node.live.view.state for node in nodes}
        codes = {fault.code for node in nodes for fault in node.faults}
        assert codes & {"commit_mismatch", "wrong_code_or_mitm", "bad_element", "bad_encoding", "unsupported"}


@every
def test_cut_and_lengthened_messages_are_refused(case: Case) -> None:
    for moment in _moments(case, 2):
        payload = moment.envelope.payload
        for altered in (payload[:-1], payload + b"\0", payload[1:], b"\x80", b""):
            if altered != payload:
                assert harmless(given_again(case, moment, replace(moment.envelope, payload=altered)))


# --- what belongs elsewhere -----------------------------------------------------------------------------------


@every
def test_nothing_of_one_room_counts_in_another(case: Case) -> None:
    net, nodes = case.begin(case.orders, "here")
    given = recorded(nodes)
    net.settle()
    talk(net, nodes)
    other_net, others = case.agreed(case.orders, "there", OTHER_ROOM)
    runs, (log,) = list(other_net.runs), other_net.rooms.values()
    views = [node.live.view for node in others]
    for moment in given:
        channel = moment.envelope.channel
        if channel.kind is ChannelKind.ROOM:
            channel = Channel(channel.kind, log.id)
        elif channel.kind is ChannelKind.RUN and runs:
            channel = Channel(channel.kind, runs[0])
        there = others[nodes.index(moment.node)]
        moved = replace(moment.envelope, channel=channel, token_hash=log.tip, seq=50)
        effects = there.live.receive(moved, other_net.now, seeded("moved"))
        assert not [each for each in effects if isinstance(each, Deliver | EpochChanged)], moment.envelope.kind
    assert [node.live.view for node in others] == views
    talk(other_net, others)


@every
def test_nothing_of_one_epoch_counts_in_the_next(case: Case) -> None:
    net, nodes = case.agreed(case.orders, "epochs")
    given = recorded(nodes)
    talk(net, nodes)
    case.rekey(net, nodes)
    net.settle()
    views = [node.live.view for node in nodes]
    log = net.rooms[nodes[0].live.view.room]
    for moment in given:
        again = replace(moment.envelope, token_hash=log.tip, seq=len(log.entries) + 1, entry_id=seeded("again")(16))
        effects = moment.node.live.receive(again, net.now, seeded("again"))
        assert not [each for each in effects if isinstance(each, Deliver | EpochChanged)], moment.envelope.kind
    assert [node.live.view for node in nodes] == views
    talk(net, nodes, "afterwards")


@asked("variant")
def test_nobody_is_talked_into_another_variant(case: Case) -> None:
    assert case.variants
    for number, variant in enumerate(case.variants):
        net, nodes = case.members(2, ("variant", number))
        nodes[0].suite = variant
        nodes[0].create(ROOM, POLICY)
        nodes[0].change(Add(nodes[1].name))
        net.settle()
        assert [fault.code for fault in nodes[1].faults] == ["not_allowed"]
        assert nodes[1].session is None


# --- members who cheat ----------------------------------------------------------------------------------------


@asked("insider")
def test_a_member_cannot_speak_for_another(case: Case) -> None:
    net, nodes = case.agreed(3, "insider")
    forged = case.forged(nodes, 1, 0, b"said by nobody")
    effects = nodes[2].give(forged)
    assert [type(effect) for effect in effects] == [Fault]
    assert nodes[2].faults[0].code in ("bad_sig", "bad_tag")
    nodes[2].faults.clear()
    for node in nodes:
        node.taken(forged)
    talk(net, nodes)


@asked("insider")
def test_a_control_what_a_member_says_in_its_own_name_is_read(case: Case) -> None:
    _, nodes = case.agreed(3, "insider")
    nodes[2].give(case.forged(nodes, 1, 1, b"said by me"))
    assert texts(nodes[2]) == [b"said by me"]


@asked("remove")
def test_who_was_removed_reads_nothing_after(case: Case) -> None:
    net, nodes = case.agreed(3, "removed")
    talk(net, nodes)
    out = nodes[2]
    copy = dict(out.items)
    told = len(out.delivered)
    case.remove(nodes, 2)
    net.settle()
    stay = nodes[:2]
    assert {node.live.view.roster for node in stay} == {tuple(sorted(node.name for node in stay))}
    talk(net, stay, "without you")
    thief = case.suite.restore(out.me, copy)
    for entry in net.rooms[ROOM].entries:
        for session in (out.live, thief):
            effects = session.receive(entry, net.now, seeded("thief"))
            found = [each.content for each in effects if isinstance(each, Deliver)]
            assert not [content for content in found if content.startswith(b"without you")]
    assert len(out.delivered) == told
    with pytest.raises(NotReady):
        out.live.seal(b"still here", bytes(16), None, net.now, out.rng)


# --- relays that cheat ----------------------------------------------------------------------------------------


@every
def test_two_halves_of_a_fork_never_believe_each_other(case: Case) -> None:
    """The relay shows two histories from one point on; then it shows each half what the other half wrote."""
    net, nodes = case.agreed(case.orders, "fork")
    other_net, others = twin(net)
    stood = len(net.rooms[nodes[0].live.view.room].entries)
    case.rekey(net, nodes, 0)
    left, right = nodes[:-1], others[-1]
    net.settle(left)
    case.rekey(other_net, others, len(others) - 1)
    other_net.settle([right])
    for number in (b"one", b"two"):
        left[0].say(b"left " + number)
        right.say(b"right " + number)
    room = right.live.view.room
    _shown(net.rooms[room].entries[stood:], [right], left[0])
    _shown(other_net.rooms[room].entries[stood:], left, right)


def _shown(entries: list[Envelope], readers: list[Node], writer: Node) -> None:
    """Nothing moves, and what is believed because the keys are still the same names a log that is not the reader's."""
    for reader in readers:
        own = {entry.hash for entry in reader.net.rooms[reader.live.view.room].entries}
        view, delivered = reader.live.view, len(reader.delivered)
        for entry in entries:
            reader.give(entry)
        assert (reader.live.view.epoch, reader.live.view.key_check) == (view.epoch, view.key_check)
        found = reader.delivered[delivered:]
        if view.key_check != writer.live.view.key_check:
            assert found == []
        if found:
            assert found[-1].head is not None
            assert found[-1].head.hash not in own, "the head must show the fork"


# --- crashes, copies, new keys --------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("stored", [False, True], ids=["before-the-transaction", "after-it"])
def test_a_crash_at_some_step_loses_nothing_and_uses_nothing_twice(case: Case, stored: bool) -> None:
    at = case.crashes + stored
    while _lives_through(case, at, stored):
        at += case.crashes
    assert at > 8, "there are steps to die at"


@every
@pytest.mark.slow
@pytest.mark.parametrize("stored", [False, True], ids=["before-the-transaction", "after-it"])
def test_a_crash_at_every_step_loses_nothing_and_uses_nothing_twice(case: Case, stored: bool) -> None:
    at = 1
    while _lives_through(case, at, stored):
        at += 1


def _lives_through(case: Case, at: int, stored: bool) -> bool:
    """A room's life, in which a device dies at the call number `at`; whether there was such a call."""
    with counting() as sealed:
        net, nodes = case.members(2, "crash")
        fate = Mortality(case, nodes, at, stored=stored, sealed=sealed)
        a, b = nodes
        for call in case.meeting(nodes, ROOM):
            persistent(net, call)
        persistent(net, lambda: b.say(b"one"))
        persistent(net, lambda: case.rekey(net, nodes))
        persistent(net, lambda: a.say(b"two"))
    at_one(nodes)
    assert (texts(a), texts(b)) == ([b"one"], [b"two"])
    assert sealed.twice() == []
    return fate.died


@every
def test_a_restart_before_every_step_changes_nothing(case: Case) -> None:
    net, nodes = case.begin(case.orders, "restart")
    for _ in range(2):
        while able := [node for node in nodes if node.pending() or node.due()]:
            able[0].restart()
            able[0].step()
        case.rekey(net, nodes)
    net.settle()
    at_one(nodes)
    talk(net, nodes)


@every
def test_a_copy_that_is_put_back_reads_and_does_not_write(case: Case) -> None:
    net, nodes = case.agreed(case.orders, "restore")
    talk(net, nodes)
    restored = nodes[-1]
    restored.items = {**restored.items, READ_ONLY_ITEM: b""}
    restored.restart()
    assert restored.live.view.state is State.READ_ONLY
    nodes[0].say(b"to the copy")
    net.settle()
    assert texts(restored)[-1] == b"to the copy"
    with pytest.raises(NotReady):
        restored.say(b"with an old key")
    case.rekey(net, nodes)
    net.settle()
    at_one(nodes)
    talk(net, nodes, "a new key")


@every
def test_a_new_key_is_another_key(case: Case) -> None:
    net, nodes = case.agreed(case.orders, "rekey")
    seen = {nodes[0].live.export("conformance", b"", 32)}
    for who in range(len(nodes)):
        epoch = nodes[0].live.view.epoch
        case.rekey(net, nodes, who)
        net.settle()
        at_one(nodes)
        assert nodes[0].live.view.epoch == epoch + 1
        seen.add(nodes[0].live.export("conformance", b"", 32))
        net.pass_time(DAY)
        net.settle()
    assert len(seen) == len(nodes) + 1
    talk(net, nodes)


@every
def test_the_relays_log_shows_nothing(case: Case) -> None:
    """No text, no name of a member, no key: neither in logs and runs, nor in what is sealed to mailboxes' owners."""
    net, nodes = case.agreed(case.orders, "canary")
    for node in nodes:
        node.say(b"canary " + node.name.encode())
    net.settle()
    stored = [entry.payload for log in (*net.rooms.values(), *net.runs.values()) for entry in log.entries]
    stored += [entry.kind.encode() for log in net.rooms.values() for entry in log.entries]
    keys = [node.live.export("conformance", b"", 32) for node in nodes] + [node.token for node in nodes]
    for data in stored:
        assert b"canary" not in data
        for node in nodes:
            assert node.name.encode() not in data
        for key in keys:
            assert key not in data
    kinds = {entry.kind for entry in net.rooms[nodes[0].live.view.room].entries}
    assert kinds <= set(EntryKind)
