"""Devices of suite `mls` alone, without RSA keys, on a world of `support.world`: many of them are cheap."""

from __future__ import annotations

import random

from cloister.client.suites import SUITES
from cloister.engine import values
from cloister.testing.member import Device
from cloister.testing.realm import SmallRealm
from support.world import World


class MlsWorld(World):
    """A world whose devices have no RSA keys, and suite `mls` only."""

    def _device(self, name: str, realm: SmallRealm) -> Device:
        device = Device(name, realm.accounts[name], {"mls": SUITES["mls"]}, self.network, seed=7)
        self.events[name] = []
        device.on_event = self.events[name].append
        device.start()
        return device

    async def all_online(self) -> None:
        await self.until(lambda: all(device.engine.link.idle for device in self.devices.values()))
        await self.until(lambda: all(device.engine.knows(name) for name, device in self.devices.items()))

    def view(self, name: str, room: str) -> tuple[int, int, str, str]:
        """(epoch, members, state, key check) of a device."""
        here = self.devices[name].engine.rooms.rooms.get(bytes.fromhex(room))
        if here is None:
            return (0, 0, "absent", "")
        view = here.session.view
        return (view.epoch, len(view.roster), view.state.value, view.key_check)

    def views(self, room: str) -> set[tuple[int, int, str, str]]:
        """(epoch, members, state, key check) of every device."""
        return {self.view(name, room) for name in self.devices}

    async def one_room_of_all(self) -> None:
        """The first makes a room of everybody; somebody else makes a new key, and all hear the first."""
        await self.all_online()
        names = list(self.devices)
        first = self.devices[names[0]]
        made = await first.execute(values.CreateRoom(title="all", suite="mls", members=names[1:]))
        await self.until(lambda: {view[1:3] for view in self.views(made.id)} == {(len(names), "ready")})
        await self.until(lambda: len(self.views(made.id)) == 1)
        await self.devices[names[-1]].execute(values.RekeyRoom(room=made.id))
        (before,) = self.views(made.id)
        await self.until(lambda: before not in self.views(made.id) and len(self.views(made.id)) == 1)
        await first.execute(values.Send(room=made.id, text="to all"))
        await self.until(lambda: all(self.texts(name) == ["to all"] for name in names))
        assert {name: self.alarms(name) for name in names if self.alarms(name)} == {}


def realm_of(count: int) -> SmallRealm:
    return SmallRealm([f"m{number:03}" for number in range(count)], random.Random("large").randbytes)
