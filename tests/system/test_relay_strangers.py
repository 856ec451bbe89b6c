"""A real relay against bad and slow clients: a clear end for them, bounded memory, nothing for the others to notice."""

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
from benchmarks.relay.raw_client import ROOM_TOKEN, Client, Member, connect, log_in, tls_context

from cloister.primitives.kdf import sha256
from cloister.relay.app import now_ms
from cloister.wire import frames, limits, login
from support.processes import RelayProcess

pytestmark = pytest.mark.system

ROOM = sha256(b"the room of the strangers")[:16]
IDLE = 2_000
MIB = 1024 * 1024


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[RelayProcess]:
    made = RelayProcess.make(tmp_path / "relay", 4)
    made.start()
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


async def said(relay: RelayProcess, member: Member | None, data: bytes | str) -> list[frames.Answer]:
    """What the relay says to one message, until it ends the connection."""
    heard: list[frames.Answer] = []
    async with aiohttp.ClientSession() as session:
        url = f"wss://127.0.0.1:{relay.port}/v1"
        async with session.ws_connect(url, ssl=tls_context(), max_msg_size=2**21) as messages:
            if member is not None:
                await log_in(messages, member)
            await (messages.send_bytes(data) if isinstance(data, bytes) else messages.send_str(data))
            async for message in messages:
                heard.append(frames.decode_answer(message.data))
    return heard


def test_garbage_surplus_unknown_and_oversize_end_one_connection_and_no_other(relay: RelayProcess) -> None:
    async def attack() -> None:
        rng = random.Random(3)
        async with connect("127.0.0.1", relay.port, relay.members[0]) as witness:
            await witness.create(ROOM)
            await witness.present(ROOM, ROOM_TOKEN)
            whole = frames.encode(frames.UserList(rid=1))
            surplus = bytes([whole[0] + 1]) + whole[1:] + b"\x01"
            bad = [b"", b"\xc1", rng.randbytes(300), surplus, whole + b"\x00", b"\x92\xa7unknown\x01", b"\x91" * 5000]
            for data in bad:
                assert await said(relay, relay.members[1], data) == [frames.Bye(code="bad_encoding")]
                assert await said(relay, None, data) == [frames.Bye(code="bad_encoding")]
            assert await said(relay, relay.members[1], "text") == [frames.Bye(code="bad_encoding")]
            assert await said(relay, None, bytes(limits.LOGIN_FRAME.value + 1)) == [frames.Bye(code="bad_encoding")]
            assert await said(relay, relay.members[1], bytes(limits.FRAME.value + 1)) in (
                [], [frames.Bye(code="bad_encoding")],
            )  # fmt: skip
            assert await said(relay, relay.members[1], bytes(8 * limits.FRAME.value)) in (
                [], [frames.Bye(code="bad_encoding")],
            )  # fmt: skip
            await posts(witness, 1, 5)

    before = relay.rss()
    asyncio.run(attack())
    assert relay.rss() - before < 20 * MIB


def test_a_frame_at_the_limit_is_read(relay: RelayProcess) -> None:
    async def ask() -> None:
        async with connect("127.0.0.1", relay.port, relay.members[0]) as client:
            empty = frames.Stage(rid=1, hash=bytes(32), size=limits.STAGE.value, offset=0, data=bytes(100_000))
            room = limits.FRAME.value - len(frames.encode(empty)) + 100_000
            frame = frames.Stage(rid=1, hash=bytes(32), size=limits.STAGE.value, offset=0, data=bytes(room))
            assert len(frames.encode(frame)) == limits.FRAME.value
            assert isinstance(await client.ask(frame), frames.Done)

    asyncio.run(ask())


# --- slow ones ----------------------------------------------------------------------------------------------


def test_slow_handshakes_end_in_time_and_hold_up_nobody(relay: RelayProcess) -> None:
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(("127.0.0.1", relay.port))) for _ in range(6)]
        no_request = [stack.enter_context(raw(relay.port)) for _ in range(6)]
        for connection in no_request[:3]:
            connection.sendall(b"GET /v1 HTTP/1.1\r\nHost: ")

        async def others() -> None:
            async with connect("127.0.0.1", relay.port, relay.members[0]) as client:
                await client.create(ROOM)
                await client.present(ROOM, ROOM_TOKEN)
                assert max(await posts(client, 1, 20)) < 5

        async def silent_websocket() -> float:
            async with aiohttp.ClientSession() as session:
                url = f"wss://127.0.0.1:{relay.port}/v1"
                async with session.ws_connect(url, ssl=tls_context()) as messages:
                    at = time.monotonic()
                    message = await messages.receive()
                    assert frames.decode_answer(message.data) == frames.Bye(code="timeout")
                    return time.monotonic() - at

        asyncio.run(others())
        assert 9 < asyncio.run(silent_websocket()) < 14
        for connection in (*silent, *no_request):
            connection.settimeout(20)
            with contextlib.suppress(OSError):
                assert connection.recv(1) == b""
        assert time.monotonic() - began < 35


def test_a_reader_at_one_kib_a_second_costs_little_and_the_others_nothing(relay: RelayProcess) -> None:
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
            slow = await asyncio.to_thread(slow_reader, relay.port, relay.members[2])
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


def slow_reader(port: int, member: Member) -> ssl.SSLSocket:
    """A logged-in WebSocket that follows the room, by hand, with a small receive buffer."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.connect(("127.0.0.1", port))
    connection = tls_context().wrap_socket(plain)
    connection.sendall(
        b"GET /v1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    while b"\r\n\r\n" not in connection.recv(4096):
        pass
    certificate = connection.getpeercert(True) or b""
    first = login.hello(member.device, random.randbytes)
    say(connection, frames.encode(first))
    second = frames.decode_answer(hear(connection))
    assert isinstance(second, frames.Challenge)
    say(connection, frames.encode(login.login(first, second, member.keys.device, [], sha256(certificate), now_ms())))
    assert isinstance(frames.decode_answer(hear(connection)), frames.Welcome)
    say(connection, frames.encode(frames.Present(rid=1, log=ROOM, token=ROOM_TOKEN, after=701)))
    assert isinstance(frames.decode_answer(hear(connection)), frames.Page)
    return connection


def say(connection: ssl.SSLSocket, data: bytes) -> None:
    """One masked binary message (mask 0)."""
    head = bytes([0x82, 0x80 | len(data)]) if len(data) < 126 else b"\x82\xfe" + len(data).to_bytes(2, "big")
    connection.sendall(head + bytes(4) + data)


def hear(connection: ssl.SSLSocket) -> bytes:
    """One message of the server."""
    head = take(connection, 2)
    size = head[1]
    if size > 125:
        size = int.from_bytes(take(connection, 2 if size == 126 else 8), "big")
    return take(connection, size)


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


def test_two_thousand_idle_connections_cost_a_hundred_kib_each_at_most(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    relay = RelayProcess.make(tmp_path / "relay", IDLE // limits.DEVICE_CONNECTIONS.value)
    relay.start()

    async def crowd() -> float:
        ready = asyncio.Semaphore(32)
        async with contextlib.AsyncExitStack() as stack:
            connector = aiohttp.TCPConnector(limit=0)
            session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))

            async def come(number: int) -> aiohttp.ClientWebSocketResponse:
                async with ready:
                    url = f"wss://127.0.0.1:{relay.port}/v1"
                    messages = await session.ws_connect(url, ssl=context, compress=0)
                    await log_in(messages, relay.members[number % len(relay.members)])
                    return messages

            context = tls_context()
            warm = [await come(number) for number in range(50)]
            before = relay.rss()
            crowd = await asyncio.gather(*(come(number) for number in range(50, IDLE)))
            await asyncio.sleep(2)
            each = (relay.rss() - before) / len(crowd)
            for messages in (*warm, *crowd):
                messages._response.close()  # type: ignore[attr-defined]
            return each

    each = asyncio.run(crowd())
    print(f"{each / 1024:.1f} KiB for each idle connection")
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
