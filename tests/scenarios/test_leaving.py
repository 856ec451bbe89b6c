"""Leaving a room, by real engines: what who leaves sees, and what the others see."""

from __future__ import annotations

import asyncio

import pytest

from cloister.engine import values
from cloister.errors import CloisterError
from cloister.testing.realm import SmallRealm
from support.world import World, live, small_realm


@pytest.fixture(scope="module")
def realm() -> SmallRealm:
    return small_realm()


async def refused(world: World, name: str, command: values.Command) -> str:
    with pytest.raises(CloisterError) as caught:
        await world.devices[name].execute(command)
    return caught.value.code


async def room_of(world: World, suite: str, *others: str) -> str:
    await world.online()
    await world.until(lambda: all(device.engine.link.idle for device in world.devices.values()))
    made = await world.devices["alice"].execute(values.CreateRoom(title="ops", suite=suite, members=list(others)))
    await world.until(lambda: all(world.state(name, made.id) == "ready" for name in ("alice", *others)))
    return str(made.id)


def members(world: World, name: str, room: str) -> set[str]:
    info = world.info(name, room)
    return {member.user for member in info.members} if info else set()


@pytest.mark.parametrize("suite", ["mls", "nonces"])
def test_who_leaves_reads_nothing_after_and_the_others_go_on(suite: str, realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        room = await room_of(world, suite, "bob", "carol")
        await world.devices["carol"].execute(values.EndRoom(room=room))
        await world.until(lambda: world.state("carol", room) == "removed")
        await world.until(lambda: all(members(world, name, room) == {"alice", "bob"} for name in ("alice", "bob")))
        await world.until(lambda: all(world.state(name, room) == "ready" for name in ("alice", "bob")))
        assert await refused(world, "carol", values.Send(room=room, text="one more thing")) == "read_only"
        assert await refused(world, "carol", values.EndRoom(room=room)) == "read_only"
        await world.devices["alice"].execute(values.Send(room=room, text="among us"))
        await world.until(lambda: "among us" in world.texts("bob"))
        await world.devices["bob"].execute(values.AddMembers(room=room, users=["carol"]))
        await world.until(lambda: world.state("carol", room) == "ready")
        assert list(world.devices["carol"].store.open().scan("intent")) == []

    world = live(story, realm)
    assert "among us" not in world.texts("carol")
    assert [world.alarms(name) for name in world.devices] == [[], [], []]


@pytest.mark.parametrize("suite", ["mls", "nonces"])
def test_of_two_the_one_who_stays_has_a_room_that_is_read_only(suite: str, realm: SmallRealm) -> None:
    """Also when it was the only owner who left: nobody is there to be ruled.

    A classic room of two is read-only for both: one device alone makes no key that would put the other out.
    """

    async def story(world: World) -> None:
        room = await room_of(world, suite, "bob")
        await world.devices["alice"].execute(values.EndRoom(room=room))
        await world.until(lambda: world.state("alice", room) == ("removed" if suite == "mls" else "read-only"))
        await world.until(lambda: world.state("bob", room) == "read-only")
        assert await refused(world, "alice", values.Send(room=room, text="one more thing")) == "read_only"
        assert await refused(world, "bob", values.EndRoom(room=room)) == "read_only"

    world = live(story, realm, ("alice", "bob"))
    assert [world.alarms(name) for name in world.devices] == [[], []]


@pytest.mark.parametrize("suite", ["mls", "nonces"])
def test_the_last_owner_hands_the_room_over_first(suite: str, realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        room = await room_of(world, suite, "bob", "carol")
        assert await refused(world, "alice", values.EndRoom(room=room)) == "not_allowed"
        await world.devices["alice"].execute(values.SetOwners(room=room, users=["bob"]))
        await world.until(lambda: world.info("alice", room).owners == ["bob"])  # type: ignore[union-attr]
        await world.until(lambda: world.state("alice", room) == "ready")
        await world.devices["alice"].execute(values.EndRoom(room=room))
        await world.until(lambda: world.state("alice", room) == "removed")
        await world.until(lambda: members(world, "carol", room) == {"bob", "carol"})

    live(story, realm)


@pytest.mark.parametrize("suite", ["mls", "nonces"])
def test_leaving_outlasts_restarts_and_waits_until_somebody_is_there(suite: str, realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        room = await room_of(world, suite, "bob", "carol")
        for name in ("alice", "bob"):
            world.devices[name].crash()
        await world.devices["carol"].execute(values.EndRoom(room=room))
        await asyncio.sleep(60)
        world.devices["carol"].crash()
        world.devices["carol"].start()
        await asyncio.sleep(60)
        assert world.state("carol", room) == "frozen"
        posted = [row for row in world.relay.store.entries(bytes.fromhex(room), 0, 99) if row.kind == "handshake"]
        assert len(posted) == 1, "asked once"
        world.devices["bob"].start()
        if suite == "nonces":  # its next key needs all who stay
            await asyncio.sleep(60)
            world.devices["alice"].start()
        await world.until(lambda: world.state("carol", room) == "removed", 7200)
        if suite == "mls":
            world.devices["alice"].start()
        await world.until(lambda: members(world, "alice", room) == {"alice", "bob"}, 7200)

    live(story, realm)
