"""A device that enters a room holds the tokens of agreed keys: one member's many never push out another's one."""

from __future__ import annotations

import random

import pytest

from cloister.client.suites import SUITES
from cloister.engine import values
from cloister.engine.room import ENTERING_MOST, ENTERING_OF_ONE, hold
from cloister.identity.mailbox import MailboxItem, seal_item
from cloister.protocols.interface import Add, Commit, Me, RoomPolicy
from cloister.testing import clock
from cloister.testing.realm import SmallRealm
from cloister.wire import frames
from support.world import World, live, small_realm

FLOOD = 3 * ENTERING_OF_ONE


@pytest.fixture(scope="module")
def realm() -> SmallRealm:
    return small_realm()


def invite(world: World, realm: SmallRealm, by: str, to: str, room: bytes, number: int) -> None:
    """Somebody invites into the room with a key whose commit nobody makes."""
    account = realm.accounts[by]
    me = Me(device=account.device, keys=account.keys, directory=lambda: realm.state, realm=realm.name)
    rng = random.Random(f"{by} {number}").randbytes
    session, _ = SUITES["transport"].create(me, room, RoomPolicy(title="trap", owners=(by,)), clock.now(), rng)
    effects = session.change([Add(realm.accounts[to].device)], clock.now(), rng)
    (commit,) = [effect for effect in effects if isinstance(effect, Commit)]
    ((device, kind, body),) = commit.sealed
    item = MailboxItem(sender=account.device, recipient=device, kind=f"transport {kind}", room=room, body=body)
    sealed = seal_item(item, realm.accounts[to].keys.mailbox.public, account.keys.device, rng)
    world.core._mailboxes.deliver([frames.Mail(device=device, item_id=rng(16), body=sealed)], clock.now())
    world.stir()


async def made(world: World) -> bytes:
    """A room of alice and bob; carol is away."""
    await world.online()
    world.devices["carol"].crash()
    room = await world.devices["alice"].execute(values.CreateRoom(title="x", suite="transport", members=["bob"]))
    await world.until(lambda: all(world.state(name, room.id) == "ready" for name in ("alice", "bob")))
    return bytes.fromhex(room.id)


async def add(world: World, room: bytes) -> None:
    await world.devices["alice"].execute(values.AddMembers(room=room.hex(), users=["carol"]))
    await world.until(lambda: (info := world.info("alice", room.hex())) is not None and info.epoch == 2)


@pytest.mark.parametrize("before", [0, FLOOD // 2, FLOOD])
def test_a_members_flood_of_invitations_shuts_nobody_out(realm: SmallRealm, before: int) -> None:
    """Bob, a member, knows the room's id, and floods carol before and after alice takes her in."""

    async def story(world: World) -> None:
        room = await made(world)
        for number in range(before):
            invite(world, realm, "bob", "carol", room, number)
        await add(world, room)
        for number in range(before, FLOOD):
            invite(world, realm, "bob", "carol", room, number)
        world.devices["carol"].start()
        await world.until(lambda: world.state("carol", room.hex()) == "ready", 30)
        await world.devices["alice"].execute(values.Send(room=room.hex(), text="welcome"))
        await world.until(lambda: world.texts("carol") == ["welcome"])

    assert live(story, realm).alarms("carol") == []


def test_a_flood_that_goes_on_while_the_device_enters_shuts_nobody_out(realm: SmallRealm) -> None:
    """What the relay seems not to know gives way to the next invitation, but not before all tokens were tried."""

    async def story(world: World) -> None:
        room = await made(world)
        for number in range(ENTERING_OF_ONE):
            invite(world, realm, "bob", "carol", room, number)
        world.devices["carol"].start()
        carol = world.devices["carol"].engine
        await world.until(lambda: room in carol.rooms.rooms and carol.rooms.rooms[room].log.tries)
        await add(world, room)
        for number in range(ENTERING_OF_ONE, FLOOD):
            invite(world, realm, "bob", "carol", room, number)
        await world.until(lambda: world.state("carol", room.hex()) == "ready", 30)
        assert len(carol.rooms.rooms[room].entering) == 0

    live(story, realm)


# --- the rule -----------------------------------------------------------------------------------------------


def token(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_of_one_users_tokens_the_newest_are_kept() -> None:
    entering: dict[bytes, str] = {}
    hold(entering, token(0), "alice")
    for number in range(1, 100):
        hold(entering, token(number), "bob")
    assert entering.pop(token(0)) == "alice"
    assert list(entering) == [token(number) for number in range(100 - ENTERING_OF_ONE, 100)]


def test_where_many_users_offer_the_one_with_most_gives_up_its_oldest() -> None:
    entering: dict[bytes, str] = {}
    hold(entering, token(0), "alice")
    for number in range(1, 1_000):
        hold(entering, token(number), f"user {number % (ENTERING_MOST - 1)}")
        assert len(entering) <= ENTERING_MOST
        assert entering[token(0)] == "alice"


def test_a_token_is_held_once() -> None:
    entering: dict[bytes, str] = {}
    for user in ("alice", "bob"):
        hold(entering, token(1), user)
    assert entering == {token(1): "alice"}
