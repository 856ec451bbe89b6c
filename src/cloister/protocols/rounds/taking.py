"""What a classic session does with an envelope: proposals, run entries, records, commits.

Source: docs/spec/suites.md; one mapping (channel, kind) -> method, what stands in no row is `unsupported`.

Invariants
- Everything happens in the turn's draft: PeerError, RunBroken or Behind leave the session as it was.
- A commit that the room's log shows before the run's log has been read that far waits for it.
- One's own records and messages come back in the logs; they give no effect but their place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from cloister.errors import PeerError
from cloister.protocols.interface import (
    Channel,
    ChannelKind,
    Deliver,
    DeviceId,
    EntryKind,
    Envelope,
    EpochChanged,
    Fault,
    SignedHead,
)
from cloister.protocols.rounds import commits, epochs
from cloister.protocols.rounds import run as runs
from cloister.protocols.rounds.agenda import commit, commit_turn
from cloister.protocols.rounds.agreement import AGREED, RUN, Phase, Run, RunEntry, Turn, fault_of
from cloister.protocols.rounds.commits import WAITING, CommitEntry, Waiting, end_run
from cloister.protocols.rounds.entering import receive_here, receive_parked, receive_proposal
from cloister.protocols.rounds.epochs import HEAD, ORDER, READ_ONLY, ROOM, Epoch, current, ordered_out, room_of, runs_of
from cloister.protocols.rounds.membership import HELD, HERE, give_order, own_order_logged, take_order
from cloister.protocols.rounds.view import progress, view_of

NEWLY_RESTORED: Final = b""
"""Value of READ_ONLY_ITEM as the driver puts it: runs of the backup are not taken up, their secrets may be out."""


# --- envelopes ---------------------------------------------------------------------------------------------


def take(turn: Turn, envelope: Envelope) -> None:
    """Judge an envelope; PeerError, RunBroken or Behind, else the draft holds what follows."""
    key = (envelope.channel.kind, envelope.kind)
    method = _TAKERS.get(key)
    if method is None:
        raise PeerError("unsupported", "an entry of another kind")
    method(turn, envelope)


def _take_proposal(turn: Turn, envelope: Envelope) -> None:
    receive_proposal(turn, envelope)
    progress(turn)


def _take_run(turn: Turn, envelope: Envelope) -> None:
    """An entry of a run's log."""
    run = turn.draft.get(RUN, envelope.channel.id)
    if run is None:
        raise PeerError("misrouted", "no such run here")
    if turn.draft.get(READ_ONLY) == NEWLY_RESTORED:
        raise PeerError("not_ready", "restored from a backup: wake comes first")
    message = runs.unseal(turn.agreement.suite, run.proposal.secret, run.id, envelope.entry_id, envelope.payload)
    before = (run.phase, turn.agreement.missing(turn.draft, run))
    entry = RunEntry(
        message=message, entry_id=envelope.entry_id, seq=envelope.seq, hash=envelope.hash, at=envelope.ts_ms
    )
    turn.agreement.take(turn, run, entry)
    after = turn.draft.get(RUN, run.id) or run
    if (after.phase, turn.agreement.missing(turn.draft, after)) == before:
        return
    if after.phase is Phase.EXPECT_COMMIT:
        _agreed(turn, after)
    else:
        progress(turn)


def _agreed(turn: Turn, run: Run) -> None:
    """All confirms stand: post the commit if it is this device's turn, take the one that waits, say what is awaited."""
    waiting = turn.draft.get(WAITING, run.id)
    if waiting is not None:
        turn.draft.drop(WAITING, run.id)
        _begin(turn, run, CommitEntry.decode(waiting.envelope.payload), waiting.envelope)
        return
    agreed = turn.draft.get(AGREED, run.id)
    if commit_turn(turn, run) == turn.now:
        commit(turn, run)
    enters = current(turn.draft) is None or room_of(turn.draft).out
    token = commits.token_of(turn, agreed) if enters and agreed else None
    progress(turn, token=token, proposer=run.proposal.context.proposer)


def _check_room(turn: Turn, envelope: Envelope) -> None:
    if envelope.channel.id != turn.room:
        raise PeerError("misrouted", "an entry of another room")


def _note_head(turn: Turn, head: SignedHead | None) -> None:
    known = turn.draft.get(HEAD)
    if head is not None and (known is None or (head.incarnation, head.seq) > (known.incarnation, known.seq)):
        turn.draft.put(HEAD, b"", head)


def _take_record(turn: Turn, envelope: Envelope) -> None:
    """A record in the room's log: a message to deliver, or an order."""
    _check_room(turn, envelope)
    opened = epochs.open_entry(turn, envelope)
    _note_head(turn, envelope.head)
    if opened is None:
        own_order_logged(turn, envelope.entry_id)
        return
    if envelope.kind == EntryKind.HANDSHAKE:
        if opened.epoch.ended_at:
            raise PeerError("stale_epoch", "an order for an epoch that has ended")
        take_order(turn, opened.content, opened.sender, opened.epoch)
        progress(turn)
        return
    # Decided: an order does not silence its subject's messages. What the relay has accepted and signed is shown to
    # everybody (promise 2), the subject's own client too; the commit that carries the order out ends its writing.
    turn.draft.emit(
        Deliver(
            sender=opened.sender,
            epoch=opened.epoch.number,
            seq=envelope.seq,
            entry_id=envelope.entry_id,
            content=opened.content,
            head=opened.head,
        )
    )


def _take_commit(turn: Turn, envelope: Envelope) -> None:
    """The entry that ends an epoch, or makes the room."""
    _check_room(turn, envelope)
    entry = CommitEntry.decode(envelope.payload)
    run, epoch = turn.draft.get(RUN, entry.run_id), current(turn.draft)
    _note_head(turn, envelope.head)
    if epoch is not None and epoch.token_hash == envelope.token_hash:
        commits.check_by_member(turn.agreement.suite, epoch, entry)
    if run is None:
        if epoch is None or epoch.token_hash != envelope.token_hash or room_of(turn.draft).out:
            raise PeerError("stale_epoch")
        _shut_out(turn, epoch)
    elif run.phase is not Phase.EXPECT_COMMIT:
        turn.draft.put(WAITING, run.id, Waiting(envelope, turn.now))
    else:
        _begin(turn, run, entry, envelope)


def _shut_out(turn: Turn, epoch: Epoch) -> None:
    """The room has gone on without this device: put out by an order, or by a run it had no part in."""
    removed = turn.me.device in ordered_out(turn.draft)
    state = room_of(turn.draft)
    turn.draft.put(ROOM, b"", replace(state, out="removed" if removed else "locked"))
    commits.end_epochs(turn, epoch.th)
    for run in runs_of(turn.draft):
        end_run(turn, run)
    turn.draft.drop_all(ORDER)
    turn.draft.drop_all(WAITING)
    if not removed:
        turn.draft.emit(Fault(code="locked_out"))
    progress(turn)
    _take_held(turn)


def judge_waiting(turn: Turn) -> None:
    """A commit whose run is over will never be followed: it has shut this device out."""
    for run_id, waiting in list(turn.draft.all(WAITING)):
        if turn.draft.get(RUN, run_id) is not None:
            continue
        epoch = current(turn.draft)
        if epoch is not None and epoch.token_hash == waiting.envelope.token_hash and not room_of(turn.draft).out:
            _shut_out(turn, epoch)
            return
        turn.draft.drop(WAITING, run_id)
        turn.draft.emit(Fault(code="locked_out"))


def _begin(turn: Turn, run: Run, entry: CommitEntry, envelope: Envelope) -> None:
    """A commit that counts: the run's epoch stands, orders that it met are done, what waited for it is judged."""
    agreed = commits.judge_commit(turn, envelope, run, entry)
    epoch = commits.begin_epoch(turn, run, agreed, envelope)
    turn.draft.drop_all(WAITING)
    repeat: set[DeviceId] = set()
    for suffix, item in list(turn.draft.all(ORDER)):
        left = set(item.order.removed) & set(epoch.roster)
        own = item.order.author == turn.me.device
        if own:
            repeat |= left
        if own or not left:
            turn.draft.drop(ORDER, suffix)
    if repeat:
        give_order(turn, epoch, tuple(sorted(repeat)))
    for suffix, _ in list(turn.draft.all(HERE)):
        if suffix.decode() in epoch.roster:
            turn.draft.drop(HERE, suffix)
    view = view_of(turn.draft, turn.agreement, turn.room, turn.me.device)
    turn.draft.emit(
        EpochChanged(
            epoch=epoch.number,
            roster=epoch.roster,
            state=view.state,
            key_check=epoch.key_check,
            access_token=epoch.token,
            began_by=epoch.began_by,
            parked=view.parked,
        )
    )
    _take_held(turn)


def _take_held(turn: Turn) -> None:
    """Proposals that came before the log was read this far."""
    for suffix, held in list(turn.draft.all(HELD)):
        turn.draft.drop(HELD, suffix)
        envelope = Envelope(
            channel=Channel(ChannelKind.MAILBOX, b""), kind="propose", payload=held.body, sender=held.sender
        )
        try:
            _take_proposal(turn, envelope)
        except PeerError as error:
            turn.draft.emit(fault_of(error))


_TAKERS: Final[Mapping[tuple[str, str], Callable[[Turn, Envelope], None]]] = {
    (ChannelKind.MAILBOX, "propose"): _take_proposal,
    (ChannelKind.MAILBOX, "parked"): receive_parked,
    (ChannelKind.MAILBOX, "here"): receive_here,
    (ChannelKind.RUN, EntryKind.HANDSHAKE): _take_run,
    (ChannelKind.ROOM, EntryKind.APPLICATION): _take_record,
    (ChannelKind.ROOM, EntryKind.HANDSHAKE): _take_record,
    (ChannelKind.ROOM, EntryKind.COMMIT): _take_commit,
    (ChannelKind.ROOM, EntryKind.CREATE): _take_commit,
}
