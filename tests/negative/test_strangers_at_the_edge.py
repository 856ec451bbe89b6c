"""Strangers who take time, memory or work from the relay without ever logging in: each has an end.

Time is virtual where a deadline is tried: the loop's clock is set forward, nobody waits.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from socket import socketpair
from typing import Any, cast
from unittest import mock

import pytest

from cloister.primitives.signature import SigningKey
from cloister.relay import app
from cloister.relay.framing import BINARY, CLOSE_NORMAL, Packer, WebSocketReader, binary_message, prefixed
from cloister.relay.gate import Gate, Place
from cloister.relay.listener import Listener, listen
from cloister.relay.server import Server, _binary, _json
from cloister.relay.sockets import Socket
from cloister.wire import frames, json, limits, login
from cloister.wire.guest import guest_login
from support.people import seeded
from support.serving import serving

ADDRESS = "192.0.2.1"
PING = b"\x89\x80" + bytes(4)
PONG = b"\x8a\x80" + bytes(4)
PART = b"\x00\x80" + bytes(4)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("edge") / "relay"
    app.init_relay(path, "edge.example", "127.0.0.1", 0, listen_on="127.0.0.1")
    return path


class Clock:
    """The running loop's clock, which can be set forward."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ahead, self._real = 0.0, self._loop.time
        cast("Any", self._loop).time = lambda: self._real() + self._ahead

    async def forward(self, ms: float) -> None:
        """Later: everything that is due by then has been done."""
        self._ahead += ms / 1000
        for _ in range(4):
            await asyncio.sleep(0)


class Deaf:
    """A transport whose other end reads nothing and never goes."""

    def __init__(self) -> None:
        self.written = b""
        self.closing = self.aborted = False

    def write(self, data: bytes) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return len(self.written)

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        """As asyncio's."""

    def pause_reading(self) -> None:
        """As asyncio's."""

    resume_reading = pause_reading

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.aborted = True


def stranger(server: Server, kind: str = "binary") -> tuple[Socket, Deaf]:
    """A connection that has not said anything yet."""
    place, transport = Place(Gate(1), ADDRESS), Deaf()
    place.held = False
    if kind == "tcp":
        socket = server._stream(place, True)
    else:
        reader, most = (_binary, limits.FRAME.value) if kind == "binary" else (_json, json.MOST)
        packer = Packer(binary_message, CLOSE_NORMAL)
        socket = server._websocket(packer, reader, most, place, lambda error: None)
    socket.connection_made(cast("asyncio.Transport", transport))
    return socket, transport


# --- the line at the gate -----------------------------------------------------------------------------------


def at_the_gate(work: Callable[[Gate, Clock], Awaitable[None]]) -> None:
    """`work` with a gate of one place, which is taken, and a clock."""

    async def main() -> None:
        gate = Gate(1)
        assert await gate.enter(ADDRESS)
        await work(gate, Clock())

    asyncio.run(main())


async def in_line(gate: Gate) -> asyncio.Task[bool]:
    waiting = asyncio.create_task(gate.enter(ADDRESS))
    await asyncio.sleep(0)
    return waiting


def test_who_waits_in_line_for_too_long_is_turned_away() -> None:
    async def work(gate: Gate, clock: Clock) -> None:
        first = await in_line(gate)
        await clock.forward(limits.LINE_TIME.value - 1000)
        second = await in_line(gate)
        assert not first.done()
        await clock.forward(1001)
        assert first.done()
        assert not await first
        assert not second.done()
        gate.leave(ADDRESS)  # the one inside: its place goes to who still waits
        assert await second
        gate.leave(ADDRESS)
        assert not gate._inside
        assert not gate._lines

    at_the_gate(work)


def test_a_place_that_comes_at_the_last_moment_is_not_lost() -> None:
    """Handed over and timed out in one turn of the loop: the place is taken, and free when its holder leaves."""

    async def work(gate: Gate, clock: Clock) -> None:
        loop, faults = asyncio.get_running_loop(), list[object]()
        loop.set_exception_handler(lambda _, context: faults.append(context))
        loop.call_later(limits.LINE_TIME.value / 1000, gate.leave, ADDRESS)
        waiting = await in_line(gate)
        await clock.forward(limits.LINE_TIME.value + 1000)
        assert await waiting
        assert faults == []
        gate.leave(ADDRESS)
        assert await gate.enter(ADDRESS)

    at_the_gate(work)


def test_a_line_is_as_long_as_it_may_be_and_who_gave_up_makes_room() -> None:
    async def work(gate: Gate, clock: Clock) -> None:
        line = [await in_line(gate) for _ in range(limits.LINE.value)]
        late = await in_line(gate)
        assert not await late
        assert not any(each.done() for each in line)
        await clock.forward(limits.LINE_TIME.value + 1)
        assert not any(await asyncio.gather(*line))
        assert not gate._lines
        again = await in_line(gate)
        assert not again.done()
        gate.leave(ADDRESS)
        assert await again

    at_the_gate(work)


# --- memory -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "most", "head"),
    [
        ("tcp", limits.LOGIN_FRAME.value, lambda size: size.to_bytes(4, "big")),
        ("binary", limits.LOGIN_FRAME.value, lambda size: b"\x82\xff" + size.to_bytes(8, "big") + bytes(4)),
        ("json", limits.LOGIN_FRAME.value * 3 // 2, lambda size: b"\x81\xff" + size.to_bytes(8, "big") + bytes(4)),
    ],
)
def test_a_stranger_is_not_listened_to_for_longer_than_a_login_frame(
    home: Path, kind: str, most: int, head: Callable[[int], bytes]
) -> None:
    async def work(server: Server) -> None:
        socket, transport = stranger(server, kind)
        socket.data_received(head(most))
        await asyncio.sleep(0)
        assert not transport.closing
        socket.connection_lost(None)
        socket, transport = stranger(server, kind)
        socket.data_received(head(most + 1))
        await asyncio.sleep(0)
        assert transport.closing
        assert b"bad_encoding" in transport.written
        socket.connection_lost(None)

    serving(home, work)


def test_who_has_logged_in_is_listened_to_for_a_whole_frame(home: Path) -> None:
    async def work(server: Server) -> None:
        socket, transport = stranger(server, "tcp")
        gate, rng = Gate(1), seeded("guest")
        assert await gate.enter(ADDRESS)
        socket.place = Place(gate, ADDRESS)
        first = login.hello(None, rng)
        socket.data_received(prefixed(frames.encode(first)))
        await asyncio.sleep(0)
        second = frames.decode_answer(transport.written[4:])
        assert isinstance(second, frames.Challenge)
        certificate = app.certificate_der((home / "tls.pem").read_bytes())
        third = guest_login(
            first, second, SigningKey.generate("ed25519", rng), app.sha256(certificate), app.now_ms()
        )  # fmt: skip
        socket.data_received(prefixed(frames.encode(third)))
        assert gate._inside == {}
        socket.data_received(limits.FRAME.value.to_bytes(4, "big") + bytes(limits.FRAME.value - 1))
        await asyncio.sleep(0)
        assert not transport.closing
        socket.data_received(b"\0" + (limits.FRAME.value + 1).to_bytes(4, "big"))
        await asyncio.sleep(0)
        assert transport.closing
        socket.connection_lost(None)

    serving(home, work)


def test_a_message_in_parts_is_no_longer_either(home: Path) -> None:
    async def work(server: Server) -> None:
        socket, transport = stranger(server)
        half = limits.LOGIN_FRAME.value // 2
        for first in (b"\x02", b"\x00"):
            socket.data_received(first + b"\xfe" + half.to_bytes(2, "big") + bytes(4 + half))
        await asyncio.sleep(0)
        assert not transport.closing
        socket.data_received(b"\x00\x81" + bytes(4 + 1))
        await asyncio.sleep(0)
        assert transport.closing
        socket.connection_lost(None)

    serving(home, work)


# --- work ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [PING, PONG, PART])
def test_frames_that_are_no_messages_come_in_bounded_numbers(unit: bytes) -> None:
    heard: list[bytes] = []
    receiver = mock.Mock(message=heard.append)
    most = limits.BESIDE.value
    for surplus in (0, 1):
        reader = WebSocketReader(receiver, 1000, BINARY)
        if unit is PART:
            reader.feed(b"\x02\x80" + bytes(4))
        for _ in range(3):  # each read of the network counts for itself
            reader.feed(unit * most)
            reader.feed(b"")
        assert heard == []
        assert not reader.over
        reader.feed(unit * (most + surplus))
        assert reader.over is bool(surplus)
        assert heard == [b""] * surplus


# --- time ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tcp", "binary"])
def test_who_does_not_read_the_goodbye_is_cut_off(home: Path, kind: str) -> None:
    """Half-closed, deaf, or silent after a close frame: a transport that does not end by itself is ended."""

    async def work(server: Server) -> None:
        clock = Clock()
        socket, transport = stranger(server, kind)
        socket.data_received(b"\x88\x80" + bytes(4) if kind == "binary" else bytes(4))
        await clock.forward(0)
        assert transport.closing
        await clock.forward(limits.GOODBYE.value - 500)
        assert not transport.aborted
        await clock.forward(501)
        assert transport.aborted
        socket.connection_lost(None)

    serving(home, work)


async def dialled(server: Server, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return await asyncio.open_connection("127.0.0.1", port, ssl=context)


def test_a_request_that_comes_byte_by_byte_has_one_deadline(home: Path) -> None:
    async def work(server: Server) -> None:
        clock = Clock()
        reader, writer = await dialled(server, server.port)
        for byte in b"GET /v1 HT":
            writer.write(bytes([byte]))
            await asyncio.sleep(0.005)
            await clock.forward(limits.HANDSHAKE.value / 11)
        assert not reader.at_eof()
        await clock.forward(limits.HANDSHAKE.value / 5)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.transport.abort()

    serving(home, work)


def test_a_hello_does_not_buy_more_than_one_more_deadline(home: Path) -> None:
    async def work(server: Server) -> None:
        core = server._core
        socket, transport = stranger(server, "tcp")
        hello = prefixed(frames.encode(login.hello(None, seeded("hello"))))
        socket.data_received(hello)
        socket.data_received(hello[:-1])  # and its last byte never comes
        began = app.now_ms()
        core.tick(began + limits.CHALLENGE_LIFE.value - 1000)
        server.wake()
        await asyncio.sleep(0)
        assert not transport.closing
        core.tick(began + limits.CHALLENGE_LIFE.value + 1000)
        server.wake()
        await asyncio.sleep(0)
        assert transport.closing
        assert b"timeout" in transport.written
        socket.connection_lost(None)

    serving(home, work)


@pytest.mark.parametrize("text", [b"[" * 50_000, b'{"type":' * 9_000, b'{"type":"hello","nonce":' + b"9" * 60_000])
def test_deep_or_long_json_ends_one_strangers_connection(home: Path, text: bytes) -> None:
    async def work(server: Server) -> None:
        socket, transport = stranger(server, "json")
        size = len(text).to_bytes(8, "big") if len(text) > 65_535 else len(text).to_bytes(2, "big")
        head = b"\x81" + (b"\xff" if len(size) == 8 else b"\xfe")
        socket.data_received(head + size + bytes(4) + text)
        await asyncio.sleep(0)
        assert transport.closing
        assert b"bad_encoding" in transport.written
        socket.connection_lost(None)

    serving(home, work)


def test_a_connection_without_an_address_ends_no_accepting() -> None:
    """Some systems accept a connection that is gone already, and then give no address."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        listening = listen("127.0.0.1", 0)
        mine, theirs = socketpair()
        given: list[Any] = [(theirs, None)]

        async def sock_accept(_: object) -> Any:
            if given:
                return given.pop()
            listening.close()
            raise OSError(errno.EBADF, "")

        tasks: list[asyncio.Task[None]] = []
        with mine, mock.patch.object(loop, "sock_accept", sock_accept):
            listener = Listener(
                listening, tls=ssl.create_default_context(), gate=Gate(1), made=lambda *_: asyncio.Protocol(),
                out_of_files=lambda: None, first_request=False, plain_at_home=True,
            )  # fmt: skip
            await listener.accept(lambda work: tasks.append(loop.create_task(work)))
            await asyncio.gather(*tasks)
            assert mine.recv(1) == b""

    asyncio.run(main())
