"""JSON: each object has the fields of its struct, and what is no frame in MessagePack is none here."""

from __future__ import annotations

import base64
import json as plain
import typing
from typing import Any

import msgspec
import pytest

from cloister.errors import PeerError
from cloister.wire import frames, json, limits
from cloister.wire.frames import Frame, Head, Mail, Staged

FRAMES = [kind for kind in vars(frames).values() if isinstance(kind, type) and issubclass(kind, Frame)]
FRAMES.remove(Frame)
REQUESTS = typing.get_args(frames.BeforeLogin) + typing.get_args(frames.Request)
ANSWERS = typing.get_args(frames.Answer)
ID, HASH = bytes(range(16)), bytes(range(32))


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def sample(hint: Any, least: int = 0) -> Any:
    """Some value of a field's type."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        if any(isinstance(mark, msgspec.Meta) and mark.pattern for mark in inner[1:]):
            return "A3F2B1"  # the one pattern there is: a session's id
        sizes = [mark.min_length or mark.ge or 0 for mark in inner[1:] if isinstance(mark, msgspec.Meta)]
        return sample(inner[0], max([least, *sizes]))
    if origin is list:
        return [sample(inner[0]) for _ in range(max(1, least))]
    if origin is typing.Literal:
        return inner[0]
    if inner:
        return sample(inner[0], least)
    if issubclass(hint, Frame):
        return hint(*[sample(field.type) for field in msgspec.structs.fields(hint)])
    return {bytes: bytes(range(7, 7 + least)), str: "x" * max(1, least), int: least, bool: True}[hint]


def plainly(value: Any) -> Any:
    """A frame as a reader of the page would write it: by hand, without the module under test."""
    if isinstance(value, Frame):
        fields = {name: plainly(getattr(value, name)) for name in value.__struct_fields__}
        return {"type": str(value.__struct_config__.tag), **fields}
    if isinstance(value, list):
        return [plainly(each) for each in value]
    return b64(value) if isinstance(value, bytes) else value


def read(value: object) -> Frame:
    """The frame that a client's object stands for."""
    data = json.binary(plain.dumps(value).encode())
    before = typing.cast("dict[str, Any]", value)["type"] in ("hello", "login", "guest", "enrol", "register")
    return frames.decode_before_login(data) if before else frames.decode_request(data)


# --- refused ------------------------------------------------------------------------------------------------

POST = {
    "type": "post", "rid": 1, "log": b64(ID), "kind": "application", "token_hash": b64(HASH), "entry_id": b64(ID),
    "payload": b64(b"hello"),
}  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"[]", b"null", b"7", b'"user_list"', b"{}", b'{"rid":1}', b'{"type":"unknown","rid":1}',
        b'{"type":7}', b'{"type":"user_list"}', b'{"type":"user_list","rid":1,"more":2}',
        b'{"type":"user_list","rid":-1}', b'{"type":"user_list","rid":1.5}', b'{"type":"user_list","rid":"1"}',
        b'{"type":"user_list","rid":9223372036854775808}', b'{"type":"user_list","rid":true}',
        b'{"type":"user_list","rid":1}{}', b'{"type":"get_pubkey","rid":1,"username":"\xff"}',
        b'{"type":"get_pubkey","rid":1,"username":"\\ud800"}', b'["user_list",1]', b"[" * 100_000,
        b'{"type":"pushed"}', b'{"type":"welcome"}', frames.encode(frames.UserList(rid=1)),
    ],
    ids=lambda text: repr(text[:40]),
)  # fmt: skip
def test_what_is_no_object_of_a_clients_frame_is_refused(text: bytes) -> None:
    with pytest.raises(PeerError, match="bad_encoding"):
        json.binary(text)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("log", b64(ID + b"x")), ("log", b64(ID[1:])), ("log", "no base64"), ("log", b64(ID).rstrip("=")),
        ("log", None), ("log", list(ID)), ("kind", ""), ("kind", "k" * 17), ("kind", None), ("token_hash", b64(ID)),
        ("payload", b64(bytes(limits.RECORD.value + 1))), ("payload", 5), ("rid", None),
        ("type", "Post"), ("type", "chat_request"), ("type", "POST"),
    ],
)  # fmt: skip
def test_a_field_of_another_type_or_size_is_refused(field: str, value: object) -> None:
    assert isinstance(read(POST), frames.Post)
    with pytest.raises(PeerError, match="bad_encoding"):
        read({**POST, field: value})


@pytest.mark.parametrize(
    ("once", "twice"),
    [
        (b'"rid":1', b'"rid":1,"rid":1'),
        (b'"rid":1', b'"rid":2,"rid":1'),
        (b'"rid":1', b'"rid":1,"r\\u0069d":1'),
        (b'"type":"commit"', b'"type":"commit","type":"commit"'),
        (b'"type":"commit"', b'"type":"post","type":"commit"'),
        (b'"size":9', b'"size":9,"size":9'),
        (b'"device":"d"', b'"device":"e","device":"d"'),
    ],
)
def test_a_name_that_stands_twice_in_an_object_is_refused(once: bytes, twice: bytes) -> None:
    commit = frames.Commit(1, ID, HASH, ID, Staged(hash=HASH, size=9), None, None, [Mail("d", ID, b"m")])
    text = plain.dumps(plainly(commit), separators=(",", ":")).encode()
    assert frames.decode_request(json.binary(text)) == commit
    assert text.count(once) == 1
    with pytest.raises(PeerError, match="bad_encoding"):
        json.binary(text.replace(once, twice))


def test_a_name_of_document_003_is_for_its_frame_only() -> None:
    with pytest.raises(PeerError, match="bad_encoding"):
        read({"type": "relay", "rid": 1})
    with pytest.raises(PeerError, match="bad_encoding"):
        json.text(frames.encode(frames.UserList(rid=1)))


# --- accepted -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FRAMES, ids=lambda kind: kind.__name__)
def test_the_fields_of_an_object_are_those_of_its_struct(kind: type[Frame]) -> None:
    made = json.mirror(kind)
    assert made.__struct_fields__ == kind.__struct_fields__
    assert made.__struct_config__.tag_field == "type"
    assert made.__struct_config__.tag == kind.__struct_config__.tag
    ours, theirs = msgspec.structs.fields(made), msgspec.structs.fields(kind)
    assert [(field.required, field.default) for field in ours] == [(field.required, field.default) for field in theirs]


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
def test_an_object_written_by_hand_is_its_frame(kind: type[Frame]) -> None:
    frame = sample(kind)
    assert read(plainly(frame)) == frame


@pytest.mark.parametrize("kind", ANSWERS, ids=lambda kind: kind.__name__)
def test_a_frame_of_the_relay_is_the_object_of_the_page(kind: type[Frame]) -> None:
    frame = sample(kind)
    assert plain.loads(json.text(frames.encode(frame))) == plainly(frame)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("hello", frames.Hello), ("register", frames.Enrol), ("get_pubkey", frames.GetPubkey),
        ("chat_request", frames.Deposit), ("chat_response", frames.Deposit), ("chat_terminate", frames.Deposit),
        ("relay", frames.Post), ("user_list", frames.UserList),
    ],
)  # fmt: skip
def test_the_names_of_document_003_are_spoken(name: str, kind: type[Frame]) -> None:
    frame = sample(kind)
    assert read({**plainly(frame), "type": name}) == frame


def test_what_has_a_default_may_be_left_out_and_spaces_and_order_are_free() -> None:
    object_ = plainly(frames.Commit(1, ID, HASH, ID, Staged(hash=HASH, size=9), None, None, [Mail("d", ID, b"m")]))
    for name in ("contest", "staged_items"):
        del object_[name]
    del object_["payload"]["type"]
    object_["payload"] = {"size": 9, "type": "staged", "hash": b64(HASH)}
    assert read(dict(reversed(object_.items()))) == frames.decode_request(
        json.binary(plain.dumps(object_, indent=2).encode())
    )


def test_a_frame_at_its_limit_fits_into_the_longest_text() -> None:
    payload = bytes(limits.FRAME.value - 200)
    page = frames.Page(rid=1, log=ID, entries=[], head=Head(0, 1, HASH, b"s" * 64), more=False)
    assert len(json.text(frames.encode(page))) < json.MOST
    stage = frames.Stage(rid=1, hash=HASH, size=limits.STAGE.value, offset=0, data=payload)
    assert len(plain.dumps(plainly(stage))) < json.MOST
    assert read(plainly(stage)) == stage
