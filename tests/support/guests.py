"""Guests, a relay and a calm network under the virtual clock: what sessions of two are lived through with."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from cloister.client.session import GuestAgent, SessionClient
from cloister.client.transport import Connection
from cloister.engine import values
from cloister.engine.account import Account
from cloister.engine.guest import guest_account, stored_account
from cloister.testing import clock
from cloister.testing.member import Dialled
from cloister.testing.network import Network
from cloister.testing.realm import SmallRealm
from cloister.testing.relay import Relay
from cloister.testing.store import MemoryStore


class Guest:
    """A guest's process over a store; `told` is every event."""

    def __init__(self, meeting: Meeting, name: str, account: Account | None = None) -> None:
        self.meeting, self.name = meeting, name
        self.store = MemoryStore()
        self.dice = random.Random(f"guest {name}")
        self.account = account or guest_account("relay:7443", b"", self.dice.randbytes)
        self.told: list[values.Event] = []
        self.start()

    def start(self) -> None:
        """A process over what the store has."""
        self.open = self.store.open()
        self.agent = GuestAgent(
            stored_account(self.open) or self.account, self.open, dialler=self._dial, now=clock.now,
            rng=self.dice.randbytes, jitter=self.dice.uniform,
        )  # fmt: skip
        self.client = SessionClient(self.agent)
        self.task = clock.loop().create_task(self._live())

    def crash(self) -> None:
        """The process ends at once."""
        self.open.end()
        self.meeting.network.kill(self.name)
        self.task.cancel()

    async def _live(self) -> None:
        async with self.agent.running():
            async for event in self.client.events():
                self.told.append(event)

    @asynccontextmanager
    async def _dial(self, address: str) -> AsyncIterator[Connection]:
        end = await self.meeting.network.dial(self.name, "relay")
        try:
            yield Dialled(end)
        finally:
            end.close()

    @property
    def stages(self) -> list[str]:
        """The stages that the person was told."""
        return [event.stage for event in self.told if isinstance(event, values.SessionChanged)]

    @property
    def texts(self) -> list[str]:
        """What was shown."""
        return [event.message.text for event in self.told if isinstance(event, values.MessageReceived)]

    def last(self) -> values.SessionChanged:
        """Where the session stands."""
        nothing = values.SessionChanged(cursor=0, stage="")
        return [nothing, *(event for event in self.told if isinstance(event, values.SessionChanged))][-1]

    async def say(self, text: str) -> None:
        """Send a text and wait until it is stored."""
        room = (await self.client.rooms())[0]
        await self.client.send(room.id, text, wait=True)


class Meeting:
    """A relay and a calm network."""

    def __init__(self) -> None:
        realm = SmallRealm((), random.Random("guests").randbytes)
        realm.settings = replace(realm.settings, guests=True)
        self.network = Network(7)
        self.relay = Relay(self.network, realm, seed=7)
        self.relay.hook = lambda _client, data: [data]  # a test may put its own there while connections stand
        self.relay.start()
        self.guests: list[Guest] = []

    def guest(self, name: str, account: Account | None = None) -> Guest:
        """One more guest."""
        guest = Guest(self, name, account)
        self.guests.append(guest)
        return guest

    async def until(self, true: Callable[[], object], seconds: float = 120) -> None:
        """Wait until something is true."""
        end = clock.loop().time() + seconds
        while not true():
            assert clock.loop().time() < end, [guest.told[-3:] for guest in self.guests]
            await asyncio.sleep(0.05)

    async def met(self, *, whole: bool = True) -> tuple[Guest, Guest]:
        """Two whose session is ready (whole code), or who compare."""
        creator, joiner = self.guest("creator"), self.guest("joiner")
        code = await creator.client.create(whole=whole)
        await joiner.client.join(code)
        stage = "ready" if whole else "compare"
        await self.until(lambda: creator.last().stage == joiner.last().stage == stage)
        return creator, joiner


def live(story: Callable[[Meeting], Coroutine[Any, Any, None]]) -> None:
    """Live through a story."""

    async def main() -> None:
        meeting = Meeting()
        await story(meeting)
        for guest in meeting.guests:
            guest.task.cancel()

    clock.run(main(), 7)
