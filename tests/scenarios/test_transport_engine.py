"""Rooms of suite `transport` through the engine and a relay: agreeing, changes, handing over, numbers in the store."""

from __future__ import annotations

import pytest

from cloister.engine import values
from cloister.errors import CloisterError
from cloister.protocols.sequence import numbers_of
from cloister.testing.realm import SmallRealm
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
