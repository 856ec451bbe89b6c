"""What a session of suite `transport` stores beside its epochs, one call's working set, and what follows from both.

Source: docs/spec/classic/transport.md ("What is stored").

    invite/RUN_ID A   A's signed I1 whose commit was not read yet; one's own commit is kept as an invitation to oneself
    waiting           a commit that the log showed before its invitation came
    standing/TH       the context of an epoch that is held: who made it, what acknowledges it, until when it is awaited
    acked/TH PLACE    this member has acknowledged
    leaving/DEVICE    this member has asked to be taken out
    seen/INVITE_ID    until when no invitation of this id is taken again

Invariants
- K is stored nowhere: an invitation is kept as it came, and opened again when its commit is read.
- The next numbers and windows of all senders are the items `send` and `recv` of `epochs`, written in the transaction
  that sends or shows the message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from cloister.codec.cbor import Fields, enc
from cloister.primitives import Rng
from cloister.protocols.context import Context, Keyed
from cloister.protocols.forms import DEVICE_MOST, HASH, ID
from cloister.protocols.interface import (
    Channel,
    ChannelKind,
    DeviceId,
    EntryKind,
    Envelope,
    Me,
    Roster,
    State,
)
from cloister.protocols.items import Draft, Shelf
from cloister.protocols.rounds.epochs import (
    EPOCH,
    HEAD,
    READ_ONLY,
    RECV,
    ROOM,
    SEND,
    SKIP,
    Epoch,
    chain_key,
    current,
    room_of,
)
from cloister.protocols.transport.steps import STRICT, Invite, Steps, Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An invitation that waits for its commit; `entry_id` names one's own commit, `context` is what it changes to."""

    invite: Invite
    at: int
    entry_id: bytes = b""
    context: bytes = b""

    @property
    def to(self) -> Context:
        """The context of one's own commit."""
        return Context.read(Fields.decode(self.context, "context"))

    def encode(self) -> bytes:
        """The stored form."""
        return enc(self.invite.encode(), self.at, self.entry_id, self.context)

    @classmethod
    def decode(cls, data: bytes) -> Held:
        """What `encode` gave."""
        fields = Fields.decode(data, "held invitation")
        held = cls(
            invite=Invite.decode(fields.octets("invite")),
            at=fields.uint("at"),
            entry_id=fields.octets("entry id", most=ID),
            context=fields.octets("context"),
        )
        fields.end()
        return held


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What acknowledges an epoch: its ctx, the confirm key, SHA-256 of its I0; and by whom and how it was made."""

    ctx: bytes
    confirm: bytes
    commit_hash: bytes
    inviter: DeviceId
    variant: str
    deadline: int

    def encode(self) -> bytes:
        """The stored form."""
        return enc(self.ctx, self.confirm, self.commit_hash, self.inviter, self.variant, self.deadline)

    @classmethod
    def decode(cls, data: bytes) -> Standing:
        """What `encode` gave."""
        fields = Fields.decode(data, "standing epoch")
        standing = cls(
            ctx=fields.octets("ctx", HASH),
            confirm=fields.octets("confirm", HASH),
            commit_hash=fields.octets("commit", HASH),
            inviter=fields.text("inviter", DEVICE_MOST),
            variant=fields.text("variant", 32),
            deadline=fields.uint("deadline"),
        )
        fields.end()
        return standing


@dataclass(frozen=True, slots=True)
class Waiting:
    """A commit whose invitation has not come, since `at` (ms)."""

    envelope: Envelope
    at: int

    def encode(self) -> bytes:
        """The stored form."""
        envelope = self.envelope
        return enc(envelope.payload, envelope.seq, envelope.token_hash, envelope.next_token_hash, self.at)

    @classmethod
    def decode(cls, data: bytes) -> Waiting:
        """What `encode` gave."""
        fields = Fields.decode(data, "waiting commit")
        envelope = Envelope(
            channel=Channel(ChannelKind.ROOM, b""),
            kind=EntryKind.COMMIT,
            payload=fields.octets("payload"),
            seq=fields.uint("seq"),
            token_hash=fields.octets("token hash", HASH),
            next_token_hash=fields.octets_or_none("next token hash", HASH),
        )
        waiting = cls(envelope, fields.uint("at"))
        fields.end()
        return waiting


def _encode_time(at: int) -> bytes:
    return enc(at)


def _decode_time(data: bytes) -> int:
    return Fields.decode(data, "time").uint("time")


ROOM_ID: Shelf[bytes] = Shelf(b"id", lambda value: value, lambda value: value)
INVITE: Shelf[Held] = Shelf(b"invite", Held.encode, Held.decode)
WAITING: Shelf[Waiting] = Shelf(b"waiting", Waiting.encode, Waiting.decode)
STANDING: Shelf[Standing] = Shelf(b"standing", Standing.encode, Standing.decode)
ACKED: Shelf[int] = Shelf(b"acked", _encode_time, _decode_time)
LEAVING: Shelf[int] = Shelf(b"leaving", _encode_time, _decode_time)
SEEN: Shelf[int] = Shelf(b"seen", _encode_time, _decode_time)
TOLD: Shelf[int] = Shelf(b"told", _encode_time, _decode_time)
"""TH -> when the inviter was told who has not acknowledged."""
REST: Shelf[int] = Shelf(b"rest", _encode_time, _decode_time)
"""When a commit that could not be made may be tried again."""
SHELVES: Final[dict[bytes, Shelf[Any]]] = {
    shelf.name: shelf
    for shelf in (
        ROOM_ID, ROOM, HEAD, EPOCH, SEND, RECV, SKIP, READ_ONLY,
        INVITE, WAITING, STANDING, ACKED, LEAVING, SEEN, TOLD, REST,
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Turn(Keyed):
    """What one call works with; `agreement` are the suite's steps, `now` is in ms."""

    me: Me
    agreement: Steps
    room: bytes
    draft: Draft
    now: int
    rng: Rng


# --- what follows from the items ---------------------------------------------------------------------------


def place_of(terms: Terms) -> bytes:
    """Where an invitation is kept: a run's name stands in the log for all, so each inviter has places of its own."""
    return terms.run_id + terms.inviter.encode()


def held_for(draft: Draft, run_id: bytes) -> dict[DeviceId, Held]:
    """Inviter -> the invitation under this run's name: anybody can repeat it."""
    return {held.invite.token.terms.inviter: held for _, held in draft.all(INVITE, run_id)}


def own_commit(draft: Draft) -> Held | None:
    """One's own commit that has not come back yet."""
    return next((held for _, held in draft.all(INVITE) if held.entry_id), None)


def unconfirmed(draft: Draft, steps: Steps, epoch: Epoch) -> Roster:
    """The members whose acknowledgement is awaited: all but the inviter and those who have given it."""
    standing = draft.get(STANDING, epoch.th)
    first = standing.inviter if standing is not None else ""
    acked = {suffix for suffix, _ in draft.all(ACKED, epoch.th)}
    silent = [
        device
        for place, device in enumerate(epoch.roster)
        if device != first and chain_key(epoch.th, place) not in acked
    ]
    others = len(epoch.roster) - 1
    return tuple(silent) if others - len(silent) < steps.acks_needed(others) else ()


def variant_of(draft: Draft) -> str | None:
    """The variant of the standing epoch; None where there is none."""
    epoch = current(draft)
    standing = None if epoch is None else draft.get(STANDING, epoch.th)
    return None if standing is None else standing.variant


def state_of(draft: Draft, steps: Steps) -> State:
    """What the session waits for."""
    room, epoch = room_of(draft), current(draft)
    held = next(draft.all(INVITE), None) is not None
    if room.out:
        return State.PENDING if held else State.REMOVED
    if draft.get(READ_ONLY) is not None:
        return State.READ_ONLY
    if epoch is None:
        return State.PENDING if held else State.READ_ONLY
    if draft.get(WAITING) is not None:
        return State.PENDING
    if len(epoch.roster) < 2:
        return State.READ_ONLY
    blocked = variant_of(draft) == STRICT and unconfirmed(draft, steps, epoch)
    return State.FROZEN if blocked else State.READY


def leaving(draft: Draft) -> frozenset[DeviceId]:
    """The members who have asked to be taken out."""
    return frozenset(device.decode() for device, _ in draft.all(LEAVING))
