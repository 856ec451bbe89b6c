"""Invitations that lead nowhere: they are few, they end, they hold no room's id, and nothing of them stays."""

from __future__ import annotations

import asyncio
import random
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from cloister.client.suites import SUITES
from cloister.engine import inputs, unborn, values
from cloister.engine.logs import LogState
from cloister.errors import PeerError
from cloister.identity.mailbox import MailboxItem, seal_item
from cloister.protocols.interface import Add, Me, OpenRun, RoomPolicy
from cloister.testing import clock
from cloister.testing.realm import SmallRealm
from cloister.wire import frames, limits
from support.world import World, live, small_realm


@pytest.fixture(scope="module")
def realm() -> SmallRealm:
    return small_realm()


def invite(world: World, realm: SmallRealm, by: str, to: str, room: bytes, number: int = 0) -> None:
    """Somebody invites into a room whose run is never opened at the relay."""
    account = realm.accounts[by]
    me = Me(device=account.device, keys=account.keys, directory=lambda: realm.state, realm=realm.name)
    rng = random.Random(f"{by} {room.hex()} {number}").randbytes
    session, _ = SUITES["nonces"].create(me, room, RoomPolicy(title="trap", owners=(by,)), clock.now(), rng)
    effects = session.change([Add(realm.accounts[to].device)], clock.now(), rng)
    (opened,) = [effect for effect in effects if isinstance(effect, OpenRun)]
    ((device, kind, body),) = opened.sealed
    item = MailboxItem(sender=account.device, recipient=device, kind=f"nonces {kind}", room=room, body=body)
    sealed = seal_item(item, realm.accounts[to].keys.mailbox.public, account.keys.device, rng)
    world.core._mailboxes.deliver([frames.Mail(device=device, item_id=rng(16), body=sealed)], clock.now())
    world.stir()


def rooms(world: World, name: str) -> dict[bytes, Any]:
    return world.devices[name].engine.rooms.rooms


def rows(world: World, name: str, table: str) -> list[bytes]:
    return [key for key, _ in world.devices[name].store.open().scan(table)]


def test_the_seventeenth_room_of_one_inviter_is_refused_and_others_may_still_invite(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        await world.online()
        for number in range(unborn.PER_INVITER):
            invite(world, realm, "bob", "alice", bytes([number]) * 16)
        await world.until(lambda: len(rooms(world, "alice")) == unborn.PER_INVITER)
        assert world.alarms("alice") == []
        invite(world, realm, "bob", "alice", bytes([99]) * 16)
        await world.until(lambda: world.alarms("alice") == ["quota"])
        assert bytes([99]) * 16 not in rooms(world, "alice")
        assert not [key for key in rows(world, "alice", "item") if key.startswith(bytes([99]) * 16)]
        invite(world, realm, "carol", "alice", bytes([100]) * 16)
        await world.until(lambda: bytes([100]) * 16 in rooms(world, "alice"))
        world.devices["alice"].crash()
        world.devices["alice"].start()
        await world.until(lambda: world.devices["alice"].engine.link.online)
        invite(world, realm, "bob", "alice", bytes([101]) * 16)
        await world.until(lambda: world.alarms("alice") == ["quota"] * 2)

    live(story, realm)


def test_a_room_whose_last_run_has_ended_is_forgotten_with_all_its_rows(realm: SmallRealm) -> None:
    def silenced(client: str, frame: frames.Answer) -> list[frames.Frame]:
        """Whoever invites hears nothing of its run's log."""
        return [] if client == "bob" and isinstance(frame, frames.Page | frames.Pushed) else [frame]

    async def story(world: World) -> None:
        await world.online()
        made = await world.devices["bob"].execute(values.CreateRoom(title="x", suite="nonces", members=["alice"]))
        world.twist = silenced
        room = bytes.fromhex(made.id)
        await world.until(lambda: room in rooms(world, "alice"))
        await asyncio.sleep(limits.RUN_LIFE.value / 1000 + 300)
        await world.until(lambda: room not in rooms(world, "alice"))
        last = world.of("alice", values.RoomChanged)[-1]
        assert (last.room.id, last.room.state, last.what) == (made.id, "removed", "never began")
        for table in ("room", "item", "intent", "run", "outbox"):
            assert rows(world, "alice", table) == [], table
        for table in ("entry", "head", "entryid"):
            assert {key[:16] for key in rows(world, "alice", table)} <= {frames.REALM_LOG}, table

    assert live(story, realm, ("alice", "bob")).alarms("alice") == ["timeout"]


def test_a_room_that_has_not_begun_after_thirty_days_is_forgotten(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        await world.online()
        for number, by in enumerate(("bob", "carol")):
            invite(world, realm, by, "alice", bytes([number]) * 16)
        await world.until(lambda: len(rooms(world, "alice")) == 2)
        engine = world.devices["alice"].engine
        rooms(world, "alice")[bytes(16)].opened_at -= unborn.KEEP + 1
        engine._purge_at = 0
        unit = engine.handle(inputs.Tick(), clock.now())
        assert list(rooms(world, "alice")) == [bytes([1]) * 16]
        assert [output.event.what for output in unit.outputs if hasattr(output, "event")][-1:] == ["never began"]

    live(story, realm)


def test_an_invitation_of_another_suite_does_not_hold_a_rooms_id(realm: SmallRealm) -> None:
    """Bob, a member, squats the room at alice before carol takes her in."""

    async def story(world: World) -> None:
        await world.online()
        carol = world.devices["carol"]
        made = await carol.execute(values.CreateRoom(title="x", suite="mls", members=["bob"]))
        await world.until(lambda: world.state("bob", made.id) == "ready")
        invite(world, realm, "bob", "alice", bytes.fromhex(made.id))
        await world.until(lambda: world.state("alice", made.id) == "pending")
        await carol.execute(values.AddMembers(room=made.id, users=["alice"]))
        await world.until(lambda: world.state("alice", made.id) == "ready")
        assert rooms(world, "alice")[bytes.fromhex(made.id)].suite == "mls"
        await carol.execute(values.Send(room=made.id, text="welcome"))
        await world.until(lambda: world.texts("alice") == ["welcome"])
        assert rows(world, "alice", "run") == []

    assert live(story, realm).alarms("alice") == []


def test_a_room_that_has_begun_gives_way_to_nobody(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        await world.online()
        made = await world.devices["carol"].execute(values.CreateRoom(title="x", suite="mls", members=["alice", "bob"]))
        await world.until(lambda: world.state("alice", made.id) == "ready")
        invite(world, realm, "bob", "alice", bytes.fromhex(made.id))
        await world.until(lambda: world.alarms("alice") == ["misrouted"])
        assert rooms(world, "alice")[bytes.fromhex(made.id)].suite == "mls"

    live(story, realm)


@pytest.mark.parametrize(
    ("epoch", "entering", "seq", "tries", "yields"),
    [
        (0, [], 0, 0, True),  # an invitation and nothing else
        (0, [b"token"], 0, 0, False),  # a key is agreed: its commit is awaited
        (0, [b"token"], 0, 3, True),  # but the relay does not know it
        (1, [], 0, 2, False),  # entered by a Welcome, the log was not shown yet
        (1, [], 0, 3, True),  # the relay does not know the room
        (1, [], 1, 9, False),  # it has begun
    ],
)
def test_what_gives_way(epoch: int, entering: list[bytes], seq: int, tries: int, yields: bool) -> None:
    log = SimpleNamespace(chain=SimpleNamespace(seq=seq), tries=tries, state=LogState.IDLE)
    session = SimpleNamespace(view=SimpleNamespace(epoch=epoch))
    room: Any = SimpleNamespace(inviter="somebody", session=session, log=log, entering=entering)
    assert unborn.gives_way(room) is yields
    room.inviter = ""
    assert not unborn.gives_way(room)


def test_nothing_of_a_run_stays_when_it_is_over(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        room = await world.room("bob", "carol")
        await world.devices["bob"].execute(values.RekeyRoom(room=room))
        await world.until(lambda: all(world.info(name, room).epoch == 2 for name in world.devices))  # type: ignore[union-attr]
        for name in world.devices:
            assert rows(world, name, "run") == []
            for table in ("entry", "head", "entryid"):
                assert {key[:16] for key in rows(world, name, table)} <= {bytes.fromhex(room), frames.REALM_LOG}, table

    live(story, realm)


@pytest.mark.parametrize(
    ("without", "unseen", "refused"), [(15, 84, False), (16, 0, True), (0, 99, False), (0, 100, True)]
)
def test_how_many_rooms_of_one_inviter_may_wait(without: int, unseen: int, refused: bool) -> None:
    def room(number: int, epoch: int, inviter: str = "cloister://r/u/bob") -> Any:
        view, log = SimpleNamespace(epoch=epoch), SimpleNamespace(chain=SimpleNamespace(seq=0))
        return SimpleNamespace(inviter=inviter, session=SimpleNamespace(view=view), log=log)

    waiting = [room(n, 0) for n in range(without)] + [room(n, 3) for n in range(unseen)]
    waiting += [room(n, 0, "cloister://r/u/carol") for n in range(50)]
    keeper = unborn.Unborn(SimpleNamespace(rooms=dict(enumerate(waiting))))  # type: ignore[arg-type]
    with pytest.raises(PeerError) if refused else nullcontext() as caught:
        keeper.check_few("cloister://r/u/bob/d/phone")
    assert caught is None or caught.value.code == "quota"
