"""Rooms of suite `mls` with many devices, made through real engines and the relay's rules: claims, parts, trees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from cloister.engine import rooms, values
from cloister.engine.intents import _changes
from cloister.engine.room import Room
from cloister.engine.rows import Intent
from cloister.errors import PeerError
from cloister.protocols.interface import Add, Directory, Remove
from cloister.relay.store.interface import PutPrekey
from cloister.wire import frames, limits
from support.large_room import LargeRealm, LargeWorld
from support.mls_world import MlsWorld, realm_of
from support.world import World, live


@pytest.fixture(autouse=True)
def few_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred for each device would be most of the work."""
    monkeypatch.setattr("cloister.engine.prekeys.STOCK", 2)
    monkeypatch.setattr(limits, "PREKEYS_LOW", replace(limits.PREKEYS_LOW, value=0))


def test_a_change_of_more_devices_than_one_claim_names_is_one_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PREKEY_CLAIM", replace(limits.PREKEY_CLAIM, value=3))
    claims: list[int] = []

    async def story(world: World) -> None:
        assert isinstance(world, MlsWorld)
        claim = world.core._prekeys._take
        monkeypatch.setattr(world.core._prekeys, "_take", lambda *given: claims.append(1) or claim(*given))
        await world.one_room_of_all()

    realm = realm_of(9)
    world = live(story, realm, list(realm.accounts), MlsWorld)
    assert len(claims) == 8
    (_, members, _, _), *_ = world.views(next(iter(world.devices["m000"].engine.rooms.rooms)).hex())
    assert members == 9


def test_the_packages_that_came_are_used_where_the_relay_gives_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PREKEY_CLAIM", replace(limits.PREKEY_CLAIM, value=2))
    monkeypatch.setattr("cloister.protocols.mls.session.RETRY", 1_000)

    async def story(world: World) -> None:
        assert isinstance(world, MlsWorld)
        claim, calls = world.core._prekeys.claim, []

        def twice(*given: object) -> None:
            calls.append(given)
            if len(calls) in (1, 3):
                raise PeerError("quota", "key packages claimed by a device")
            claim(*given)  # type: ignore[arg-type]

        world.core._requests = {**world.core._requests, frames.PrekeysClaim: twice}
        await world.one_room_of_all()
        assert len(calls) > 4

    realm = realm_of(6)
    live(story, realm, list(realm.accounts), MlsWorld)


def test_a_tree_whose_reading_breaks_off_is_read_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection ends after the second part; a limit refuses the third once."""
    monkeypatch.setattr(limits, "PART", replace(limits.PART, value=400))
    offsets: list[int] = []

    async def story(world: World) -> None:
        assert isinstance(world, MlsWorld)
        read = world.core._rooms.group_info

        def broken(peer: object, frame: frames.GetGroupInfo, now: int) -> None:
            offsets.append(frame.offset)
            if len(offsets) == 3:
                raise PeerError("quota", "requests of this connection")
            read(peer, frame, now)  # type: ignore[arg-type]
            if len(offsets) == 2:
                world.network.cut("m001")
                world.network.heal("m001")

        world.core._requests = {**world.core._requests, frames.GetGroupInfo: broken}
        await world.one_room_of_all()

    realm = realm_of(2)
    live(story, realm, list(realm.accounts), MlsWorld)
    assert offsets[:2] == [0, 400]
    assert offsets == sorted(offsets)
    assert len(offsets) > 4


def test_a_relay_that_gives_more_of_a_tree_than_it_announced_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PART", replace(limits.PART, value=400))

    def lie(client: str, frame: frames.Answer) -> list[frames.Frame]:
        if isinstance(frame, frames.GroupInfo):
            return [frames.GroupInfo(rid=frame.rid, size=399, data=frame.data)]
        return [frame]

    async def story(world: World) -> None:
        assert isinstance(world, MlsWorld)
        await world.all_online()
        world.twist = lie
        await world.devices["m000"].execute(values.CreateRoom(title="all", suite="mls", members=["m001"]))
        await world.until(lambda: world.alarms("m001"))
        world.twist = lambda _client, frame: [frame]
        await world.until(lambda: world.devices["m001"].engine.rooms.rooms)

    realm = realm_of(2)
    world = live(story, realm, list(realm.accounts), MlsWorld)
    assert set(world.alarms("m001")) == {"bad_encoding"}


def test_who_has_no_package_holds_up_no_other_change() -> None:
    """In a large room there is always one: its adder can still put somebody out, make a new key, take others in."""
    realm = LargeRealm(6)
    alice, bob, carol, dave, erin, _ = realm.accounts
    absent = realm.accounts[dave].device
    kept = [each for each in realm._writes if isinstance(each, PutPrekey) and each.row.device == absent]
    realm._writes = [each for each in realm._writes if each not in kept]

    async def story(world: World) -> None:
        assert isinstance(world, LargeWorld)
        await world.all_online()
        first = world.devices[alice]
        room = (await first.execute(values.CreateRoom(title="all", suite="mls", members=[bob, carol, dave]))).id

        async def ready(size: int, *names: str) -> None:
            await world.until(lambda: {world.view(n, room)[1:3] for n in names} == {(size, "ready")}, 60)
            await world.until(lambda: len({world.view(n, room) for n in names}) == 1, 60)

        await ready(3, alice, bob, carol)
        await first.execute(values.RemoveMembers(room=room, users=[carol]))
        await ready(2, alice, bob)
        epoch = world.view(alice, room)[0]
        await first.execute(values.RekeyRoom(room=room))
        await world.until(lambda: world.view(bob, room)[0] == epoch + 1, 60)
        await first.execute(values.AddMembers(room=room, users=[erin]))
        world.come(erin)
        await ready(3, alice, bob, erin)
        world.come(dave)
        world.relay.store.apply(kept)
        world.core._prekeys._stocks._values.clear()
        await world.until(lambda: world.view(alice, room)[1] == 4, 2 * 3_600)
        await ready(4, alice, bob, erin, dave)

    live(story, realm, [alice, bob, carol], LargeWorld)


def test_what_went_up_in_parts_is_not_sent_again_because_the_commit_came_too_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cloister.engine.outbox.PART", 400)
    monkeypatch.setattr("cloister.engine.outbox.FRAME_ROOM", 1_000)
    parts: list[tuple[bytes, int]] = []
    refused: list[str] = []

    async def story(world: World) -> None:
        assert isinstance(world, MlsWorld)
        stage, commit = world.core._requests[frames.Stage], world.core._requests[frames.Commit]

        def staged(peer: object, frame: frames.Stage, now: int) -> None:
            parts.append((frame.hash, frame.offset))
            stage(peer, frame, now)

        def committed(peer: object, frame: frames.Commit, now: int) -> None:
            try:
                commit(peer, frame, now)
            except PeerError as error:
                refused.append(error.code)
                raise

        world.core._requests = {**world.core._requests, frames.Stage: staged, frames.Commit: committed}
        await world.all_online()
        made = await world.devices["m000"].execute(values.CreateRoom(title="all", suite="mls", members=["m001"]))

        async def grown(size: int) -> None:
            await world.until(lambda: {view[1] for view in world.views(made.id)} <= {0, size})

        for number in range(2, 5):
            await grown(number)
            await world.devices["m000"].execute(values.AddMembers(room=made.id, users=[f"m{number:03}"]))
        await grown(5)

    realm = realm_of(5)
    live(story, realm, list(realm.accounts), MlsWorld)
    assert refused.count("quota") >= 2
    assert len(parts) > 20
    assert len(set(parts)) == len(parts)


def test_a_text_judges_no_member_again_whom_nothing_new_was_said_of(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[str] = []
    out = rooms._out

    def watched(directory: Directory, device: str) -> bool:
        judged.append(device)
        return out(directory, device)

    monkeypatch.setattr(rooms, "_out", watched)

    async def story(world: World) -> None:
        assert isinstance(world, MlsWorld)
        await world.one_room_of_all()
        room = next(iter(world.devices["m000"].engine.rooms.rooms)).hex()
        assert len(judged) >= 6
        judged.clear()
        for number in range(5):
            await world.devices["m000"].execute(values.Send(room=room, text=f"text {number}"))
        await world.until(lambda: all(len(world.texts(name)) == 6 for name in world.devices))

    realm = realm_of(6)
    live(story, realm, list(realm.accounts), MlsWorld)
    assert judged == []


def test_an_intent_reads_the_roster_once_however_many_it_names() -> None:
    class Roster(tuple[str, ...]):
        reads = 0

        def __iter__(self) -> Iterator[str]:
            Roster.reads += 1
            return super().__iter__()

        def __contains__(self, key: object) -> bool:
            Roster.reads += 1
            return super().__contains__(key)

    names = [f"m{number}" for number in range(100)]
    session = SimpleNamespace(view=SimpleNamespace(roster=Roster(names[:50]), parked=()))
    room = cast("Room", SimpleNamespace(session=session))
    added = _changes(room, Intent(kind="add", devices=names, epoch=0))
    removed = _changes(room, Intent(kind="remove", devices=names, epoch=0))
    assert added == [Add(name) for name in names[50:]]
    assert removed == [Remove(name) for name in names[:50]]
    assert Roster.reads == 2


@pytest.mark.slow
def test_a_hundred_and_twenty_devices_are_in_one_room() -> None:
    sizes: list[int] = []

    async def story(world: World) -> None:
        assert isinstance(world, MlsWorld)
        await world.one_room_of_all()
        room = next(iter(world.devices["m000"].engine.rooms.rooms))
        store = world.relay.store
        sizes.extend(len(row.payload or b"") for row in store.entries(room, 0, 9) if row.kind == "commit")

    realm = realm_of(120)
    live(story, realm, list(realm.accounts), MlsWorld)
    assert len(sizes) == 2
    assert max(sizes) > 80_000
