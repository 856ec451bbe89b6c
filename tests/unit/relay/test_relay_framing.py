"""Framing: what breaks it is said once, and however the bytes are cut up the messages are the same."""

from __future__ import annotations

import random

import pytest

from cloister.relay.framing import (
    BINARY,
    TEXT,
    LengthReader,
    Packer,
    Reader,
    WebSocketReader,
    accept_key,
    binary_message,
    prefixed,
    text_message,
)

MOST = 70_000


class Heard:
    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.packets: list[bytes] = []
        self.left = 0

    def message(self, data: bytes) -> None:
        self.messages.append(data)

    def answer(self, packet: bytes) -> None:
        self.packets.append(packet)

    def leave(self) -> None:
        self.left += 1


def frame(first: int, data: bytes, mask: bytes = b"\x01\x02\x03\x04", size: bytes | None = None) -> bytes:
    """A client's frame; `size` overrides its length field."""
    length = len(data)
    if size is None:
        if length < 126:
            size = bytes([0x80 | length])
        elif length < 65_536:
            size = b"\xfe" + length.to_bytes(2, "big")
        else:
            size = b"\xff" + length.to_bytes(8, "big")
    return bytes([first]) + size + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))


def websocket(opcode: int = BINARY) -> tuple[Heard, WebSocketReader]:
    heard = Heard()
    return heard, WebSocketReader(heard, MOST, opcode)


def stream() -> tuple[Heard, LengthReader]:
    heard = Heard()
    return heard, LengthReader(heard, MOST)


# --- refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"\x82\x03abc", b"\x82\x00", frame(0x82, b""), frame(0x81, b"text"), frame(0xC2, b"x"), frame(0xA2, b"x"),
        frame(0x92, b"x"), frame(0x83, b"x"), frame(0x8B, b"x"), frame(0x80, b"no beginning"), frame(0x00, b"x"),
        frame(0x02, b"a") + frame(0x82, b"b"), frame(0x02, b"a") + frame(0x02, b"b"), frame(0x01, b"a"),
        frame(0x09, b"part of a ping"), frame(0x89, bytes(126)), frame(0x82, b"x", size=b"\xfe\x00\x01"),
        frame(0x82, b"x", size=b"\xff" + bytes(7) + b"\x01"), frame(0x82, bytes(MOST + 1))[:14],
        b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00",
        frame(0x02, bytes(MOST)) + frame(0x80, b"x"),
    ],
)  # fmt: skip
def test_what_breaks_the_framing_is_an_empty_message_and_the_end(data: bytes) -> None:
    heard, reader = websocket()
    reader.feed(data + frame(0x82, b"after it"))
    reader.feed(frame(0x82, b"later"))
    assert heard.messages == [b""]


@pytest.mark.parametrize("data", [bytes(4), (MOST + 1).to_bytes(4, "big"), b"\xff\xff\xff\xff"])
def test_a_length_of_nothing_or_too_much_is_the_end(data: bytes) -> None:
    heard, reader = stream()
    reader.feed(data + prefixed(b"after it"))
    reader.feed(prefixed(b"later"))
    assert heard.messages == [b""]


def test_garbage_keeps_a_bounded_amount() -> None:
    rng = random.Random(5)
    for made in (websocket, stream):
        for _ in range(200):
            heard, reader = made()
            for _ in range(8):
                reader.feed(rng.randbytes(rng.choice((1, 7, 300, 4000))))
            assert len(reader._bytes) < MOST + 4014
            assert heard.messages.count(b"") <= 1


def test_text_is_no_message_of_the_binary_kind_and_the_other_way_round() -> None:
    heard, reader = websocket(TEXT)
    reader.feed(frame(0x81, b"{}") + frame(0x82, b"{}"))
    assert heard.messages == [b"{}", b""]


# --- accepted -----------------------------------------------------------------------------------------------


SIZES = (1, 2, 125, 126, 127, 300, 65_535, 65_536, MOST)


@pytest.mark.parametrize("cut", [1, 2, 3, 5, 1000, 65_536, 10**9])
@pytest.mark.parametrize("kind", ["websocket", "stream"])
def test_messages_are_the_same_however_they_are_cut_up(kind: str, cut: int) -> None:
    rng = random.Random(cut)
    sizes = SIZES if cut > 100 else SIZES[:6]
    messages = [rng.randbytes(size) for size in sizes]
    reader: Reader
    if kind == "websocket":
        heard, reader = websocket()
        data = b"".join(frame(0x82, message, rng.randbytes(4)) for message in messages)
    else:
        heard, reader = stream()
        data = b"".join(prefixed(message) for message in messages)
    for at in range(0, len(data), cut):
        reader.feed(data[at : at + cut])
    assert heard.messages == messages


def test_a_message_in_parts_with_pings_in_between_is_one() -> None:
    heard, reader = websocket()
    data = frame(0x02, b"one ") + frame(0x89, b"?") + frame(0x00, b"two ") + frame(0x8A, b"!") + frame(0x80, b"three")
    reader.feed(data + frame(0x82, b"next"))
    assert heard.messages == [b"one two three", b"next"]
    assert heard.packets == [b"\x8a\x01?"]


def test_goodbye_is_the_end() -> None:
    heard, reader = websocket()
    reader.feed(frame(0x88, b"\x03\xe8") + frame(0x82, b"after it"))
    assert heard.left == 1
    assert heard.messages == []


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, b"\x00"), (125, b"\x7d"), (126, b"\x7e\x00\x7e"), (65_535, b"\x7e\xff\xff"),
        (65_536, b"\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)  # fmt: skip
def test_the_header_is_the_shortest(size: int, head: bytes) -> None:
    data = b"x" * size
    assert binary_message(data) == b"\x82" + head + data
    assert text_message(data) == b"\x81" + head + data


def test_the_same_bytes_are_packed_once() -> None:
    packer, data = Packer(binary_message, b""), b"x" * 300
    assert packer.pack(data) is packer.pack(data)
    assert packer.pack(bytes([1])) != packer.pack(data)


KEY = "dGhlIHNhbXBsZSBub25jZQ=="
GOOD = {
    "Sec-WebSocket-Key": KEY,
    "Upgrade": "WebSocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Version": "13",
}


def test_the_example_of_the_standard() -> None:
    assert accept_key(GOOD) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    "header",
    [
        {"Sec-WebSocket-Key": "short"}, {"Sec-WebSocket-Key": "\u00e4" * 24}, {"Sec-WebSocket-Key": "AAAA"},
        {"Upgrade": "h2c"}, {"Connection": "close"}, {"Sec-WebSocket-Version": "8"},
    ],
)  # fmt: skip
def test_another_handshake_is_refused(header: dict[str, str]) -> None:
    assert accept_key(GOOD | header) is None


@pytest.mark.parametrize("kind", ["websocket", "stream"])
def test_a_reader_that_is_held_keeps_what_it_has(kind: str) -> None:
    reader: Reader
    heard, reader = websocket() if kind == "websocket" else stream()
    each = [frame(0x82, bytes([65 + at])) if kind == "websocket" else prefixed(bytes([65 + at])) for at in range(4)]
    reader.held = True
    reader.feed(each[0] + each[1][:3])
    reader.feed(each[1][3:])
    assert heard.messages == []
    reader.held = False
    reader.feed(b"")
    reader.feed(each[2] + each[3])
    assert heard.messages == [b"A", b"B", b"C", b"D"]
