"""Rooms of suite `transport` through the engine and a relay: agreeing, changes, handing over, numbers in the store."""

from __future__ import annotations

import random

import pytest

from cloister.engine import values
from cloister.errors import CloisterError
from cloister.protocols.rounds.sequence import numbers_of
from cloister.testing.realm import SmallRealm
from cloister.wire import frames
from support.keypool import rsa_decrypt_key, rsa_signing_key
from support.world import World, live, small_realm

NAMES = ("alice", "bob", "carol")


@pytest.fixture(scope="module")
def realm() -> SmallRealm:
    return small_realm()


def _epoch(world: World, name: str, room: str) -> int:
    info = world.info(name, room)
    return info.epoch if info else 0


async def _made(world: World, suite: str = "transport") -> str:
    await world.online()
    make = values.CreateRoom(title="ops", suite=suite, members=["bob", "carol"])
    room = str((await world.devices["alice"].execute(make)).id)
    await world.until(lambda: all(_confirmed(world, name, room) for name in NAMES))
    return room


def _confirmed(world: World, name: str, room: str) -> bool:
    info = world.info(name, room)
    return info is not None and info.state == "ready" and len(info.confirmed) == 3


async def _say(world: World, name: str, room: str, text: str, to: tuple[str, ...] = NAMES) -> None:
    await world.devices[name].execute(values.Send(room=room, text=text))
    await world.until(lambda: all(text in world.texts(each) for each in to))


async def _reach(world: World, room: str, epoch: int, names: tuple[str, ...] = NAMES) -> None:
    await world.until(lambda: all(_epoch(world, name, room) == epoch for name in names))


@pytest.mark.parametrize("suite", ["transport", "transport-strict"])
def test_a_room_lives_through_every_change(suite: str, realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        room = await _made(world, suite)
        alice = world.devices["alice"]
        for name in NAMES:
            await _say(world, name, room, f"hello from {name}")
        await alice.execute(values.RekeyRoom(room=room))
        await _reach(world, room, 2)
        await alice.execute(values.RemoveMembers(room=room, users=["carol"]))
        await _reach(world, room, 3, ("alice", "bob"))
        await world.until(lambda: world.state("carol", room) == "removed")
        await alice.execute(values.AddMembers(room=room, users=["carol"]))
        await _reach(world, room, 4)
        await _say(world, "carol", room, "back")
        for name in NAMES:
            assert world.alarms(name) == []

    live(story, realm)


def test_the_inviters_role_is_handed_over(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        room = await _made(world)
        with pytest.raises(CloisterError) as refused:
            await world.devices["bob"].execute(values.RekeyRoom(room=room))
        assert refused.value.code == "not_inviter"
        for owners, code in (([], "usage"), (["mallory"], "no_user")):
            with pytest.raises(CloisterError) as refused:
                await world.devices["alice"].execute(values.SetOwners(room=room, users=owners))
            assert refused.value.code == code
        await world.devices["alice"].execute(values.SetOwners(room=room, users=["bob"]))
        await _reach(world, room, 2)
        await world.devices["bob"].execute(values.RekeyRoom(room=room))
        await _reach(world, room, 3)
        info = world.info("carol", room)
        assert info is not None
        assert info.owners == ["bob"]

    live(story, realm)


def test_sequence_numbers_stand_in_the_store_and_begin_again_with_each_key(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        room = await _made(world)
        for number in range(3):
            await _say(world, "alice", room, f"message {number}")
        bob = world.devices["bob"]
        rows = await bob.execute(values.ListSequence(room=room))
        assert [(row.epoch, row.user, row.own, row.next, row.skipped) for row in rows] == [
            (1, "alice", False, 3, 0),
            (1, "bob", True, 0, 0),
            (1, "carol", False, 0, 0),
        ]
        items = {key[16:]: value for key, value in bob.store.snapshot().open().scan("item", bytes.fromhex(room))}
        kept = numbers_of(items, next(row.device for row in rows if row.own))
        assert [row.next for row in kept] == [3, 0, 0], "what a restart finds"
        await world.devices["alice"].execute(values.RekeyRoom(room=room))
        await _reach(world, room, 2)
        rows = await bob.execute(values.ListSequence(room=room))
        assert [(row.epoch, row.next) for row in rows if row.user == "alice"] == [(1, 3), (2, 0)]
        assert await bob.execute(values.ListSequence(room=room)) == rows

    live(story, realm)


def test_a_suite_without_such_numbers_has_no_rows(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        await world.online()
        made = await world.devices["alice"].execute(values.CreateRoom(title="ops", suite="mls", members=["bob"]))
        await world.until(lambda: world.state("bob", made.id) == "ready")
        assert await world.devices["alice"].execute(values.ListSequence(room=made.id)) == []

    live(story, realm)


def test_invitations_beyond_a_frame_go_up_in_parts_with_their_commit(
    realm: SmallRealm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloister.engine.outbox.FRAME_ROOM", 2_000)
    staged: list[int] = []

    async def story(world: World) -> None:
        take = world.core._staging.stage

        def noted(peer: object, frame: frames.Stage, now: int) -> None:
            staged.append(frame.size)
            take(peer, frame, now)  # type: ignore[arg-type]

        world.core._requests = {**world.core._requests, frames.Stage: noted}
        room = await _made(world)
        await _say(world, "carol", room, "here")

    live(story, realm)
    assert max(staged) > 2_000, "two invitations"


@pytest.mark.slow
def test_a_room_of_256_devices_is_one_commit_through_the_relays_rules() -> None:
    """Four of them are there; the invitations of the others wait."""
    names = [f"m{number:03}" for number in range(256)]
    pairs = [(rsa_signing_key(number), rsa_decrypt_key(number)) for number in range(4)]
    realm = SmallRealm(names, random.Random("256").randbytes, lambda number: pairs[number % 4])
    there = names[:3] + names[-1:]

    async def story(world: World) -> None:
        await world.until(lambda: all(device.engine.link.online for device in world.devices.values()))
        await world.until(lambda: all(device.engine.knows(names[-1]) for device in world.devices.values()))
        first = world.devices[names[0]]
        made = await first.execute(values.CreateRoom(title="all", suite="transport", members=names[1:]))
        room = str(made.id)
        await world.until(lambda: all(world.state(name, room) == "ready" for name in there))
        await world.until(lambda: _acknowledged(world, names[0], room) == len(there))
        await _say(world, names[-1], room, "from the last", tuple(there))
        await first.execute(values.RemoveMembers(room=room, users=[names[-1]]))
        await world.until(lambda: world.state(names[-1], room) == "removed")
        await _reach(world, room, 2, tuple(there[:3]))
        assert all(world.alarms(name) == [] for name in there)

    live(story, realm, there)


def _acknowledged(world: World, name: str, room: str) -> int:
    info = world.info(name, room)
    return len(info.confirmed) if info else 0
