"""Shown messages: each once, in log order, with a cursor that orders everything this device was told.

Invariants: a message id is shown once; the row, its place in the room and the reading position of the log are written
in the unit that showed it. Content stays as it was received; surfaces make it safe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from cloister.content.broadcast import Copy, Receipt, content_id
from cloister.content.message import Text, decode_text, message_id
from cloister.engine import rows
from cloister.engine.store import Store
from cloister.engine.unit import Unit
from cloister.engine.values import MessageInfo, MessageReceived, SendState
from cloister.identity.credential import parse_device_id
from cloister.protocols.interface import Session

if TYPE_CHECKING:
    from cloister.engine.broadcast import Broadcasts

BROADCAST_SUITE: Final = "pair"
"""The suite whose sessions carry copies of broadcasts."""

Place = tuple[int, int]
"""Where an entry stands in its log, and the relay's time (ms) for it."""

_message = msgspec.json.Decoder(MessageInfo)


class InRoom(Protocol):
    """The room that a message belongs to."""

    @property
    def id(self) -> bytes:
        """16 bytes."""
        ...

    @property
    def session(self) -> Session:
        """Its live state."""
        ...


@dataclass(slots=True)
class Messages:
    """The message table; `cursor` is the newest message's number. `verified(user)` tells how a name is known."""

    realm: str
    verified: Callable[[str], bool]
    broadcasts: Broadcasts = field(init=False)
    cursor: int = 0

    def load(self, store: Store) -> None:
        """Where the numbering stands."""
        for key, _value in store.scan("message", newest=True):
            self.cursor = int.from_bytes(key, "big")
            return

    def received(self, unit: Unit, room: InRoom, device: str, content: bytes, place: Place) -> None:
        """A message that verified: shown, or, when it compares broadcasts, judged. PeerError for what is no message."""
        receipt = Receipt.read(content) if self._of_two(room) else None
        if receipt is not None:
            self.broadcasts.told(unit, room.id, device, receipt)
            return
        text, inner = self._text(room, device, content)
        identity = message_id(inner, sender=text.sender, room=text.room, salt=text.salt)
        self.show(unit, room, identity, device, content, place, own=False)

    @staticmethod
    def _of_two(room: InRoom) -> bool:
        """Whether copies of broadcasts travel in this room."""
        return room.session.view.suite == BROADCAST_SUITE

    def _text(self, room: InRoom, device: str, content: bytes) -> tuple[Text, bytes]:
        """The text in a message or in a copy of a broadcast, and its own content."""
        copy = Copy.read(content) if self._of_two(room) else None
        inner = copy.content if copy else content
        sender = device.partition("/d/")[0]
        return decode_text(inner, sender=sender, room=f"cloister://{self.realm}/r/{room.id.hex()}"), inner

    def _receipt(self, unit: Unit, room: InRoom, device: str, content: bytes, text: str) -> Receipt | None:
        """What is kept of a copy of a broadcast; None for an ordinary message."""
        copy = Copy.read(content) if self._of_two(room) else None
        if copy is None:
            return None
        receipt = Receipt(author=device, id=copy.id, audience=copy.audience, content=content_id(copy.salt, text))
        self.broadcasts.keep(unit, receipt)
        return receipt

    def show(
        self,
        unit: Unit,
        room: InRoom,
        identity: bytes,
        device: str,
        content: bytes,
        place: Place,
        *,
        own: bool,
    ) -> None:
        """Store and tell a message, unless its id was shown before; `place` is its entry's number and time (ms)."""
        shown = unit.get("entryid", b"message id" + identity) is not None
        if shown or (self._of_two(room) and Receipt.read(content) is not None):
            return
        seq, ts_ms = place
        text, _ = self._text(room, device, content)
        receipt = self._receipt(unit, room, device, content, text.text)
        user = parse_device_id(device)[1]
        message = MessageInfo(
            id=identity.hex(),
            room=room.id.hex(),
            room_title=room.session.view.policy.title,
            sender=user,
            device=device,
            verified=own or self.verified(user),
            text=text.text,
            time=ts_ms,
            seq=seq,
            own=own,
            state=SendState.SENT,
            broadcast=receipt.id.hex() if receipt else "",
            check=receipt.check if receipt else "",
        )
        self.cursor += 1
        number = rows.key(self.cursor)
        unit.put("entryid", b"message id" + identity, number)
        unit.put("message", number, msgspec.json.encode(message))
        unit.put("inroom", room.id + number, b"")
        unit.notify(lambda cursor: MessageReceived(cursor=cursor, message=message))


def history(store: Store, room: bytes | None, since: str, limit: int) -> list[MessageInfo]:
    """The newest `limit` messages of a room (None: of all) that came after message id `since`, oldest first."""
    after = store.get("entryid", b"message id" + bytes.fromhex(since)) if since else None
    found: list[MessageInfo] = []
    for number in _numbers(store, room):
        if len(found) == limit or (after is not None and number <= after):
            break
        row = store.get("message", number)
        if row is not None:
            found.append(_message.decode(row))
    return found[::-1]


def since_cursor(store: Store, cursor: int) -> list[MessageReceived]:
    """Every message after the cursor, as the events they were."""
    return [
        MessageReceived(cursor=int.from_bytes(key, "big"), message=_message.decode(value))
        for key, value in store.scan("message", after=rows.key(cursor))
    ]


def _numbers(store: Store, room: bytes | None) -> Iterator[bytes]:
    rows = store.scan("message", newest=True) if room is None else store.scan("inroom", room, newest=True)
    return (key[-8:] for key, _value in rows)
