"""`make bench-relay JSON=file`: the whole relay beside the floor, slice by slice in turns, median of five rounds.

One room, 20 members, 300 bytes a message, TLS, durable. W messages are in flight over the room, each from another
member, as in a chat: the next one is sent, by the next member, when one has reached all 20. Beside that, for W=16,
one member at a time that pipelines all 16 (`pipelined`, no must): the floor then reads them at once, and the whole
relay still has to judge, chain and store each.

CPU is the time on a processor of the server's threads, from /proc. Rows:

    {system, window, cpu_s_per_10k, deliveries_per_s, p50_ms, p99_ms}         10k: ten thousand deliveries

The floor itself is held against the first prototype: its best round at most FLOOR_MOST times the prototype's figures,
both counted in Ed25519 signatures of their machine at its best, because machines differ.

Read the ratio of `cloister` to `floor`, not the figures: both stand at the same time and are given the same load in
turns of a fraction of a second, so what else the machine does meets both alike.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
from benchmarks.relay.raw_client import ROOM_TOKEN, Client, Member, WebSocketLine, log_in, populate, tls_context
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.primitives.kdf import sha256
from cloister.relay.app import init_relay
from cloister.wire import frames

MEMBERS = 20
SIZE = 300
MESSAGES = {1: 1_600, 16: 16_000}
SLICES = 8
MUST = {1: 1.35, 16: 1.5}
PROTOTYPE = {1: 0.168, 16: 0.033}
"""The first prototype's CPU seconds per 10k deliveries, on a machine that signed with Ed25519 in PROTOTYPE_SIGN s."""
PROTOTYPE_SIGN = 32e-6
FLOOR_MOST = 1.3
ROUNDS = 5
FIGURES = ("cpu_s_per_10k", "deliveries_per_s", "p50_ms", "p99_ms")
ROOM = sha256(b"the benchmark's room")[:16]
TOKEN_HASH = sha256(ROOM_TOKEN)


class Load:
    """Sends messages and counts them at every member."""

    def __init__(
        self,
        sockets: list[aiohttp.ClientWebSocketResponse],
        window: int,
        build: Callable[[int, int], bytes],
        count: Callable[[bytes], int],
        *,
        turn: int,
    ) -> None:
        self._sockets = sockets
        self._window = window
        self._build = build
        self._count = count
        self._turn = turn
        self._last: tuple[bytes, int] = (b"", 0)
        self._got = [0] * len(sockets)
        self._sent: deque[float] = deque()
        self._done = 0
        self._number = 0
        self._target = 0
        self._left = 0
        self._over = asyncio.Event()
        self._failure: ConnectionError | None = None
        self.latencies: list[float] = []

    async def run(self, messages: int) -> None:
        """Send so many messages and see each at every member."""
        self._target = self._number + messages
        self._over.clear()
        self._send()
        await self._over.wait()
        if self._failure is not None:
            raise self._failure

    def _send(self) -> None:
        """Fill the window, one write for each sender; members take turns of so many messages."""
        writes: dict[int, list[bytes]] = {}
        while self._number < self._target and self._number - self._done < self._window:
            sender = self._number // self._turn % len(self._sockets)
            writes.setdefault(sender, []).append(_masked(self._build(sender, self._number)))
            self._number += 1
        now = time.perf_counter()
        for sender, packets in writes.items():
            self._sent.extend([now] * len(packets))
            _transport(self._sockets[sender]).write(b"".join(packets))

    def counted(self, data: bytes) -> int:
        """How many messages a frame delivers; everybody's frames are equal."""
        if data != self._last[0]:
            self._last = (data, self._count(data))
        return self._last[1]

    async def read(self, member: int) -> None:
        """One member."""
        socket = self._sockets[member]
        try:
            while True:
                message = await socket.receive()
                if message.type is not aiohttp.WSMsgType.BINARY:
                    raise ConnectionError(str(message.type))
                fresh = self.counted(message.data)
                if fresh:
                    self._got[member] += fresh
                    self._settle(member)
        except ConnectionError as error:
            self._failure = error
            self._over.set()

    def _settle(self, member: int) -> None:
        """When the last member has a message, it is delivered."""
        if self._got[member] > self._done:
            reached = min(self._got)
            now = time.perf_counter()
            while self._done < reached:
                self._done += 1
                self.latencies.append(now - self._sent.popleft())
            self._send()
            if self._done == self._target:
                self._over.set()


def _transport(socket: aiohttp.ClientWebSocketResponse) -> asyncio.WriteTransport:
    writer: Any = socket._writer  # noqa: SLF001 - the bare client reads what aiohttp holds back
    transport: asyncio.WriteTransport = writer.transport
    return transport


def _masked(data: bytes) -> bytes:
    """A client's frame; a mask of zeros costs the load nothing."""
    return b"\x82\xfe" + len(data).to_bytes(2, "big") + bytes(4) + data


def _post(sender: int, number: int) -> bytes:
    return frames.encode(
        frames.Post(
            rid=number,
            log=ROOM,
            kind="application",
            token_hash=TOKEN_HASH,
            entry_id=secrets.token_bytes(16),
            payload=_PAYLOAD,
        )
    )


_PAYLOAD = secrets.token_bytes(SIZE)


def _pushed(data: bytes) -> int:
    if data[1:5] == b"\xa3ack":
        return 0
    frame = frames.decode_answer(data)
    if not isinstance(frame, frames.Pushed):
        raise ConnectionError(str(frame))
    return len(frame.entries)


class Side:
    """A server under load: its process, its connections, and what has been measured."""

    def __init__(self, system: str, window: int, turn: int) -> None:
        self.system = system
        self.window = window
        self._turn = turn
        self._cpu = self._took = 0.0

    async def start(self, stack: AsyncExitStack) -> None:
        """Begin the process, log everybody in, and keep both until the stack ends."""
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "relay"
        init_relay(directory, "bench.example", "127.0.0.1", 0, listen_on="127.0.0.1")
        whole = self.system == "cloister"
        members = populate(directory, MEMBERS) if whole else []
        self._process, port = start(f"benchmarks.relay.{'process' if whole else 'floor'}", directory)
        stack.callback(self._process.wait)
        stack.callback(self._process.kill)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        sockets = []
        for _ in range(MEMBERS):
            dial = session.ws_connect(f"wss://127.0.0.1:{port}/v1", ssl=tls_context(), compress=0, max_msg_size=2**20)
            sockets.append(await stack.enter_async_context(dial))
        if whole:
            await _enter(sockets, members)
            self.load = Load(sockets, self.window, _post, _pushed, turn=self._turn)
        else:
            echo: Callable[[int, int], bytes] = lambda sender, number: _PAYLOAD  # noqa: E731
            self.load = Load(sockets, self.window, echo, lambda data: len(data) // SIZE, turn=self._turn)
        readers = [asyncio.ensure_future(self.load.read(number)) for number in range(MEMBERS)]
        for reader in readers:
            stack.callback(reader.cancel)

    async def slice(self, messages: int) -> None:
        """Some of the load."""
        cpu, began = cpu_seconds(self._process.pid), time.perf_counter()
        await self.load.run(messages)
        self._cpu += cpu_seconds(self._process.pid) - cpu
        self._took += time.perf_counter() - began

    def warm(self) -> None:
        """Forget what was measured so far."""
        self._cpu = self._took = 0.0
        self.load.latencies.clear()

    def row(self) -> dict[str, Any]:
        """What was measured."""
        ordered = sorted(self.load.latencies)
        deliveries = len(ordered) * MEMBERS
        name = self.system if self._turn == 1 else f"{self.system}, pipelined"
        return {
            "system": name,
            "window": self.window,
            "cpu_s_per_10k": self._cpu / deliveries * 10_000,
            "deliveries_per_s": deliveries / self._took,
            "p50_ms": ordered[len(ordered) // 2] * 1000,
            "p99_ms": ordered[len(ordered) * 99 // 100] * 1000,
        }


async def measure(window: int, turn: int) -> list[dict[str, Any]]:
    """One round: a row for the floor and one for the relay."""
    async with AsyncExitStack() as stack:
        sides = [Side(system, window, turn) for system in ("floor", "cloister")]
        for side in sides:
            await side.start(stack)
        part = MESSAGES[window] // SLICES
        for number in range(SLICES + 1):
            for side in sides:
                await side.slice(part)
                if number == 0:
                    side.warm()
        return [side.row() for side in sides]


async def _enter(sockets: list[aiohttp.ClientWebSocketResponse], members: list[Member]) -> None:
    """Log everybody in for real, and present the room's token."""
    for number, (socket, member) in enumerate(zip(sockets, members, strict=True)):
        client: Client = await log_in(WebSocketLine(socket), member)
        if number == 0:
            await client.create(ROOM)
        after = 0
        while (page := await client.present_page(ROOM, ROOM_TOKEN, after)).more:
            after = page.entries[-1].seq


def cpu_seconds(pid: int) -> float:
    """Seconds that the threads of a process were on a processor."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def start(module: str, directory: Path) -> tuple[subprocess.Popen[bytes], int]:
    """A server process and its port."""
    command = [sys.executable, "-m", module, str(directory)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if process.stdout is None:
        raise ConnectionError(module)
    return process, int(process.stdout.readline())


def bench(rounds: int, loads: list[tuple[int, int]]) -> tuple[list[dict[str, Any]], list[float]]:
    """The median of the rounds: two rows, floor and relay, for each load (window, turn); and each row's least CPU."""
    result, least = [], []
    for window, turn in loads:
        pairs = [uvloop.run(measure(window, turn)) for _ in range(rounds)]
        for rows in zip(*pairs, strict=True):
            figures = {key: round(statistics.median(row[key] for row in rows), 4) for key in FIGURES}
            result.append({"system": rows[0]["system"], "window": window, **figures})
            least.append(min(row["cpu_s_per_10k"] for row in rows))
    return result, least


def sign_seconds() -> float:
    """Seconds of one Ed25519 signature by OpenSSL, as the prototype's machine made it: the best of many."""
    key = Ed25519PrivateKey.generate()
    return min(timeit.repeat(lambda: key.sign(_PAYLOAD), number=100, repeat=30)) / 100


def main() -> int:
    """Print the table, write the rows, and say whether the musts hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.relay")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--window", type=int, action="append", choices=sorted(MESSAGES))
    arguments = parser.parse_args()
    windows = arguments.window or sorted(MESSAGES)
    loads = [(window, 1) for window in windows] + [(window, window) for window in windows if window > 1]
    signing = sign_seconds()
    rows, least = bench(arguments.rounds, loads)
    print("system                W  cpu s/10k  deliveries/s   p50 ms   p99 ms")
    for row in rows:
        print(
            f"{row['system']:20} {row['window']:2}  {row['cpu_s_per_10k']:9.4f}  {row['deliveries_per_s']:12,.0f}"
            f"  {row['p50_ms']:7.2f}  {row['p99_ms']:7.2f}"
        )
    good = True
    for floor, cloister, best in zip(rows[::2], rows[1::2], least[::2], strict=True):
        ratio, window = cloister["cpu_s_per_10k"] / floor["cpu_s_per_10k"], floor["window"]
        if floor["system"] == "floor":
            lean = best / PROTOTYPE[window] * PROTOTYPE_SIGN / signing
            good = good and ratio <= MUST[window] and lean <= FLOOR_MOST
            print(f"W={window}: cloister costs {ratio:.2f}x the floor (must: at most {MUST[window]}x)")
            print(f"W={window}: the floor costs {lean:.2f}x the prototype, in signatures (must: at most {FLOOR_MOST}x)")
        else:
            print(f"W={window}, pipelined: cloister costs {ratio:.2f}x the floor (no must)")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
