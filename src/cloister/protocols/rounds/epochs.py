"""A classic room's epochs: what is stored of the room and of each epoch, and its records.

Source: docs/spec/suites.md ("Epochs"), docs/spec/record.md.

Invariants
- An epoch that has ended seals nothing more; it reads what is still under way for READ_ON, or until the next one ends.
- One's own entries come back and give nothing; a number that this device has not used is a copy's (`conflict`).
- From its place in the log on, an order's subject gives no orders (`not_allowed`); its messages are shown until the
  commit, for the relay has accepted them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError
from cloister.identity.realm import DeviceRecord
from cloister.primitives.kdf import sha256
from cloister.primitives.rsa import RsaSigningKey, RsaVerifyKey
from cloister.protocols import policy as policies
from cloister.protocols import record as records
from cloister.protocols.checks import check
from cloister.protocols.forms import HASH, ID, head_items, read_head, texts
from cloister.protocols.interface import (
    READ_ONLY_ITEM,
    Channel,
    ChannelKind,
    DeviceId,
    EntryKind,
    Envelope,
    Me,
    Post,
    RoomPolicy,
    Roster,
    SignedHead,
)
from cloister.protocols.items import Draft, Shelf
from cloister.protocols.ratchet import RecvChain, SendChain
from cloister.protocols.record import Cipher, Scope
from cloister.protocols.rounds.agreement import RUN, Run
from cloister.protocols.rounds.run import DAY, Order

READ_ON: Final = DAY
"""How long (ms) an epoch that has ended still reads."""
ROSTER_MOST: Final = 256


# --- what is stored ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomState:
    """What does not belong to one epoch.

    `current` is the th of the epoch that stands (empty: none yet), `out` why this device has no part in the room
    (empty, `removed` or `locked`), `joined_at` the head its inviter vouched for, `tried` whether a first run was made,
    `rest_until` (ms) when a rekey may be tried again.
    """

    policy: RoomPolicy
    current: bytes = b""
    out: str = ""
    joined_at: SignedHead | None = None
    parked: Roster = ()
    tried: bool = False
    rest_until: int = 0

    def encode(self) -> bytes:
        """The stored form."""
        flags = [self.current, self.out, self.tried, self.rest_until]
        return enc(policies.items(self.policy), flags, head_items(self.joined_at), list(self.parked))

    @classmethod
    def decode(cls, data: bytes) -> RoomState:
        """What `encode` gave."""
        fields = Fields.decode(data, "room")
        policy, flags = policies.read(fields.fields("policy")), fields.fields("flags")
        state = cls(
            policy=policy,
            current=flags.octets("current", most=HASH),
            out=flags.text("out", 16),
            tried=flags.flag("tried"),
            rest_until=flags.uint("rest until"),
            joined_at=read_head(fields, "joined at"),
            parked=texts(fields, "parked", ROSTER_MOST),
        )
        fields.end()
        return state


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One epoch; `ended_at` (ms) is 0 while it stands, `began_by` the seq of the commit that began it."""

    number: int
    th: bytes
    roster: Roster
    policy: RoomPolicy
    log_size: int
    exporter: bytes = field(repr=False)
    token: bytes = field(repr=False)
    key_check: str
    began_at: int
    began_by: int
    ended_at: int = 0

    @property
    def token_hash(self) -> bytes:
        """The epoch's name at the relay."""
        return sha256(self.token)

    def encode(self) -> bytes:
        """The stored form."""
        times = [self.began_at, self.began_by, self.ended_at]
        secrets = [self.exporter, self.token, self.key_check]
        policy = policies.items(self.policy)
        return enc(self.number, self.th, list(self.roster), policy, self.log_size, secrets, times)

    @classmethod
    def decode(cls, data: bytes) -> Epoch:
        """What `encode` gave."""
        fields = Fields.decode(data, "epoch")
        number, th, roster = fields.uint("number"), fields.octets("th", HASH), texts(fields, "roster", ROSTER_MOST)
        policy, log_size = policies.read(fields.fields("policy")), fields.uint("log size")
        secrets, times = fields.fields("secrets"), fields.fields("times")
        fields.end()
        return cls(
            number=number,
            th=th,
            roster=roster,
            policy=policy,
            log_size=log_size,
            exporter=secrets.octets("exporter", HASH),
            token=secrets.octets("token", HASH),
            key_check=secrets.text("key check", 32),
            began_at=times.uint("began at"),
            began_by=times.uint("began by"),
            ended_at=times.uint("ended at"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingOrder:
    """An order of removal that is not carried out yet; `retry_at` (ms) is when a failed run may be followed.

    `logged` says that its entry was read in the room's log: from there on its subjects are silenced, at the same
    place for everybody. `entry_id` names the entry of one's own order.
    """

    order: Order
    seen_at: int
    retry_at: int = 0
    entry_id: bytes = b""
    logged: bool = False

    def encode(self) -> bytes:
        """The stored form."""
        return enc(self.order.encode(), self.seen_at, self.retry_at, self.entry_id, int(self.logged))

    @classmethod
    def decode(cls, data: bytes) -> StandingOrder:
        """What `encode` gave."""
        fields = Fields.decode(data, "standing order")
        order = Order.decode(fields.octets("order"))
        standing = cls(
            order=order,
            seen_at=fields.uint("seen at"),
            retry_at=fields.uint("retry at"),
            entry_id=fields.octets("entry id", most=ID),
            logged=bool(fields.uint("logged", 1)),
        )
        fields.end()
        return standing


def _encode_head(head: SignedHead) -> bytes:
    return enc(head.items())


def _decode_head(data: bytes) -> SignedHead:
    head = read_head(Fields.decode(data, "head"), "head")
    if head is None:
        raise PeerError("bad_encoding")
    return head


def _as_is(value: bytes) -> bytes:
    return value


ROOM: Shelf[RoomState] = Shelf(b"room", RoomState.encode, RoomState.decode)
HEAD: Shelf[SignedHead] = Shelf(b"head", _encode_head, _decode_head)
EPOCH: Shelf[Epoch] = Shelf(b"epoch", Epoch.encode, Epoch.decode)
SEND: Shelf[SendChain] = Shelf(b"send", SendChain.encode, SendChain.decode)
RECV: Shelf[RecvChain] = Shelf(b"recv", RecvChain.encode, RecvChain.decode)
SKIP: Shelf[bytes] = Shelf(b"skip", _as_is, _as_is)
ORDER: Shelf[StandingOrder] = Shelf(b"order", StandingOrder.encode, StandingOrder.decode)
READ_ONLY: Shelf[bytes] = Shelf(READ_ONLY_ITEM, _as_is, _as_is)


def room_of(draft: Draft) -> RoomState:
    """The room's own item, which every session has."""
    state = draft.get(ROOM)
    if state is None:
        raise PeerError("damaged", "a session without its room")
    return state


def current(draft: Draft) -> Epoch | None:
    """The epoch that stands, if there is one."""
    return draft.get(EPOCH, room_of(draft).current)


def standing_orders(draft: Draft, roster: Iterable[DeviceId]) -> list[Order]:
    """The orders against somebody of this roster, the oldest first."""
    members = set(roster)
    found = [item for _, item in draft.all(ORDER) if members & set(item.order.removed)]
    return [item.order for item in sorted(found, key=lambda item: (item.seen_at, item.order.id))]


def ordered_out(draft: Draft) -> frozenset[DeviceId]:
    """All devices against which an order stands."""
    return frozenset(device for _, item in draft.all(ORDER) for device in item.order.removed)


def silenced(draft: Draft) -> frozenset[DeviceId]:
    """The devices against which an order was read in the room's log."""
    return frozenset(device for _, item in draft.all(ORDER) if item.logged for device in item.order.removed)


def runs_of(draft: Draft) -> list[Run]:
    """All runs, the newest last."""
    return sorted((run for _, run in draft.all(RUN)), key=lambda run: (run.opened_at, run.id))


def open_runs(draft: Draft) -> list[Run]:
    """The runs that are not past their deadline, the newest last."""
    return [run for run in runs_of(draft) if not run.lapsed]


# --- records -----------------------------------------------------------------------------------------------


class Protected(Protocol):
    """What records need to know of a suite."""

    @property
    def suite(self) -> str:
        """Its name."""
        ...

    @property
    def cipher(self) -> Cipher:
        """How its records are protected."""
        ...


class Sitting(Protocol):
    """What records need of one call to a session, with rounds or without."""

    @property
    def me(self) -> Me:
        """This device."""
        ...

    @property
    def agreement(self) -> Protected:
        """The suite."""
        ...

    @property
    def room(self) -> bytes:
        """The room's id."""
        ...

    @property
    def draft(self) -> Draft:
        """The items as this call changes them."""
        ...

    @property
    def now(self) -> int:
        """The time (ms)."""
        ...

    def signing_key(self) -> RsaSigningKey:
        """The RSA key that signs; NotReady for a profile without."""
        ...


def scope_of(turn: Sitting, epoch: Epoch) -> Scope:
    """What the epoch's records are bound to."""
    return Scope(
        suite=turn.agreement.suite,
        room=turn.room,
        th=epoch.th,
        members=len(epoch.roster),
        exporter=epoch.exporter,
        cipher=turn.agreement.cipher,
    )


def record_of(turn: Sitting, device: DeviceId, log_size: int) -> DeviceRecord:
    """The device as the epoch judged it."""
    return turn.me.directory().device(device, log_size)


def verify_key(turn: Sitting, device: DeviceId, log_size: int) -> RsaVerifyKey:
    """The certified key that checks a member's signatures; PeerError("not_ready") for one without."""
    key = record_of(turn, device, log_size).rsa_verify
    if key is None:
        raise PeerError("not_ready", "the device has no RSA keys")
    return key


def chain_key(th: bytes, index: int) -> bytes:
    """The suffix under which a sender's chain is kept: 34 bytes; a skipped key adds its number."""
    return th + index.to_bytes(2, "big")


def _kept_key(th: bytes, index: int, seq: int) -> bytes:
    return chain_key(th, index) + seq.to_bytes(8, "big")


def seal_entry(
    turn: Sitting, epoch: Epoch, content: bytes, *, kind: str, entry_id: bytes, head: SignedHead | None
) -> bytes:
    """A sealed entry of the room's log; the draft holds the chain after it."""
    chain = turn.draft.get(SEND, epoch.th)
    if chain is None:
        raise PeerError("stale_epoch")
    payload, following = records.seal(
        scope_of(turn, epoch),
        epoch.roster.index(turn.me.device),
        chain,
        turn.signing_key(),
        content,
        kind=kind,
        entry_id=entry_id,
        head=head,
    )
    turn.draft.put(SEND, epoch.th, following)
    return payload


def post_entry(
    turn: Sitting, epoch: Epoch, content: bytes, *, kind: EntryKind, entry_id: bytes, head: SignedHead | None
) -> None:
    """Seal an entry and post it to the room's log."""
    payload = seal_entry(turn, epoch, content, kind=kind, entry_id=entry_id, head=head)
    channel = Channel(ChannelKind.ROOM, turn.room)
    turn.draft.emit(Post(channel=channel, kind=kind, entry_id=entry_id, payload=payload))


@dataclass(frozen=True, slots=True)
class Opened:
    """A record that verified."""

    epoch: Epoch
    sender: DeviceId
    seq: int
    head: SignedHead | None
    content: bytes


@check("REC-07")
def check_epoch_known(epoch: Epoch | None) -> None:
    """PeerError("stale_epoch") for an entry of an epoch that is not held."""
    if epoch is None:
        raise PeerError("stale_epoch", check="REC-07")


@check("REC-08")
def check_not_silenced(sender: DeviceId, out: frozenset[DeviceId]) -> None:
    """PeerError("not_allowed") for an order by a device that an earlier order puts out."""
    if sender in out:
        raise PeerError("not_allowed", "an order stands against its sender", check="REC-08")


@check("REC-09")
def check_own_number(seq: int, chain: SendChain | None) -> None:
    """PeerError("conflict") for a number that this device has not used: a copy of it writes."""
    if chain is not None and seq >= chain.seq:
        raise PeerError("conflict", "a copy of this device writes here", check="REC-09")


def open_entry(turn: Sitting, envelope: Envelope) -> Opened | None:
    """The record in an entry of the room's log, its sender's chain moved; None for one's own."""
    found = [epoch for _, epoch in turn.draft.all(EPOCH) if epoch.token_hash == envelope.token_hash]
    epoch = found[0] if found else None
    check_epoch_known(epoch)
    if epoch is None:
        raise PeerError("stale_epoch")
    scope = scope_of(turn, epoch)
    sealed = records.unwrap(scope, envelope.payload, kind=envelope.kind, entry_id=envelope.entry_id)
    index, seq = sealed.header.sender, sealed.header.seq
    sender = epoch.roster[index]
    key = verify_key(turn, sender, epoch.log_size)
    if sender == turn.me.device:
        records.check_signature(scope, sealed, key)
        check_own_number(seq, turn.draft.get(SEND, epoch.th))
        return None
    chain = turn.draft.get(RECV, chain_key(epoch.th, index))
    if chain is None:
        raise PeerError("stale_epoch")
    content, moved = records.open_sealed(
        scope, sealed, chain, lambda number: turn.draft.get(SKIP, _kept_key(epoch.th, index, number)), key
    )
    turn.draft.put(RECV, chain_key(epoch.th, index), moved.chain)
    for number, mk in moved.kept:
        turn.draft.put(SKIP, _kept_key(epoch.th, index, number), mk)
    for number in moved.spent:
        turn.draft.drop(SKIP, _kept_key(epoch.th, index, number))
    return Opened(epoch, sender, seq, sealed.header.head, content)


def messages(draft: Draft, epoch: Epoch) -> int:
    """How many messages the epoch has carried, skipped ones too."""
    own = draft.get(SEND, epoch.th)
    return (own.seq if own else 0) + sum(chain.seq for _, chain in draft.all(RECV, epoch.th))
