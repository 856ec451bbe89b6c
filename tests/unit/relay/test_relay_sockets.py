"""Sockets: one write a turn, how much may wait, and what a fault of ours ends."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from cloister.relay.core.ports import broadcast as plain_broadcast
from cloister.relay.framing import BINARY, CLOSE_NORMAL, Packer, WebSocketReader, binary_message, prefixed
from cloister.relay.gate import Gate, Place
from cloister.relay.sockets import MUCH, Socket, broadcast, flush
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

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        assert low < high < MUCH


class Owner:
    def __init__(self) -> None:
        self.dirty: list[Socket] = []
        self.packer = Packer(binary_message, CLOSE_NORMAL)
        self.said: list[object] = []

    def opened(self, socket: Socket) -> None:
        self.said.append("opened")

    def received(self, socket: Socket, data: bytes) -> None:
        if data == b"fault":
            raise ZeroDivisionError
        self.said.append(data)

    def touched(self, socket: Socket) -> None:
        self.said.append("touched")

    def drained(self, socket: Socket) -> None:
        self.said.append("drained")

    def closed(self, socket: Socket) -> None:
        self.said.append("closed")

    def lost(self, socket: Socket) -> None:
        self.said.append("lost")

    def faulty(self) -> None:
        self.said.append("faulty")


def made(owner: Owner, packer: Packer | None = None, buffer: int = 0) -> tuple[Socket, Transport]:
    transport = Transport()
    transport.buffer = buffer
    place = Place(Gate(1), "192.0.2.1")
    place.held = False
    socket = Socket(
        owner, packer or owner.packer, lambda made: WebSocketReader(made, 1000, BINARY), 1000, place, bytes(32)
    )  # fmt: skip
    socket.connection_made(cast("asyncio.Transport", transport))
    if buffer >= MUCH:
        socket.pause_writing()
    return socket, transport


def from_client(first: int, data: bytes) -> bytes:
    return bytes((first, 0x80 | len(data))) + bytes(4) + data


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


def test_who_has_taken_much_at_once_is_named_and_who_is_slow_says_so_later() -> None:
    owner = Owner()
    sockets = [made(owner, buffer=buffer)[0] for buffer in (0, MUCH, 0, 0)]
    sockets[0].send(bytes(limits.SEND_BUFFER.value))
    for socket in sockets[1:]:
        socket.send(b"x")
    assert flush(owner.dirty) == [sockets[0]]
    assert "drained" not in owner.said
    sockets[1].resume_writing()
    assert owner.said[-1] == "drained"
    assert not sockets[1].slow


def test_a_fault_of_ours_ends_one_connection_and_is_said() -> None:
    owner = Owner()
    socket, transport = made(owner)
    socket.data_received(from_client(0x82, b"fine") + from_client(0x82, b"fault"))
    assert owner.said == ["opened", b"fine", "faulty"]
    assert transport.aborted


def test_a_ping_is_answered_and_a_goodbye_too() -> None:
    owner = Owner()
    socket, transport = made(owner)
    socket.data_received(from_client(0x89, b"?"))
    socket.data_received(from_client(0x88, b""))
    socket.data_received(from_client(0x89, b"late"))
    socket.answer(b"later")
    flush(owner.dirty)
    assert transport.written == [b"\x8a\x01?" + CLOSE_NORMAL]
    assert transport.closing
    socket.connection_lost(None)
    assert owner.said[-1] == "lost"


def test_what_was_answered_is_written_when_the_client_writes_no_more() -> None:
    owner = Owner()
    socket, transport = made(owner)
    socket.eof_received()
    assert transport.written == []
    socket.send(b"bye")
    socket.eof_received()
    assert transport.written == [b"\x82\x03bye"]
    assert owner.said == ["opened", "closed", "closed"]
    assert flush(owner.dirty) == []


def test_a_broadcast_packs_for_each_kind_of_connection() -> None:
    owner = Owner()
    stream = Packer(prefixed, b"")
    sockets = [made(owner), made(owner, stream), made(owner)]
    assert broadcast([socket for socket, _ in sockets], b"to all") == []
    flush(owner.dirty)
    web = b"\x82\x06to all"
    assert [transport.written for _, transport in sockets] == [[web], [b"\x00\x00\x00\x06to all"], [web]]


@pytest.mark.parametrize("size", [1, 300, MUCH, MUCH + 1, limits.SEND_BUFFER.value, limits.SEND_BUFFER.value + 1])
@pytest.mark.parametrize("buffered", [0, 1, MUCH - 1, MUCH, limits.SEND_BUFFER.value - 300, limits.SEND_BUFFER.value])
def test_both_ways_to_broadcast_judge_alike(size: int, buffered: int) -> None:
    owner = Owner()
    socket, transport = made(owner, buffer=buffered)
    wire = Wire(waiting=buffered)
    data = bytes(size)
    behind = broadcast([socket], data)
    assert len(behind) == len(plain_broadcast([wire], data))
    assert bool(owner.dirty or transport.written) is not bool(behind)


def test_a_broadcast_counts_what_is_queued_already() -> None:
    owner = Owner()
    socket, _ = made(owner)
    assert broadcast([socket], bytes(limits.SEND_BUFFER.value - 300)) == []
    assert broadcast([socket], bytes(200)) == []
    assert broadcast([socket], bytes(200)) == [socket]
    assert owner.dirty == [socket]


def test_a_stream_without_a_goodbye_is_closed_too() -> None:
    owner = Owner()
    socket, transport = made(owner, Packer(prefixed, b""))
    socket.close("quota")
    flush(owner.dirty)
    assert transport.closing
