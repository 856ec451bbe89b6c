"""What a session of suite `pair` stores, and its records.

Source: docs/spec/classic/pair.md ("Records", "What is stored").

    record   = ["relay", sid, side, n, signed head, ct]          side 0: who requested the session, 1: who was asked
    ct       = AES-256-GCM(ke of step n of that side's chain, nonce = n as 12 bytes, enc(type, content),
                           AD = enc(th, sender, recipient, n, entry id, kind, signed head))
    envelope = AES-256-GCM(export("envelope", entry id), nonce 0, record, AD = enc(room, kind))

Invariants
- One key for each direction, one step of it for each message: who can open a record knows which of the two sealed it.
- A chain's item holds the *next* step's key. Ephemeral private keys go when they have been used, a session's keys with
  the commit that begins the next one: the log is read in order, so nothing of the old session can follow it.
- What still waits for the other side's proof (`Unproven`) holds no chain key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError, UsageError
from cloister.primitives.aead import ZERO_NONCE, Aead
from cloister.primitives.kdf import sha256
from cloister.protocols import policy as policies
from cloister.protocols.checks import check
from cloister.protocols.forms import DEVICE_MOST, HASH, ID, head_items, read_head
from cloister.protocols.interface import READ_ONLY_ITEM, EntryId, RoomPolicy, Roster, SignedHead
from cloister.protocols.items import Shelf
from cloister.protocols.pair.steps import NAME, Identity, Request
from cloister.protocols.ratchet import Advance, RecvChain, SendChain, advance
from cloister.protocols.record import CONTENT_MOST, Gcm, Schedule, access_token, export

CHAT: Final = "chat"
TERMINATE: Final = "terminate"
BCAST: Final = "bcast"
_BCAST_BEGINS: Final = enc(BCAST)[1:]
"""How the array ["bcast", ...] goes on after its first byte."""
_CIPHER: Final = Gcm()


def type_of(content: bytes) -> str:
    """The record's type for what it carries: a broadcast's copy says so itself, everything else is chat."""
    return BCAST if content[1 : 1 + len(_BCAST_BEGINS)] == _BCAST_BEGINS else CHAT


# --- what is stored ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomItem:
    """The room: `peer` is empty until somebody is added, `out` why it is over, `ending` the own closing commit."""

    policy: RoomPolicy
    peer: str = ""
    out: str = ""
    ending: bytes = b""

    def encode(self) -> bytes:
        """The stored form."""
        return enc(policies.items(self.policy), self.peer, self.out, self.ending)

    @classmethod
    def decode(cls, data: bytes) -> RoomItem:
        """What `encode` gave."""
        fields = Fields.decode(data, "room")
        item = cls(
            policy=policies.read(fields.fields("policy")),
            peer=fields.text("peer", DEVICE_MOST),
            out=fields.text("out", 32),
            ending=fields.octets("ending", most=ID),
        )
        fields.end()
        return item


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The session that stands: its ordinal, names and keys, on which side this device is, since when (ms)."""

    number: int
    sid: bytes
    th: bytes
    ids: tuple[Identity, Identity]
    side: int
    exporter: bytes = field(repr=False)
    key_check: str
    began: int

    @property
    def roster(self) -> Roster:
        """Both devices, sorted."""
        return tuple(sorted(side.device for side in self.ids))

    def token(self, room: bytes) -> bytes:
        """What opens the session's log, 32 bytes."""
        return access_token(NAME, self.exporter, room)

    def encode(self) -> bytes:
        """The stored form."""
        ids = [side.items() for side in self.ids]
        return enc(self.number, self.sid, self.th, ids, self.side, self.exporter, self.key_check, self.began)

    @classmethod
    def decode(cls, data: bytes) -> Standing:
        """What `encode` gave."""
        fields = Fields.decode(data, "session")
        number, sid, th = fields.uint("number"), fields.octets("sid", ID), fields.octets("th", HASH)
        ids = fields.fields("ids")
        item = cls(
            number=number,
            sid=sid,
            th=th,
            ids=(Identity.read(ids.fields("requester")), Identity.read(ids.fields("responder"))),
            side=fields.uint("side", 1),
            exporter=fields.octets("exporter", HASH),
            key_check=fields.text("key check", 32),
            began=fields.uint("began"),
        )
        fields.end()
        return item


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The own request that waits for its response, and the private half of its E_A."""

    request: Request
    private: bytes = field(repr=False)

    def encode(self) -> bytes:
        """The stored form."""
        return enc(self.request.encode(), self.private)

    @classmethod
    def decode(cls, data: bytes) -> Offer:
        """What `encode` gave."""
        fields = Fields.decode(data, "offer")
        offer = cls(request=Request.decode(fields.octets("request")), private=fields.octets("private"))
        fields.end()
        return offer


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request that waits for the person; by prekey its keys are there already (`answer` is the prekey)."""

    request: Request
    answer: bytes = b""
    keys: Schedule | None = None

    def encode(self) -> bytes:
        """The stored form."""
        return enc(self.request.encode(), self.answer, self.keys and self.keys.encode())

    @classmethod
    def decode(cls, data: bytes) -> Asked:
        """What `encode` gave."""
        fields = Fields.decode(data, "asked")
        request, answer = Request.decode(fields.octets("request")), fields.octets("answer")
        keys = fields.octets_or_none("keys")
        fields.end()
        return cls(request=request, answer=answer, keys=None if keys is None else Schedule.decode(keys))


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """Agreed keys whose commit is awaited; `seq` is where that commit stands if it came before the confirm."""

    request: Request
    keys: Schedule
    side: int
    confirmed: bool
    entry_id: bytes = b""
    proven: bool = True
    seq: int = 0

    @property
    def token(self) -> bytes:
        """What opens the session's log, 32 bytes."""
        return access_token(NAME, self.keys.exporter, self.request.room)

    def encode(self) -> bytes:
        """The stored form."""
        flags = (self.confirmed, self.entry_id, self.proven, self.seq)
        return enc(self.request.encode(), self.keys.encode(), self.side, *flags)

    @classmethod
    def decode(cls, data: bytes) -> Agreed:
        """What `encode` gave."""
        fields = Fields.decode(data, "agreed")
        agreed = cls(
            request=Request.decode(fields.octets("request")),
            keys=Schedule.decode(fields.octets("keys")),
            side=fields.uint("side", 1),
            confirmed=fields.flag("confirmed"),
            entry_id=fields.octets("entry id", most=ID),
            proven=fields.flag("proven"),
            seq=fields.uint("seq"),
        )
        fields.end()
        return agreed


@dataclass(frozen=True, slots=True, kw_only=True)
class Unproven:
    """A session by prekey that stands before the other side has answered: what its response is checked with."""

    request: Request
    th: bytes
    confirm: bytes = field(repr=False)

    def encode(self) -> bytes:
        """The stored form."""
        return enc(self.request.encode(), self.th, self.confirm)

    @classmethod
    def decode(cls, data: bytes) -> Unproven:
        """What `encode` gave."""
        fields = Fields.decode(data, "unproven")
        item = cls(
            request=Request.decode(fields.octets("request")),
            th=fields.octets("th", HASH),
            confirm=fields.octets("confirm", HASH),
        )
        fields.end()
        return item


def _number(value: int) -> bytes:
    return enc(value)


def _read_number(data: bytes) -> int:
    fields = Fields.decode(data, "number")
    number = fields.uint("number")
    fields.end()
    return number


def _as_it_is(value: bytes) -> bytes:
    return value


ROOM_ID: Final[Shelf[bytes]] = Shelf(b"id", _as_it_is, _as_it_is)
ROOM: Final[Shelf[RoomItem]] = Shelf(b"room", RoomItem.encode, RoomItem.decode)
EPOCH: Final[Shelf[Standing]] = Shelf(b"epoch", Standing.encode, Standing.decode)
SEND: Final[Shelf[SendChain]] = Shelf(b"send", SendChain.encode, SendChain.decode)
RECV: Final[Shelf[RecvChain]] = Shelf(b"recv", RecvChain.encode, RecvChain.decode)
SKIP: Final[Shelf[bytes]] = Shelf(b"skip", _as_it_is, _as_it_is)
WANT: Final[Shelf[int]] = Shelf(b"want", _number, _read_number)
"""When the peer's prekey is asked for again (ms)."""
OFFER: Final[Shelf[Offer]] = Shelf(b"offer", Offer.encode, Offer.decode)
ASKED: Final[Shelf[Asked]] = Shelf(b"asked", Asked.encode, Asked.decode)
AGREED: Final[Shelf[Agreed]] = Shelf(b"agreed", Agreed.encode, Agreed.decode)
UNPROVEN: Final[Shelf[Unproven]] = Shelf(b"unproven", Unproven.encode, Unproven.decode)
SEEN: Final[Shelf[int]] = Shelf(b"seen", _number, _read_number)
"""Requested sids, with their times (ms)."""
READ_ONLY: Final[Shelf[bytes]] = Shelf(READ_ONLY_ITEM, _as_it_is, _as_it_is)


# --- records -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A record out of its envelope, in its shape and not yet believed."""

    sid: bytes
    side: int
    n: int
    head: SignedHead | None
    ciphertext: bytes


def _envelope(standing: Standing, entry_id: EntryId) -> Aead:
    return Aead.aes_gcm(export(NAME, standing.exporter, "envelope", entry_id, 32))


def _bound(standing: Standing, side: int, n: int, entry_id: EntryId, kind: str, head: SignedHead | None) -> bytes:
    """The associated data of a message."""
    sender, recipient = standing.ids[side].device, standing.ids[1 - side].device
    return enc(standing.th, sender, recipient, n, entry_id, kind, head_items(head))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a record belongs: room, kind and id of the entry."""

    room: bytes
    kind: str
    entry_id: EntryId


def seal(
    standing: Standing, chain: SendChain, what: str, content: bytes, place: Place, head: SignedHead | None
) -> tuple[bytes, SendChain]:
    """The sealed entry, and the chain to be stored before it is sent. UsageError when it is too long."""
    if len(content) > CONTENT_MOST:
        raise UsageError("usage", f"a message has at most {CONTENT_MOST} bytes")
    keys, following = chain.step()
    bound = _bound(standing, standing.side, chain.seq, place.entry_id, place.kind, head)
    sealed, tag = _CIPHER.seal(keys, chain.seq, enc(what, content), bound)
    record = enc("relay", standing.sid, standing.side, chain.seq, head_items(head), sealed + tag)
    outer = _envelope(standing, place.entry_id).seal(ZERO_NONCE, record, enc(place.room, place.kind))
    return outer, following


def unwrap(standing: Standing, payload: bytes, place: Place) -> Record:
    """The record inside an entry of this session; PeerError bad_tag, bad_encoding or no_session."""
    opened = _envelope(standing, place.entry_id).open(ZERO_NONCE, payload, enc(place.room, place.kind))
    fields = Fields.decode(opened, "record")
    fields.kind("relay")
    record = Record(
        sid=fields.octets("sid", ID),
        side=fields.uint("side", 1),
        n=fields.uint("n"),
        head=read_head(fields, "head"),
        ciphertext=fields.octets("ciphertext", most=CONTENT_MOST + 64),
    )
    fields.end()
    check_session(standing, record)
    return record


def open_record(
    standing: Standing, record: Record, chain: RecvChain, kept: bytes | None, place: Place
) -> tuple[str, bytes, Advance]:
    """Type, content, and what it does to the chain. PeerError replay, gap, bad_tag, bad_encoding or misrouted."""
    moved = advance(chain, record.n, kept)
    bound = _bound(standing, record.side, record.n, place.entry_id, place.kind, record.head)
    plain = _CIPHER.open(moved.keys, record.n, record.ciphertext[:-16], record.ciphertext[-16:], bound)
    fields = Fields.decode(plain, "message")
    what, content = fields.text("type", 16), fields.octets("content", most=CONTENT_MOST)
    fields.end()
    check_type(what, content, place.kind)
    return what, content, moved


@check("PAI-16")
def check_session(standing: Standing, record: Record) -> None:
    """PeerError("no_session") unless the record names the session it was found in."""
    if record.sid != standing.sid:
        raise PeerError("no_session", "a record of another session", check="PAI-16")


@check("PAI-17")
def check_own_number(record: Record, chain: SendChain | None) -> None:
    """PeerError("conflict") for a number that this device has not used: a copy of it writes."""
    if chain is not None and record.n >= chain.seq:
        raise PeerError("conflict", "a copy of this device writes here", check="PAI-17")


@check("PAI-18")
def check_type(what: str, content: bytes, kind: str) -> None:
    """PeerError("misrouted") unless the type inside fits: `terminate` closes, and nothing else does."""
    expected = TERMINATE if kind == "commit" else type_of(content)
    if what != expected:
        raise PeerError("misrouted", "a message of another type than its place says", check="PAI-18")


# --- commits -----------------------------------------------------------------------------------------------


def commit_payload(agreed: Agreed) -> bytes:
    """What begins a session in the room's log: ["commit", sid, SHA-256(th)]."""
    return enc("commit", agreed.request.sid, sha256(agreed.keys.th))


def read_commit(payload: bytes) -> tuple[bytes, bytes]:
    """(sid, SHA-256(th)); PeerError("bad_encoding")."""
    fields = Fields.decode(payload, "commit")
    fields.kind("commit")
    read = fields.octets("sid", ID), fields.octets("th", HASH)
    fields.end()
    return read


@check("PAI-19")
def check_agreed(agreed: Agreed | None) -> Agreed:
    """What the commit begins; PeerError("no_session") for a session that was not agreed here."""
    if agreed is None:
        raise PeerError("no_session", "a commit of a session that was not agreed here", check="PAI-19")
    return agreed


@check("PAI-20")
def check_commit(agreed: Agreed, th_hash: bytes, next_token_hash: bytes | None) -> None:
    """PeerError("wrong_context") unless transcript and next token are those of the agreed session."""
    if (th_hash, next_token_hash) != (sha256(agreed.keys.th), sha256(agreed.token)):
        raise PeerError("wrong_context", "another transcript or token than was agreed", check="PAI-20")


@check("PAI-21")
def check_follows(token_hash: bytes, expected: bytes) -> None:
    """PeerError("stale_epoch") unless the entry was posted against the session that stands."""
    if token_hash != expected:
        raise PeerError("stale_epoch", check="PAI-21")
