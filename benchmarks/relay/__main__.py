"""`make bench-relay JSON=file`: the whole relay beside the floor, interleaved, median of five.

One room, 20 members, 300 bytes a message, TLS, durable. W messages are in flight: the next one is sent when one
has reached all 20 members. CPU is user and system time of the server's process from /proc. Rows:

    {system, window, cpu_s_per_10k, deliveries_per_s, p50_ms, p99_ms}         10k: ten thousand deliveries

Read the ratio of `cloister` to `floor`, not the figures: they were measured in turns on the same machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
from benchmarks.relay.raw_client import ROOM_TOKEN, Client, Member, log_in, populate, tls_context

from cloister.primitives.kdf import sha256
from cloister.relay.app import init_relay
from cloister.wire import frames

MEMBERS = 20
SIZE = 300
MESSAGES = {1: 1_500, 16: 16_000}
WARM = {1: 200, 16: 2_000}
MUST = {1: 1.35, 16: 1.5}
ROUNDS = 5
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
    ) -> None:
        self._sockets = sockets
        self._window = window
        self._build = build
        self._count = count
        self._last: tuple[bytes, int] = (b"", 0)
        self._got = [0] * len(sockets)
        self._sent: deque[float] = deque()
        self._done = 0
        self._number = 0
        self._target = 0
        self._left = 0
        self._over = asyncio.Event()
        self.latencies: list[float] = []

    async def run(self, messages: int) -> None:
        """Send so many messages and see each at every member."""
        self._target = self._number + messages
        self._over.clear()
        self._send()
        await self._over.wait()

    def _send(self) -> None:
        """Fill the window, one write for each sender; messages in flight have different senders."""
        writes: dict[int, list[bytes]] = {}
        while self._number < self._target and self._number - self._done < self._window:
            sender = self._number % len(self._sockets)
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
        while True:
            message = await socket.receive()
            if message.type is not aiohttp.WSMsgType.BINARY:
                return
            fresh = self.counted(message.data)
            if fresh:
                self._got[member] += fresh
                self._settle(member)

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


async def measure(system: str, port: int, pid: int, window: int, members: list[Member]) -> dict[str, Any]:
    """One row."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        sockets = []
        for _ in range(MEMBERS):
            dial = session.ws_connect(f"wss://127.0.0.1:{port}/v1", ssl=tls_context(), compress=0, max_msg_size=2**20)
            sockets.append(await stack.enter_async_context(dial))
        if system == "cloister":
            await _enter(sockets, members)
            load = Load(sockets, window, _post, _pushed)
        else:
            load = Load(sockets, window, lambda sender, number: _PAYLOAD, lambda data: len(data) // SIZE)
        readers = [asyncio.ensure_future(load.read(number)) for number in range(MEMBERS)]
        await load.run(WARM[window])
        load.latencies.clear()
        cpu, began = cpu_seconds(pid), time.perf_counter()
        await load.run(MESSAGES[window])
        cpu, took = cpu_seconds(pid) - cpu, time.perf_counter() - began
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
    deliveries = MESSAGES[window] * MEMBERS
    ordered = sorted(load.latencies)
    return {
        "system": system,
        "window": window,
        "cpu_s_per_10k": cpu / deliveries * 10_000,
        "deliveries_per_s": deliveries / took,
        "p50_ms": ordered[len(ordered) // 2] * 1000,
        "p99_ms": ordered[len(ordered) * 99 // 100] * 1000,
    }


async def _enter(sockets: list[aiohttp.ClientWebSocketResponse], members: list[Member]) -> None:
    """Log everybody in for real, and present the room's token."""
    for number, (socket, member) in enumerate(zip(sockets, members, strict=True)):
        client: Client = await log_in(socket, member)
        if number == 0:
            await client.create(ROOM)
        after = 0
        while (page := await client.present_page(ROOM, ROOM_TOKEN, after)).more:
            after = page.entries[-1].seq


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start(module: str, directory: Path) -> tuple[subprocess.Popen[bytes], int]:
    """A server process and its port."""
    command = [sys.executable, "-m", module, str(directory)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if process.stdout is None:
        raise ConnectionError(module)
    return process, int(process.stdout.readline())


def bench(rounds: int, windows: list[int]) -> list[dict[str, Any]]:
    """Every row of every round."""
    rows = []
    for _ in range(rounds):
        for window in windows:
            for system in ("floor", "cloister"):
                with tempfile.TemporaryDirectory() as folder:
                    directory = Path(folder) / "relay"
                    init_relay(directory, "bench.example", "127.0.0.1", 0, listen_on="127.0.0.1")
                    members = populate(directory, MEMBERS) if system == "cloister" else []
                    module = "benchmarks.relay.floor" if system == "floor" else "benchmarks.relay.process"
                    process, port = start(module, directory)
                    try:
                        rows.append(uvloop.run(measure(system, port, process.pid, window, members)))
                    finally:
                        process.kill()
                        process.wait()
    return rows


def medians(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each system and window."""
    result = []
    for window in sorted({row["window"] for row in rows}):
        for system in ("floor", "cloister"):
            mine = [row for row in rows if (row["system"], row["window"]) == (system, window)]
            keys = ("cpu_s_per_10k", "deliveries_per_s", "p50_ms", "p99_ms")
            figures = {key: round(statistics.median(row[key] for row in mine), 4) for key in keys}
            result.append({"system": system, "window": window, **figures})
    return result


def main() -> int:
    """Print the table, write the rows, and say whether the musts hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.relay")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--window", type=int, action="append", choices=sorted(MESSAGES))
    arguments = parser.parse_args()
    rows = medians(bench(arguments.rounds, arguments.window or sorted(MESSAGES)))
    print("system     W  cpu s/10k  deliveries/s   p50 ms   p99 ms")
    for row in rows:
        print(
            f"{row['system']:9} {row['window']:2}  {row['cpu_s_per_10k']:9.4f}  {row['deliveries_per_s']:12,.0f}"
            f"  {row['p50_ms']:7.2f}  {row['p99_ms']:7.2f}"
        )
    good = True
    for floor, cloister in zip(rows[::2], rows[1::2], strict=True):
        ratio, must = cloister["cpu_s_per_10k"] / floor["cpu_s_per_10k"], MUST[floor["window"]]
        good = good and ratio <= must
        print(f"W={floor['window']}: cloister costs {ratio:.2f}x the floor (must: at most {must}x)")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
