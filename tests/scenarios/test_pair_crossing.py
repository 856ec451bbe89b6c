"""Two people who ask each other for a chat at the same moment end up in one room."""

from __future__ import annotations

import asyncio

import pytest

from cloister.engine import values
from cloister.errors import CloisterError
from cloister.testing.realm import SmallRealm
from support.world import World, live, small_realm

TWO = ("alice", "bob")


@pytest.fixture(scope="module")
def realm() -> SmallRealm:
    return small_realm()


async def ask(world: World, name: str, other: str) -> str:
    made = await world.devices[name].execute(values.CreateRoom(title=f"by {name}", suite="pair", members=[other]))
    return str(made.id)


async def cross(world: World) -> dict[str, str]:
    """Each asks before the other's request is there; the rooms by who made them."""
    first, second = await asyncio.gather(ask(world, "alice", "bob"), ask(world, "bob", "alice"))
    return {"alice": first, "bob": second}


async def settled(world: World, made: dict[str, str]) -> tuple[str, str]:
    """(the room that stays, the one that has given way), once both see it so."""
    stays, gone = sorted(made.values())
    await world.until(lambda: all(world.state(name, stays) == "ready" for name in TWO), 60)
    await world.until(lambda: all(world.state(name, gone) == "removed" for name in TWO), 60)
    return stays, gone


@pytest.mark.parametrize("prekeys", [False, True])
@pytest.mark.parametrize("policy", ["accept", "ask"])
def test_two_who_ask_each_other_at_once_have_one_room(realm: SmallRealm, policy: str, prekeys: bool) -> None:
    """Whatever was written into the other room before is read; and whoever asks has said yes."""

    async def story(world: World) -> None:
        await world.online()
        if prekeys:
            await asyncio.sleep(5)
        for name in TWO:
            await world.devices[name].execute(values.SetRequests(policy=policy))
        made = await cross(world)
        for name in TWO:
            await world.devices[name].execute(values.Send(room=made[name], text=f"from {name}"))
        stays, gone = await settled(world, made)
        for name in TWO:
            await world.devices[name].execute(values.Send(room=stays, text=f"{name} again"))
        await world.until(lambda: all(len(world.texts(name)) == 4 for name in TWO))
        loser = next(name for name in TWO if made[name] == gone)
        info = world.info(loser, gone)
        assert info is not None
        assert info.goes_on_in == stays
        with pytest.raises(CloisterError) as refused:
            await world.devices[loser].execute(values.Send(room=gone, text="too late"))
        assert (refused.value.code, stays in refused.value.detail) == ("read_only", True)

    world = live(story, realm, TWO)
    assert world.alarms("alice") == world.alarms("bob") == []
    assert not [event for name in TWO for event in world.of(name, values.Invited)]


@pytest.mark.parametrize("text", ["", "are you there?"])
def test_who_was_away_while_both_asked_finds_one_room(realm: SmallRealm, text: str) -> None:
    """What was not asked for yet is given up; unless something was written in it, which is said first."""

    async def story(world: World) -> None:
        await world.online()
        await asyncio.sleep(5)
        world.network.cut("bob")
        await world.until(lambda: not world.devices["bob"].engine.link.online)
        for name in TWO:
            await world.devices[name].execute(values.SetRequests(policy="accept" if text else "ask"))
        made = {"bob": await ask(world, "bob", "alice"), "alice": await ask(world, "alice", "bob")}
        if text:
            await world.devices["bob"].execute(values.Send(room=made["bob"], text=text))
        await asyncio.sleep(60)
        world.network.heal("bob")
        await world.until(lambda: all(world.state(name, made["alice"]) == "ready" for name in TWO), 60)
        await world.until(lambda: world.state("bob", made["bob"]) == "removed", 60)
        assert world.state("alice", made["bob"]) == ("removed" if text else "")
        assert world.texts("alice") == ([text] if text else [])

    world = live(story, realm, TWO)
    assert world.alarms("alice") == world.alarms("bob") == []
    assert not world.of("bob", values.Invited)


def test_who_asks_for_a_chat_with_somebody_that_waits_for_an_answer_says_yes(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        await world.online()
        await world.devices["bob"].execute(values.SetRequests(policy="ask"))
        room = await ask(world, "alice", "bob")
        await world.until(lambda: world.of("bob", values.Invited))
        assert await ask(world, "bob", "alice") == room
        await world.until(lambda: all(world.state(name, room) == "ready" for name in TWO))

    live(story, realm, TWO)


def test_a_second_room_that_did_not_cross_stays(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        await world.online()
        first = await ask(world, "alice", "bob")
        await world.until(lambda: all(world.state(name, first) == "ready" for name in TWO))
        second = await ask(world, "bob", "alice")
        await world.until(lambda: all(world.state(name, second) == "ready" for name in TWO))
        await asyncio.sleep(60)
        assert {world.state(name, room) for name in TWO for room in (first, second)} == {"ready"}

    live(story, realm, TWO)
