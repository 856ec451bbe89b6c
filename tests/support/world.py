"""Devices, a relay and a calm network under the virtual clock: plant one thing and look what happens."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from cloister.client.suites import SUITES
from cloister.engine import values
from cloister.errors import PeerError
from cloister.relay.core import RelayCore
from cloister.testing import clock
from cloister.testing.member import Device
from cloister.testing.network import Network
from cloister.testing.realm import SmallRealm
from cloister.testing.relay import Relay
from cloister.wire import frames
from support.keypool import rsa_decrypt_key, rsa_signing_key

NAMES = ("alice", "bob", "carol")


class World:
    """A running relay and running devices; `events` is what each device was told.

    `twist(client, frame)` gives the frames that leave the relay in the place of one.
    """

    def __init__(self, realm: SmallRealm, names: Sequence[str]) -> None:
        self.network = Network(7)
        self.twist: Callable[[str, frames.Answer], Sequence[frames.Frame]] = lambda _client, frame: [frame]
        self.relay = Relay(self.network, realm, seed=7)
        self.relay.hook = self._twisted
        self.relay.start()
        self.devices: dict[str, Device] = {}
        self.events: dict[str, list[values.Event]] = {}
        for name in names:
            self.devices[name] = self._device(name, realm)

    def _twisted(self, client: str, data: bytes) -> Sequence[bytes]:
        try:
            frame = frames.decode_answer(data)
        except PeerError:
            return [data]
        return [frames.encode(each) for each in self.twist(client, frame)]

    def _device(self, name: str, realm: SmallRealm) -> Device:
        device = Device(name, realm.accounts[name], SUITES, self.network, seed=7)
        self.events[name] = []
        device.on_event = self.events[name].append
        device.start()
        return device

    @property
    def core(self) -> RelayCore:
        """The relay's rules, to plant what only an operator or a fault can."""
        process = self.relay._process
        assert process is not None
        return process._core

    def stir(self) -> None:
        """What was planted in the core is stored."""
        process = self.relay._process
        assert process is not None
        process._dirty.set()

    def of(self, name: str, kind: type[Any]) -> list[Any]:
        """The events of one kind that a device was told."""
        return [event for event in self.events[name] if isinstance(event, kind)]

    def alarms(self, name: str) -> list[str]:
        """The codes of a device's alarms."""
        return [event.code for event in self.of(name, values.Alarm)]

    def texts(self, name: str) -> list[str]:
        """What a device has shown, in order."""
        return [event.message.text for event in self.of(name, values.MessageReceived)]

    async def until(self, true: Callable[[], object], seconds: float = 600) -> None:
        """Wait until something is true."""
        end = clock.loop().time() + seconds
        while not true():
            assert clock.loop().time() < end, "it never came true"
            await asyncio.sleep(0.05)

    async def online(self) -> None:
        """Everybody is connected and knows the realm."""
        await self.until(lambda: all(device.engine.link.online for device in self.devices.values()))
        await self.until(lambda: all(device.engine.knows(NAMES[0]) for device in self.devices.values()))

    async def room(self, *others: str, title: str = "ops") -> str:
        """A ready room of the first device and these others; its id."""
        await self.online()
        first = next(iter(self.devices.values()))
        made = await first.execute(values.CreateRoom(title=title, suite="nonces", members=list(others)))
        await self.until(lambda: all(self.state(name, made.id) == "ready" for name in (first.name, *others)))
        return str(made.id)

    def info(self, name: str, room: str) -> values.RoomInfo | None:
        """A room as a device has it, as it was last told."""
        told = [event.room for event in self.of(name, values.RoomChanged) if event.room.id == room]
        return told[-1] if told else None

    def state(self, name: str, room: str) -> str:
        """The state of a room on a device."""
        info = self.info(name, room)
        return info.state if info else ""


def live(
    story: Callable[[World], Coroutine[Any, Any, None]],
    realm: SmallRealm,
    names: Sequence[str] = NAMES,
    kind: type[World] = World,
) -> World:
    """Live through a story; the world as it was at its end."""
    worlds: list[World] = []

    async def main() -> None:
        worlds.append(kind(realm, names))
        await story(worlds[0])

    clock.run(main(), 7)
    return worlds[0]


def small_realm() -> SmallRealm:
    """A realm of the three, with keys from the pool."""
    return SmallRealm(
        NAMES, random.Random("world").randbytes, lambda number: (rsa_signing_key(number), rsa_decrypt_key(number))
    )
