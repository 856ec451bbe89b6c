"""Connections in memory: they delay, break, arrive late, and partition, all drawn from a seed.

    network = Network(seed, Weather(latency=(0.001, 0.2), breaks=0.01))
    listener = network.listen("relay")                    # far = await listener.accept()
    near = await network.dial("alice", "relay")           # near.send(frame); await near.receive()

Source: docs/architecture.md ("testing"). It stands for WebSocket over TLS, so a connection keeps whole frames in
their order and repeats none; what a real network does to it is this:

- *drops*: a connection breaks at any frame, and a random part of what is in flight to each side is lost;
- *duplicates*: the rest arrives all the same, while the client has dialled again and sends everything once more;
- *reordering*: frames of the broken connection arrive after those of the new one, and each connection has delays of
  its own;
- *half-open*: one side learns of a break late (`notice`);
- *partition*: `cut(name)` breaks all connections of a name and refuses new ones until `heal(name)`.

Invariants
- Same seed, same program, same weather: same deliveries. It needs the VirtualLoop and uses no other clock.
- Frames of one direction of one connection never overtake each other.
- A hook (`End.outgoing`) may replace what one end sends: dishonest relays are made with it.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cloister.errors import UnavailableError
from cloister.testing import clock


class Broken(UnavailableError):
    """The connection ended: nothing more will be received."""

    default = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """How connections behave; times in seconds, `breaks` is a probability for each frame."""

    latency: tuple[float, float] = (0.001, 0.05)
    breaks: float = 0.0
    notice: tuple[float, float] = (0.0, 20.0)


CALM = Weather()


class End:
    """One end of a connection. `peer` is the name of the other side.

    `outgoing`, when set, gets each frame that this end sends and gives the frames that leave in its place. `landed` is
    called when a frame of this end has reached the other side.
    """

    def __init__(self, network: Network, name: str, peer: str) -> None:
        self.name = name
        self.peer = peer
        self.open = True
        self.outgoing: Callable[[bytes], Sequence[bytes]] | None = None
        self.landed: Callable[[], None] = lambda: None
        self._network = network
        self._other: End
        self._flying: deque[bytes] = deque()  # on the way to this end
        self._arrived: deque[bytes] = deque()
        self._latest = 0.0
        self._waiter: asyncio.Future[None] | None = None

    def send(self, frame: bytes) -> None:
        """Put a frame on its way; on an ended connection it is lost."""
        frames = [frame] if self.outgoing is None else self.outgoing(frame)
        for each in frames:
            self._network.carry(self, self._other, each)

    async def receive(self) -> bytes:
        """The next frame; Broken when the connection has ended and everything that arrived was taken."""
        while not self._arrived:
            if not self.open:
                raise Broken("closed")
            self._waiter = clock.loop().create_future()
            await self._waiter
        return self._arrived.popleft()

    def close(self) -> None:
        """End the connection in good order: what was sent before arrives, then the other side learns."""
        if self.open:
            self.shut()
            self._network.finish(self._other)

    # --- for the network ------------------------------------------------------------------------------------

    def join(self, other: End) -> None:
        """Make the two ends one connection."""
        self._other, other._other = other, self

    def fly(self, frame: bytes, delay: float) -> None:
        """A frame is on its way to this end."""
        loop = clock.loop()
        self._latest = max(self._latest, loop.time() + delay)
        self._flying.append(frame)
        loop.call_at(self._latest, self._land)

    def _land(self) -> None:
        """One frame arrives: the oldest, whichever timer it is."""
        if self._flying:
            frame = self._flying.popleft()
            if self.open:
                self._arrived.append(frame)
                self._wake()
            if self._other.open:
                self._other.landed()

    def lose(self, count: int) -> None:
        """The last `count` frames that are on their way here never arrive."""
        for _ in range(min(count, len(self._flying))):
            self._flying.pop()

    @property
    def flying(self) -> int:
        """How many frames are on their way here."""
        return len(self._flying)

    @property
    def sending(self) -> int:
        """Bytes of this end that have not reached the other side."""
        return sum(map(len, self._other._flying))  # noqa: SLF001 - the other end of the same connection

    @property
    def latest(self) -> float:
        """When the last of them arrives."""
        return self._latest

    def shut(self) -> None:
        """This end takes part no more; what has arrived can still be taken."""
        self.open = False
        self._wake()

    def discard(self) -> None:
        """This end's process is gone: nothing is taken any more."""
        self._arrived.clear()
        self._flying.clear()
        self.shut()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class Listener:
    """Where connections to a name come in."""

    def __init__(self) -> None:
        self._waiting: deque[End] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def offer(self, end: End) -> None:
        """A connection has come in."""
        self._waiting.append(end)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def accept(self) -> End:
        """The next connection's end on this side."""
        while not self._waiting:
            self._waiter = clock.loop().create_future()
            await self._waiter
        return self._waiting.popleft()


class Network:
    """All connections. Names are those of processes; several may dial one listener."""

    def __init__(self, seed: int = 0, weather: Weather = CALM) -> None:
        self.weather = weather
        self.breaks = 0
        self._rng = random.Random(seed)  # noqa: S311 - a schedule, not a secret
        self._listeners: dict[str, Listener] = {}
        self._ends: list[tuple[End, End]] = []
        self._cut: set[str] = set()

    def listen(self, name: str) -> Listener:
        """Take connections to `name` from now on; a former listener gets none any more."""
        self._listeners[name] = Listener()
        return self._listeners[name]

    def deafen(self, name: str) -> None:
        """Nobody listens at `name`, and its connections end at once with all that is in flight."""
        self._listeners.pop(name, None)
        for near, far in self._of(name):
            gone, left = (near, far) if near.name == name else (far, near)
            gone.discard()
            left.lose(self._rng.randint(0, left.flying))
            self.finish(left)
        self._sweep()

    async def dial(self, name: str, to: str) -> End:
        """A connection from `name` to `to`; UnavailableError("unreachable") when it does not come about."""
        await asyncio.sleep(self._delay())
        listener = self._listeners.get(to)
        if listener is None or name in self._cut or to in self._cut:
            raise UnavailableError("unreachable", to)
        near, far = End(self, name, to), End(self, to, name)
        near.join(far)
        self._ends.append((near, far))
        listener.offer(far)
        return near

    def carry(self, source: End, target: End, frame: bytes) -> None:
        """Take a frame from one end to the other, or break the connection over it."""
        if not source.open:
            return
        target.fly(frame, self._delay())
        if self._rng.random() < self.weather.breaks:
            self.snap(source, target)

    def snap(self, one: End, other: End) -> None:
        """Break a connection: each direction loses the end of what is in flight, each side notices in its time."""
        self.breaks += 1
        for end in (one, other):
            end.lose(self._rng.randint(0, end.flying))
        first, second = (one, other) if self._rng.random() < 0.5 else (other, one)
        first.shut()
        clock.loop().call_later(self._rng.uniform(*self.weather.notice), second.shut)
        self._sweep()

    def finish(self, end: End) -> None:
        """Shut an end when everything on its way has arrived."""
        loop = clock.loop()
        if end.flying:
            loop.call_at(max(end.latest, loop.time()) + 0.001, end.shut)
        else:
            loop.call_soon(end.shut)

    def cut(self, name: str) -> None:
        """Partition: break every connection of `name` and refuse new ones."""
        self._cut.add(name)
        for near, far in self._of(name):
            self.snap(near, far)

    def heal(self, name: str) -> None:
        """End a partition."""
        self._cut.discard(name)

    def kill(self, name: str) -> None:
        """The process `name` is gone: its ends take nothing more; the others notice in their time."""
        for near, far in self._of(name):
            gone, left = (near, far) if near.name == name else (far, near)
            gone.discard()
            clock.loop().call_later(self._rng.uniform(*self.weather.notice), left.shut)
        self._sweep()

    def _of(self, name: str) -> list[tuple[End, End]]:
        return [pair for pair in self._ends if name in (pair[0].name, pair[1].name) and any(e.open for e in pair)]

    def _sweep(self) -> None:
        self._ends = [pair for pair in self._ends if any(end.open for end in pair)]

    def _delay(self) -> float:
        return self._rng.uniform(*self.weather.latency)
