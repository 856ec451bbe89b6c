"""Rooms of suite `mls` on the net in memory: create, add, remove, rekey, races, restarts, leaving, coming back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cloister.codec.cbor import enc
from cloister.errors import PeerError, UsageError
from cloister.mls import KeyPackage, decode_message
from cloister.primitives.kdf import sha256
from cloister.protocols.interface import (
    READ_ONLY_ITEM,
    Add,
    Commit,
    EntryKind,
    Envelope,
    Leave,
    NotReady,
    Rekey,
    Remove,
    SetPolicy,
    State,
    Who,
)
from cloister.protocols.mls.room import LEAVE_MOST, RENEW_TURN
from cloister.protocols.mls.session import ADDS_MOST
from support.mls_net import MLS, MlsNet, MlsNode, dump_mls, mls_room
from support.suite_net import MAILBOX, MINUTE, POLICY, ROOM


def contents(node: MlsNode) -> list[bytes]:
    return [each.content for each in node.delivered]


def agree(nodes: list[MlsNode]) -> None:
    """All are in the same epoch with the same key, and nobody accuses anybody."""
    assert {node.live.view.state for node in nodes} == {State.READY}
    assert len({(node.live.view.epoch, node.live.view.roster, node.live.view.key_check) for node in nodes}) == 1
    assert len({node.live.export("x", b"y", 32) for node in nodes}) == 1
    assert [fault for node in nodes for fault in node.faults] == []


@pytest.mark.parametrize("n", [2, 10])
def test_members_agree_and_read_each_other(n: int) -> None:
    net, nodes = mls_room(n)
    agree(nodes)
    for node in nodes:
        node.say(node.name.encode())
    net.settle()
    for node in nodes:
        assert contents(node) == [other.name.encode() for other in nodes if other is not node]
    assert {each.sender for each in nodes[0].delivered} == {node.name for node in nodes[1:]}


def test_a_room_is_posted_at_once_with_an_empty_payload_and_the_token_of_epoch_0() -> None:
    net, (alone,) = mls_room(1)
    (entry,) = net.rooms[ROOM].entries
    assert (entry.kind, entry.payload, entry.next_token_hash) == (EntryKind.CREATE, b"", sha256(alone.token))
    assert alone.live.view.state is State.READ_ONLY
    with pytest.raises(NotReady):
        alone.say(b"to nobody")


def test_who_is_alone_and_asks_somebody_in_is_pending() -> None:
    net, (a,) = mls_room(1)
    b = net.member("b", 1, packages=0)
    net.packages.clear()
    a.change(Add(b.name))
    net.settle()
    assert (a.live.view.state, a.live.view.missing) == (State.PENDING, (b.name,))
    assert a.live.view.pending_changes == ()
    b.publish(1)
    net.pass_time(MINUTE)
    net.settle()
    agree([a, b])


def test_one_commit_adds_removes_and_sets_the_policy() -> None:
    net, (a, b, c) = mls_room(3)
    d = net.member("d", 3)
    policy = POLICY.__class__(title="four", owners=("a",), may_add=Who.OWNERS)
    before = len(net.rooms[ROOM].entries)
    a.change(Add(d.name), Remove(b.name), SetPolicy(policy))
    net.settle()
    assert len(net.rooms[ROOM].entries) == before + 1
    agree([a, c, d])
    assert {node.live.view.policy for node in (a, c, d)} == {policy}
    assert b.live.view.state is State.REMOVED


def test_a_removed_member_reads_nothing_after_and_stores_nothing_of_the_group() -> None:
    net, (a, b, c) = mls_room(3)
    a.say(b"before")
    net.settle()
    a.change(Remove(c.name))
    net.settle()
    a.say(b"after")
    net.settle()
    assert contents(b) == [b"before", b"after"]
    assert contents(c) == [b"before"]
    assert set(c.items) == {b"room"}
    with pytest.raises(NotReady):
        c.say(b"still here")
    with pytest.raises(NotReady):
        c.live.export("x", b"", 32)
    agree([a, b])


def test_a_newcomer_reads_nothing_before() -> None:
    net, (a, b) = mls_room(2)
    a.say(b"old")
    c = net.member("c", 2)
    b.change(Add(c.name))
    net.settle()
    a.say(b"new")
    net.settle()
    assert contents(c) == [b"new"]
    agree([a, b, c])


def test_rekey_changes_the_key() -> None:
    net, nodes = mls_room(3)
    before = nodes[0].live.view.key_check
    nodes[1].change(Rekey())
    net.settle()
    agree(nodes)
    assert nodes[0].live.view.key_check != before


def test_of_two_commits_the_first_in_the_log_wins_and_the_other_is_dropped() -> None:
    net, nodes = mls_room(3)
    nodes[0].change(Rekey())
    nodes[1].change(Rekey())
    assert nodes[1].live.view.pending_changes == (Rekey(),)
    net.settle()
    agree(nodes)
    assert nodes[1].live.view.pending_changes == ()
    assert [name for name, _ in net.refused] == [nodes[1].name]
    nodes[1].change(Rekey())
    net.settle()
    agree(nodes)


def test_the_pending_epochs_exporter_is_the_next_epochs() -> None:
    net, nodes = mls_room(2)
    nodes[0].change(Rekey())
    coming = nodes[0].live.export("x", b"y", 32, pending=True)
    assert coming != nodes[0].live.export("x", b"y", 32)
    net.settle()
    assert coming == nodes[1].live.export("x", b"y", 32)
    with pytest.raises(NotReady):
        nodes[0].live.export("x", b"y", 32, pending=True)


def test_only_one_change_is_under_way() -> None:
    net, nodes = mls_room(2)
    nodes[0].change(Rekey())
    with pytest.raises(NotReady):
        nodes[0].change(Rekey())
    net.settle()


def test_a_commit_that_the_relay_refused_is_forgotten() -> None:
    net, nodes = mls_room(2)
    effects = nodes[0].live.change([Rekey()], net.now, nodes[0].rng)
    commit = effects[-1]
    nodes[0].apply(effects[:-1])
    nodes[0].apply(nodes[0].live.answer("commit-refused", commit.entry_id, net.now, nodes[0].rng))  # type: ignore[union-attr]
    assert nodes[0].live.view.pending_changes == ()
    nodes[0].restart()
    nodes[0].change(Rekey())
    net.settle()
    agree(nodes)


def test_every_device_goes_on_after_a_restart_at_any_moment() -> None:
    net = MlsNet()
    nodes = [net.member(user, index) for index, user in enumerate("abc")]
    nodes[0].create(ROOM, POLICY)
    nodes[0].restart()
    nodes[0].change(*(Add(node.name) for node in nodes[1:]))
    for _ in range(200):
        for node in nodes:
            node.restart()
        if not any(node.step() for node in nodes):
            break
    for node in nodes:
        node.say(b"from " + node.me.device.encode())
        node.restart()
    net.settle()
    nodes[1].change(Rekey())
    nodes[1].restart()
    net.settle()
    agree(nodes)
    assert [len(node.delivered) for node in nodes] == [2, 2, 2]


def test_a_change_that_waits_for_packages_survives_a_restart() -> None:
    net, nodes = mls_room(2)
    c = net.member("c", 2)
    nodes[0].offline = True
    nodes[0].change(Add(c.name))
    assert nodes[0].live.view.missing == (c.name,)
    nodes[0].offline = False
    nodes[0].restart()
    net.settle()
    agree([*nodes, c])


def test_a_member_leaves_and_another_carries_it_out() -> None:
    net, nodes = mls_room(3)
    nodes[1].change(Leave())
    with pytest.raises(NotReady):
        nodes[1].say(b"one more thing")
    net.settle([*nodes])
    assert nodes[0].live.view.state is State.FROZEN
    nodes[0].restart()
    net.pass_time(2_000)
    net.settle()
    assert nodes[1].live.view.state is State.REMOVED
    agree([nodes[0], nodes[2]])
    name = nodes[1].name.encode()
    assert all(name not in entry.payload for entry in net.rooms[ROOM].entries if entry.kind is EntryKind.HANDSHAKE)


def test_who_was_put_out_and_asked_in_again_while_away_comes_back() -> None:
    net, (a, b, c) = mls_room(3)
    a.change(Remove(c.name))
    net.settle([a, b])
    a.change(Add(c.name))
    net.settle([a, b])
    net.settle()
    agree([a, b, c])
    a.say(b"welcome back")
    net.settle()
    assert contents(c) == [b"welcome back"]


def test_a_device_that_the_realm_revoked_is_named_and_put_out_by_anybody() -> None:
    net, (a, b, c) = mls_room(3)
    net.directory.refuse(c.name, "revoked")
    with pytest.raises(NotReady) as caught:
        b.say(b"who hears this")
    assert (caught.value.state, caught.value.missing) == (State.FROZEN, (c.name,))
    b.change(Remove(c.name))
    net.settle([a, b])
    agree([a, b])


def test_a_commit_takes_the_revoked_along() -> None:
    net, (a, b, c) = mls_room(3)
    net.directory.refuse(c.name, "not_in_manifest")
    b.change(Rekey())
    net.settle([a, b])
    assert a.live.view.roster == (a.name, b.name)
    agree([a, b])


def test_an_expired_member_stays_and_may_not_be_added() -> None:
    net, (a, b, c) = mls_room(3)
    net.directory.refuse(c.name, "expired")
    b.change(Rekey())
    net.settle()
    agree([a, b, c])
    d = net.member("d", 3)
    a.change(Add(d.name))
    net.settle()
    agree([a, b, c, d])
    e = net.member("e", 4)
    net.directory.refuse(e.name, "expired")
    with pytest.raises(UsageError) as caught:
        a.change(Add(e.name))
    assert caught.value.code == "expired"


def test_a_package_of_somebody_else_names_its_owner_and_the_others_enter() -> None:
    net, (a, b) = mls_room(2)
    c, d = net.member("c", 2), net.member("d", 3)
    net.packages[c.name] = list(net.packages[d.name])
    a.change(Add(c.name), Add(d.name))
    net.settle()
    assert {(fault.code, fault.peer, fault.check) for fault in a.faults} == {("identity_changed", c.name, "GRP-11")}
    a.faults.clear()
    agree([a, b, d])


def test_what_a_restored_backup_sends_is_nothing_until_a_new_epoch_begins() -> None:
    net, (a, b) = mls_room(2)
    copy = {**b.items, READ_ONLY_ITEM: b""}
    b.items[READ_ONLY_ITEM] = b""
    b.session = MLS.restore(b.me, copy)
    assert b.live.view.state is State.READ_ONLY
    for attempt in (lambda: b.say(b"x"), lambda: b.change(Rekey())):
        with pytest.raises(NotReady):
            attempt()
    a.change(Rekey())
    net.settle()
    agree([a, b])
    assert READ_ONLY_ITEM not in b.items


def test_wishes_that_the_policy_or_the_roster_forbids_are_refused_at_once() -> None:
    net, (a, b) = mls_room(2)
    c = net.member("c", 2)
    for changes, code in (
        ([Remove(a.name)], "not_allowed"),
        ([SetPolicy(POLICY)], "not_allowed"),
        ([Add(a.name)], "roster"),
        ([Remove(c.name)], "roster"),
        ([Remove(b.name)], "usage"),
        ([], "usage"),
        ([Leave(), Rekey()], "usage"),
        ([Add("cloister://home/u/nobody/d/phone")], "unknown_sender"),
    ):
        with pytest.raises(UsageError) as caught:
            b.change(*changes)
        assert caught.value.code == code
    assert b.live.view.pending_changes == ()


def test_a_room_has_a_limit_of_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    net, (a, b) = mls_room(2)
    c, d = net.member("c", 2), net.member("d", 3)
    monkeypatch.setattr("cloister.protocols.mls.rules.MEMBERS", 3)
    with pytest.raises(UsageError) as caught:
        a.change(Add(c.name), Add(d.name))
    assert caught.value.code == "quota"
    a.change(Add(c.name))
    net.settle()
    agree([a, b, c])
    a.change(Remove(b.name), Add(d.name))
    net.settle()
    agree([a, c, d])


def test_who_has_no_place_in_one_commit_enters_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloister.protocols.mls.session.ADDS_MOST", 10)
    _, nodes = mls_room(24)
    agree(nodes)
    assert [len(items) for items in invited(nodes[0])] == [10, 10, 3]


def test_an_invitation_stays_small_however_many_are_in_the_room() -> None:
    net, nodes = mls_room(3)
    few = max(len(body) for items in invited(nodes[0]) for _, _, body in items)
    more = [net.member(f"m{index:02}", index) for index in range(3, 24)]
    nodes[0].change(*(Add(node.name) for node in more))
    net.settle()
    agree([*nodes, *more])
    many = max(len(body) for items in invited(nodes[0]) for _, _, body in items)
    assert many < few + 256 < 1_600
    assert all(node.name.encode() not in each for each in net.group_infos.values() for node in nodes)


def test_a_welcome_without_the_tree_beside_its_commit_leads_nowhere() -> None:
    net, (a, b) = mls_room(2)
    c = net.member("c", 2)
    a.change(Add(c.name))
    beside = dict(net.group_infos)
    net.group_infos.clear()
    net.settle([c])
    assert ([fault.code for fault in c.faults], c.session) == (["no_session"], None)
    invitation = Envelope(channel=MAILBOX, kind="welcome", payload=invited(a)[-1][0][2], sender=a.name)
    (package,) = (each for each in c.own.values() if each.ref in invitation.payload)
    for sealed, code in ((bytes(64), "bad_tag"), (next(iter(beside.values())), "bad_tag")):
        with pytest.raises(PeerError) as caught:
            MLS.join(c.me, replace(invitation, attachments=sealed), package, net.now, c.rng)
        assert caught.value.code == code
    c.faults.clear()
    net.group_infos |= beside
    c.give(invitation)
    net.settle()
    agree([a, b, c])


def test_who_comes_back_by_a_welcome_without_its_tree_waits_for_the_next() -> None:
    net, (a, b, c) = mls_room(3)
    a.change(Remove(c.name))
    net.settle()
    a.change(Add(c.name))
    net.group_infos.clear()
    net.settle()
    assert ([(fault.code, fault.peer) for fault in c.faults], c.live.view.state) == (
        [("no_session", a.name)],
        State.REMOVED,
    )
    c.faults.clear()
    a.change(Remove(c.name))
    net.settle()
    a.change(Add(c.name))
    net.settle()
    agree([a, b, c])


def test_who_comes_back_and_gets_an_altered_tree_says_whose_invitation_it_was() -> None:
    net, (a, _, c) = mls_room(3)
    a.change(Remove(c.name))
    net.settle()
    a.change(Add(c.name))
    net.group_infos = {token: sealed[:-1] + bytes([sealed[-1] ^ 1]) for token, sealed in net.group_infos.items()}
    net.settle()
    assert [(fault.code, fault.peer) for fault in c.faults] == [("bad_tag", a.name)]
    assert (c.live.view.state, c.mls.held, c.mls.beside) == (State.REMOVED, {}, {})


def test_answers_that_nobody_waits_for_change_nothing() -> None:
    net, (a, _) = mls_room(2)
    before, view = dump_mls(a.mls), a.live.view
    for ask, value in (
        ("prekeys", enc([])),
        ("prekey", enc(b"", b"", bytes(32), 0, False)),
        ("group info", enc(bytes(32), b"x")),
        ("commit-refused", bytes(16)),
    ):
        assert a.live.answer(ask, value, net.now, a.rng) == ()
    with pytest.raises(UsageError):
        a.live.answer("accept", b"\x01", net.now, a.rng)
    assert (dump_mls(a.mls), a.live.view) == (before, view)


def test_nobody_leaves_alone_or_twice() -> None:
    net, (alone,) = mls_room(1)
    with pytest.raises(UsageError) as caught:
        alone.change(Leave())
    assert caught.value.code == "not_ready"
    net, (_, b, _) = mls_room(3)
    b.change(Leave())
    net.settle([b])
    with pytest.raises(NotReady):
        b.change(Leave())


def test_in_a_large_room_the_last_of_all_commits_a_leaving_within_two_minutes() -> None:
    net, nodes = mls_room(40)
    nodes[0].change(Leave())
    last = nodes[-1]
    net.settle([nodes[0], last])
    net.pass_time(LEAVE_MOST)
    net.settle([nodes[0], last])
    assert last.live.view.state is State.READY
    assert nodes[0].name not in last.live.view.roster


# --- packages of last resort --------------------------------------------------------------------------------


def with_last_resort(may_rekey: Who = Who.MEMBERS) -> tuple[MlsNet, list[MlsNode], MlsNode]:
    """A room of two, and a third that enters by its package of last resort."""
    net, nodes = mls_room(2, policy=replace(POLICY, may_rekey=may_rekey))
    c = net.member("c", 2, packages=0)
    nodes[0].change(Add(c.name))
    return net, nodes, c


def leaf_keys(node: MlsNode) -> dict[str, bytes]:
    return {node.mls.devices[index]: leaf.encryption_key for index, leaf in node.mls.group.members()}


def test_who_enters_by_a_package_of_last_resort_renews_its_leaf_when_its_turn_comes() -> None:
    net, nodes, c = with_last_resort()
    package = decode_message(c.own[next(iter(c.own))].public)
    assert isinstance(package, KeyPackage)
    net.settle()
    assert c.live.view.epoch == 2
    net.pass_time(2 * RENEW_TURN)
    net.settle()
    agree([*nodes, c])
    assert leaf_keys(nodes[0])[c.name] != package.leaf_node.encryption_key
    epoch = c.live.view.epoch
    assert epoch == 3
    assert len(c.own) == 1
    nodes[0].change(Rekey())
    net.settle()
    assert c.live.view.epoch == epoch + 1, "once"
    agree([*nodes, c])


def test_a_renewal_survives_restarts_and_a_lost_race() -> None:
    net, nodes, c = with_last_resort()
    while not c.mls_entered():
        net.settle([*nodes])
        c.step()
    before = leaf_keys(c)[c.name]
    c.restart()
    nodes[1].change(Rekey())
    net.settle(nodes)
    net.settle()
    net.pass_time(2 * RENEW_TURN)
    net.settle()
    agree([*nodes, c])
    assert leaf_keys(nodes[0])[c.name] != before


def test_newcomers_by_packages_of_last_resort_renew_in_turns() -> None:
    net, nodes = mls_room(2)
    many = [net.member(f"m{number}", number, packages=0) for number in range(2, 12)]
    nodes[0].change(*(Add(node.name) for node in many))
    for _ in range(12):
        net.settle()
        net.pass_time(RENEW_TURN)
    agree([*nodes, *many])
    commits = [each for node in many for effects in node.effects for each in effects if isinstance(each, Commit)]
    assert len(commits) == len(many), "nobody's was in vain"
    assert nodes[0].live.view.epoch == 2 + len(many)


def test_who_does_not_count_any_more_says_so_instead_of_renewing() -> None:
    net, nodes, c = with_last_resort()
    while not c.mls_entered():
        net.settle(nodes)
        c.step()
    net.directory.refuse(c.name, "expired")
    net.settle()
    net.pass_time(2 * RENEW_TURN)
    net.settle()
    assert {fault.code for fault in c.faults} == {"expired"}
    assert (c.live.view.state, c.live.view.epoch) == (State.READY, 2)


def test_who_may_not_rekey_renews_nothing() -> None:
    net, nodes, c = with_last_resort(Who.OWNERS)
    net.settle()
    agree([*nodes, c])
    assert c.live.view.epoch == 2


def test_a_device_without_packages_does_not_keep_the_others_out() -> None:
    net, (a, b) = mls_room(2)
    c, d = net.member("c", 2), net.member("d", 3)
    net.packages[c.name] = []
    a.change(Add(c.name), Add(d.name))
    net.settle()
    agree([a, b, d])
    assert a.live.view.missing == (c.name,)
    c.publish(1)
    net.pass_time(MINUTE)
    net.settle()
    agree([a, b, c, d])


def invited(node: MlsNode) -> list[tuple[tuple[str, str, bytes], ...]]:
    """The invitations of each commit that the device made."""
    return [each.sealed for effects in node.effects for each in effects if isinstance(each, Commit) and each.sealed]


@pytest.mark.slow
def test_three_hundred_devices_agree() -> None:
    net, nodes = mls_room(300)
    agree(nodes)
    assert [len(items) for items in invited(nodes[0])] == [ADDS_MOST, 299 - ADDS_MOST]
    assert max(len(body) for items in invited(nodes[0]) for _, _, body in items) < 2_000
    nodes[250].change(Rekey())
    nodes[0].say(b"to all")
    net.settle()
    agree(nodes)
