"""M4: the commit that ends a classic room's epoch and begins the next, and what ends with it.

Source: docs/spec/suites.md ("Commit"); A.0 of the protocols ("Commit").

    M4 = ["commit", run_id, th, SHA-256(run head), mac, parent mac | null]
    mac = MAC(confirm, "SUITE commit entry", th)
    parent mac = MAC(the parent's export("commit"), "SUITE commit parent", all before)

Invariants
- A commit ends an epoch only if a member of that epoch made it: nobody is shut out by what the relay writes.
- A commit counts only against the epoch it names, for a run whose confirms all stand in its log up to the run head,
  and with SHA-256(token of the epoch it makes) as its next_token_hash.
- The first commit that returns in the log ends the epoch; every other run of that epoch is then over.
- A commit waits for its run's log as long as the run is followed, and is told of after WAIT_MOST; without its run it
  shuts this device out.
- An epoch that has ended seals nothing more; it reads what is still under way for READ_ON, or until the next one ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError
from cloister.primitives.kdf import sha256
from cloister.primitives.labelled import mac, verify_mac
from cloister.protocols import record as records
from cloister.protocols.checks import check, named
from cloister.protocols.forms import HASH, ID
from cloister.protocols.interface import (
    NO_EPOCH,
    Channel,
    ChannelKind,
    Commit,
    EntryKind,
    Envelope,
    SignedHead,
    Unfollow,
)
from cloister.protocols.items import Draft, Shelf
from cloister.protocols.ratchet import RecvChain, SendChain
from cloister.protocols.record import Schedule
from cloister.protocols.rounds.agreement import AGREED, RUN, Run, Turn
from cloister.protocols.rounds.epochs import (
    EPOCH,
    READ_ONLY,
    RECV,
    ROOM,
    SEND,
    SKIP,
    Epoch,
    Sitting,
    chain_key,
    room_of,
    runs_of,
)
from cloister.protocols.rounds.run import MINUTE, NO_TH

WAIT_MOST: Final = 2 * MINUTE
"""How long (ms) a commit waits for its run's log before the person is told."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A commit that the room's log showed before its run's log was read so far: since when (ms), and whether told."""

    envelope: Envelope
    since: int
    told: bool = False

    def encode(self) -> bytes:
        """The stored form."""
        envelope = self.envelope
        place = [envelope.seq, envelope.token_hash, envelope.next_token_hash]
        return enc(envelope.payload, place, self.since, int(self.told))

    @classmethod
    def decode(cls, data: bytes) -> Waiting:
        """What `encode` gave."""
        fields = Fields.decode(data, "waiting commit")
        payload, place = fields.octets("payload"), fields.fields("place")
        envelope = Envelope(
            channel=Channel(ChannelKind.ROOM, b""),
            kind=EntryKind.COMMIT,
            payload=payload,
            seq=place.uint("seq"),
            token_hash=place.octets("token hash", HASH),
            next_token_hash=place.octets_or_none("next token hash", HASH),
        )
        waiting = cls(envelope, fields.uint("since"), bool(fields.uint("told", 1)))
        fields.end()
        return waiting


WAITING: Shelf[Waiting] = Shelf(b"waiting", Waiting.encode, Waiting.decode)
"""Run id -> the commit that waits for the run's log."""


def token_of(turn: Turn, agreed: Schedule) -> bytes:
    """The access token of the epoch that a run's schedule makes."""
    return records.access_token(turn.agreement.suite, agreed.exporter, turn.room)


def post_commit(turn: Turn, run: Run, agreed: Schedule) -> None:
    """M4: post the commit that ends the run's parent epoch (for a new room: its create)."""
    context = run.proposal.context
    parent = turn.draft.get(EPOCH, context.prev_th)
    expects = NO_EPOCH if parent is None else parent.token_hash
    suite = turn.agreement.suite
    entry = CommitEntry(run.id, agreed.th, sha256(run.head), mac(agreed.confirm, f"{suite} commit entry", agreed.th))
    if parent is not None:
        entry = replace(entry, parent_tag=mac(_parent_key(suite, parent), f"{suite} commit parent", *entry.bound()))
    turn.draft.put(RUN, run.id, replace(run, posted=True))
    turn.draft.emit(
        Commit(
            room=turn.room,
            expects=expects,
            entry_id=turn.rng(ID),
            payload=entry.encode(),
            next_token_hash=sha256(token_of(turn, agreed)),
        )
    )


@dataclass(frozen=True, slots=True)
class CommitEntry:
    """M4 as read."""

    run_id: bytes
    th: bytes
    head_hash: bytes
    tag: bytes
    parent_tag: bytes | None = None

    def bound(self) -> tuple[object, ...]:
        """What the parent's MAC covers."""
        return self.run_id, self.th, self.head_hash, self.tag

    def encode(self) -> bytes:
        """The entry's payload."""
        return enc("commit", *self.bound(), self.parent_tag)

    @classmethod
    def decode(cls, data: bytes) -> CommitEntry:
        """PeerError("bad_encoding") for what is not M4."""
        fields = Fields.decode(data, "commit")
        fields.kind("commit")
        entry = cls(
            fields.octets("run", ID),
            fields.octets("th", HASH),
            fields.octets("run head", HASH),
            fields.octets("mac", HASH),
            fields.octets_or_none("parent mac", HASH),
        )
        fields.end()
        return entry


@check("COM-01")
def check_against(envelope: Envelope, run: Run, parent: Epoch | None) -> None:
    """PeerError("stale_epoch") unless the entry was posted against the run's parent (a new room: against nothing)."""
    new_room = run.proposal.context.prev_th == NO_TH
    if parent is not None:
        against = envelope.token_hash == parent.token_hash
    else:
        against = (envelope.token_hash == NO_EPOCH) is new_room
    if not against:
        raise PeerError("stale_epoch", check="COM-01")


@check("COM-02")
def check_run_head(run: Run, entry: CommitEntry) -> None:
    """PeerError("bad_head") unless the commit names the entry of the run's log by which all confirms stood."""
    if entry.head_hash != sha256(run.head):
        raise PeerError("bad_head", "another run log than the one seen here", check="COM-02")


@check("COM-03")
def check_commit_mac(suite: str, agreed: Schedule, entry: CommitEntry) -> None:
    """PeerError("confirm_mismatch") unless a member of the run made the commit, for this transcript."""
    with named("COM-03"):
        verify_mac(entry.tag, agreed.confirm, f"{suite} commit entry", entry.th, code="confirm_mismatch")
    if entry.th != agreed.th:
        raise PeerError("confirm_mismatch", check="COM-03")


@check("COM-04")
def check_next_token(envelope: Envelope, token: bytes) -> None:
    """PeerError("wrong_context") unless the entry opens the log to the run's own token."""
    if envelope.next_token_hash != sha256(token):
        raise PeerError("wrong_context", "the next token is not the run's", check="COM-04")


@check("COM-05")
def check_after_head(envelope: Envelope, head: SignedHead | None) -> None:
    """PeerError("bad_head") when the commit stands before the head that the inviter vouched for."""
    if head is not None and envelope.seq <= head.seq:
        raise PeerError("bad_head", check="COM-05")


def _parent_key(suite: str, parent: Epoch) -> bytes:
    return records.export(suite, parent.exporter, "commit", b"", HASH)


@check("COM-06")
def check_by_member(suite: str, parent: Epoch, entry: CommitEntry) -> None:
    """PeerError("bad_tag") unless a member of the epoch that it ends made the commit."""
    with named("COM-06"):
        verify_mac(entry.parent_tag or b"", _parent_key(suite, parent), f"{suite} commit parent", *entry.bound())


def judge_commit(turn: Turn, envelope: Envelope, run: Run, entry: CommitEntry) -> Schedule:
    """The schedule of the epoch that a commit of an agreed run begins, everything checked."""
    agreed = turn.draft.get(AGREED, run.id)
    check_against(envelope, run, turn.draft.get(EPOCH, run.proposal.context.prev_th))
    if agreed is None:
        raise PeerError("not_confirmed")
    check_commit_mac(turn.agreement.suite, agreed, entry)
    check_run_head(run, entry)
    check_next_token(envelope, token_of(turn, agreed))
    check_after_head(envelope, run.proposal.head)
    return agreed


def begin_epoch(turn: Turn, run: Run, agreed: Schedule, envelope: Envelope) -> Epoch:
    """The run's epoch stands: its chains are laid out, its parent is ended, every other run is over."""
    draft, context, state = turn.draft, run.proposal.context, room_of(turn.draft)
    epoch = Epoch(
        number=context.epoch,
        th=agreed.th,
        roster=context.roster,
        policy=context.policy,
        log_size=context.log_size,
        exporter=agreed.exporter,
        token=token_of(turn, agreed),
        key_check=agreed.key_check,
        began_at=turn.now,
        began_by=envelope.seq,
    )
    newcomer = draft.get(EPOCH, context.prev_th) is None
    end_epochs(turn, state.current)
    lay_out(turn, epoch, agreed.chains)
    parked = sorted((set(state.parked) | set(run.proposal.change.parked)) - set(epoch.roster))
    joined_at = run.proposal.head if newcomer else state.joined_at
    draft.put(
        ROOM,
        b"",
        replace(
            state, policy=epoch.policy, current=epoch.th, out="", parked=tuple(parked), joined_at=joined_at, tried=True
        ),
    )
    for other in runs_of(draft):
        end_run(turn, other)
    draft.drop(READ_ONLY)
    return epoch


def lay_out(turn: Sitting, epoch: Epoch, chains: Sequence[bytes]) -> None:
    """Store an epoch with the chains of its members, in roster order."""
    for index, (device, key) in enumerate(zip(epoch.roster, chains, strict=True)):
        if device == turn.me.device:
            turn.draft.put(SEND, epoch.th, SendChain(0, key))
        else:
            turn.draft.put(RECV, chain_key(epoch.th, index), RecvChain(0, key))
    turn.draft.put(EPOCH, epoch.th, epoch)


def end_epochs(turn: Sitting, current_th: bytes) -> None:
    """The standing epoch seals no more; the one before it is forgotten."""
    for th, epoch in list(turn.draft.all(EPOCH)):
        if th == current_th:
            turn.draft.put(EPOCH, th, replace(epoch, ended_at=turn.now))
            turn.draft.drop(SEND, th)
        else:
            drop_epoch(turn.draft, th)


def drop_epoch(draft: Draft, th: bytes) -> None:
    """Forget an epoch with all its keys."""
    for shelf in (EPOCH, SEND, RECV, SKIP):
        draft.drop_all(shelf, th)


def end_run(turn: Turn, run: Run) -> None:
    """Forget a run with all its secrets."""
    turn.draft.drop(RUN, run.id)
    turn.draft.drop(AGREED, run.id)
    turn.agreement.forget(turn.draft, run.id)
    turn.draft.emit(Unfollow(run_id=run.id))
