"""What a session of suite `code` holds: its items, and what follows from them.

Source: docs/spec/classic/code.md ("Persistence"), docs/spec/suites.md.

    room       the role, the room's id (a stand-in until the first agreement), what ended it
    pairing    the agreement under way: its phase, the exponent, what was said
    epoch      the standing epoch: exporter, confirm key, what the two people said of the string
    send recv skip/N   the chains of this direction and the other, and keys of messages that have not come
    resume     what the next agreement of the same two begins with, and until when
    read-only  a restored backup

Invariants
- The exponent goes when the key is agreed; `resume` is replaced by each epoch and goes when the session ends.
- Two members: place 0 is the creator, place 1 the joiner. They are roles, not names; nobody is verified.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from cloister.codec.cbor import Fields, enc
from cloister.primitives.kdf import sha256
from cloister.protocols.code.steps import NAME
from cloister.protocols.forms import HASH
from cloister.protocols.interface import READ_ONLY_ITEM, RoomPolicy, Roster, SessionView, State, Who
from cloister.protocols.items import Draft, Shelf
from cloister.protocols.ratchet import RecvChain, SendChain
from cloister.protocols.record import Gcm, Schedule, Scope, access_token

CREATOR: Final = "cloister://session/u/creator/d/guest"
JOINER: Final = "cloister://session/u/joiner/d/guest"
ROSTER: Final[Roster] = (CREATOR, JOINER)
"""The two members by place."""
_ANY: Final = 1 << 16


class Phase(StrEnum):
    """What an agreement waits for."""

    EXPECT_CODE = "the code"
    EXPECT_PEER = "somebody who has the code"
    EXPECT_COMMIT = "D1"
    EXPECT_DH = "D2"
    EXPECT_OPEN = "D3"
    EXPECT_DONE = "D4"
    EXPECT_ROOM = "the room's entry"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomItem:
    """The session as a whole. `guesses`: runs opened for the code; `closing`: the entry that is to end it."""

    place: int
    room: bytes
    title: str
    guesses: int = 0
    closing: bytes = b""
    ended: bool = False

    def encode(self) -> bytes:
        """The stored form."""
        return enc(self.place, self.room, self.title, self.guesses, self.closing, self.ended)

    @classmethod
    def decode(cls, data: bytes) -> RoomItem:
        """What `encode` gave."""
        fields = Fields.decode(data, "room")
        item = cls(
            place=fields.uint("place", 1),
            room=fields.octets("room", 16),
            title=fields.text("title"),
            guesses=fields.uint("guesses"),
            closing=fields.octets("closing", most=16),
            ended=fields.flag("ended"),
        )
        fields.end()
        return item


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """The agreement under way. `role` is C or J; `begun` (ms) is when it began, by the relay's time of D1 in a log.

    `counted`: one's own D1 stands in the log before any other.
    """

    phase: Phase
    role: str
    sid: str
    mode: str = ""
    secret: str = field(default="", repr=False)
    exponent: bytes = field(default=b"", repr=False)
    opening: bytes = b""
    commitment: bytes = b""
    counted: bool = False
    agreed: Schedule | None = None
    begun: int = 0

    def encode(self) -> bytes:
        """The stored form."""
        agreed = self.agreed.encode() if self.agreed else b""
        return enc(
            self.phase.name, self.role, self.sid, self.mode, self.secret, self.exponent, self.opening,
            self.commitment, self.counted, agreed, self.begun,
        )  # fmt: skip

    @classmethod
    def decode(cls, data: bytes) -> Pairing:
        """What `encode` gave."""
        fields = Fields.decode(data, "pairing")
        phase, role, sid = Phase[fields.text("phase")], fields.text("role"), fields.text("sid")
        mode, secret = fields.text("mode"), fields.text("secret")
        exponent, opening = fields.octets("exponent", most=HASH * 2), fields.octets("opening", most=HASH)
        commitment, counted = fields.octets("commitment", most=HASH), fields.flag("counted")
        agreed, begun = fields.octets("agreed", most=_ANY), fields.uint("begun")
        fields.end()
        return cls(
            phase=phase, role=role, sid=sid, mode=mode, secret=secret, exponent=exponent, opening=opening,
            commitment=commitment, counted=counted, agreed=Schedule.decode(agreed) if agreed else None, begun=begun,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochItem:
    """The standing epoch. `sas` is empty where nothing has to be compared; `same` says who has said that it is."""

    number: int
    th: bytes
    exporter: bytes = field(repr=False)
    confirm: bytes = field(repr=False)
    key_check: str
    sas: bytes = b""
    same: tuple[bool, bool] = (False, False)

    def encode(self) -> bytes:
        """The stored form."""
        return enc(self.number, self.th, self.exporter, self.confirm, self.key_check, self.sas, list(self.same))

    @classmethod
    def decode(cls, data: bytes) -> EpochItem:
        """What `encode` gave."""
        fields = Fields.decode(data, "epoch")
        number, th = fields.uint("number"), fields.octets("th", HASH)
        exporter, confirm = fields.octets("exporter", HASH), fields.octets("confirm", HASH)
        key_check, sas, same = fields.text("key check", 32), fields.octets("sas", most=HASH), fields.fields("same")
        both = (same.flag("creator"), same.flag("joiner"))
        same.end()
        fields.end()
        return cls(number=number, th=th, exporter=exporter, confirm=confirm, key_check=key_check, sas=sas, same=both)

    @property
    def compared(self) -> bool:
        """Whether nothing is left to compare."""
        return not self.sas or all(self.same)


@dataclass(frozen=True, slots=True)
class Resume:
    """What the next agreement begins with, 32 bytes, and until when (ms)."""

    secret: bytes = field(repr=False)
    until: int

    def encode(self) -> bytes:
        """The stored form."""
        return enc(self.secret, self.until)

    @classmethod
    def decode(cls, data: bytes) -> Resume:
        """What `encode` gave."""
        fields = Fields.decode(data, "resume")
        item = cls(fields.octets("secret", HASH), fields.uint("until"))
        fields.end()
        return item


def _same(value: bytes) -> bytes:
    return value


ROOM: Final = Shelf(b"room", RoomItem.encode, RoomItem.decode)
PAIRING: Final = Shelf(b"pairing", Pairing.encode, Pairing.decode)
EPOCH: Final = Shelf(b"epoch", EpochItem.encode, EpochItem.decode)
SEND: Final = Shelf(b"send", SendChain.encode, SendChain.decode)
RECV: Final = Shelf(b"recv", RecvChain.encode, RecvChain.decode)
SKIP: Final = Shelf(b"skip", _same, _same)
RESUME: Final = Shelf(b"resume", Resume.encode, Resume.decode)
READ_ONLY: Final = Shelf(READ_ONLY_ITEM, _same, _same)
SHELVES: Final[dict[bytes, Shelf[Any]]] = {
    shelf.name: shelf for shelf in (ROOM, PAIRING, EPOCH, SEND, RECV, SKIP, RESUME, READ_ONLY)
}


def room_of(draft: Draft) -> RoomItem:
    """The session as a whole; it always stands."""
    return draft.get(ROOM) or RoomItem(place=0, room=bytes(16), title="", ended=True)


def erase(draft: Draft) -> None:
    """The session is over: every key goes, that of another meeting too."""
    for shelf in (PAIRING, EPOCH, SEND, RECV, SKIP, RESUME):
        draft.drop_all(shelf)


def scope_of(epoch: EpochItem, room: bytes) -> Scope:
    """What records of this epoch are bound to."""
    return Scope(suite=NAME, room=room, th=epoch.th, members=2, exporter=epoch.exporter, cipher=Gcm())


def token_of(exporter: bytes, room: bytes) -> bytes:
    """The token that opens an epoch's log, 32 bytes."""
    return access_token(NAME, exporter, room)


def token_hash_of(epoch: EpochItem, room: bytes) -> bytes:
    """The standing epoch as the relay names it."""
    return sha256(token_of(epoch.exporter, room))


def state_of(draft: Draft) -> State:
    """What the session waits for."""
    room, epoch = room_of(draft), draft.get(EPOCH)
    if room.ended:
        return State.REMOVED
    if epoch is None:
        return State.PENDING
    if room.closing:
        return State.FROZEN
    if draft.get(READ_ONLY) is not None:
        return State.READ_ONLY
    return State.READY if epoch.compared else State.PENDING


def view_of(draft: Draft) -> SessionView:
    """The state for surfaces."""
    room, epoch, state = room_of(draft), draft.get(EPOCH), state_of(draft)
    missing: Roster = ()
    if state is State.PENDING:
        missing = (ROSTER[1 - room.place],)
        if epoch is not None:
            missing = tuple(name for name, said in zip(ROSTER, epoch.same, strict=True) if not said)
    return SessionView(
        suite=NAME,
        room=room.room,
        epoch=epoch.number if epoch else 0,
        roster=ROSTER,
        state=state,
        policy=policy(room.title),
        missing=missing,
        key_check=epoch.key_check if epoch else "",
    )


def policy(title: str) -> RoomPolicy:
    """Two members for good: nobody may change anything but by ending the session."""
    return RoomPolicy(title=title, owners=(), may_add=Who.NOBODY, may_remove=Who.NOBODY, may_set_policy=Who.NOBODY)
