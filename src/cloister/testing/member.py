"""A member's device in memory: the real agent and engine over a crashable store and a network in memory.

    device = Device("alice", account, SUITES, network, seed=7)
    device.start()
    room = await device.execute(CreateRoom(title="team", suite="nonces", members=["bob"]))
    device.crash(); device.start()                 # a new process over the same store

Source: docs/architecture.md ("Life of a message"). Only the dialler, the clock and the randomness are replaced.

Invariants
- A crash drops everything but the store; nothing of the ended process reaches store or network any more.
- The person's reading position survives (an app keeps its cursor): each message is told once, whatever crashed.
- An engine that asks to be woken again and again without getting anywhere is a bug: SpinningEngine.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from cloister.client.agent import Agent
from cloister.client.transport import Connection
from cloister.engine import inputs
from cloister.engine.account import Account
from cloister.engine.core import Engine
from cloister.engine.unit import Unit
from cloister.engine.values import Command, Event, MessageReceived
from cloister.errors import InternalError, UnavailableError
from cloister.protocols.interface import Suite
from cloister.testing import clock
from cloister.testing.network import Broken, End, Network
from cloister.testing.relay import TLS
from cloister.testing.store import Crashed, MemoryStore, OpenStore

_SPIN: Final = 200
"""Ticks in one virtual second that do nothing, after which an engine counts as spinning."""


class SpinningEngine(InternalError):
    """The engine wants to be woken without end, and then does nothing."""


class Dialled:
    """A connection as the agent wants it."""

    def __init__(self, end: End) -> None:
        self.tls = TLS
        self._end = end

    async def send(self, frame: bytes) -> None:
        """Send one frame; UnavailableError("closed") on an ended connection."""
        await asyncio.sleep(0)
        if not self._end.open:
            raise UnavailableError("closed")
        self._end.send(frame)

    async def receive(self) -> AsyncIterator[bytes]:
        """Frames until the connection ends."""
        while True:
            try:
                frame = await self._end.receive()
            except Broken:
                return
            yield frame


class Device:
    """One device: account, store, and at most one running process.

    `on_event` is told what the person sees; `outgoing` may replace the frames that the device sends.
    """

    def __init__(
        self, name: str, account: Account, suites: Mapping[str, Suite], network: Network, *, seed: object = 0,
        relay: str = "relay",
    ) -> None:  # fmt: skip
        self.name = name
        self.account = account
        self.store = MemoryStore()
        self.store.on_crash = self.crash
        self.cursor = 0
        self.crashes = 0
        self.on_event: Callable[[Event], None] = lambda event: None
        self._suites = suites
        self._network = network
        self._relay = relay
        self._random = random.Random(f"{seed} {name}")  # noqa: S311 - a schedule; keys of a simulation are not secret
        self._agent: Agent | None = None
        self._open: OpenStore | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether a process is alive."""
        return self._agent is not None

    @property
    def engine(self) -> Engine:
        """The engine of the running process; to look at."""
        if self._agent is None:
            raise UnavailableError("closed", f"{self.name} is not running")
        return self._agent.engine

    def start(self) -> None:
        """Begin a process over the store; messages that no process has told yet are told."""
        self._open = self.store.open()
        agent = Agent(
            self.account, self._suites, self._open, dialler=self._dial, now=clock.now,
            rng=self._random.randbytes, jitter=self._random.uniform,
        )  # fmt: skip
        watch(agent.engine, self.name)
        self._agent = agent
        self._task = clock.loop().create_task(self._live(agent))
        self._task.add_done_callback(self._ended)

    def crash(self) -> None:
        """End the process at once; the relay notices its broken connection in its own time."""
        if self._open is not None:
            self._open.end()
            self._network.kill(self.name)
            self.crashes += 1
        if self._task is not None:
            self._task.cancel()
        self._agent = self._open = self._task = None

    async def execute(self, command: Command) -> Any:
        """Carry out a command; its CloisterError, or UnavailableError("closed") when the process ends first."""
        if self._agent is None:
            raise UnavailableError("closed", f"{self.name} is not running")
        try:
            return await self._agent.execute(command)
        except Crashed:
            raise UnavailableError("closed", f"{self.name} crashed") from None

    async def _live(self, agent: Agent) -> None:
        async with agent.running():
            async for event in agent.events(self.cursor):
                self._tell(event)

    def _tell(self, event: Event) -> None:
        """Tell the person; a message only once, whatever crashed in between."""
        if isinstance(event, MessageReceived):
            if event.cursor <= self.cursor:
                return
            self.cursor = event.cursor
        self.on_event(event)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A crash ends a process; anything else that does is a bug and ends the simulation."""
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, Crashed):
            clock.loop().call_exception_handler({"message": f"{self.name} died", "exception": error})

    @asynccontextmanager
    async def _dial(self, address: str) -> AsyncIterator[Connection]:
        end = await self._network.dial(self.name, self._relay)
        try:
            yield Dialled(end)
        finally:
            end.close()


def watch(engine: Engine, name: str) -> None:
    """Let the engine raise SpinningEngine when it is woken again and again and does nothing."""
    handle: Callable[[inputs.Input, int], Unit] = engine.handle
    idle: list[int] = []

    def watched(what: inputs.Input, now: int) -> Unit:
        unit = handle(what, now)
        if isinstance(what, inputs.Tick) and not unit.writes and not unit.outputs:
            idle[:] = [at for at in idle if at > now - 1000] + [now]
            if len(idle) > _SPIN:
                raise SpinningEngine("internal", f"{name} is woken without end at {now}")
        return unit

    engine.handle = watched  # type: ignore[method-assign]
