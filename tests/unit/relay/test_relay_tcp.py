"""Raw TCP: plain on this machine and for guests only, TLS elsewhere; the same frames and the same ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from benchmarks.relay.raw_client import Member, populate

from cloister.client import transport
from cloister.client.session import open_session
from cloister.client.transport import TCP, Connection, dial
from cloister.engine import values
from cloister.errors import UnavailableError
from cloister.identity.enrolment import Application
from cloister.identity.invite import Token
from cloister.identity.keys import DeviceKeys, UserKeys
from cloister.relay import app, listener
from cloister.relay.listener import is_loopback
from cloister.relay.server import Server
from cloister.wire import frames, limits, login
from cloister.wire.frames import Bye, Challenge, Refused, Welcome
from support.serving import serving


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Member]:
    path = tmp_path_factory.mktemp("tcp") / "relay"
    app.init_relay(path, "tcp.example", "127.0.0.1", 0, listen_on="127.0.0.1")
    return path, populate(path, 1)[0]


async def heard(connection: Connection, frame: frames.Frame | bytes) -> list[frames.Answer]:
    """Everything that the relay says to one frame, until it ends the connection."""
    await connection.send(frame if isinstance(frame, bytes) else frames.encode(frame))
    return [frames.decode_answer(data) async for data in connection.receive()]


async def logged_in(connection: Connection, member: Member) -> frames.Answer:
    first = login.hello(member.device, app.secrets.token_bytes)
    await connection.send(frames.encode(first))
    answers = connection.receive()
    second = frames.decode_answer(await anext(answers))
    if not isinstance(second, Challenge):
        return second
    third = login.login(first, second, member.keys.device, [], connection.tls, app.now_ms())
    await connection.send(frames.encode(third))
    return frames.decode_answer(await anext(answers))


# --- refused ------------------------------------------------------------------------------------------------


def test_no_device_logs_in_without_tls(made: tuple[Path, Member]) -> None:
    async def work(server: Server) -> None:
        async with dial(f"{TCP}127.0.0.1:{server.tcp_port}") as connection:
            assert connection.tls == login.NO_TLS
            answer = await logged_in(connection, made[1])
            assert isinstance(answer, Refused)
            assert answer.code == "not_allowed"

    serving(made[0], work)


def test_nobody_enrols_without_tls(made: tuple[Path, Member]) -> None:
    async def work(server: Server) -> None:
        rng = app.secrets.token_bytes
        user, _ = UserKeys.generate(rng)
        keys = DeviceKeys.generate(rng, rsa=False)
        device = "cloister://tcp.example/u/ann/d/main"
        application = Application.make(user, keys, device, Token.generate(rng), app.now_ms())
        first = login.hello(None, rng)
        async with dial(f"{TCP}127.0.0.1:{server.tcp_port}") as connection:
            await connection.send(frames.encode(first))
            answers = connection.receive()
            second = frames.decode_answer(await anext(answers))
            request = application.register(user, frames.digest(first), frames.digest(second), app.now_ms())
            await connection.send(frames.encode(frames.Enrol(rid=1, request=request)))
            answer = frames.decode_answer(await anext(answers))
            assert isinstance(answer, Refused)
            assert answer.code == "not_allowed"

    serving(made[0], work)


@pytest.mark.parametrize("data", [b"\xc1", b"\x91" * 500, bytes(limits.LOGIN_FRAME.value + 1)], ids=len)
def test_what_is_no_frame_gets_bye_and_the_end(made: tuple[Path, Member], data: bytes) -> None:
    async def work(server: Server) -> None:
        async with dial(f"{TCP}127.0.0.1:{server.tcp_port}") as connection:
            assert await heard(connection, data) == [Bye(code="bad_encoding")]

    serving(made[0], work)


def test_a_length_over_the_limit_is_not_waited_for(made: tuple[Path, Member]) -> None:
    async def work(server: Server) -> None:
        for size in (0, limits.FRAME.value + 1, 2**32 - 1):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.tcp_port)
            writer.write(size.to_bytes(4, "big"))
            bye = frames.encode(Bye(code="bad_encoding"))
            assert await asyncio.wait_for(reader.read(), 5) == len(bye).to_bytes(4, "big") + bye
            writer.close()

    serving(made[0], work)


def test_an_end_in_the_middle_of_a_frame_is_an_end(made: tuple[Path, Member]) -> None:
    async def work(server: Server) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.tcp_port)
        writer.write(b"\x00\x00\x01\x00half")
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()

    serving(made[0], work)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "tcp://nowhere", "tcp://127.0.0.1:port", "tcp://"])
def test_where_nobody_listens_is_unreachable(address: str) -> None:
    async def work() -> None:
        with pytest.raises(UnavailableError, match="unreachable"):
            async with dial(address):
                pass

    asyncio.run(work())


def test_a_frame_of_a_size_that_no_relay_sends_is_the_end() -> None:
    async def work() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"\x00\x00\x00\x02ok" + (transport.FRAME_MOST + 1).to_bytes(4, "big") + b"more")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with dial(f"tcp://127.0.0.1:{port}") as connection:
            assert [frame async for frame in connection.receive()] == [b"ok"]
        server.close()
        await server.wait_closed()

    asyncio.run(work())


# --- accepted -----------------------------------------------------------------------------------------------


def test_over_tls_a_device_logs_in(made: tuple[Path, Member], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "is_loopback", lambda host: False)
    monkeypatch.setattr(transport, "is_loopback", lambda host: False)

    async def work(server: Server) -> None:
        async with dial(f"{TCP}127.0.0.1:{server.tcp_port}") as connection:
            assert connection.tls != login.NO_TLS
            assert isinstance(await logged_in(connection, made[1]), Welcome)
            assert server.connections == 1

    serving(made[0], work)


def test_both_listeners_end_with_the_server_and_the_port_is_told(made: tuple[Path, Member]) -> None:
    async def run() -> None:
        ports: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        running = asyncio.create_task(app.run_relay(made[0], tcp=0, ready=ports.set_result))
        port = await ports
        status = await asyncio.to_thread(app.status, made[0])
        assert status["port"] == port
        assert isinstance(status["tcp"], int)
        app.os.kill(app.os.getpid(), app.signal.SIGTERM)
        await running
        for each in (port, status["tcp"]):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", each))

    asyncio.run(run())


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("::ffff:127.0.0.1", True), ("192.0.2.1", False),
        ("::ffff:192.0.2.1", False), ("fe80::1%eth0", False), ("2001:db8::1", False), ("10.0.0.1", False),
    ],
)  # fmt: skip
def test_what_counts_as_this_machine(host: str, here: bool) -> None:
    assert is_loopback(host) is here
    assert transport.is_loopback(host) is here


def test_two_guests_chat_by_a_code_over_plain_tcp(made: tuple[Path, Member], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOISTER_HOME", str(made[0].parent))

    async def stage(events: AsyncIterator[values.Event], wanted: str) -> None:
        async for event in events:
            if isinstance(event, values.SessionChanged) and event.stage == wanted:
                return

    async def work(server: Server) -> None:
        address = f"{TCP}127.0.0.1:{server.tcp_port}"
        async with asyncio.timeout(20), open_session(address) as ann, open_session(address) as bob:
            heard, told = ann.events(), bob.events()
            code = await ann.create()
            await bob.join(code)
            await asyncio.gather(stage(heard, "ready"), stage(told, "ready"))
            (room,) = await ann.rooms()
            await ann.send(room.id, "over plain TCP", wait=True)
            async for event in told:
                if isinstance(event, values.MessageReceived):
                    assert event.message.text == "over plain TCP"
                    break

    serving(made[0], work)
