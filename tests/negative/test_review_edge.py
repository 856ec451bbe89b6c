"""The relay's edge under attack by strangers, guests and members: what may wait, who may stay, what ends."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import ssl
from functools import partial
from pathlib import Path
from typing import cast
from unittest import mock

import pytest

from cloister.primitives.signature import SigningKey
from cloister.relay import app
from cloister.relay.core.relay import COSTS
from cloister.relay.framing import CLOSE_NORMAL, Packer, binary_message, prefixed
from cloister.relay.gate import LINE, Gate, Place
from cloister.relay.listener import Listener, listen
from cloister.relay.server import Server, _binary
from cloister.relay.sockets import Socket
from cloister.wire import frames, limits, login
from cloister.wire.guest import guest_login
from support.relays import Client, World
from support.serving import serving

ROOM = limits.SEND_BUFFER.value + limits.KIB
"""What may wait for one who does not read, with the answer that passed the limit."""


class Unread:
    """A transport whose other end reads nothing until `take`."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.paused = False
        self.taken = 0

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.written))

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        self.high = high

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        """It stays: what it has written is not read."""

    abort = close

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def take(self, socket: Socket) -> bytes:
        """Read everything."""
        data = b"".join(self.written)
        self.written.clear()
        socket.resume_writing()
        return data


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("edge") / "relay"
    app.init_relay(path, "edge.example", "127.0.0.1", 0, listen_on="127.0.0.1")
    return path


def place() -> Place:
    free = Place(Gate(1), "192.0.2.1")
    free.held = False
    return free


async def guest(server: Server) -> tuple[Socket, Unread]:
    """A guest that has logged in over a stream."""
    socket, transport = server._stream(place(), False), Unread()
    socket.connection_made(cast("asyncio.Transport", transport))
    first = login.hello(None, app.secrets.token_bytes)
    socket.data_received(prefixed(frames.encode(first)))
    await asyncio.sleep(0)
    second = frames.decode_answer(transport.take(socket)[4:])
    assert isinstance(second, frames.Challenge)
    key = SigningKey.generate("ed25519", app.secrets.token_bytes)
    third = guest_login(first, second, key, login.NO_TLS, app.now_ms())
    socket.data_received(prefixed(frames.encode(third)))
    await asyncio.sleep(0)
    assert isinstance(frames.decode_answer(transport.take(socket)[4:]), frames.Welcome)
    return socket, transport


def test_requests_that_came_in_one_read_wait_for_a_client_that_reads_no_answers(home: Path) -> None:
    async def work(server: Server) -> None:
        socket, transport = await guest(server)
        asked = [frames.JoinSession(rid=rid, session="ABCDEF") for rid in range(3000)]
        socket.data_received(b"".join(prefixed(frames.encode(frame)) for frame in asked))
        answers = b""
        while transport.paused:
            assert socket.waiting <= ROOM
            for _ in range(4):
                await asyncio.sleep(0)
            answers += transport.take(socket)
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        answers += transport.take(socket)
        assert answers.count(b"refused") == len(asked)
        socket.connection_lost(None)

    serving(home, work)


def test_pings_of_a_client_that_reads_no_pongs_are_not_read_on(home: Path) -> None:
    async def work(server: Server) -> None:
        make = partial(server._websocket, Packer(binary_message, CLOSE_NORMAL), _binary, limits.FRAME.value)
        socket, transport = make(place(), lambda error: None), Unread()
        socket.connection_made(cast("asyncio.Transport", transport))
        socket.data_received((b"\x89\xfd" + bytes(4 + 125)) * 1000)
        assert transport.paused
        assert socket.waiting <= ROOM
        pongs = 0
        while transport.paused:
            await asyncio.sleep(0)
            pongs += transport.take(socket).count(b"\x8a\x7d")
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        assert pongs + transport.take(socket).count(b"\x8a\x7d") == 1000
        socket.connection_lost(None)

    serving(home, work)


# --- who may stay -------------------------------------------------------------------------------------------


def test_one_guest_has_no_more_connections_than_one_device() -> None:
    world = World(names=())
    key = SigningKey.generate("ed25519", world.rng)
    guests = [world.guest(key) for _ in range(limits.DEVICE_CONNECTIONS.value)]
    assert not any(each.wire.closed for each in guests)
    world.guest(key)
    assert [each.wire.closed for each in guests] == ["quota"] + [""] * (len(guests) - 1)
    for each in guests:
        world.core.disconnect(each.wire, world.now)
    assert not any(world.guest(key).wire.closed for _ in range(2))


def test_a_closed_connection_that_lingers_makes_no_room_for_more() -> None:
    world = World(names=("ann",))
    clients = [world.client("ann") for _ in range(limits.DEVICE_CONNECTIONS.value + 3)]
    assert [each.wire.closed for each in clients[:4]] == ["quota", "quota", "quota", ""]


# --- who comes in -------------------------------------------------------------------------------------------


def test_a_connection_that_breaks_before_it_is_accepted_does_not_end_the_accepting() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        listening = listen("127.0.0.1", 0)
        errors = [OSError(code, "") for code in (errno.ECONNABORTED, errno.ENETDOWN, errno.EMFILE)]
        told: list[str] = []

        async def sock_accept(_: socket.socket) -> tuple[socket.socket, tuple[str, int]]:
            if errors:
                raise errors.pop(0)
            listening.close()
            raise OSError(errno.EBADF, "")

        with mock.patch.object(loop, "sock_accept", sock_accept):
            listener = Listener(
                listening, tls=ssl.create_default_context(), gate=Gate(1), made=lambda *_: asyncio.Protocol(),
                out_of_files=lambda: told.append("out of files"), first_request=False, plain_at_home=True,
            )  # fmt: skip
            await listener.accept(lambda work: work.close())
        assert (errors, told) == ([], ["out of files"])

    asyncio.run(main())


# --- guest rooms that go ------------------------------------------------------------------------------------


def agreed(world: World, key: SigningKey) -> Client:
    """A guest with this key after D4 with ann."""
    creator, ann = world.guest(key), world.client("ann")
    code = creator.ask(frames.CreateSession(rid=1, purpose="chat", mode="code"), frames.SessionCreated).session
    ann.ask(frames.JoinSession(rid=1, session=code), frames.Paired)
    for speaker in (creator, ann) * 2:
        speaker.ask(frames.Pass(rid=speaker.next(), session=code, body=b"D"), frames.Done)
        creator.hear()
        ann.hear()
    return creator


def test_a_room_that_goes_is_not_opened_from_the_disk_before_it_has_gone() -> None:
    world = World(names=("ann",))
    room, token = b"G" * 16, b"0" * 32
    creator, ann = agreed(world, SigningKey.generate("ed25519", world.rng)), world.client("ann")
    creator.create(room, token)
    ann.present(room, token)
    world.now += limits.GUEST_LIFE.value + 1
    world.core.tick(world.now)  # gathered, not stored yet
    assert ann.refused(frames.Present(rid=50, log=room, token=token, after=0)) == "not_allowed"
    assert ann.refused(ann.a_post(room, token, b"b" * 16)) == "not_allowed"
    world.store.refresh()
    assert world.store.last(room) is None
    assert ann.create(room, token).seq == 1  # the id is free, and the log begins anew


def test_a_room_that_goes_leaves_no_state_with_who_has_asked_for_it() -> None:
    world = World(names=("ann",))
    room, token = b"G" * 16, b"0" * 32
    ann = world.client("ann")
    ann.create(room, token)
    world.core._logs.drop(room)
    ann.say(ann.a_commit(room, None, b"1" * 32, b"c" * 16))
    world.step()
    assert [each.code for each in ann.hear() if isinstance(each, frames.Refused)] == ["stale_epoch"]
    assert ann.create(room, token).seq == 1


def test_a_guests_key_is_for_one_room() -> None:
    world = World(names=("ann",))
    key = SigningKey.generate("ed25519", world.rng)
    agreed(world, key).create(b"G" * 16, b"0" * 32)
    again = agreed(world, key)
    assert again.create(b"G" * 16, b"0" * 32).seq == 1  # the same again
    assert again.refused(again.a_commit(b"H" * 16, None, b"1" * 32, b"c" * 16)) == "quota"
    world.now += limits.GUEST_LIFE.value
    agreed(world, key).create(b"H" * 16, b"1" * 32)


# --- what one member may cost the others --------------------------------------------------------------------


def test_who_comes_and_goes_all_the_time_is_refused_before_everybody_has_been_told_too_often() -> None:
    world = World(names=("ann", "bob"))
    ann, bob = world.client("ann"), world.client("bob")
    ann.ask(frames.UserList(rid=1), frames.Users)
    for turn in range(400):
        bob.say(frames.Presence(rid=bob.next(), visible=turn % 2 == 0))
    told = [each for each in ann.hear() if isinstance(each, frames.Online)]
    assert len(told) == 5 * limits.POST_RATE.value // COSTS[frames.Presence] == 100


def test_a_line_at_the_gate_is_not_all_the_files_that_the_relay_may_open() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, LINE), hard))
        app.allow_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
