"""Rooms of suite `mls` with many devices, made through real engines and the relay's rules: claims, parts, trees."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cloister.engine import values
from cloister.errors import PeerError
from cloister.wire import frames, limits
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
