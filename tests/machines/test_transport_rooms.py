"""Rooms of suite `transport`: invitations, changes, acknowledgements, leaves, rekeys, in every order, over restarts."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from cloister.errors import UsageError
from cloister.protocols.interface import (
    READ_ONLY_ITEM,
    Add,
    Channel,
    ChannelKind,
    Commit,
    EntryKind,
    Leave,
    NotReady,
    Rekey,
    Remove,
    SetPolicy,
    State,
)
from cloister.protocols.transport.session import LOST, REKEY_AFTER
from cloister.protocols.transport.suite import Transport
from support.suite_net import DAY, MINUTE, POLICY, ROOM, Net, Node, agreed, assembly, users

SUITE = Transport()
STRICT = Transport(strict=True)


def _states(nodes: list[Node]) -> set[tuple[int, State]]:
    return {(node.live.view.epoch, node.live.view.state) for node in nodes}


def _contents(node: Node) -> list[bytes]:
    return [each.content for each in node.delivered]


def _guest(net: Net, index: int, user: str = "x") -> Node:
    return net.node(SUITE, user, index)


def _away(node: Node) -> None:
    node.silent = lambda envelope: True


# --- agreeing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 16])
def test_the_inviter_makes_the_room_and_all_acknowledge_it(n: int) -> None:
    net, nodes = agreed(SUITE, n)
    assert _states(nodes) == {(1, State.READY)}
    assert len({node.live.view.key_check for node in nodes}) == 1
    assert {node.live.view.missing for node in nodes} == {()}
    assert len(net.rooms[ROOM].entries) == n, "one commit, n - 1 acknowledgements"
    assert sum(len(items) for items in net.mail.values()) == 0
    assert not [fault for node in nodes for fault in node.faults]


def test_the_inviter_may_send_before_anybody_has_come() -> None:
    net, nodes = assembly(SUITE, 3)
    assert (nodes[0].live.view.state, nodes[0].live.view.missing) == (State.PENDING, (nodes[1].name, nodes[2].name))
    net.settle(nodes[:1])
    assert nodes[0].live.view.missing == (nodes[1].name, nodes[2].name)
    nodes[0].say(b"waits for you")
    net.settle(nodes[:2])
    assert nodes[0].live.view.missing == (nodes[2].name,), "confirmed 2 of 3"
    net.settle()
    assert nodes[0].live.view.missing == ()
    assert _contents(nodes[2]) == [b"waits for you"]


def test_a_strict_room_seals_nothing_before_all_have_acknowledged() -> None:
    net, nodes = assembly(STRICT, 3)
    nodes[2].suite = SUITE  # strict is the room's, not the device's
    net.settle(nodes[:2])
    for node in nodes[:2]:
        with pytest.raises(NotReady) as refused:
            node.say(b"too early")
        assert refused.value.missing == (nodes[2].name,)
    net.settle()
    assert _states(nodes) == {(1, State.READY)}
    nodes[1].say(b"all are here")
    net.settle()
    assert _contents(nodes[2]) == [b"all are here"]
    nodes[0].change(Rekey())
    net.settle(nodes[:1])
    assert nodes[0].live.view.state is State.FROZEN, "a room stays strict"


def test_who_has_not_acknowledged_in_time_is_told_once() -> None:
    net, nodes = assembly(SUITE, 3)
    net.settle(nodes[:2])
    net.pass_time(DAY + MINUTE)
    net.settle(nodes[:2])
    net.settle(nodes[:2])
    assert [(fault.code, fault.detail) for fault in nodes[0].faults] == [("not_confirmed", nodes[2].name)]
    assert nodes[1].faults == []


# --- changes -----------------------------------------------------------------------------------------------


def test_a_newcomer_reads_nothing_of_before() -> None:
    net, nodes = agreed(SUITE, 2)
    nodes[1].say(b"before")
    net.settle()
    guest = _guest(net, 2)
    nodes[0].change(Add(guest.name))
    net.settle()
    nodes[1].say(b"after")
    net.settle()
    assert _contents(guest) == [b"after"]
    assert _states([*nodes, guest]) == {(2, State.READY)}
    assert guest.live.view.joined_at is not None
    assert guest.live.view.policy == POLICY


def test_who_is_removed_reads_nothing_of_after_and_knows_it() -> None:
    net, nodes = agreed(SUITE, 3)
    nodes[0].change(Remove(nodes[2].name))
    net.settle()
    nodes[0].say(b"among us")
    net.settle()
    assert nodes[2].live.view.state is State.REMOVED
    assert _contents(nodes[2]) == []
    assert _contents(nodes[1]) == [b"among us"]
    with pytest.raises(NotReady):
        nodes[2].say(b"and me?")
    nodes[0].change(Add(nodes[2].name))
    net.settle()
    assert _states(nodes) == {(3, State.READY)}


def test_a_member_offline_over_several_epochs_takes_them_in_order() -> None:
    net, nodes = agreed(SUITE, 3)
    _away(nodes[2])
    for number in range(3):
        nodes[number % 2].say(b"in epoch %d" % (number + 1))
        net.settle()
        nodes[0].change(Rekey())
        net.settle()
    nodes[1].say(b"in epoch 4")
    net.settle()
    nodes[2].silent = None
    net.settle()
    assert _contents(nodes[2]) == [b"in epoch %d" % (number + 1) for number in range(4)]
    nodes[2].say(b"here")
    net.settle()
    assert _contents(nodes[0])[-1] == b"here"
    assert not nodes[2].faults


def test_a_newcomer_that_was_away_since_before_the_room_began_takes_every_epoch_in_order() -> None:
    net, nodes = assembly(SUITE, 3)
    net.settle(nodes[:2])
    nodes[0].say(b"in epoch 1")
    net.settle(nodes[:2])
    nodes[0].change(SetPolicy(replace(POLICY, owners=("b",))))
    net.settle(nodes[:2])
    nodes[1].change(Rekey())
    net.settle(nodes[:2])
    nodes[1].say(b"in epoch 3")
    invitations = net.mail[nodes[2].name][:]
    net.mail[nodes[2].name].clear()
    for invitation in invitations:
        nodes[2].give(invitation)
    assert len(nodes[2].tokens) == 1, "the log is read from the first on"
    net.settle()
    assert _states(nodes) == {(3, State.READY)}
    assert _contents(nodes[2]) == [b"in epoch 1", b"in epoch 3"]


def test_a_removed_member_that_was_away_is_taken_in_again_by_the_later_invitation() -> None:
    net, nodes = agreed(SUITE, 3)
    _away(nodes[2])
    nodes[0].change(Remove(nodes[2].name))
    net.settle()
    nodes[0].change(Add(nodes[2].name))
    net.settle()
    nodes[0].say(b"again")
    net.settle()
    nodes[2].silent = None
    net.settle()
    assert _states(nodes) == {(3, State.READY)}
    assert _contents(nodes[2]) == [b"again"]


def test_the_role_is_handed_over_and_the_old_inviter_has_it_no_more() -> None:
    net, nodes = agreed(SUITE, 3)
    nodes[0].change(SetPolicy(replace(POLICY, owners=("b",))))
    net.settle()
    with pytest.raises(UsageError) as refused:
        nodes[0].change(Rekey())
    assert refused.value.code == "not_inviter"
    guest = _guest(net, 3)
    nodes[1].change(Add(guest.name))
    net.settle()
    assert _states([*nodes, guest]) == {(3, State.READY)}


def test_who_hands_the_role_over_asks_nobody_in_by_the_same_commit() -> None:
    net, nodes = agreed(SUITE, 2)
    guest = _guest(net, 2)
    with pytest.raises(UsageError) as refused:
        nodes[0].change(Add(guest.name), SetPolicy(replace(POLICY, owners=("b",))))
    assert refused.value.code == "usage"


def test_a_member_who_is_no_inviter_asks_nobody_in() -> None:
    net, nodes = agreed(SUITE, 2)
    guest = _guest(net, 2)
    for change in (Add(guest.name), Rekey(), SetPolicy(replace(POLICY, title="mine")), Remove(nodes[0].name)):
        with pytest.raises(UsageError) as refused:
            nodes[1].change(change)
        assert refused.value.code == "not_inviter"


def test_of_two_inviters_at_once_the_log_decides() -> None:
    net, nodes = agreed(SUITE, 3)
    nodes[0].change(SetPolicy(replace(POLICY, owners=("a", "b"))))
    net.settle()
    nodes[0].change(Rekey())
    nodes[1].change(Rekey())
    ((name, lost),) = net.refused
    assert name == nodes[1].name
    assert isinstance(lost, Commit)
    nodes[1].apply(nodes[1].live.answer("commit-refused", lost.entry_id, net.now, nodes[1].rng))
    net.settle()
    assert _states(nodes) == {(3, State.READY)}
    nodes[1].change(Rekey())
    net.settle()
    assert _states(nodes) == {(4, State.READY)}


def test_while_the_own_commit_is_under_way_nothing_else_is_changed() -> None:
    net, nodes = agreed(SUITE, 2)
    _away(nodes[0])
    nodes[0].change(Rekey())
    assert nodes[0].live.view.pending_changes == (Rekey(),)
    with pytest.raises(NotReady):
        nodes[0].change(Rekey())
    assert nodes[0].apply(nodes[0].live.answer("commit-refused", bytes(16), net.now, nodes[0].rng)) == ()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ((Add("cloister://home/u/b/d/phone"),), "roster"),
        ((Remove("cloister://home/u/x/d/phone"),), "roster"),
        ((Remove("cloister://home/u/a/d/phone"),), "usage"),
        ((Leave(), Rekey()), "usage"),
        ((Add("cloister://home/u/nobody/d/phone"),), "unknown_sender"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(changes: tuple[Add | Remove | Leave | Rekey, ...], code: str) -> None:
    _, nodes = agreed(SUITE, 2)
    before = dict(nodes[0].items)
    with pytest.raises(UsageError) as refused:
        nodes[0].change(*changes)
    assert refused.value.code == code
    assert nodes[0].items == before


def test_a_room_begins_when_somebody_is_added() -> None:
    net = Net()
    (node,) = [net.node(SUITE, "a", 0)]
    node.create(ROOM, POLICY)
    assert node.live.view.state is State.READ_ONLY
    for change in (Rekey(), Leave()):
        with pytest.raises(UsageError) as refused:
            node.change(change)
        assert refused.value.code == "not_ready"
    assert node.live.view.roster == (node.name,)


def test_a_device_without_rsa_keys_cannot_be_invited() -> None:
    net, nodes = agreed(SUITE, 2)
    name = net.directory.enrol("y", 3, rsa=False)
    with pytest.raises(UsageError) as refused:
        nodes[0].change(Add(name))
    assert refused.value.code == "not_ready"


def test_the_inviter_alone_reads_and_can_ask_somebody_in_again() -> None:
    net, nodes = agreed(SUITE, 2)
    nodes[0].change(Remove(nodes[1].name))
    net.settle()
    assert nodes[0].live.view.state is State.READ_ONLY
    assert nodes[0].live.view.epoch == 2
    nodes[0].change(Add(nodes[1].name))
    net.settle()
    assert _states(nodes) == {(3, State.READY)}


def test_a_room_takes_no_more_devices_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloister.protocols.transport.inviting.MEMBERS", 2)
    net, nodes = agreed(SUITE, 2)
    guest = _guest(net, 2)
    with pytest.raises(UsageError) as refused:
        nodes[0].change(Add(guest.name))
    assert refused.value.code == "quota"


# --- leaving -----------------------------------------------------------------------------------------------


def test_a_leave_is_carried_out_by_the_inviter() -> None:
    net, nodes = agreed(SUITE, 3)
    nodes[2].change(Leave())
    net.settle()
    assert _states(nodes[:2]) == {(2, State.READY)}
    assert nodes[2].live.view.state is State.REMOVED


def test_a_leave_stops_nobody_while_the_inviter_is_away() -> None:
    net, nodes = agreed(SUITE, 3)
    _away(nodes[0])
    nodes[2].change(Leave())
    net.settle(nodes[1:])
    assert nodes[1].live.view.pending_changes == (Remove(nodes[2].name),)
    nodes[1].say(b"still all of us")
    net.settle(nodes[1:])
    assert _contents(nodes[2]) == [b"still all of us"]
    with pytest.raises(NotReady):
        nodes[2].change(Leave())


def test_a_leave_that_crosses_a_commit_is_said_again() -> None:
    net, nodes = agreed(SUITE, 3)
    net.settle()
    _away(nodes[0])
    nodes[2].change(Leave())
    nodes[0].change(Rekey())  # made before the leave was read
    net.settle(nodes[1:])
    assert _states(nodes[1:]) == {(2, State.READY)}
    nodes[0].silent = None
    net.settle()
    assert nodes[2].live.view.state is State.REMOVED
    assert _states(nodes[:2]) == {(3, State.READY)}
    assert not [fault for node in nodes for fault in node.faults]


def test_when_the_only_inviter_leaves_the_others_carry_it_out_and_hold_the_role() -> None:
    net, nodes = agreed(SUITE, 3)
    nodes[0].change(Leave())
    net.settle()
    assert nodes[0].live.view.state is State.REMOVED
    assert _states(nodes[1:]) == {(2, State.READY)}
    nodes[2].change(Rekey())
    net.settle()
    assert _states(nodes[1:]) == {(3, State.READY)}


def test_a_device_out_of_the_realm_is_put_out_by_anybody_and_nothing_is_sealed_before() -> None:
    net, nodes = agreed(SUITE, 3)
    net.directory.refuse(nodes[0].name, "revoked")
    with pytest.raises(NotReady) as refused:
        nodes[1].say(b"not yet")
    assert refused.value.missing == (nodes[0].name,)
    nodes[1].change(Remove(nodes[0].name))
    net.settle()
    assert _states(nodes[1:]) == {(2, State.READY)}


def test_who_is_on_its_way_out_makes_no_epoch() -> None:
    net, nodes = agreed(SUITE, 3)
    nodes[0].change(SetPolicy(replace(POLICY, owners=("a", "b"))))
    net.settle()
    _away(nodes[1])
    nodes[0].change(Leave())
    net.settle([nodes[0], nodes[2]])
    with pytest.raises(UsageError) as refused:
        nodes[0].change(Rekey())
    assert refused.value.code == "usage"
    nodes[1].silent = None
    net.settle()
    assert _states(nodes[1:]) == {(3, State.READY)}


# --- time --------------------------------------------------------------------------------------------------


def test_the_key_is_renewed_after_seven_days() -> None:
    net, nodes = agreed(SUITE, 2)
    net.pass_time(REKEY_AFTER - MINUTE)
    net.settle()
    assert _states(nodes) == {(1, State.READY)}
    net.pass_time(MINUTE)
    net.settle()
    assert _states(nodes) == {(2, State.READY)}


def test_the_key_is_renewed_after_ten_thousand_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloister.protocols.transport.session.REKEY_MESSAGES", 3)
    net, nodes = agreed(SUITE, 2)
    for number in range(3):
        nodes[1].say(b"%d" % number)
        net.settle()
    assert _states(nodes) == {(2, State.READY)}


def test_an_epoch_that_has_ended_is_read_for_a_day_and_forgotten() -> None:
    net, nodes = agreed(SUITE, 2)
    nodes[0].change(Rekey())
    net.settle()
    assert sum(key.startswith(b"epoch/") for key in nodes[1].items) == 2
    net.pass_time(DAY)
    net.settle()
    for shelf in (b"epoch/", b"standing/", b"recv/"):
        assert sum(key.startswith(shelf) for key in nodes[1].items) == 1, shelf


def test_a_renewal_that_cannot_be_made_rests_for_an_hour() -> None:
    net, nodes = agreed(SUITE, 2)
    net.directory.refuse(nodes[1].name, "expired")
    net.pass_time(REKEY_AFTER)
    net.settle(nodes[:1])
    net.pass_time(59 * MINUTE)
    net.settle(nodes[:1])
    assert [fault.code for fault in nodes[0].faults] == ["expired"]
    net.pass_time(MINUTE)
    net.settle(nodes[:1])
    assert [fault.code for fault in nodes[0].faults] == ["expired", "expired"]
    assert nodes[0].live.view.state is State.READY, "the standing key is in use meanwhile"


# --- orders and restarts -----------------------------------------------------------------------------------


def test_a_commit_without_its_invitation_stops_sealing_until_it_comes() -> None:
    net, nodes = agreed(SUITE, 2)
    nodes[0].change(Rekey())
    nodes[1].silent = lambda envelope: envelope.channel.kind is ChannelKind.MAILBOX
    net.settle()
    assert nodes[1].live.view.state is State.PENDING
    with pytest.raises(NotReady):
        nodes[1].say(b"in which epoch?")
    nodes[1].restart()
    nodes[1].silent = None
    net.settle()
    assert _states(nodes) == {(2, State.READY)}


def test_a_member_left_without_its_invitation_is_locked_out_and_follows_a_later_one() -> None:
    net, nodes = agreed(SUITE, 3)
    nodes[0].change(Rekey())
    net.mail[nodes[2].name].clear()
    net.settle()
    net.pass_time(LOST)
    net.settle()
    assert [fault.code for fault in nodes[2].faults] == ["locked_out"]
    assert nodes[2].live.view.state is State.REMOVED
    nodes[0].change(Rekey())
    net.settle()
    assert _states(nodes) == {(3, State.READY)}


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_envelopes_leads_to_the_same_room(seed: int) -> None:
    dice = random.Random(seed)
    net, nodes = assembly(SUITE, 4, seed)
    net.mix(dice)
    guest = _guest(net, 5)
    for change in (Add(guest.name), Remove(nodes[3].name), Rekey()):
        nodes[0].change(change)
        dice.choice(nodes[:3]).say(b"under way") if dice.random() < 0.3 else None
        net.mix(dice)
    everybody = [*nodes[:3], guest]
    for node in everybody:
        node.say(node.name.encode())
    net.mix(dice)
    assert _states(everybody) == {(4, State.READY)}
    assert nodes[3].live.view.state is State.REMOVED
    for node in everybody:
        heard = {each.sender for each in node.delivered if each.epoch == 4}
        assert heard == {other.name for other in everybody} - {node.name}
        assert not node.faults


@pytest.mark.parametrize("seed", range(4))
def test_a_restart_after_every_step_changes_nothing(seed: int) -> None:
    dice = random.Random(seed)
    net, nodes = assembly(SUITE, 3, ("restart", seed))
    guest = _guest(net, 3)
    for change in (None, Add(guest.name), Rekey(), Remove(nodes[2].name)):
        if change is not None:
            nodes[0].change(change)
        nodes[0].restart()
        while True:
            able = [node for node in net.nodes if node.pending() or node.due()]
            if not able:
                break
            node = dice.choice(able)
            node.step(dice)
            node.restart()
        nodes[1].say(b"after a change")
        nodes[1].restart()
    net.settle()
    assert _states([nodes[0], nodes[1], guest]) == {(4, State.READY)}
    assert _contents(nodes[0]) == [b"after a change"] * 4
    assert not [fault for node in net.nodes for fault in node.faults]


def test_a_message_is_refused_as_replayed_after_a_restart_too() -> None:
    net, nodes = agreed(SUITE, 2)
    for number in range(12):
        nodes[0].say(b"%d" % number)
    net.settle()
    entries = [entry for entry in net.rooms[ROOM].entries if entry.kind == EntryKind.APPLICATION]
    nodes[1].restart()
    for entry in entries:
        nodes[1].give(entry)
    assert [(fault.code, fault.check) for fault in nodes[1].faults] == [("replay", "REC-03")] * 12
    assert len(nodes[1].delivered) == 12


def test_sequence_numbers_begin_again_with_each_key_exchange() -> None:
    net, nodes = agreed(SUITE, 2)
    nodes[0].say(b"one")
    nodes[0].say(b"two")
    net.settle()
    nodes[0].change(Rekey())
    net.settle()
    nodes[0].say(b"three")
    net.settle()
    assert [(each.epoch, each.content) for each in nodes[1].delivered] == [(1, b"one"), (1, b"two"), (2, b"three")]
    old = next(entry for entry in net.rooms[ROOM].entries if entry.kind == EntryKind.APPLICATION)
    nodes[1].give(old)
    assert nodes[1].faults[-1].code == "replay"


# --- restored backups --------------------------------------------------------------------------------------


def _restored(node: Node, items: dict[bytes, bytes]) -> None:
    node.items = {**items, READ_ONLY_ITEM: b""}
    node.restart()


def test_a_restored_backup_seals_nothing_until_a_new_epoch_begins() -> None:
    net, nodes = agreed(SUITE, 2)
    backup = dict(nodes[1].items)
    nodes[1].say(b"after the backup")
    net.settle()
    _restored(nodes[1], backup)
    nodes[1].read[ROOM] = {entry.seq for entry in net.rooms[ROOM].entries}
    with pytest.raises(NotReady):
        nodes[1].say(b"under an old number")
    with pytest.raises(NotReady):
        nodes[1].change(Leave())
    nodes[0].change(Rekey())
    net.settle()
    assert nodes[1].live.view.state is State.READY
    nodes[1].say(b"now")
    net.settle()
    assert _contents(nodes[0]) == [b"after the backup", b"now"]


def test_a_backup_of_the_inviter_makes_a_new_epoch_before_it_seals() -> None:
    net, nodes = agreed(SUITE, 2)
    _restored(nodes[0], dict(nodes[0].items))
    with pytest.raises(NotReady):
        nodes[0].say(b"under an old number")
    nodes[0].change(Rekey())
    net.settle()
    nodes[0].say(b"under a new key")
    net.settle()
    assert _contents(nodes[1]) == [b"under a new key"]


def test_a_backup_does_not_take_up_the_invitations_it_holds() -> None:
    net, nodes = agreed(SUITE, 2)
    nodes[0].change(Rekey())
    nodes[1].silent = lambda envelope: envelope.channel.kind is ChannelKind.ROOM
    net.settle()
    assert any(key.startswith(b"invite/") for key in nodes[1].items)
    _restored(nodes[1], dict(nodes[1].items))
    assert not any(key.startswith(b"invite/") for key in nodes[1].items)


def test_the_walk_of_every_call_that_has_nothing_to_do() -> None:
    net, nodes = agreed(SUITE, 2)
    with pytest.raises(UsageError) as refused:
        nodes[0].live.answer("accept", b"", net.now, nodes[0].rng)
    assert refused.value.code == "usage"
    assert len(nodes[0].live.export("label", b"", 16)) == 16
    with pytest.raises(NotReady):
        nodes[0].live.export("label", b"", 16, pending=True)
    assert SUITE.prekeys(nodes[0].me, 3, net.now, nodes[0].rng) == ()
    with pytest.raises(UsageError):
        SUITE.rejoin(nodes[0].me, b"", net.now, nodes[0].rng)
    assert users(2) == ["a", "b"]
    assert Channel(ChannelKind.ROOM, ROOM) == net.rooms[ROOM].entries[0].channel
