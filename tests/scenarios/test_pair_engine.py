"""Rooms of suite `pair` between whole devices: asked and answered, offline, ended; what a person decides."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from cloister.content.message import compose
from cloister.engine import values
from cloister.errors import CloisterError
from cloister.testing.realm import SmallRealm
from cloister.wire import frames
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


def test_a_broadcast_reaches_everybody_and_is_compared(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        await world.online()
        assert await refused(world, "bob", values.CheckBroadcast(id="00")) == "no_room"
        assert await refused(world, "bob", values.CheckBroadcast(id="xx")) == "usage"
        sent = await world.devices["alice"].execute(values.Broadcast(text="to all of you"))
        assert [(copy.user, copy.verified) for copy in sent.copies] == [("bob", False), ("carol", False)]
        await world.until(lambda: all("to all of you" in world.texts(name) for name in ("bob", "carol")))
        got = [event.message for name in ("bob", "carol") for event in world.of(name, values.MessageReceived)]
        assert {(message.broadcast, message.check, message.sender) for message in got} == {
            (sent.id, sent.check, "alice")
        }
        made = await world.devices["bob"].execute(values.CreateRoom(title="b", suite="pair", members=["carol"]))
        await world.until(lambda: all(world.state(name, made.id) == "ready" for name in ("bob", "carol")))
        asked = await world.devices["bob"].execute(values.CheckBroadcast(id=sent.id[:8]))
        assert [(copy.user, copy.state) for copy in asked.copies] == [("carol", "asked")]
        assert asked.author == "alice"
        for name in ("bob", "carol"):
            await world.until(lambda name=name: world.of(name, values.BroadcastCompared))  # type: ignore[misc]
        for name, reader in (("bob", "carol"), ("carol", "bob")):
            (told,) = world.of(name, values.BroadcastCompared)
            assert (told.id, told.author, told.reader, told.equal) == (sent.id, "alice", reader, True)
        again = await world.devices["alice"].execute(values.Broadcast(text="once more"))
        assert [copy.room for copy in again.copies] == [copy.room for copy in sent.copies]
        await world.until(lambda: all("once more" in world.texts(name) for name in ("bob", "carol")))

    world = live(story, realm)
    assert [world.alarms(name) for name in ("alice", "bob", "carol")] == [[], [], []]
    assert world.texts("bob").count("to all of you") == 1


def test_copies_that_differ_are_an_alarm_of_both_readers(realm: SmallRealm, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(world: World) -> None:
        await world.online()
        texts = iter(("yes", "no"))

        def other(text: str, **names: Any) -> Any:
            return compose(next(texts) if text == "?" else text, **names)

        with monkeypatch.context() as patched:
            patched.setattr("cloister.engine.broadcast.compose", other)
            sent = await world.devices["alice"].execute(values.Broadcast(text="?"))
        await world.until(lambda: "yes" in world.texts("bob") and "no" in world.texts("carol"))
        made = await world.devices["bob"].execute(values.CreateRoom(title="b", suite="pair", members=["carol"]))
        await world.until(lambda: all(world.state(name, made.id) == "ready" for name in ("bob", "carol")))
        await world.devices["carol"].execute(values.CheckBroadcast(id=sent.id))
        await world.until(lambda: all("conflict" in world.alarms(name) for name in ("bob", "carol")))

    world = live(story, realm)
    for name in ("bob", "carol"):
        (told,) = world.of(name, values.BroadcastCompared)
        assert not told.equal
        assert world.alarms(name) == ["conflict"]


def test_only_who_wants_to_be_seen_is_and_a_list_changes_no_key_and_no_member(realm: SmallRealm) -> None:
    """F4.6: what the relay lists is a hint."""

    async def story(world: World) -> None:
        room = await chat_of(world)
        before = world.devices["bob"].store.snapshot()
        members = world.info("bob", room)
        world.twist = lambda client, frame: (
            [msgspec.structs.replace(frame, names=["mallory", "zoe"], online=["mallory", "carol"])]
            if isinstance(frame, frames.Users)
            else [frame]
        )
        world.devices["bob"].crash()
        world.devices["bob"].start()
        await world.until(lambda: world.devices["bob"].engine.link.online)
        assert await world.devices["carol"].execute(values.SetPresence(visible=True)) is True
        await world.until(lambda: world.of("alice", values.PresenceChanged))
        told = {user.name: user.online for user in await world.devices["alice"].execute(values.ListUsers())}
        assert told == {"alice": False, "bob": False, "carol": True}
        listed = {user.name: user.online for user in await world.devices["bob"].execute(values.ListUsers())}
        assert listed == {"alice": False, "bob": False, "carol": True}
        after = world.devices["bob"].store.snapshot()
        for table in ("room", "item", "entry"):
            assert list(before.open().scan(table)) == list(after.open().scan(table))
        (now,) = await world.devices["bob"].execute(values.ListRooms())
        assert members is not None
        assert now.members == members.members
        await world.devices["carol"].execute(values.SetPresence(visible=False))
        await world.until(lambda: not world.of("alice", values.PresenceChanged)[-1].online)
        await world.devices["carol"].execute(values.SetPresence(visible=True))
        await world.until(lambda: world.of("alice", values.PresenceChanged)[-1].online)
        world.network.cut("carol")
        await world.until(lambda: not world.of("alice", values.PresenceChanged)[-1].online)

    world = live(story, realm)
    assert [event.user for event in world.of("alice", values.PresenceChanged)] == ["carol"] * 4
    assert world.alarms("bob") == []


async def chat_of(world: World) -> str:
    await world.online()
    return await chat(world)
