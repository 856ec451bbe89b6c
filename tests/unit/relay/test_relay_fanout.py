"""Following logs: no gaps, one frame for all, and readers that fall behind."""

from __future__ import annotations

import pytest

from cloister.wire import frames, limits
from cloister.wire.frames import Ack, Behind, Done, Forget, Present, Pushed
from support.relays import Client, World

ROOM, T0, T1 = b"R" * 16, bytes([1]) * 32, bytes([2]) * 32


def eid(number: int) -> bytes:
    return number.to_bytes(16, "big")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def ann(world: World) -> Client:
    client = world.client("ann")
    client.create(ROOM, T0)
    client.present(ROOM, T0)
    return client


@pytest.fixture
def bob(world: World, ann: Client) -> Client:
    client = world.client("bob")
    client.present(ROOM, T0)
    return client


def seqs(client: Client) -> list[int]:
    return [entry.seq for frame in client.hear() if isinstance(frame, Pushed) for entry in frame.entries]


def test_a_connection_follows_1024_logs(world: World) -> None:
    ann = world.client("ann")
    for number in range(1, limits.SUBSCRIPTIONS.value + 2):
        world.now += limits.DAY // limits.USER_ROOMS.value
        ann.ask(ann.a_commit(eid(number), None, T0, eid(1)), Ack)
        frame = Present(rid=ann.next(), log=eid(number), token=T0, after=0)
        if number <= limits.SUBSCRIPTIONS.value:
            ann.ask(frame, frames.Page)
        else:
            assert ann.refused(frame) == "quota"
            ann.ask(Forget(rid=ann.next(), log=eid(1)), Done)
            ann.ask(frame, frames.Page)


def test_all_followers_get_the_same_bytes_object(world: World, ann: Client, bob: Client) -> None:
    cy = world.client("cy")
    cy.present(ROOM, T0)
    ann.say(ann.a_post(ROOM, T0, eid(1)))
    world.step()
    assert bob.wire.sent[0] is cy.wire.sent[0]


def test_a_batch_is_pushed_as_one_frame(world: World, ann: Client, bob: Client) -> None:
    for number in range(10):
        ann.say(ann.a_post(ROOM, T0, eid(number)))
    world.step()
    (pushed,) = bob.hear()
    assert isinstance(pushed, Pushed)
    assert [entry.seq for entry in pushed.entries] == list(range(2, 12))


def test_a_large_batch_is_pushed_in_frames_that_verify(world: World, ann: Client, bob: Client) -> None:
    for number in range(6):
        ann.say(ann.a_post(ROOM, T0, eid(number), bytes(30_000)))
    world.step()
    chain = world.chain(ROOM).step(bob.present(ROOM, T0).entries[0])
    heard = [frame for frame in bob.hear() if isinstance(frame, Pushed)]
    cy = world.client("cy")
    cy.present(ROOM, T0)
    for frame in heard:
        assert len(frames.encode(frame)) <= limits.PUSH.value + 1024
        chain = chain.extend(frame.entries, frame.head, world.head_keys)
    assert (len(heard), chain.seq) == (3, 7) if heard else (0, 1)


def test_pushes_of_one_batch_are_split_at_the_limit(world: World, ann: Client, bob: Client) -> None:
    for number in range(6):
        ann.say(ann.a_post(ROOM, T0, eid(number), bytes(30_000)))
    world.step()
    heard = bob.hear()
    chain = world.chain(ROOM)
    chain = chain.step(world.client("cy").present(ROOM, T0).entries[0])
    for frame in heard:
        assert isinstance(frame, Pushed)
        chain = chain.extend(frame.entries, frame.head, world.head_keys)
        assert chain.seq == frame.head.seq
    assert [len(frame.entries) for frame in heard if isinstance(frame, Pushed)] == [2, 2, 2]


def test_an_entry_at_the_limit_is_pushed_and_a_larger_one_announced(world: World, ann: Client, bob: Client) -> None:
    ann.post(ROOM, T0, eid(1), bytes(limits.PUSH.value))
    assert seqs(bob) == [2]
    ann.ask(ann.a_commit(ROOM, T0, T1, eid(2), payload=bytes(limits.PUSH.value + 1)), Ack)
    assert bob.hear() == [Behind(log=ROOM, seq=3)]
    assert [entry.seq for entry in bob.present(ROOM, T0, after=2).entries] == [3]


def test_a_slow_reader_is_told_once_and_the_others_go_on(world: World, ann: Client, bob: Client) -> None:
    cy = world.client("cy")
    cy.present(ROOM, T0)
    bob.wire.waiting = limits.SEND_BUFFER.value
    for number in range(5):
        ann.post(ROOM, T0, eid(number))
    assert seqs(cy) == [2, 3, 4, 5, 6]
    assert bob.wire.sent == []
    bob.wire.waiting = limits.SEND_BUFFER.value - 1
    world.core.drained(bob.wire, world.now)
    assert bob.hear() == [Behind(log=ROOM, seq=6)]
    bob.wire.waiting = 0
    ann.post(ROOM, T0, eid(9))
    assert bob.hear() == []
    assert [entry.seq for entry in bob.present(ROOM, T0, after=1).entries] == [2, 3, 4, 5, 6, 7]
    ann.post(ROOM, T0, eid(10))
    assert seqs(bob) == [8]


def test_a_frame_that_does_not_fit_beside_what_waits_is_announced(world: World, ann: Client, bob: Client) -> None:
    bob.wire.waiting = 1
    ann.post(ROOM, T0, eid(1), bytes(limits.SEND_BUFFER.value))
    assert bob.hear() == [Behind(log=ROOM, seq=2)]


def test_an_idle_reader_gets_a_frame_of_any_size(world: World, ann: Client, bob: Client) -> None:
    ann.post(ROOM, T0, eid(1), bytes(limits.RECORD.value))
    assert seqs(bob) == [2]


def test_who_has_read_half_a_log_is_not_pushed_its_end(world: World, ann: Client) -> None:
    for number in range(5):
        ann.post(ROOM, T0, eid(number), bytes(60_000))
    bob = world.client("bob")
    page = bob.present(ROOM, T0)
    assert page.more
    ann.post(ROOM, T0, eid(9))
    assert bob.hear() == []
    rest = bob.present(ROOM, T0, after=page.entries[-1].seq)
    assert [rest.more, rest.entries[-1].seq] == [False, 7]
    ann.post(ROOM, T0, eid(10))
    assert seqs(bob) == [8]


def test_forgetting_a_log_ends_pushes_and_access(world: World, ann: Client, bob: Client) -> None:
    bob.ask(Forget(rid=bob.next(), log=ROOM), Done)
    bob.ask(Forget(rid=bob.next(), log=ROOM), Done)
    ann.post(ROOM, T0, eid(1))
    assert bob.hear() == []
    assert bob.refused(bob.a_post(ROOM, T0, eid(2))) == "not_allowed"


def test_a_page_beyond_the_newest_entry_waits_for_what_comes_after(world: World, ann: Client) -> None:
    bob = world.client("bob")
    assert bob.present(ROOM, T0, after=3).head.seq == 1
    ann.post(ROOM, T0, eid(1))
    assert bob.hear() == []


def test_a_busy_connection_is_one_with_much_waiting_or_under_way(world: World, ann: Client) -> None:
    assert not world.core.busy(ann.wire)
    ann.wire.waiting = limits.SEND_BUFFER.value
    assert world.core.busy(ann.wire)
    ann.wire.waiting = 0
    for number in range(limits.IN_FLIGHT.value):
        assert not world.core.busy(ann.wire)
        ann.say(ann.a_post(ROOM, T0, eid(number)))
    assert world.core.busy(ann.wire)
    world.step()
    assert not world.core.busy(ann.wire)


def test_a_peer_that_leaves_before_the_commit_gets_nothing(world: World, ann: Client, bob: Client) -> None:
    bob.hear()
    bob.say(bob.a_post(ROOM, T0, eid(1)))
    bob.say(frames.Deposit(rid=9, mail=frames.Mail(device=world.people["ann"].id, item_id=eid(1), body=b"x")))
    world.core.disconnect(bob.wire, world.now)
    world.step()
    assert [frame for frame in bob.hear() if isinstance(frame, Ack | Pushed)] == []
    assert ann.post(ROOM, T0, eid(2)) == 3
