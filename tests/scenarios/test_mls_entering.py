"""What an invitation waits for, and that its package stays until it is used."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cloister.engine import values
from cloister.protocols.interface import Behind, Directory, Need
from cloister.protocols.mls import entering as mls_entering
from cloister.testing.member import Device
from cloister.wire import limits
from support.mls_world import MlsWorld, realm_of
from support.world import World, live


@pytest.fixture(autouse=True)
def few_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloister.engine.prekeys.STOCK", 2)
    monkeypatch.setattr(limits, "PREKEYS_LOW", replace(limits.PREKEYS_LOW, value=0))


class TooEarly:
    """In place of `check_reach`: the first time, the directory is too short by one record."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, watched: list[set[bytes]], device: Device) -> None:
        self.calls = 0
        self._watched, self._device = watched, device
        self._check = mls_entering.check_reach
        monkeypatch.setattr(mls_entering, "check_reach", self)

    def __call__(self, directory: Directory, size: int) -> None:
        self.calls += 1
        self._watched.append(packages_of(self._device))
        if self.calls == 1:
            raise Behind(Need(what="realm", ids=((directory.size + 1).to_bytes(8, "big"),)))
        self._check(directory, size)


def packages_of(device: Device) -> set[bytes]:
    """References of the packages whose private halves the device still has."""
    return {ref for ref, _ in device.store.open().scan("prekey")}


def state(world: World, name: str, room: str) -> str:
    here = world.devices[name].engine.rooms.rooms.get(bytes.fromhex(room))
    return "absent" if here is None else here.session.view.state.value


def test_a_newcomers_package_is_kept_while_its_invitation_waits_for_the_realm_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packages: list[set[bytes]] = []

    async def story(world: World) -> None:
        assert isinstance(world, MlsWorld)
        await world.all_online()
        early = TooEarly(monkeypatch, packages, world.devices["m001"])
        made = await world.devices["m000"].execute(values.CreateRoom(title="all", suite="mls", members=["m001"]))
        await world.until(lambda: state(world, "m001", made.id) == "ready")
        assert early.calls >= 2
        await world.until(lambda: world.devices["m001"].engine.link.idle)
        packages.append(packages_of(world.devices["m001"]))

    realm = realm_of(2)
    world = live(story, realm, list(realm.accounts), MlsWorld)
    (used,) = packages[0] - packages[-1]
    assert all(used in kept for kept in packages[:-1])
    assert world.alarms("m001") == []


def test_who_comes_back_keeps_the_package_while_its_invitation_waits_for_the_realm_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The Welcome came while the device still was a member: its session asks for package, realm log and tree."""
    packages: list[set[bytes]] = []

    async def story(world: World) -> None:
        assert isinstance(world, MlsWorld)
        await world.all_online()
        alice, carol = world.devices["m000"], world.devices["m002"]
        room = (await alice.execute(values.CreateRoom(title="all", suite="mls", members=["m001", "m002"]))).id
        await world.until(lambda: state(world, "m002", room) == "ready")
        carol.crash()
        await alice.execute(values.RemoveMembers(room=room, users=["m002"]))
        await world.until(lambda: len(world.info("m000", room).members) == 2)  # type: ignore[union-attr]
        await alice.execute(values.AddMembers(room=room, users=["m002"]))
        await world.until(lambda: len(world.info("m000", room).members) == 3)  # type: ignore[union-attr]
        early = TooEarly(monkeypatch, packages, carol)
        carol.start()
        await alice.execute(values.Send(room=room, text="welcome back"))
        await world.until(lambda: "welcome back" in world.texts("m002"))
        assert early.calls >= 2
        packages.append(packages_of(carol))

    realm = realm_of(3)
    world = live(story, realm, list(realm.accounts), MlsWorld)
    (used,) = packages[0] - packages[-1]
    assert all(used in kept for kept in packages[:-1])
    assert world.alarms("m002") == []
