"""Suite `nonces`: the commit (M4), each of its checks, races, and commits that come before the run's log is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import pytest

from cloister.codec.cbor import Fields, enc
from cloister.primitives.labelled import mac
from cloister.protocols.interface import (
    Add,
    ChannelKind,
    Envelope,
    EpochChanged,
    Fault,
    Rekey,
    Session,
    SignedHead,
    State,
)
from support.insider import SUITE
from support.suite_net import DAY, MINUTE, ROOM, Net, Node, agreed, assembly, refusal, seeded


@dataclass
class Ready:
    """A rekey that is agreed and not committed: the victim's items, and the commit that stands in the log."""

    node: Node
    items: dict[bytes, bytes]
    commit: Envelope
    now: int

    def session(self) -> Session:
        return SUITE.restore(self.node.me, self.items)

    def altered(self, alter: Callable[[list[object]], None]) -> Envelope:
        fields = Fields.decode(self.commit.payload, "commit")
        items = [fields.any(str(i)) for i in range(6)]
        alter(items)
        items[5] = self.parent_tag(*items[1:5])
        return replace(self.commit, payload=enc(*items))

    def parent_tag(self, *bound: object) -> bytes:
        """The MAC of a member of the epoch that the commit ends."""
        key = self.session().export("commit", b"", 32)
        return mac(key, "nonces commit parent", *bound)


@cache
def ready() -> Ready:
    net, nodes = agreed(SUITE, 3, "commit")
    victim = nodes[1]
    victim.silent = lambda envelope: envelope.channel.kind is ChannelKind.ROOM
    nodes[0].change(Rekey())
    net.settle()
    return Ready(victim, dict(victim.items), net.rooms[ROOM].entries[-1], net.now)


def test_a_control_the_commit_begins_the_epoch() -> None:
    session = ready().session()
    effects = session.receive(ready().commit, ready().now, seeded(1))
    (changed,) = [effect for effect in effects if isinstance(effect, EpochChanged)]
    assert (changed.epoch, changed.state, changed.began_by) == (2, State.READY, ready().commit.seq)


def test_a_commit_against_another_epoch_is_refused() -> None:  # COM-01
    envelope = replace(ready().commit, token_hash=bytes(32))
    refusal(ready().session(), envelope, code="stale_epoch", check="COM-01")


def test_a_commit_whose_run_log_differs_is_refused() -> None:  # COM-02
    altered = ready().altered(lambda items: items.__setitem__(3, bytes(32)))
    refusal(ready().session(), altered, code="bad_head", check="COM-02")


@pytest.mark.parametrize("field", [2, 4], ids=["th", "mac"])
def test_a_commit_that_no_member_of_the_run_made_is_refused(field: int) -> None:  # COM-03
    altered = ready().altered(lambda items: items.__setitem__(field, bytes(32)))
    refusal(ready().session(), altered, code="confirm_mismatch", check="COM-03")


def test_a_commit_with_another_token_is_refused() -> None:  # COM-04
    for token in (bytes(32), None):
        envelope = replace(ready().commit, next_token_hash=token)
        refusal(ready().session(), envelope, code="wrong_context", check="COM-04")


def test_a_commit_of_another_form_is_refused() -> None:
    for payload in (b"", b"\x80", enc("commit"), enc("omit", bytes(16), bytes(32), bytes(32), bytes(32))):
        refusal(ready().session(), replace(ready().commit, payload=payload), code="bad_encoding")


def test_a_commit_of_another_room_is_refused() -> None:
    envelope = replace(ready().commit, channel=replace(ready().commit.channel, id=bytes(16)))
    refusal(ready().session(), envelope, code="misrouted")


def test_a_commit_before_the_head_that_the_inviter_vouched_for_is_refused() -> None:  # COM-05
    net, nodes = agreed(SUITE, 2, "joined")
    nodes[0].say(b"one")
    net.settle()
    new = net.node(SUITE, "c", 2)
    new.silent = lambda envelope: envelope.channel.kind is ChannelKind.ROOM
    nodes[0].change(Add(new.name))
    net.settle()
    commit = net.rooms[ROOM].entries[-1]
    head = net.rooms[ROOM].entries[1].head
    assert isinstance(head, SignedHead)
    refusal(new.live, replace(commit, seq=head.seq), code="bad_head", check="COM-05")
    new.silent = None
    net.settle()
    assert new.live.view.state is State.READY


def test_a_commit_before_all_confirms_waits_for_the_runs_log() -> None:
    net, nodes = agreed(SUITE, 3, "waits")
    slow = nodes[2]
    nodes[0].change(Rekey())

    def withheld(envelope: Envelope) -> bool:
        return envelope.channel.kind is ChannelKind.RUN and envelope.seq > 6

    slow.silent = withheld
    net.settle()
    assert nodes[0].live.view.epoch == 2, "its own confirm stands in the log, though it has not read it"
    assert slow.live.view.epoch == 1
    assert any(key.startswith(b"waiting/") for key in slow.items)
    slow.restart()
    slow.silent = None
    net.settle()
    assert slow.live.view.epoch == 2
    assert slow.faults == []


def test_a_commit_that_the_run_does_not_bear_out_is_never_confirmed() -> None:
    """The relay shows a commit while the victim's run log ends before the last confirm: the old epoch stays."""
    net, nodes = agreed(SUITE, 3, "never")
    slow = nodes[2]
    nodes[0].change(Rekey())
    slow.silent = lambda envelope: envelope.channel.kind is ChannelKind.RUN and envelope.seq > 6
    net.settle()
    assert slow.live.view.state is State.READY
    assert slow.live.view.epoch == 1


@pytest.mark.parametrize("tag", [None, bytes(32)])
def test_a_commit_that_the_relay_wrote_shuts_nobody_out(tag: bytes | None) -> None:  # COM-06
    net, nodes = agreed(SUITE, 3, "relay's commit")
    payload = enc("commit", bytes(16), bytes(32), bytes(32), bytes(32), tag)
    envelope = replace(
        net.rooms[ROOM].entries[0],
        payload=payload,
        seq=9,
        token_hash=net.rooms[ROOM].tip,
        kind="commit",
        next_token_hash=bytes(32),
    )
    refusal(nodes[1].live, envelope, net.now, code="bad_tag", check="COM-06")
    known = replace(ready().commit, payload=ready().commit.payload[:-32] + bytes(32))
    refusal(ready().session(), known, code="bad_tag", check="COM-06")


def test_a_commit_of_an_unknown_run_shuts_this_device_out() -> None:
    net, nodes = agreed(SUITE, 3, "unknown run")
    entry = net.rooms[ROOM].entries[0]
    bound = (bytes(16), bytes(32), bytes(32), bytes(32))
    tag = mac(nodes[2].live.export("commit", b"", 32), "nonces commit parent", *bound)
    payload = enc("commit", *bound, tag)
    tip = net.rooms[ROOM].tip
    envelope = replace(entry, payload=payload, seq=9, token_hash=tip, kind="commit", next_token_hash=bytes(32))
    effects = nodes[1].live.receive(envelope, net.now, seeded(1))
    assert [effect.code for effect in effects if isinstance(effect, Fault)] == ["locked_out"]
    assert nodes[1].live.view.state is State.REMOVED
    again = nodes[1].live.receive(envelope, net.now, seeded(1))
    assert [effect.code for effect in again if isinstance(effect, Fault)] == ["stale_epoch"]


def test_a_commit_of_an_unknown_run_against_nothing_is_refused() -> None:
    net, nodes = assembly(SUITE, 2, "nothing")
    payload = enc("commit", bytes(16), bytes(32), bytes(32), bytes(32), None)
    from cloister.protocols.interface import Channel

    envelope = Envelope(channel=Channel(ChannelKind.ROOM, ROOM), kind="create", payload=payload, seq=1)
    refusal(nodes[0].live, envelope, net.now, code="stale_epoch")


# --- races and turns ---


def test_of_two_runs_the_first_commit_wins_and_all_follow() -> None:
    net, nodes = agreed(SUITE, 3, "race")
    a, b, c = nodes
    a.change(Rekey())
    b.change(Rekey())
    net.settle()
    assert {node.live.view.epoch for node in nodes} == {2}
    assert len({node.live.view.key_check for node in nodes}) == 1
    assert all(not node.faults for node in nodes)
    assert all(not any(key.startswith(b"run/") for key in node.items) for node in nodes)
    c.say(b"after the race")
    net.settle()
    assert a.delivered[-1].content == b"after the race"


def test_equal_commits_by_two_members_are_one() -> None:
    net, nodes = agreed(SUITE, 3, "equal")
    a, b, c = nodes
    b.change(Rekey())
    for node in nodes:
        node.silent = lambda envelope: envelope.channel.kind is ChannelKind.ROOM
    net.settle()
    net.pass_time(20_000)
    net.settle()
    commits = [effect for _, effect in net.refused]
    assert len(commits) == 2, "the proposer's stands, the two others' found it standing"
    for node in (a, b, c):
        node.silent = None
    net.settle()
    assert {node.live.view.epoch for node in nodes} == {2}


def test_the_kth_member_commits_when_the_proposer_is_gone() -> None:
    net, nodes = agreed(SUITE, 3, "turns")
    a, b, c = nodes
    a.change(Rekey())
    _until_confirmed(net, nodes)
    a.silent = lambda envelope: True
    net.settle([b, c])
    assert b.live.view.epoch == 1
    net.pass_time(4_999)
    net.settle([b, c])
    assert b.live.view.epoch == 1, "not before its turn"
    net.pass_time(1)
    net.settle([b, c])
    assert {b.live.view.epoch, c.live.view.epoch} == {2}
    a.silent = None
    net.settle()
    assert a.live.view.key_check == b.live.view.key_check


def _until_confirmed(net: Net, nodes: list[Node]) -> None:
    """Run until all confirms stand in the run's log, read by nobody yet who could commit."""
    (log,) = [log for log in net.runs.values() if log.id in nodes[0].run_tokens]
    while len(log.entries) < 9:
        assert any([node.step() for node in nodes if len(log.entries) < 9])


def test_a_new_room_is_made_by_any_member_of_its_run() -> None:
    net, nodes = assembly(SUITE, 3, "create")
    a, b, c = nodes
    _until_confirmed(net, nodes)
    a.silent = lambda envelope: True
    net.settle([b, c])
    assert ROOM not in net.rooms
    net.pass_time(5_000)
    net.settle([b, c])
    assert b.live.view.state is State.READY
    a.silent = None
    net.settle()
    assert a.live.view.key_check == c.live.view.key_check


def test_a_confirmed_run_may_be_committed_long_after_its_deadline() -> None:
    net, nodes = agreed(SUITE, 3, "long")
    a, b, c = nodes
    a.change(Rekey())
    _until_confirmed(net, nodes)
    for node in nodes:
        node.silent = lambda envelope: True
    net.pass_time(3 * 24 * 60 * MINUTE)
    for node in nodes:
        node.wake()
        node.restart()
        node.silent = None
    net.settle()
    assert {node.live.view.epoch for node in (a, b, c)} == {2}


def test_what_is_kept_of_a_confirmed_run_goes_after_30_days() -> None:
    net, nodes = agreed(SUITE, 3, "30 days")
    a, _, c = nodes
    (first,) = net.runs
    c.silent = lambda envelope: envelope.channel.kind is ChannelKind.RUN and envelope.seq > 4
    a.change(Rekey())
    net.settle()
    (run_id,) = net.runs.keys() - {first}
    for node in nodes:
        node.silent = lambda envelope: True
    net.pass_time(2 * DAY)
    a.wake()
    assert a.faults[-1].code == "timeout"
    assert b"agreed/" + run_id in a.items, "it has sent its confirm: the run may still be committed"
    assert a.live.view.missing == ()
    net.pass_time(29 * DAY)
    a.wake()
    assert b"agreed/" + run_id not in a.items
    assert b"run/" + run_id not in a.items
