"""The relay in memory: the real rules over a memory store, with commits that take time and crashes.

    relay = Relay(network, realm, seed=7)
    relay.start()
    relay.crash(); relay.start()                   # a new process over the same rows

Source: docs/spec/relay.md ("Core", "Group commit"). What `relay.server` does with sockets and SQLite,
in the simplest form.

Invariants
- Nothing that depends on a write is sent before its batch was applied; a crash drops the batches that were not.
- A batch is applied as a whole, also when the crash comes while it is being committed.
- Each connection's frames are handled in order; connections are handled in the loop's (seeded) order.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Final

from cloister.primitives.kdf import sha256
from cloister.relay.core import Batch, RelayCore
from cloister.testing import clock
from cloister.testing.network import Broken, End, Network
from cloister.testing.realm import SmallRealm

TLS: Final = sha256(b"no TLS in memory")
"""What stands for the SHA-256 of the relay's TLS certificate: there is none in memory."""
NAME: Final = "relay"


class Accepted:
    """A connection as the core wants it. Each client has an address of its own: its name."""

    def __init__(self, end: End) -> None:
        self.end = end
        self.address = end.peer
        self.tls = TLS

    @property
    def waiting(self) -> int:
        """Bytes on their way to the client."""
        return self.end.sending

    def send(self, data: bytes) -> None:
        """Queue one frame."""
        self.end.send(data)

    def close(self, code: str) -> None:
        """Send what is queued and end."""
        self.end.close()


Hook = Callable[[str, bytes], Sequence[bytes]]
"""(client, frame) -> the frames that leave in its place."""


class Relay:
    """The relay: rows that last, and at most one running process.

    `commit` bounds the seconds that a transaction takes. `hook` may replace every frame to a client.
    """

    def __init__(
        self, network: Network, realm: SmallRealm, *, seed: object = 0, commit: tuple[float, float] = (0.001, 0.02)
    ) -> None:
        self.realm = realm
        self.store = realm.store()
        self.crashes = 0
        self.hook: Hook | None = None
        self._network = network
        self._commit = commit
        self._random = random.Random(f"{seed} relay")  # noqa: S311 - a schedule; keys of a simulation are not secret
        self._process: _Process | None = None

    @property
    def running(self) -> bool:
        """Whether a process is alive."""
        return self._process is not None

    def start(self) -> None:
        """Begin a process over the rows."""
        core = RelayCore(
            self.store, self.realm.settings, self.realm.relay_keys, self.realm.authority, self._random.randbytes
        )
        self._process = _Process(self, core, self._network, self._random, self._commit)

    def crash(self) -> None:
        """End the process at once: what was not applied is gone, all connections end."""
        process, self._process = self._process, None
        if process is not None:
            self.crashes += 1
            process.end()
            self._network.deafen(NAME)


class _Process:
    """The tasks of one process: accept, one reader for each connection, the writer, the ticker."""

    def __init__(
        self, relay: Relay, core: RelayCore, network: Network, rng: random.Random, commit: tuple[float, float]
    ) -> None:
        self._relay = relay
        self._core = core
        self._random = rng
        self._commit = commit
        self._listener = network.listen(NAME)
        self._dirty = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        for job in (self._accept(), self._write(), self._tick()):
            self._spawn(job)

    def _spawn(self, job: object) -> None:
        task: asyncio.Task[None] = clock.loop().create_task(job)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            clock.loop().call_exception_handler({"message": "the relay died", "exception": error})

    def end(self) -> None:
        """Drop everything."""
        for task in list(self._tasks):
            task.cancel()

    async def _accept(self) -> None:
        while True:
            end = await self._listener.accept()
            if self._relay.hook is not None:
                end.outgoing = self._hooked(end.peer)
            self._spawn(self._serve(Accepted(end)))

    def _hooked(self, client: str) -> Callable[[bytes], Sequence[bytes]]:
        def outgoing(frame: bytes) -> Sequence[bytes]:
            hook = self._relay.hook
            return [frame] if hook is None else hook(client, frame)

        return outgoing

    async def _serve(self, connection: Accepted) -> None:
        core = self._core
        connection.end.landed = lambda: core.drained(connection, clock.now())
        core.connect(connection, clock.now())
        try:
            while True:
                data = await connection.end.receive()
                core.frame(connection, data, clock.now())
                self._dirty.set()
        except Broken:
            core.disconnect(connection, clock.now())
            self._dirty.set()

    async def _write(self) -> None:
        """Group commit: what arrives during one transaction is the next one."""
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            while (batch := self._core.take_batch()) is not None:
                await self._store(batch)

    async def _store(self, batch: Batch) -> None:
        await asyncio.sleep(self._random.uniform(*self._commit))
        self._relay.store.apply(batch.writes)
        await asyncio.sleep(0)
        self._core.committed(batch, clock.now())

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1)
            self._core.tick(clock.now())
            self._dirty.set()
