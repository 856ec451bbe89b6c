"""Message content in MIMI form: a text, encoded, decoded strictly, and named by its message id.

Source: draft-ietf-mimi-content-08, sections 3.3 (message id), 4 (container), 6 (encoding); docs/spec/content.md.

    content = [salt 16, replaces, topic id, expires, in reply to, {1: sender URI, 2: room URI, ...}, part]
    part    = [disposition, language, 1, media type, bytes]                        (a single part)
    id      = 0x01 || SHA-256(u16 len || sender URI || u16 len || room URI || content || salt)[:31]

Invariants
- Deterministic CBOR, and nothing else: PeerError("bad_encoding") for what is not the draft's structure.
- Both URIs are there and are those that the caller knows from the record's signature and the room:
  PeerError("inner_outer") otherwise. Nobody speaks under another name or into another room.
- A message that this version cannot carry out as its sender meant it (an edit, a deletion, a reaction, an expiry,
  several parts, an external part, another media type) is PeerError("unsupported"), never shown as something else.
- Unknown extensions of the draft's allowed form are ignored, as it says; they take part in the id.

Left out: parts nested deeper than one (nothing that is supported nests), tags and floating point numbers in unknown
extensions (such a message is `bad_encoding` here).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cloister.codec.cbor import Fields, decode, encode
from cloister.errors import PeerError, UsageError
from cloister.primitives import Rng
from cloister.primitives.kdf import sha256

SALT_SIZE: Final = 16
ID_SIZE: Final = 32
MAX_TEXT: Final = 32 * 1024
"""Longest text in UTF-8 bytes; with everything around it a record stays under its limit."""
MAX_CONTENT: Final = 60 * 1024
"""Longest encoded content in bytes that is looked at."""
MAX_TOPIC: Final = 255
MARKDOWN: Final = "text/markdown;variant=GFM-MIMI"
PLAIN: Final = "text/plain;charset=utf-8"

_SHA256: Final = b"\x01"
_SENDER: Final = 1
_ROOM: Final = 2
_MAX_INT_KEY: Final = 2**53 - 1
_MAX_TEXT_KEY: Final = 255
_MAX_EXTENSION: Final = 4095
_MAX_DEPTH: Final = 4
_RENDER: Final = 1
_DISPOSITIONS: Final = 255
_SINGLE: Final = 1
_PARAMETERS: Final = {
    "text/plain": ("charset=utf-8",),
    "text/markdown": ("charset=utf-8", "variant=gfm-mimi"),
}
_CARDINALITIES: Final = {0: "no body", 2: "an external part", 3: "several parts"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A text message. `sender` and `room` are URIs; `in_reply_to` is a message id of 32 bytes or None.

    `text` is as its author wrote it: no surface shows it without `safe_text`.
    """

    sender: str
    room: str
    text: str
    salt: bytes
    topic: bytes = b""
    in_reply_to: bytes | None = None
    media_type: str = MARKDOWN
    language: str = ""


def compose(text: str, *, sender: str, room: str, rng: Rng) -> Text:
    """A new text message with a fresh salt of 16 bytes."""
    return Text(sender=sender, room=room, text=text, salt=rng(SALT_SIZE))


def message_id(content: bytes, *, sender: str, room: str, salt: bytes) -> bytes:
    """The id (32 bytes) of the message whose encoding is `content`; `salt` is the one inside it."""
    names = b"".join(len(name).to_bytes(2, "big") + name for name in (sender.encode(), room.encode()))
    return _SHA256 + sha256(names + content + salt)[: ID_SIZE - 1]


def encode_text(message: Text) -> bytes:
    """The content bytes of a text message; UsageError when the text is empty, too long or not Unicode."""
    try:
        body = message.text.encode()
    except UnicodeEncodeError:
        raise UsageError("usage", "the text holds half a character") from None
    if not body:
        raise UsageError("usage", "the text is empty")
    if len(body) > MAX_TEXT:
        raise UsageError("usage", f"the text is longer than {MAX_TEXT} bytes")
    return encode(
        [
            message.salt,
            None,
            message.topic,
            None,
            message.in_reply_to,
            {_SENDER: message.sender, _ROOM: message.room},
            [_RENDER, message.language, _SINGLE, message.media_type, body],
        ]
    )


def decode_text(content: bytes, *, sender: str, room: str) -> Text:
    """The text message in `content`, which the user with URI `sender` put into the room with URI `room`.

    PeerError: bad_encoding, inner_outer (it names another sender or room), unsupported (another kind of message).
    """
    if len(content) > MAX_CONTENT:
        raise PeerError("bad_encoding", "content is too long")
    fields = Fields(decode(content, maps=True), "content")
    salt = fields.octets("salt", SALT_SIZE)
    replaces = fields.octets_or_none("replaces", ID_SIZE)
    topic = fields.octets("topic", most=MAX_TOPIC)
    expires = _expires(fields.any("expires"))
    in_reply_to = fields.octets_or_none("in reply to", ID_SIZE)
    _check_names(fields.any("extensions"), sender, room)
    part = fields.fields("part")
    fields.end()
    language, media_type, text = _single_part(part)
    if replaces is not None:
        raise PeerError("unsupported", "an edit")
    if expires:
        raise PeerError("unsupported", "a message that expires")
    return Text(
        sender=sender,
        room=room,
        text=text,
        salt=salt,
        topic=topic,
        in_reply_to=in_reply_to,
        media_type=media_type,
        language=language,
    )


def _expires(value: object) -> bool:
    """Whether there is an expiry; its form is checked."""
    if value is None:
        return False
    fields = Fields(value, "content.expires")
    fields.flag("relative")
    fields.uint("time", 32)
    fields.end()
    return True


def _check_names(value: object, sender: str, room: str) -> None:
    """The extensions are of the draft's form, and name this sender and this room."""
    if not isinstance(value, dict):
        raise PeerError("bad_encoding", "content: extensions")
    for key, extension in value.items():
        known = key in (_SENDER, _ROOM)
        if not _key_fits(key) or (known and not isinstance(extension, str)):
            raise PeerError("bad_encoding", "content: an extension's key or type")
        if not known and (len(encode(extension)) > _MAX_EXTENSION or _depth(extension) >= _MAX_DEPTH):
            raise PeerError("bad_encoding", "content: an extension is too large or nests too deep")
    if value.get(_SENDER) != sender or value.get(_ROOM) != room:
        raise PeerError("inner_outer", "content names another sender or room")


def _key_fits(key: object) -> bool:
    if isinstance(key, int):
        return -_MAX_INT_KEY <= key <= _MAX_INT_KEY
    return isinstance(key, str) and 1 <= len(key.encode()) <= _MAX_TEXT_KEY


def _depth(value: object) -> int:
    """How many arrays and maps stand inside one another."""
    if isinstance(value, dict):
        return 1 + max((_depth(item) for item in value.values()), default=0)
    if isinstance(value, (list, tuple)):
        return 1 + max((_depth(item) for item in value), default=0)
    return 0


def _single_part(fields: Fields) -> tuple[str, str, str]:
    """Language, media type and text of a single text part."""
    disposition = fields.uint("disposition", 8)
    language = fields.text("language")
    cardinality = fields.uint("cardinality", 8)
    if cardinality in _CARDINALITIES:
        raise PeerError("unsupported", _CARDINALITIES[cardinality])
    if cardinality != _SINGLE:
        raise PeerError("bad_encoding", "content.part: cardinality")
    media_type = fields.text("media type")
    body = fields.octets("body", most=MAX_CONTENT)
    fields.end()
    if disposition != _RENDER:
        raise PeerError("unsupported", "a reaction, or another part that is not a message text")
    if not _is_text(media_type):
        raise PeerError("unsupported", "another media type than text")
    if len(body) > MAX_TEXT:
        raise PeerError("bad_encoding", "content.part: the text is too long")
    try:
        return language, media_type, body.decode()
    except UnicodeDecodeError as error:
        raise PeerError("bad_encoding", "content.part: not UTF-8") from error


def _is_text(media_type: str) -> bool:
    """Plain text or Markdown, in UTF-8; names and values regardless of case."""
    kind, *parameters = [item.strip().lower() for item in media_type.split(";")]
    return kind in _PARAMETERS and all(parameter in _PARAMETERS[kind] for parameter in parameters)
