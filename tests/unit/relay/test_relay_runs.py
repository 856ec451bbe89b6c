"""Runs at the relay: who may open one, how many, until when, and what its log takes."""

from __future__ import annotations

import pytest

from cloister.primitives.kdf import sha256
from cloister.wire import frames, limits
from cloister.wire.frames import REALM_LOG, Ack, Done, OpenRun
from support.relays import Client, World, item

ROOM, RUN = b"R" * 16, b"U" * 16
T0, T1, ACCESS = (bytes([n]) * 32 for n in range(1, 4))


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


def a_run(
    client: Client,
    run: bytes = RUN,
    room: bytes | None = None,
    *,
    ahead: int = 1000,
    items: tuple[frames.Mail, ...] = (),
) -> OpenRun:
    deadline = client.world.now + ahead
    return OpenRun(
        rid=client.next(), run=run, room=room, token_hash=sha256(ACCESS), deadline=deadline, items=list(items)
    )


# --- refused ------------------------------------------------------------------------------------------------


def test_a_run_for_a_room_needs_its_current_token(world: World, ann: Client) -> None:
    bob = world.client("bob")
    assert bob.refused(a_run(bob, room=ROOM)) == "not_allowed"
    bob.present(ROOM, T0)
    ann.ask(ann.a_commit(ROOM, T0, T1, eid(1)), Ack)
    assert bob.refused(a_run(bob, room=ROOM)) == "stale_epoch"
    bob.present(ROOM, T1)
    bob.ask(a_run(bob, room=ROOM), Done)


def test_a_run_is_not_a_room_for_another_run(world: World, ann: Client) -> None:
    ann.ask(a_run(ann), Done)
    ann.present(RUN, ACCESS)
    assert ann.refused(a_run(ann, eid(2), room=RUN)) == "not_allowed"
    assert ann.refused(ann.a_commit(RUN, ACCESS, T1, eid(3))) == "not_allowed"
    assert ann.refused(ann.a_commit(RUN, None, T1, eid(3))) == "conflict"


@pytest.mark.parametrize("run", [REALM_LOG, ROOM])
def test_a_runs_id_is_its_own(ann: Client, run: bytes) -> None:
    assert ann.refused(a_run(ann, run)) == "conflict"


def test_a_runs_id_is_taken_once(world: World, ann: Client) -> None:
    frame = a_run(ann)
    ann.ask(frame, Done)
    ann.ask(frame, Done)
    assert ann.refused(a_run(ann, ahead=999)) == "conflict"
    world.start()
    again = world.client("ann")
    again.ask(frame, Done)
    assert again.refused(a_run(again, ahead=999)) == "conflict"


def test_a_deadline_is_at_most_a_day_ahead(ann: Client) -> None:
    assert ann.refused(a_run(ann, ahead=limits.RUN_LIFE.value + 1)) == "timeout"
    assert ann.refused(a_run(ann, ahead=0)) == "timeout"
    ann.ask(a_run(ann, ahead=limits.RUN_LIFE.value), Done)


def test_nothing_is_posted_after_the_deadline_but_reading_goes_on(world: World, ann: Client) -> None:
    ann.ask(a_run(ann, ahead=1000), Done)
    assert ann.present(RUN, ACCESS).head.seq == 0
    world.now += 1000
    assert ann.post(RUN, ACCESS, eid(1), kind="handshake") == 1
    world.now += 1
    assert ann.refused(ann.a_post(RUN, ACCESS, eid(2))) == "timeout"
    assert ann.post(RUN, ACCESS, eid(1), kind="handshake") == 1
    assert [entry.epoch for entry in world.client("bob").present(RUN, ACCESS).entries] == [0]


def test_a_run_takes_256_entries(ann: Client) -> None:
    ann.ask(a_run(ann), Done)
    ann.present(RUN, ACCESS)
    for number in range(limits.RUN_ENTRIES.value):
        ann.post(RUN, ACCESS, eid(number))
    assert ann.refused(ann.a_post(RUN, ACCESS, eid(999))) == "quota"


def test_a_room_has_four_open_runs_for_its_epoch() -> None:
    world = World(names=tuple("abcdef"))
    clients = [world.client(name) for name in world.names]
    clients[0].create(ROOM, T0)
    for number, client in enumerate(clients):
        client.present(ROOM, T0)
        frame = a_run(client, eid(number + 1), ROOM)
        if number < limits.RUNS_PER_ROOM.value:
            client.ask(frame, Done)
        else:
            assert client.refused(frame) == "quota"
    clients[0].ask(a_run(clients[0], eid(50), ROOM), Done)  # takes the place of its proposer's first
    world.now += 1001
    clients[5].ask(a_run(clients[5], eid(51), ROOM), Done)  # the others' deadlines are over


def test_runs_of_an_earlier_epoch_do_not_count(world: World, ann: Client) -> None:
    for number, name in enumerate(("ann", "bob", "cy")):
        client = world.client(name)
        client.present(ROOM, T0)
        client.ask(a_run(client, eid(number + 1), ROOM), Done)
    ann.ask(ann.a_commit(ROOM, T0, T1, eid(1)), Ack)
    world.start()
    for number, name in enumerate(("ann", "bob", "cy")):
        client = world.client(name)
        client.present(ROOM, T1)
        client.ask(a_run(client, eid(number + 10), ROOM), Done)


def test_a_device_has_sixty_four_open_runs_without_a_room(world: World, ann: Client) -> None:
    for number in range(limits.RUNS_PER_DEVICE.value):
        ann.ask(a_run(ann, eid(number + 1)), Done)
    assert ann.refused(a_run(ann, eid(99))) == "quota"
    world.now += 1001
    ann.ask(a_run(ann, eid(99)), Done)


def test_a_run_whose_mail_is_refused_is_not_opened(world: World, ann: Client) -> None:
    bad = frames.Mail(device="cloister://home.example/u/nobody/d/one", item_id=eid(1), body=b"m0")
    assert ann.refused(a_run(ann, items=(bad,))) == "unknown_sender"
    assert ann.refused(frames.Present(rid=ann.next(), log=RUN, token=ACCESS, after=0)) == "not_allowed"
    ann.ask(a_run(ann), Done)


# --- carried out --------------------------------------------------------------------------------------------


def test_a_runs_first_message_is_in_the_mailboxes_when_it_is_open(world: World, ann: Client) -> None:
    bob = world.client("bob")
    bob.ask(frames.MailOpen(rid=bob.next(), after=0), Done)
    ann.say(a_run(ann, items=(item(world.people["bob"], eid(1), b"m0"),)))
    assert bob.hear() == []
    world.step()
    (mailed,) = bob.hear()
    assert isinstance(mailed, frames.Mailed)
    assert [each.body for each in mailed.items] == [b"m0"]


def test_followers_of_a_run_get_its_entries(world: World, ann: Client) -> None:
    ann.ask(a_run(ann), Done)
    ann.present(RUN, ACCESS)
    bob = world.client("bob")
    page = bob.present(RUN, ACCESS)
    chain = world.chain(RUN).extend(page.entries, page.head, world.head_keys)
    for number in range(3):
        ann.post(RUN, ACCESS, eid(number), kind="handshake")
    for frame in bob.hear():
        assert isinstance(frame, frames.Pushed)
        chain = chain.extend(frame.entries, frame.head, world.head_keys)
    assert chain.seq == 3
