"""Sockets: headers, one write a turn, and how much may wait."""

from __future__ import annotations

from typing import cast

import pytest

from cloister.relay.core.ports import broadcast as plain_broadcast
from cloister.relay.sockets import Packer, Socket, broadcast, flush
from cloister.wire import limits
from support.relays import Wire


class Transport:
    """What asyncio's transports do, as far as sockets ask."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.buffer = 0
        self.closing = False
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return self.buffer

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.aborted = True


class Owner:
    def __init__(self) -> None:
        self.dirty: list[Socket] = []
        self.pack = Packer().pack


def made(owner: Owner) -> tuple[Socket, Transport]:
    transport = Transport()
    return Socket(owner, cast("Transport", transport), "192.0.2.1", bytes(32)), transport  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, b"\x82\x00"), (125, b"\x82\x7d"), (126, b"\x82\x7e\x00\x7e"), (65_535, b"\x82\x7e\xff\xff"),
        (65_536, b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)  # fmt: skip
def test_the_header_is_the_shortest(size: int, head: bytes) -> None:
    data = b"x" * size
    assert Packer().pack(data) == head + data


def test_the_same_bytes_are_packed_once() -> None:
    packer, data = Packer(), b"x" * 300
    assert packer.pack(data) is packer.pack(data)
    assert packer.pack(bytes([1])) != packer.pack(data)


def test_a_turn_is_one_write() -> None:
    owner = Owner()
    socket, transport = made(owner)
    for data in (b"one", b"two"):
        socket.send(data)
    assert owner.dirty == [socket]
    assert transport.written == []
    assert socket.waiting == 10
    assert flush(owner.dirty) == []
    assert transport.written == [b"\x82\x03one\x82\x03two"]
    assert socket.waiting == 0


def test_closing_sends_what_is_queued_and_nothing_more() -> None:
    owner = Owner()
    socket, transport = made(owner)
    socket.send(b"bye")
    socket.close("closed")
    socket.close("closed")
    socket.send(b"late")
    assert broadcast([socket], b"later") == []
    flush(owner.dirty)
    assert transport.written == [b"\x82\x03bye\x88\x02\x03\xe8"]
    assert transport.closing
    owner.dirty.clear()
    other, gone = made(owner)
    other.close("closed")
    gone.closing = True
    assert flush(owner.dirty) == []
    assert gone.written == []
    other.abort()
    assert gone.aborted


def test_who_has_much_waiting_is_named() -> None:
    owner = Owner()
    sockets = [made(owner) for _ in range(4)]
    sockets[0][0].send(bytes(limits.SEND_BUFFER.value))
    sockets[1][1].buffer = limits.SEND_BUFFER.value
    for socket, _ in sockets[1:]:
        socket.send(b"x")
    assert flush(owner.dirty) == [sockets[0][0], sockets[1][0]]


@pytest.mark.parametrize("size", [1, 300, limits.SEND_BUFFER.value])
@pytest.mark.parametrize("buffered", [0, 1, limits.SEND_BUFFER.value - 300, limits.SEND_BUFFER.value])
def test_both_ways_to_broadcast_judge_alike(size: int, buffered: int) -> None:
    owner = Owner()
    socket, transport = made(owner)
    transport.buffer = buffered
    wire = Wire(waiting=buffered)
    data = bytes(size)
    behind = broadcast([socket], data)
    assert len(behind) == len(plain_broadcast([wire], data))
    assert bool(owner.dirty) is not bool(behind)


def test_a_broadcast_counts_what_is_queued_already() -> None:
    owner = Owner()
    socket, _ = made(owner)
    assert broadcast([socket], bytes(limits.SEND_BUFFER.value - 300)) == []
    assert broadcast([socket], bytes(200)) == []
    assert broadcast([socket], bytes(200)) == [socket]
    assert owner.dirty == [socket]


def test_a_broadcast_is_for_this_servers_sockets() -> None:
    with pytest.raises(TypeError, match="not a connection"):
        broadcast([Wire()], b"x")
