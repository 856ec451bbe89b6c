"""Rooms of suite `pair` between whole devices: asked and answered, offline, ended; what a person decides."""

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


async def chat(world: World, *, ready: bool = True) -> str:
    """A room of alice and bob; its id."""
    made = await world.devices["alice"].execute(values.CreateRoom(title="two", suite="pair", members=["bob"]))
    if ready:
        await world.until(lambda: all(world.state(name, made.id) == "ready" for name in ("alice", "bob")))
    return str(made.id)


def test_three_people_do_not_fit(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        await world.online()
        make = values.CreateRoom(title="x", suite="pair", members=["bob", "carol"])
        assert await refused(world, "alice", make) == "usage"
        room = await chat(world)
        assert await refused(world, "alice", values.AddMembers(room=room, users=["carol"])) == "usage"
        assert await refused(world, "alice", values.AnswerRequest(room=room, accept=True)) == "usage"

    live(story, realm)


def test_a_room_of_two_is_agreed_and_ended(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        await world.online()
        room = await chat(world)
        await world.devices["alice"].execute(values.Send(room=room, text="hello"))
        await world.devices["bob"].execute(values.Send(room=room, text="hi"))
        await world.until(lambda: all(len(world.texts(name)) == 2 for name in ("alice", "bob")))
        await world.devices["bob"].execute(values.RekeyRoom(room=room))
        await world.until(lambda: all(world.info(name, room).epoch == 2 for name in ("alice", "bob")))  # type: ignore[union-attr]
        await world.devices["alice"].execute(values.Send(room=room, text="again"))
        await world.until(lambda: "again" in world.texts("bob"))
        await world.devices["bob"].execute(values.EndRoom(room=room))
        await world.until(lambda: all(world.state(name, room) == "removed" for name in ("alice", "bob")))
        assert await refused(world, "alice", values.Send(room=room, text="anybody?")) == "read_only"

    world = live(story, realm)
    assert world.alarms("alice") == world.alarms("bob") == []


def test_who_asks_to_be_asked_is_asked_and_may_say_no(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        await world.online()
        bob = world.devices["bob"]
        assert await bob.execute(values.SetRequests(policy="ask")) == "ask"
        first = await chat(world, ready=False)
        await world.until(lambda: world.info("bob", first) is not None)
        told = [event for event in world.events["bob"] if isinstance(event, values.Invited)]
        assert [(event.room, event.user, event.title, event.suite) for event in told] == [
            (first, "alice", "two", "pair")
        ]
        (listed,) = await bob.execute(values.ListRooms())
        assert (listed.state, listed.asks) == ("pending", "alice")
        await bob.execute(values.AnswerRequest(room=first, accept=False))
        await world.until(lambda: all(world.state(name, first) == "removed" for name in ("alice", "bob")))
        second = await chat(world, ready=False)
        await world.until(lambda: world.info("bob", second) is not None)
        bob.crash()
        bob.start()
        await world.until(lambda: bob.engine.link.online)
        await bob.execute(values.AnswerRequest(room=second, accept=True))
        await world.until(lambda: all(world.state(name, second) == "ready" for name in ("alice", "bob")))
        assert await bob.execute(values.SetRequests(policy="default")) == "accept"

    world = live(story, realm)
    assert world.alarms("alice") == ["declined"]
    assert world.alarms("bob") == []


def test_a_text_to_somebody_who_is_away_waits_at_the_relay(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        await world.online()
        await asyncio.sleep(5)  # bob's prekeys are at the relay
        world.network.cut("bob")
        await world.until(lambda: not world.devices["bob"].engine.link.online)
        room = await chat(world, ready=False)
        await world.until(lambda: world.state("alice", room) == "ready")
        sent = await world.devices["alice"].execute(values.Send(room=room, text="for later", wait=True))
        assert sent.state is values.SendState.SENT
        world.network.heal("bob")
        await world.until(lambda: "for later" in world.texts("bob"))
        await world.until(lambda: world.info("alice", room).missing == [])  # type: ignore[union-attr]

    world = live(story, realm)
    assert world.alarms("alice") == world.alarms("bob") == []
