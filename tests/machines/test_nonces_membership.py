"""Suite `nonces`: who comes and goes: adds, removals with their turns, parked devices, leaving, rekeys, policies."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cloister.errors import UsageError
from cloister.protocols.interface import (
    READ_ONLY_ITEM,
    Add,
    ChannelKind,
    Envelope,
    Leave,
    NotReady,
    Rekey,
    Remove,
    SetPolicy,
    State,
    Who,
)
from cloister.protocols.nonces.suite import Nonces
from cloister.protocols.rounds.agenda import REKEY_AFTER, REKEY_MESSAGES
from cloister.protocols.rounds.epochs import RECV, SEND
from support.suite_net import DAY, MINUTE, NOW, POLICY, ROOM, Net, Node, agreed, dump, seeded, users

SUITE = Nonces()


def _away(envelope: Envelope) -> bool:
    return True


def _together(nodes: list[Node], epoch: int) -> None:
    """All stand in this epoch with one key, ready."""
    assert {(node.live.view.epoch, node.live.view.state) for node in nodes} == {(epoch, State.READY)}
    assert len({node.live.view.key_check for node in nodes}) == 1
    assert {node.live.view.roster for node in nodes} == {tuple(sorted(node.name for node in nodes))}


def test_add_keeps_the_old_epoch_usable_until_the_commit() -> None:
    net, nodes = agreed(SUITE, 3, "add")
    new = net.node(SUITE, "d", 3)
    new.silent = _away
    nodes[1].change(Add(new.name))
    net.settle()
    assert nodes[1].live.view.pending_changes == (Add(new.name),)
    assert nodes[1].live.view.missing == (new.name,)
    nodes[2].say(b"meanwhile")
    net.settle()
    assert nodes[0].delivered[-1].content == b"meanwhile"
    new.silent = None
    net.settle()
    _together([*nodes, new], 2)
    assert new.delivered == []
    assert nodes[0].live.view.pending_changes == ()


def test_several_changes_are_one_commit() -> None:
    net, nodes = agreed(SUITE, 3, "several")
    new = net.node(SUITE, "d", 3)
    policy = replace(POLICY, title="renamed")
    nodes[0].change(Remove(nodes[2].name), Add(new.name), SetPolicy(policy))
    net.settle()
    _together([nodes[0], nodes[1], new], 2)
    assert new.live.view.policy.title == "renamed"
    assert nodes[2].live.view.state is State.REMOVED


def test_a_removal_freezes_everybody_at_once() -> None:
    net, nodes = agreed(SUITE, 4, "freeze")
    nodes[1].silent = lambda envelope: envelope.channel.kind is not ChannelKind.ROOM
    nodes[0].change(Remove(nodes[3].name))
    net.settle()
    for node in nodes:
        assert node.live.view.state is State.FROZEN
        assert Remove(nodes[3].name) in node.live.view.pending_changes
        with pytest.raises(NotReady):
            node.say(b"not now")


def test_a_removal_is_carried_out_by_the_next_in_rank_when_its_author_is_gone() -> None:
    net, nodes = agreed(SUITE, 4, "rank")
    a, b, c, d = nodes
    effects = a.live.change([Remove(d.name)], net.now, a.rng)
    a.apply(tuple(e for e in effects if type(e).__name__ in ("Put", "Drop", "Post") and _in_room(e)))
    a.silent = _away
    net.settle([b, c, d])
    assert b.live.view.state is State.FROZEN
    assert b.live.view.missing == ()
    net.pass_time(MINUTE - 1)
    net.settle([b, c, d])
    assert len(net.runs) == 1, "not before its turn"
    net.pass_time(1)
    net.settle([b, c])
    assert len(net.runs) == 2
    assert b.live.view.missing == (a.name,)
    a.silent = None
    net.settle()
    _together([a, b, c], 2)
    assert d.live.view.state is State.REMOVED


def _in_room(effect: object) -> bool:
    channel = getattr(effect, "channel", None)
    return channel is None or channel.kind is ChannelKind.ROOM


def test_who_does_not_answer_a_removals_run_is_parked_and_taken_in_again() -> None:
    net, nodes = agreed(SUITE, 5, "parked")
    a, b, c, d, e = nodes
    d.silent = _away
    a.change(Remove(e.name))
    net.settle()
    assert a.live.view.missing == (d.name,)
    net.pass_time(10 * MINUTE - 1)
    net.settle()
    assert a.live.view.epoch == 1
    net.pass_time(1)
    net.settle()
    _together([a, b, c], 2)
    assert {node.live.view.parked for node in (a, b, c)} == {(d.name,)}
    assert d.live.view.epoch == 1
    d.silent = None
    net.settle()
    _together([a, b, c, d], 3)
    assert a.live.view.parked == ()
    assert {fault.code for fault in d.faults} <= {"locked_out", "stale_epoch"}
    b.say(b"welcome back")
    net.settle()
    assert d.delivered[-1].content == b"welcome back"


def test_a_parked_device_is_added_by_the_next_member_when_the_first_is_gone() -> None:
    net, nodes = agreed(SUITE, 4, "here")
    a, b, c, d = nodes
    c.silent = _away
    a.change(Remove(d.name))
    net.settle()
    net.pass_time(10 * MINUTE)
    net.settle()
    _together([a, b], 2)
    a.silent = _away
    c.silent = None
    net.settle([b, c])
    assert b.live.view.epoch == 2
    net.pass_time(MINUTE)
    net.settle([b, c])
    assert b.live.view.pending_changes == (Add(c.name),)
    a.silent = None
    net.settle()
    _together([a, b, c], 3)


def test_with_fewer_than_two_answers_the_run_stays_open_and_is_renewed() -> None:
    net, nodes = agreed(SUITE, 3, "renewed")
    a, b, c = nodes
    b.silent = _away
    a.change(Remove(c.name))
    net.settle()
    net.pass_time(30 * MINUTE)
    net.settle()
    assert len(net.runs) == 2
    assert a.live.view.missing == (b.name,)
    net.pass_time(DAY)
    net.settle()
    assert a.faults[-1].code == "timeout"
    net.pass_time(10 * MINUTE)
    net.settle()
    assert len(net.runs) == 3, "renewed"
    b.silent = None
    net.settle()
    _together([a, b], 2)


def test_one_freeze_that_parks_somebody_for_each_author_and_day() -> None:
    net, nodes = agreed(SUITE, 6, "one a day")
    a, b, c, d, e, f = nodes
    e.silent = _away
    a.change(Remove(f.name))
    net.settle()
    net.pass_time(10 * MINUTE)
    net.settle()
    _together([a, b, c, d], 2)
    d.silent = _away
    a.change(Remove(c.name))
    net.settle()
    net.pass_time(30 * MINUTE)
    net.settle([a, b])
    assert a.live.view.missing == (d.name,), "nobody is parked a second time on that day"
    d.silent = None
    net.settle()
    assert d.live.view.epoch >= 3
    net.pass_time(2 * DAY)
    a.wake()
    assert not [key for key in a.items if key.startswith(b"parking/")], "the next day it may happen again"


def test_an_order_stands_when_another_commit_comes_first() -> None:
    net, nodes = agreed(SUITE, 4, "carried over")
    a, b, c, d = nodes
    a.silent = lambda envelope: envelope.channel.kind is not ChannelKind.RUN
    b.change(Rekey())
    a.silent = None
    for node in nodes:
        node.silent = lambda envelope: envelope.channel.kind is ChannelKind.ROOM
    net.settle()
    commit = net.rooms[ROOM].entries[-1]
    assert commit.kind == "commit"
    net.rooms[ROOM].entries.pop()
    net.rooms[ROOM].tip = commit.token_hash
    net.rooms[ROOM].chain = net.rooms[ROOM].entries[-1].hash
    a.change(Remove(d.name))
    order = net.rooms[ROOM].entries[-1]
    assert order.kind == "handshake"
    moved = replace(commit, seq=order.seq + 1)
    net.rooms[ROOM].entries.append(moved)
    assert commit.next_token_hash is not None
    net.rooms[ROOM].tip = commit.next_token_hash
    for node in nodes:
        node.silent = None
    net.settle()
    _together([a, b, c], 3)
    assert d.live.view.state is State.REMOVED


def test_leaving_needs_nobodys_right_and_others_carry_it_out() -> None:
    net, nodes = agreed(SUITE, 3, "leave")
    a, b, c = nodes
    c.change(Leave())
    assert c.live.view.state is State.FROZEN
    net.settle()
    _together([a, b], 2)
    assert c.live.view.state is State.REMOVED
    assert c.faults == []


def test_below_two_members_the_room_is_read_only_until_somebody_is_added() -> None:
    net, nodes = agreed(SUITE, 2, "alone")
    a, b = nodes
    b.change(Leave())
    net.settle()
    assert a.live.view.state is State.READ_ONLY
    with pytest.raises(NotReady):
        a.say(b"to nobody")
    new = net.node(SUITE, "d", 3)
    a.change(Add(new.name))
    net.settle()
    _together([a, new], 2)
    assert b.live.view.state is State.REMOVED


def test_a_revoked_member_is_put_out_by_any_change() -> None:
    net, nodes = agreed(SUITE, 3, "revoked")
    a, b, c = nodes
    net.directory.refuse(c.name, "not_in_manifest")
    b.change(Rekey())
    net.settle([a, b])
    _together([a, b], 2)


def test_a_member_whose_certificate_has_ended_stops_a_rekey_for_an_hour() -> None:
    net, nodes = agreed(SUITE, 2, "expired")
    a, b = nodes
    net.directory.refuse(b.name, "expired")
    net.pass_time(REKEY_AFTER)
    effects = a.wake()
    assert a.faults[-1].code == "expired"
    assert a.alarm == net.now + 60 * MINUTE
    assert not [effect for effect in effects if type(effect).__name__ == "OpenRun"]
    with pytest.raises(UsageError) as error:
        a.change(Rekey())
    assert error.value.code == "expired"


def test_a_rekey_comes_after_seven_days_by_one_member_only() -> None:
    net, nodes = agreed(SUITE, 3, "seven days")
    assert nodes[0].alarm == NOW + REKEY_AFTER
    assert nodes[1].alarm == NOW + REKEY_AFTER + MINUTE
    net.pass_time(REKEY_AFTER)
    net.settle()
    _together(nodes, 2)
    assert len(net.runs) == 2


def test_a_rekey_comes_after_a_million_messages() -> None:
    net, nodes = agreed(SUITE, 2, "million")
    a, b = nodes
    (send,) = [key for key in a.items if key.startswith(b"send/")]
    (recv,) = [key for key in b.items if key.startswith(b"recv/")]
    chain = SEND.decode(a.items[send])
    a.items[send] = SEND.encode(replace(chain, seq=REKEY_MESSAGES - 1))
    b.items[recv] = RECV.encode(replace(RECV.decode(b.items[recv]), seq=REKEY_MESSAGES - 1))
    a.restart()
    b.restart()
    a.say(b"the last of this epoch")
    net.settle()
    _together(nodes, 2)
    assert b.delivered[-1].content == b"the last of this epoch"


def test_rekey_is_not_automatic_where_the_policy_forbids_it() -> None:
    net = Net(seed="no rekey")
    nodes = [net.node(SUITE, user, index) for index, user in enumerate(users(2))]
    nodes[0].create(ROOM, replace(POLICY, may_rekey=Who.NOBODY))
    nodes[0].change(Add(nodes[1].name))
    net.settle()
    net.pass_time(2 * REKEY_AFTER)
    net.settle()
    assert nodes[0].live.view.epoch == 1


def test_a_run_that_the_relay_refuses_is_over() -> None:
    net, nodes = agreed(SUITE, 2, "run refused")
    nodes[0].change(Rekey())
    (run_id,) = [key[4:] for key in nodes[0].items if key.startswith(b"run/")]
    nodes[0].apply(nodes[0].live.answer("run-refused", run_id, net.now, nodes[0].rng))
    assert nodes[0].live.view.missing == ()
    assert nodes[0].live.answer("run-refused", run_id, net.now, nodes[0].rng) == ()
    with pytest.raises(UsageError):
        nodes[0].live.answer("code", b"", net.now, nodes[0].rng)
    nodes[0].change(Rekey())


def test_a_device_that_was_out_is_added_again() -> None:
    net, nodes = agreed(SUITE, 3, "again")
    a, b, c = nodes
    a.change(Remove(c.name))
    net.settle()
    b.change(Add(c.name))
    net.settle()
    _together(nodes, 3)
    c.say(b"back")
    net.settle()
    assert a.delivered[-1].content == b"back"


def test_a_proposal_ahead_of_the_log_is_held_until_the_log_is_read() -> None:
    net, nodes = agreed(SUITE, 3, "held")
    a, b, c = nodes
    c.silent = lambda envelope: envelope.channel.kind is ChannelKind.ROOM
    a.change(Rekey())
    net.settle()
    assert (b.live.view.epoch, c.live.view.epoch) == (2, 1)
    a.change(Rekey())
    net.settle()
    assert any(key.startswith(b"held/") for key in c.items)
    c.restart()
    c.silent = None
    net.settle()
    _together(nodes, 3)


def test_a_restored_backup_reads_only_until_a_new_epoch() -> None:
    net, nodes = agreed(SUITE, 3, "backup")
    a, b, c = nodes
    a.change(Rekey())
    c.step()
    assert any(key.startswith(b"run/") for key in c.items)
    c.items[READ_ONLY_ITEM] = b""
    c.session = SUITE.restore(c.me, c.items)
    assert c.live.view.state is State.READ_ONLY
    with pytest.raises(NotReady):
        c.say(b"?")
    c.run_tokens.clear()
    c.wake()
    assert not any(key.startswith(b"run/") for key in c.items), "runs of the backup are not taken up"
    a.say(b"read this")
    net.settle([a, b, c])
    assert c.delivered[-1].content == b"read this"
    net.pass_time(DAY + 3 * MINUTE)
    net.settle()
    with pytest.raises(NotReady):
        c.change(Leave())
    b.change(Rekey())
    net.settle()
    _together(nodes, 2)
    assert READ_ONLY_ITEM not in c.items
    c.say(b"and write")
    net.settle()
    assert a.delivered[-1].content == b"and write"


def test_a_restored_backup_may_itself_ask_for_the_new_epoch() -> None:
    net, nodes = agreed(SUITE, 2, "backup asks")
    a, b = nodes
    b.items[READ_ONLY_ITEM] = b""
    b.restart()
    b.change(Rekey())
    net.settle()
    _together([a, b], 2)


def test_a_removed_device_asks_for_nothing() -> None:
    net, nodes = agreed(SUITE, 3, "asks")
    nodes[0].change(Remove(nodes[2].name))
    net.settle()
    with pytest.raises(NotReady) as error:
        nodes[2].change(Rekey())
    assert error.value.state is State.REMOVED


def test_the_items_are_the_whole_session() -> None:
    """What the effects said to store is what the session holds, after everything that can happen to a room."""
    net, nodes = agreed(SUITE, 4, "items")
    a, b, c, d = nodes
    d.silent = _away
    a.say(b"one")
    b.change(Rekey())
    net.settle()
    a.change(Remove(c.name))
    net.settle()
    net.pass_time(11 * MINUTE)
    net.settle()
    d.silent = None
    net.settle()
    for node in nodes:
        assert dump(node.live) == node.items


def test_a_suite_with_rounds_has_no_prekeys_and_no_external_join() -> None:
    net = Net(seed="caps")
    node = net.node(SUITE, "a", 0)
    assert SUITE.prekeys(node.me, 5, NOW, seeded(1)) == ()
    with pytest.raises(UsageError) as error:
        SUITE.rejoin(node.me, b"", NOW, seeded(1))
    assert error.value.code == "unsupported"
    assert SUITE.caps.max_members == 32


def test_of_two_owners_who_remove_each_other_the_first_in_the_log_stays() -> None:
    net = Net(seed="duel")
    nodes = [net.node(SUITE, user, index) for index, user in enumerate(users(4))]
    a, b, c, d = nodes
    a.create(ROOM, replace(POLICY, owners=("a", "b")))
    a.change(*(Add(node.name) for node in nodes[1:]))
    net.settle()
    a.change(Remove(b.name))
    b.change(Remove(a.name))
    # c reads its mailbox first, b's proposal before a's: the log decides all the same
    net.mail[c.name].reverse()
    net.settle()
    for _ in range(4):
        net.pass_time(11 * MINUTE)
        net.settle()
    _together([a, c, d], a.live.view.epoch)
    assert b.live.view.state is State.REMOVED
    assert not [key for node in nodes for key in node.items if key.startswith(b"order/")]


def test_a_newcomer_that_is_asked_for_the_next_epoch_waits_for_its_own() -> None:
    net, nodes = agreed(SUITE, 2, "early newcomer")
    a, b = nodes
    new = net.node(SUITE, "c", 2)
    new.silent = lambda envelope: envelope.channel.kind is ChannelKind.ROOM
    a.change(Add(new.name))
    net.settle()
    b.change(Rekey())
    net.settle()
    assert any(key.startswith(b"held/") for key in new.items)
    new.silent = None
    net.settle()
    _together([a, b, new], 3)
