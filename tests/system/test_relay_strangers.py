"""A real relay against bad and slow clients: a clear end for them, bounded memory, nothing for the others to notice.

What concerns frames holds for both transports, WebSocket and raw TCP (`kind`).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import resource
import socket
import ssl
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from benchmarks.relay.raw_client import (
    ROOM_TOKEN,
    Client,
    Line,
    Member,
    StreamLine,
    WebSocketLine,
    connect,
    dial,
    log_in,
    tls_context,
)

from cloister.primitives.kdf import sha256
from cloister.relay.app import now_ms
from cloister.relay.framing import prefixed
from cloister.wire import frames, limits, login
from support.processes import RelayProcess

pytestmark = pytest.mark.system

ROOM = sha256(b"the room of the strangers")[:16]
IDLE = 2_000
MIB = 1024 * 1024
both = pytest.mark.parametrize("kind", ["websocket", "tcp"])


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[RelayProcess]:
    made = RelayProcess.make(tmp_path / "relay", 4)
    made.start(tcp=True)
    yield made
    assert made.stop() == 0


def a_post(client: Client, number: int, payload: bytes) -> frames.Post:
    return frames.Post(
        rid=client.next(), log=ROOM, kind="application", token_hash=sha256(ROOM_TOKEN),
        entry_id=number.to_bytes(16, "big"), payload=payload,
    )  # fmt: skip


async def posts(client: Client, first: int, count: int) -> list[float]:
    """Seconds until each of some posts is acknowledged."""
    times = []
    for number in range(first, first + count):
        began = time.perf_counter()
        assert isinstance(await client.ask(a_post(client, number, b"x" * 300)), frames.Ack)
        times.append(time.perf_counter() - began)
    return times


def port_of(relay: RelayProcess, kind: str) -> int:
    return relay.tcp if kind == "tcp" else relay.port


def raw(port: int) -> ssl.SSLSocket:
    """A TLS connection without WebSocket."""
    return tls_context().wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=30))


def answer(port: int, request: bytes) -> bytes:
    """Everything that comes for some bytes of HTTP."""
    with raw(port) as connection:
        connection.sendall(request)
        data = b""
        with contextlib.suppress(OSError):
            while part := connection.recv(65_536):
                data += part
        return data


# --- HTTP and TLS -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET / HTTP/1.1", b"404"), (b"GET /v1 HTTP/1.1", b"400"), (b"POST /v1 HTTP/1.1", b"405"),
        (b"GET /healthz HTTP/1.1", b"200"), (b"GET /readyz HTTP/1.1", b"200"), (b"TRACE / HTTP/1.1", b"405"),
        (b"GET /../../etc/passwd HTTP/1.1", b"404"), (b"\x00\x01\x02", b"400"), (b"GET / HTTP/9.9", b"400"),
    ],
)  # fmt: skip
def test_http_gets_a_bare_status_and_no_page(relay: RelayProcess, request_line: bytes, status: bytes) -> None:
    data = answer(relay.port, request_line + b"\r\nHost: x\r\nAccept: text/html\r\n\r\n")
    assert data.split(b"\r\n")[0].split(b" ")[1] == status
    for word in (b"html", b"aiohttp", b"Python", b"Traceback", b"3.1"):
        assert word not in data
    assert b"Server: cloister" in data


def test_older_tls_is_not_spoken(relay: RelayProcess) -> None:
    context = tls_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", relay.port), timeout=10) as plain,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(plain)
    with raw(relay.port) as connection:
        assert connection.version() == "TLSv1.3"
        assert connection.compression() is None


def test_compression_is_never_agreed_on(relay: RelayProcess) -> None:
    async def dial() -> None:
        async with aiohttp.ClientSession() as session:
            url = f"wss://127.0.0.1:{relay.port}/v1"
            async with session.ws_connect(url, ssl=tls_context(), compress=15) as messages:
                assert messages.compress == 0

    asyncio.run(dial())


# --- bytes that are no frames -------------------------------------------------------------------------------


async def said(relay: RelayProcess, kind: str, member: Member | None, data: bytes) -> list[frames.Answer]:
    """What the relay says to one message, until it ends the connection."""
    heard: list[frames.Answer] = []
    async with dial("127.0.0.1", port_of(relay, kind), tcp=kind == "tcp") as line:
        if member is not None:
            await log_in(line, member)
        with contextlib.suppress(ConnectionError):
            await line.send(data)
            while True:
                heard.append(frames.decode_answer(await line.receive()))
    return heard


@both
def test_garbage_surplus_unknown_and_oversize_end_one_connection_and_no_other(relay: RelayProcess, kind: str) -> None:
    async def attack() -> None:
        rng = random.Random(3)
        async with connect("127.0.0.1", relay.port, relay.members[0]) as witness:
            await witness.create(ROOM)
            await witness.present(ROOM, ROOM_TOKEN)
            whole = frames.encode(frames.UserList(rid=1))
            surplus = bytes([whole[0] + 1]) + whole[1:] + b"\x01"
            bad = [b"", b"\xc1", rng.randbytes(300), surplus, whole + b"\x00", b"\x92\xa7unknown\x01", b"\x91" * 5000]
            refused = [frames.Bye(code="bad_encoding")]
            for data in bad:
                assert await said(relay, kind, relay.members[1], data) == refused
                assert await said(relay, kind, None, data) == refused
            sizes = (limits.LOGIN_FRAME.value + 1, limits.FRAME.value + 1, 8 * limits.FRAME.value)
            for member, size in zip((None, *relay.members[1:3]), sizes, strict=True):
                # the end may overtake the answer
                assert await said(relay, kind, member, bytes(size)) in ([], refused)
            await posts(witness, 1, 5)

    before = relay.rss()
    asyncio.run(attack())
    assert relay.rss() - before < 20 * MIB


def test_text_is_no_frame(relay: RelayProcess) -> None:
    async def attack() -> None:
        async with dial("127.0.0.1", relay.port) as line:
            assert isinstance(line, WebSocketLine)
            await line.socket.send_str("text")
            assert frames.decode_answer(await line.receive()) == frames.Bye(code="bad_encoding")

    asyncio.run(attack())


@both
def test_a_frame_at_the_limit_is_read(relay: RelayProcess, kind: str) -> None:
    async def ask() -> None:
        async with connect("127.0.0.1", port_of(relay, kind), relay.members[0], tcp=kind == "tcp") as client:
            empty = frames.Stage(rid=1, hash=bytes(32), size=limits.STAGE.value, offset=0, data=bytes(100_000))
            room = limits.FRAME.value - len(frames.encode(empty)) + 100_000
            frame = frames.Stage(rid=1, hash=bytes(32), size=limits.STAGE.value, offset=0, data=bytes(room))
            assert len(frames.encode(frame)) == limits.FRAME.value
            assert isinstance(await client.ask(frame), frames.Done)

    asyncio.run(ask())


# --- slow ones ----------------------------------------------------------------------------------------------


@both
def test_slow_handshakes_end_in_time_and_hold_up_nobody(relay: RelayProcess, kind: str) -> None:
    began, port = time.monotonic(), port_of(relay, kind)
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(6)]
        no_request = [stack.enter_context(raw(port)) for _ in range(6)]
        for connection in no_request[:3]:
            connection.sendall(b"\x00\x00\x01\x00a frame" if kind == "tcp" else b"GET /v1 HTTP/1.1\r\nHost: ")

        async def others() -> None:
            async with connect("127.0.0.1", relay.port, relay.members[0]) as client:
                await client.create(ROOM)
                await client.present(ROOM, ROOM_TOKEN)
                assert max(await posts(client, 1, 20)) < 5

        async def silence() -> float:
            async with dial("127.0.0.1", port, tcp=kind == "tcp") as line:
                at = time.monotonic()
                assert frames.decode_answer(await line.receive()) == frames.Bye(code="timeout")
                return time.monotonic() - at

        asyncio.run(others())
        assert 9 < asyncio.run(silence()) < 14
        bye = prefixed(frames.encode(frames.Bye(code="timeout")))
        for connection in (*silent, *no_request):
            connection.settimeout(20)
            with contextlib.suppress(OSError):
                assert connection.recv(100) in (b"", bye if kind == "tcp" else b"")
        assert time.monotonic() - began < 35


@both
def test_a_reader_at_one_kib_a_second_costs_little_and_the_others_nothing(relay: RelayProcess, kind: str) -> None:
    async def race() -> tuple[list[float], list[float], int]:
        async with (
            connect("127.0.0.1", relay.port, relay.members[0]) as fast,
            connect("127.0.0.1", relay.port, relay.members[1]) as sender,
        ):
            await sender.create(ROOM)
            for client in (fast, sender):
                await client.present(ROOM, ROOM_TOKEN)
            await flood(sender, 1_000)  # caches are full before anything is measured
            quiet = await posts(fast, 1, 200)
            before = relay.rss()
            slow = await asyncio.to_thread(slow_reader, port_of(relay, kind), relay.members[2], kind)
            stop = asyncio.Event()
            reading = asyncio.create_task(sip(slow, stop))
            await flood(sender, 2_000)
            busy = await posts(fast, 10_000, 200)
            grown = relay.rss() - before
            stop.set()
            await reading
            slow.close()
            return quiet, busy, grown

    quiet, busy, grown = asyncio.run(race())
    assert grown < MIB  # of 16 MB that were pushed past it
    assert statistics.median(busy) < 2 * statistics.median(quiet) + 0.005


async def flood(sender: Client, first: int) -> None:
    """Sixteen megabytes for the room."""
    for number in range(first, first + 500):
        assert isinstance(await sender.ask(a_post(sender, number, random.randbytes(32_000))), frames.Ack)


class Slow:
    """A logged-in connection by hand, with a small receive buffer."""

    def __init__(self, port: int, kind: str) -> None:
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.connect(("127.0.0.1", port))
        self.socket = tls_context().wrap_socket(plain)
        self._tcp = kind == "tcp"
        if not self._tcp:
            self.socket.sendall(
                b"GET /v1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            while b"\r\n\r\n" not in self.socket.recv(4096):
                pass

    def say(self, frame: frames.Frame) -> None:
        """Send a frame (with a mask of zeros)."""
        data = frames.encode(frame)
        head = bytes([0x82, 0x80 | len(data)]) if len(data) < 126 else b"\x82\xfe" + len(data).to_bytes(2, "big")
        self.socket.sendall(prefixed(data) if self._tcp else head + bytes(4) + data)

    def hear(self) -> frames.Answer:
        """One frame of the relay."""
        if self._tcp:
            size = int.from_bytes(take(self.socket, 4), "big")
        else:
            size = take(self.socket, 2)[1]
            if size > 125:
                size = int.from_bytes(take(self.socket, 2 if size == 126 else 8), "big")
        return frames.decode_answer(take(self.socket, size))


def slow_reader(port: int, member: Member, kind: str) -> ssl.SSLSocket:
    """Log in and follow the room."""
    slow = Slow(port, kind)
    certificate = slow.socket.getpeercert(True) or b""
    first = login.hello(member.device, random.randbytes)
    slow.say(first)
    second = slow.hear()
    assert isinstance(second, frames.Challenge)
    slow.say(login.login(first, second, member.keys.device, [], sha256(certificate), now_ms()))
    assert isinstance(slow.hear(), frames.Welcome)
    slow.say(frames.Present(rid=1, log=ROOM, token=ROOM_TOKEN, after=701))
    assert isinstance(slow.hear(), frames.Page)
    return slow.socket


def take(connection: ssl.SSLSocket, size: int) -> bytes:
    """Exactly so many bytes."""
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        assert part
        data += part
    return data


async def sip(connection: ssl.SSLSocket, stop: asyncio.Event) -> None:
    """Read one KiB a second."""
    while not stop.is_set():
        await asyncio.to_thread(connection.recv, 1024)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 1.0)


# --- many ---------------------------------------------------------------------------------------------------


@both
def test_two_thousand_idle_connections_cost_a_hundred_kib_each_at_most(tmp_path: Path, kind: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    relay = RelayProcess.make(tmp_path / "relay", IDLE // limits.DEVICE_CONNECTIONS.value)
    relay.start(tcp=True)

    async def crowd() -> float:
        ready = asyncio.Semaphore(32)
        connector = aiohttp.TCPConnector(limit=0)
        context = tls_context()
        async with aiohttp.ClientSession(connector=connector) as session:

            async def line() -> Line:
                if kind == "tcp":
                    return StreamLine(*await asyncio.open_connection("127.0.0.1", relay.tcp, ssl=context))
                return WebSocketLine(await session.ws_connect(f"wss://127.0.0.1:{relay.port}/v1", ssl=context))

            async def come(number: int) -> Line:
                async with ready:
                    made = await line()
                    await log_in(made, relay.members[number % len(relay.members)])
                    return made

            warm = [await come(number) for number in range(50)]
            before = relay.rss()
            crowd = await asyncio.gather(*(come(number) for number in range(50, IDLE)))
            await asyncio.sleep(2)
            each = (relay.rss() - before) / len(crowd)
            for made in (*warm, *crowd):
                if isinstance(made, StreamLine):
                    made.writer.transport.abort()
                elif isinstance(made, WebSocketLine):
                    made.socket._response.close()
            return each

    each = asyncio.run(crowd())
    print(f"{each / 1024:.1f} KiB for each idle connection ({kind})")
    assert relay.stop() == 0
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert each <= 100 * 1024


def test_out_of_file_descriptors_new_ones_wait_and_old_ones_go_on(tmp_path: Path) -> None:
    relay = RelayProcess.make(tmp_path / "relay", 2)
    relay.start()
    resource.prlimit(relay.pid, resource.RLIMIT_NOFILE, (48, 48))

    async def flood() -> None:
        async with connect("127.0.0.1", relay.port, relay.members[0]) as client:
            await client.create(ROOM)
            await client.present(ROOM, ROOM_TOKEN)
            plain = [socket.create_connection(("127.0.0.1", relay.port)) for _ in range(60)]
            await asyncio.sleep(1)
            await posts(client, 1, 20)
            for each in plain:
                each.close()
        async with connect("127.0.0.1", relay.port, relay.members[1]) as late:
            assert (await late.present(ROOM, ROOM_TOKEN)).head.seq == 21

    asyncio.run(flood())
    assert "out_of_files" in relay.log.read_text()
    assert relay.stop() == 0
