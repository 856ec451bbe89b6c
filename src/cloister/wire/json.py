"""Frames as JSON objects, for clients that speak the WebSocket subprotocol `cloister.json` (document 003).

Source: docs/spec/wire.md ("JSON"), whose table is generated from here. Each MessagePack struct has one mirror, made by
`mirror`: an object with `type` and the same fields under the same names, bytes as base64 (RFC 4648 section 4, padded),
numbers and texts as they are, null where the struct has it. The relay turns an object into the frame that it stands
for before anything judges it, and its own frames into objects, so no rule knows which of the two a client speaks.

    text of an object --binary--> frame in MessagePack --> the relay's core --> frame --text--> text of an object

Invariants
- `type` is the struct's tag, but for the names of document 003 (`ALIASES`): some frames may be called by either.
  Which name was used is forgotten at once; it is neither stored nor passed on.
- Unknown fields, missing fields, wrong types and sizes are refused as in MessagePack: PeerError("bad_encoding").
- A name stands once in its object, however it is escaped: two readers never take two values out of one text.
- What is signed is deterministic CBOR of the fields (`frames.signed_form`), never JSON: any text of the same object
  does, with its spaces and in its order.

Leaves out: items staged in parts stay MessagePack inside (`frames.encode_mails`), because their hash names bytes.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping
from types import UnionType
from typing import Annotated, Any, Final, Union

import msgspec
from msgspec import Struct

from cloister.errors import PeerError
from cloister.wire import frames, limits
from cloister.wire.frames import Deposit, Enrol, Frame, Post

SUBPROTOCOL: Final = "cloister.json"
MOST: Final = limits.FRAME.value * 3 // 2
"""Bytes of the longest text of a frame: base64 takes a third more."""
MOST_LOGIN: Final = limits.LOGIN_FRAME.value * 3 // 2
"""The same before login."""
ALIASES: Final[Mapping[type[Frame], tuple[str, ...]]] = {
    Enrol: ("register",),
    Deposit: ("chat_request", "chat_response", "chat_terminate"),
    Post: ("relay",),
}
"""Names of document 003 that a client may call these frames by."""

_mirrors: dict[tuple[type[Frame], str], type[Struct]] = {}
_originals: dict[type[Struct], type[Frame]] = {}


def mirror(frame: type[Frame], name: str = "") -> type[Struct]:
    """The struct of a frame's JSON object: its fields, and `type` with its tag, or with another `name`."""
    tag = name or str(frame.__struct_config__.tag)
    found = _mirrors.get((frame, tag))
    if found is None:
        fields: list[tuple[str, Any, Any]] = []
        for field in msgspec.structs.fields(frame):
            default = {"default": field.default, "default_factory": field.default_factory}
            fields.append((field.name, _mirrored(field.type), msgspec.field(**default)))
        found = msgspec.defstruct(
            frame.__name__, fields, frozen=True, tag_field="type", tag=tag, forbid_unknown_fields=True
        )
        _mirrors[frame, tag] = found
        _originals[found] = frame
    return found


def _mirrored(hint: Any) -> Any:
    """A field's type, with structs replaced by their mirrors."""
    if isinstance(hint, type) and issubclass(hint, Frame):
        return mirror(hint)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return Annotated[(_mirrored(inner[0]), *inner[1:])]
    if origin in (Union, UnionType):
        return Union[tuple(_mirrored(each) for each in inner)]  # noqa: UP007 - made of a tuple
    return list[_mirrored(inner[0])] if origin is list else hint  # type: ignore[misc]


def _object(value: Any) -> Any:
    """A frame (or what is in one) as its mirror."""
    if isinstance(value, Frame):
        return mirror(type(value))(*[_object(getattr(value, name)) for name in value.__struct_fields__])
    return [_object(each) for each in value] if isinstance(value, list) else value


def _frame(value: Any) -> Any:
    """A mirror (or what is in one) as its frame."""
    if isinstance(value, Struct):
        return _originals[type(value)](*[_frame(getattr(value, name)) for name in value.__struct_fields__])
    return [_frame(each) for each in value] if isinstance(value, list) else value


def _accepted() -> Any:
    """The union of the objects that a client may send."""
    kinds = typing.get_args(frames.BeforeLogin) + typing.get_args(frames.Request)
    names = [(kind, name) for kind in kinds for name in ("", *ALIASES.get(kind, ()))]
    return Union[tuple(mirror(kind, name) for kind, name in names)]  # noqa: UP007 - made of a tuple


def _once(pairs: list[tuple[str, Any]]) -> None:
    """An object's names and values: PeerError("bad_encoding") where a name stands twice."""
    if len({name for name, _ in pairs}) != len(pairs):
        raise PeerError("bad_encoding", "a name stands twice in an object")


_decoder: Final[msgspec.json.Decoder[Struct]] = msgspec.json.Decoder(_accepted())
_encoder: Final = msgspec.json.Encoder()
_names: Final = json.JSONDecoder(object_pairs_hook=_once)
"""Reads what `_decoder` has taken once more, for the names alone: msgspec takes the last of two, and cannot tell."""


def binary(text: bytes) -> bytes:
    """The frame that a client's object stands for; PeerError("bad_encoding") when it stands for none."""
    try:
        value = _decoder.decode(text)
        _names.decode(str(text, "utf-8"))
        return frames.encode(_frame(value))
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
        raise PeerError("bad_encoding", "not an object of a known frame") from error


def text(data: bytes) -> bytes:
    """A frame of the relay as the text of its object, in UTF-8."""
    return _encoder.encode(_object(frames.decode_answer(data)))
