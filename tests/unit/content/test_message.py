"""Text messages in MIMI form: refusals first."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.codec.cbor import encode
from cloister.content import message
from cloister.content.message import MAX_TEXT, Text, compose, decode_text, encode_text, message_id
from cloister.errors import PeerError, UsageError

SENDER = "cloister://home/u/alice"
ROOM = "cloister://home/r/00ff"
ID = bytes(range(32))


def parts(**changes: Any) -> list[Any]:
    """The items of a good message, some of them replaced."""
    good: dict[str, Any] = {
        "salt": bytes(16),
        "replaces": None,
        "topic": b"",
        "expires": None,
        "reply": None,
        "extensions": {1: SENDER, 2: ROOM},
        "part": [1, "", 1, message.MARKDOWN, b"hello"],
    }
    return list((good | changes).values())


def refused(content: bytes) -> str:
    with pytest.raises(PeerError) as caught:
        decode_text(content, sender=SENDER, room=ROOM)
    return caught.value.code


def test_the_good_message_is_good() -> None:
    assert decode_text(encode(parts()), sender=SENDER, room=ROOM).text == "hello"


@pytest.mark.parametrize(
    "changes",
    [
        {"salt": bytes(15)},
        {"salt": bytes(17)},
        {"salt": None},
        {"replaces": bytes(31)},
        {"replaces": "x"},
        {"topic": None},
        {"topic": bytes(256)},
        {"expires": []},
        {"expires": [1, 1]},
        {"expires": [True, -1]},
        {"expires": [True, 2**32]},
        {"expires": [True, 1, 1]},
        {"expires": True},
        {"reply": bytes(33)},
        {"extensions": None},
        {"extensions": []},
        {"extensions": {1: SENDER, 2: ROOM, b"x": 1}},
        {"extensions": {1: SENDER, 2: ROOM, "": 1}},
        {"extensions": {1: SENDER, 2: ROOM, "x" * 256: 1}},
        {"extensions": {1: SENDER, 2: ROOM, 2**53: 1}},
        {"extensions": {1: SENDER, 2: ROOM, -(2**53): 1}},
        {"extensions": {1: SENDER.encode(), 2: ROOM}},
        {"extensions": {1: SENDER, 2: ROOM, 3: bytes(4096)}},
        {"extensions": {1: SENDER, 2: ROOM, 3: [[[[]]]]}},
        {"extensions": {1: SENDER, 2: ROOM, 3: {1: {2: {3: {}}}}}},
        {"part": None},
        {"part": []},
        {"part": [1, ""]},
        {"part": [256, "", 1, message.PLAIN, b"x"]},
        {"part": [True, "", 1, message.PLAIN, b"x"]},
        {"part": [1, "", 4, message.PLAIN, b"x"]},
        {"part": [1, None, 1, message.PLAIN, b"x"]},
        {"part": [1, "", 1, message.PLAIN, "x"]},
        {"part": [1, "", 1, message.PLAIN, b"\xff"]},
        {"part": [1, "", 1, message.PLAIN, b"\xed\xa0\x80"]},
        {"part": [1, "", 1, message.PLAIN, b"x" * (MAX_TEXT + 1)]},
        {"part": [1, "", 1, message.PLAIN, b"x", 1]},
        {"part": [1, "", 1, message.PLAIN]},
    ],
)
def test_what_is_not_the_drafts_structure_is_bad_encoding(changes: dict[str, Any]) -> None:
    assert refused(encode(parts(**changes))) == "bad_encoding"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x87",
        encode(parts()) + b"\0",
        encode(parts())[:-1],
        encode(parts()[:-1]),
        encode([*parts(), None]),
        encode({}),
        encode(parts()).replace(b"\x87P", b"\x97P"),
        b"\x9f" + encode(parts())[1:] + b"\xff",  # indefinite length
        bytes(message.MAX_CONTENT + 1),
    ],
)
def test_other_bytes_are_bad_encoding(content: bytes) -> None:
    assert refused(content) == "bad_encoding"


def test_extensions_in_another_order_are_bad_encoding() -> None:
    good = encode(parts())
    one, two = b"\x01" + encode(SENDER), b"\x02" + encode(ROOM)
    assert one + two in good
    assert refused(good.replace(one + two, two + one)) == "bad_encoding"


@pytest.mark.parametrize(
    "changes",
    [
        {"replaces": ID},
        {"expires": [True, 60]},
        {"expires": [False, 1]},
        {"part": [1, "", 0]},
        {"part": [1, "", 2, "video/mp4"]},
        {"part": [1, "", 3, 0, []]},
        {"part": [2, "", 1, message.PLAIN, "❤".encode()]},
        {"part": [4, "", 1, message.PLAIN, b"x"]},
        {"part": [1, "", 1, "text/html;charset=utf-8", b"x"]},
        {"part": [1, "", 1, "text/plain;charset=latin-1", b"x"]},
        {"part": [1, "", 1, "text/plain;variant=GFM-MIMI", b"x"]},
        {"part": [1, "", 1, "text/markdown;variant=Original", b"x"]},
        {"part": [1, "", 1, "", b"x"]},
    ],
)
def test_another_kind_of_message_is_refused_as_such(changes: dict[str, Any]) -> None:
    assert refused(encode(parts(**changes))) == "unsupported"


@pytest.mark.parametrize(
    "extensions",
    [
        {},
        {1: SENDER},
        {2: ROOM},
        {1: "cloister://home/u/bob", 2: ROOM},
        {1: SENDER, 2: ROOM + "0"},
        {1: ROOM, 2: SENDER},
    ],
)
def test_another_sender_or_room_inside_is_refused(extensions: dict[int, str]) -> None:
    assert refused(encode(parts(extensions=extensions))) == "inner_outer"


def test_unknown_extensions_are_ignored() -> None:
    extensions = {1: SENDER, 2: ROOM, -1: [1, [b"x", {}]], "x" * 255: None, 3: bytes(4092), 2**53 - 1: 1}
    assert decode_text(encode(parts(extensions=extensions)), sender=SENDER, room=ROOM).text == "hello"


@pytest.mark.parametrize(
    "media_type",
    ["text/plain", "Text/Plain; charset=UTF-8", "text/markdown", "text/markdown;charset=utf-8;variant=gfm-mimi"],
)
def test_text_is_text_however_its_type_is_spelled(media_type: str) -> None:
    assert decode_text(encode(parts(part=[1, "", 1, media_type, b"x"])), sender=SENDER, room=ROOM).text == "x"


@pytest.mark.parametrize("text", ["", "x" * (MAX_TEXT + 1), "ü" * (MAX_TEXT // 2 + 1), "\ud800"])
def test_a_text_that_cannot_be_sent_is_refused_here(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        encode_text(compose(text, sender=SENDER, room=ROOM, rng=bytes))
    assert caught.value.code == "usage"


def test_the_longest_text_passes() -> None:
    sent = compose("x" * MAX_TEXT, sender=SENDER, room=ROOM, rng=bytes)
    assert decode_text(encode_text(sent), sender=SENDER, room=ROOM) == sent


@given(
    text=st.text(min_size=1, max_size=200),
    topic=st.binary(max_size=255),
    reply=st.none() | st.binary(min_size=32, max_size=32),
    salt=st.binary(min_size=16, max_size=16),
)
def test_what_is_encoded_decodes_to_itself(text: str, topic: bytes, reply: bytes | None, salt: bytes) -> None:
    sent = Text(sender=SENDER, room=ROOM, text=text, salt=salt, topic=topic, in_reply_to=reply)
    assert decode_text(encode_text(sent), sender=SENDER, room=ROOM) == sent


@given(at=st.integers(0, 10_000), to=st.integers(0, 255))
def test_flipped_bytes_raise_peer_errors_only(at: int, to: int) -> None:
    content = bytearray(encode(parts(reply=ID)))
    content[at % len(content)] = to
    with suppress(PeerError):
        decode_text(bytes(content), sender=SENDER, room=ROOM)


def test_the_id_covers_sender_room_content_and_salt() -> None:
    names = {"sender": SENDER, "room": ROOM, "salt": bytes(16)}
    base = message_id(b"c", **names)
    assert len(base) == 32
    assert base[0] == 1
    others = [
        message_id(b"d", **names),
        message_id(b"c", **names | {"sender": SENDER + "x"}),
        message_id(b"c", **names | {"room": ROOM + "x"}),
        message_id(b"c", **names | {"salt": bytes(15) + b"x"}),
        message_id(b"c", sender=SENDER + ROOM, room="", salt=bytes(16)),
    ]
    assert len({base, *others}) == 6
