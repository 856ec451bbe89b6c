"""Sessions of the suites that agree in rounds (`nonces`, `shares`): the interface over items, epochs and membership.

Source: docs/spec/suites.md; docs/walkthroughs.md shows the six walks through this file.

What a session waits for follows from its items (`State`): PENDING no epoch yet, READY, FROZEN an order stands,
READ_ONLY fewer than two members or restored from a backup, REMOVED out of the room.

Invariants
- Each call works on a draft; a refusal forgets it, so the state is as it was. A fatal fault ends its run, nothing else.
- A commit that the room's log shows before the run's log has been read that far waits for it.
- One's own records and messages come back in the logs; they give no effect but their place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError, UsageError
from cloister.primitives import Rng
from cloister.protocols import epochs
from cloister.protocols import record as records
from cloister.protocols import run as runs
from cloister.protocols.agenda import agenda, commit, commit_turn, put_off, run_due
from cloister.protocols.agreement import AGREED, RUN, Agreement, Phase, Run, RunBroken, RunEntry, Turn
from cloister.protocols.context import Party
from cloister.protocols.epochs import (
    EPOCH,
    HEAD,
    ORDER,
    READ_ONLY,
    RECV,
    ROOM,
    SEND,
    SKIP,
    CommitEntry,
    Epoch,
    RoomState,
    current,
    end_run,
    ordered_out,
    room_of,
    runs_of,
)
from cloister.protocols.forms import HASH
from cloister.protocols.interface import (
    Add,
    Behind,
    Change,
    Channel,
    ChannelKind,
    Deliver,
    DeviceId,
    Effects,
    EntryId,
    EntryKind,
    Envelope,
    EpochChanged,
    Fault,
    Leave,
    Me,
    NotReady,
    Post,
    Rekey,
    Remove,
    RoomId,
    RoomPolicy,
    Roster,
    SessionView,
    SetPolicy,
    SignedHead,
    State,
    Wake,
)
from cloister.protocols.items import Draft, Shelf, Stock, stock_of
from cloister.protocols.membership import (
    HELD,
    HERE,
    PARKING,
    SEEN,
    adopt_order,
    give_order,
    judge_order,
    lapsed_members,
    open_run,
    receive_here,
    receive_parked,
    receive_proposal,
    take_order,
)
from cloister.protocols.policy import Right, permits


def _encode_commit(envelope: Envelope) -> bytes:
    return enc(envelope.payload, envelope.seq, envelope.token_hash, envelope.next_token_hash)


def _decode_commit(data: bytes) -> Envelope:
    fields = Fields.decode(data, "waiting commit")
    return Envelope(
        channel=Channel(ChannelKind.ROOM, b""),
        kind=EntryKind.COMMIT,
        payload=fields.octets("payload"),
        seq=fields.uint("seq"),
        token_hash=fields.octets("token hash", HASH),
        next_token_hash=fields.octets_or_none("next token hash", HASH),
    )


WAITING: Shelf[Envelope] = Shelf(b"waiting", _encode_commit, _decode_commit)
"""Run id -> the commit that the room's log showed before the run's log was read so far."""

_SHELVES: Final[dict[bytes, Shelf[Any]]] = {
    shelf.name: shelf
    for shelf in (
        ROOM,
        HEAD,
        EPOCH,
        SEND,
        RECV,
        SKIP,
        ORDER,
        READ_ONLY,
        RUN,
        AGREED,
        SEEN,
        PARKING,
        HERE,
        HELD,
        WAITING,
    )
}
NEWLY_RESTORED: Final = b""
"""Value of READ_ONLY_ITEM as the driver puts it: runs of the backup are not taken up, their secrets may be out."""
RUNS_ENDED: Final = b"\1"
ROOM_ID: Shelf[bytes] = Shelf(b"id", lambda value: value, lambda value: value)


class RoundsSession:
    """A room of a suite with rounds, on one device."""

    def __init__(self, agreement: Agreement, me: Me, room: RoomId, stock: Stock) -> None:
        self._agreement = agreement
        self._me = me
        self._room = room
        self._stock = stock
        self._shelves = shelves_of(agreement)
        self._parties: dict[bytes, Party] = {}
        self._alarm: int | None = None
        self._checked: tuple[int, bytes] | None = None
        self._lapsed: Roster = ()

    @classmethod
    def fresh(
        cls, agreement: Agreement, me: Me, room: RoomId, state: RoomState, now: int, rng: Rng
    ) -> tuple[RoundsSession, Turn]:
        """A session that holds nothing yet, and the turn that makes it; UsageError for a profile without RSA keys."""
        if me.keys.rsa_sign is None or me.keys.rsa_decrypt is None:
            raise UsageError("not_ready", "this profile has no RSA keys")
        session = cls(agreement, me, room, {})
        turn = session._turn(session._draft(), now, rng)
        turn.draft.put(ROOM_ID, b"", room)
        turn.draft.put(ROOM, b"", state)
        return session, turn

    @classmethod
    def restored(cls, agreement: Agreement, me: Me, items: Mapping[bytes, bytes]) -> RoundsSession:
        """The session as its items have it; UnavailableError("damaged")."""
        stock = stock_of(items, shelves_of(agreement))
        room = stock[ROOM_ID.name].get(b"")
        if not isinstance(room, bytes) or b"" not in stock[ROOM.name]:
            raise UsageError("no_room", "no session in these items")
        return cls(agreement, me, room, stock)

    # --- one call -----------------------------------------------------------------------------------------

    def _draft(self) -> Draft:
        return Draft(self._stock, self._shelves)

    def _turn(self, draft: Draft, now: int, rng: Rng) -> Turn:
        return Turn(self._me, self._agreement, self._room, draft, now, rng, self._parties)

    def finish(self, turn: Turn) -> Effects:
        """Make the draft the state; its effects, and the next time to wake where it changed."""
        due = agenda(turn)
        if due and due[0][0] != self._alarm:
            self._alarm = due[0][0]
            turn.draft.emit(Wake(at=self._alarm))
        return turn.draft.apply()

    # --- what surfaces see --------------------------------------------------------------------------------

    @property
    def view(self) -> SessionView:
        """The state for surfaces."""
        return view_of(self._draft(), self._agreement, self._room, self._me.device)

    # --- what a caller asks -------------------------------------------------------------------------------

    def change(self, changes: Sequence[Change], now: int, rng: Rng) -> Effects:
        """Open a run, or give an order and open the run that carries it out; UsageError where that is not allowed."""
        turn = self._turn(self._draft(), now, rng)
        try:
            ask(turn, changes)
        except PeerError as error:
            raise UsageError(error.code, error.detail) from error
        progress(turn)
        return self.finish(turn)

    def answer(self, ask: str, value: bytes, now: int, rng: Rng) -> Effects:
        """`run-refused`: the relay did not open this run."""
        turn = self._turn(self._draft(), now, rng)
        run = turn.draft.get(RUN, value)
        if ask != "run-refused":
            raise UsageError("usage", "nothing was asked")
        if run is None:
            return ()
        end_run(turn, run)
        put_off(turn, run)
        progress(turn)
        return self.finish(turn)

    def wake(self, now: int, rng: Rng) -> Effects:
        """Do what is due, and say when to wake next."""
        self._alarm = None
        turn = self._turn(self._draft(), now, rng)
        if turn.draft.get(READ_ONLY) == NEWLY_RESTORED:
            for run in runs_of(turn.draft):
                end_run(turn, run)
            turn.draft.put(READ_ONLY, b"", RUNS_ENDED)
        run_due(turn)
        if turn.draft.moved:
            progress(turn)
        return self.finish(turn)

    def seal(self, content: bytes, entry_id: EntryId, head: SignedHead | None, now: int, rng: Rng) -> Effects:
        """The stored chain, then the post. NotReady unless the room is READY and all members count in the realm."""
        turn = self._turn(self._draft(), now, rng)
        view = self.view
        epoch = current(turn.draft)
        if view.state is not State.READY or epoch is None:
            raise NotReady(view.state, view.missing)
        lapsed = self._lapsed_members(turn, epoch)
        if lapsed:
            raise NotReady(State.FROZEN, lapsed)
        payload = epochs.seal_entry(turn, epoch, content, kind=EntryKind.APPLICATION, entry_id=entry_id, head=head)
        channel = Channel(ChannelKind.ROOM, self._room)
        turn.draft.emit(Post(channel=channel, kind=EntryKind.APPLICATION, entry_id=entry_id, payload=payload))
        return self.finish(turn)

    def _lapsed_members(self, turn: Turn, epoch: Epoch) -> Roster:
        """As `lapsed_members`, asked once for each size of the realm log and epoch."""
        size = self._me.directory().size
        if self._checked != (size, epoch.th):
            self._checked = (size, epoch.th)
            self._lapsed = lapsed_members(turn, epoch)
        return self._lapsed

    def export(self, label: str, context: bytes, length: int, *, pending: bool = False) -> bytes:
        """A secret of the epoch, or of the agreed run whose commit is awaited; NotReady where there is none."""
        draft = self._draft()
        epoch = current(draft)
        exporter = epoch.exporter if epoch else None
        if pending:
            agreed = [draft.get(AGREED, run.id) for run in runs_of(draft) if run.phase is Phase.EXPECT_COMMIT]
            exporter = agreed[-1].exporter if agreed and agreed[-1] else None
        if exporter is None:
            raise NotReady(State.PENDING)
        return records.export(self._agreement.suite, exporter, label, context, length)

    # --- what comes in ------------------------------------------------------------------------------------

    def receive(self, envelope: Envelope, now: int, rng: Rng) -> Effects:
        """Take an envelope; every refusal is a Fault (or a Need) and leaves the state as it was."""
        turn = self._turn(self._draft(), now, rng)
        try:
            take(turn, envelope)
        except Behind as behind:
            return (behind.need,)
        except RunBroken as error:
            fault = Fault(code=error.code, peer=error.peer, fatal=error.fatal, evidence=error.evidence)
            return self._break(envelope, fault, now, rng) if error.fatal else (fault,)
        except PeerError as error:
            return (Fault(code=error.code, detail=error.detail),)
        return self.finish(turn)

    def _break(self, envelope: Envelope, fault: Fault, now: int, rng: Rng) -> Effects:
        """End the run in which a member broke a rule."""
        turn = self._turn(self._draft(), now, rng)
        run = turn.draft.get(RUN, envelope.channel.id)
        if run is not None:
            end_run(turn, run)
            put_off(turn, run)
        turn.draft.emit(fault)
        progress(turn)
        return self.finish(turn)


def shelves_of(agreement: Agreement) -> dict[bytes, Shelf[Any]]:
    """All shelves of a session of this suite."""
    return {**_SHELVES, ROOM_ID.name: ROOM_ID, **agreement.shelves}


# --- state and progress ------------------------------------------------------------------------------------


def state_of(draft: Draft) -> State:
    """What the session waits for."""
    state, epoch = room_of(draft), current(draft)
    if state.out:
        return State.REMOVED
    if draft.get(READ_ONLY) is not None:
        return State.READ_ONLY
    if epoch is None:
        return State.PENDING if state.tried or runs_of(draft) else State.READ_ONLY
    out = ordered_out(draft) & set(epoch.roster)
    if len(epoch.roster) - len(out) < 2:
        return State.READ_ONLY
    return State.FROZEN if out else State.READY


def view_of(draft: Draft, agreement: Agreement, room: RoomId, me: DeviceId) -> SessionView:
    """The state for surfaces."""
    state, epoch = room_of(draft), current(draft)
    found = runs_of(draft)
    newest = found[-1] if found else None
    if epoch is not None:
        number, roster, key_check = epoch.number, epoch.roster, epoch.key_check
    else:
        number, roster, key_check = 0, newest.proposal.context.roster if newest else (me,), ""
    return SessionView(
        suite=agreement.suite,
        room=room,
        epoch=number,
        roster=roster,
        state=state_of(draft),
        policy=epoch.policy if epoch else state.policy,
        missing=agreement.missing(draft, newest) if newest else (),
        parked=state.parked,
        key_check=key_check,
        joined_at=state.joined_at,
        pending_changes=_pending(draft, newest),
    )


def _pending(draft: Draft, run: Run | None) -> tuple[Change, ...]:
    """What the newest run and the standing orders would change."""
    epoch = current(draft)
    members = set(epoch.roster) if epoch else set()
    removes = [Remove(device) for device in sorted(ordered_out(draft) & members)]
    if run is None:
        return tuple(removes)
    context = run.proposal.context
    adds = [Add(device) for device in run.proposal.change.added]
    policies = [SetPolicy(context.policy)] if epoch and context.policy != epoch.policy else []
    return tuple([*removes, *adds, *policies]) or (Rekey(),)


def progress(turn: Turn, *, token: bytes | None = None) -> None:
    """Tell that the session's state moved."""
    view = view_of(turn.draft, turn.agreement, turn.room, turn.me.device)
    turn.draft.emit(
        EpochChanged(
            epoch=view.epoch,
            roster=view.roster,
            state=view.state,
            missing=view.missing,
            key_check=view.key_check,
            access_token=token,
            parked=view.parked,
        )
    )


# --- changes that are asked for ----------------------------------------------------------------------------


def ask(turn: Turn, changes: Sequence[Change]) -> None:
    """Carry out a caller's wish as far as it is this device's to do. UsageError, or PeerError about a device."""
    draft, epoch, state = turn.draft, current(turn.draft), room_of(turn.draft)
    added = tuple(sorted({change.device for change in changes if isinstance(change, Add)}))
    removed = {change.device for change in changes if isinstance(change, Remove)}
    if any(isinstance(change, Leave) for change in changes):
        removed.add(turn.me.device)
    policies = [change.policy for change in changes if isinstance(change, SetPolicy)]
    policy = policies[-1] if policies else None
    if state.out or (removed and draft.get(READ_ONLY) is not None):
        raise NotReady(state_of(draft))
    base = epoch.roster if epoch else (turn.me.device,)
    if set(added) & set(base) or not removed <= set(base):
        raise UsageError("roster", "add who is out, remove who is in")
    if epoch is None:
        ask_first(turn, added, removed, policy)
        return
    for right in _rights(added, policy, removed):
        if not permits(epoch.policy, epochs.record_of(turn, turn.me.device, epoch.log_size).user, right):
            raise UsageError("not_allowed", f"{right.value} is not for everybody here")
    ask_next(turn, epoch, added, frozenset(removed), policy)


def _rights(added: Roster, policy: RoomPolicy | None, removed: set[DeviceId]) -> list[Right]:
    """The rights, removal apart, that these changes use."""
    rights = [Right.ADD] if added else []
    rights += [Right.SET_POLICY] if policy else []
    return rights if rights or removed else [Right.REKEY]


def ask_first(turn: Turn, added: Roster, removed: set[DeviceId], policy: RoomPolicy | None) -> None:
    """The run that makes the room; a second attempt is a new room, for the first may still be completed."""
    if removed or not added:
        raise UsageError("not_ready", "the room begins when somebody is added")
    state = room_of(turn.draft)
    if state.tried:
        raise UsageError("not_ready", "propose it again as a new room")
    turn.draft.put(ROOM, b"", replace(state, tried=True, policy=policy or state.policy))
    open_run(turn, added=added, policy=policy)


def ask_next(turn: Turn, epoch: Epoch, added: Roster, removed: frozenset[DeviceId], policy: RoomPolicy | None) -> None:
    """A change of a standing epoch: the order at once, the run by whoever stays."""
    mine = [run for run in runs_of(turn.draft) if run.proposal.context.proposer == turn.me.device]
    if removed:
        give_order(turn, epoch, tuple(sorted(removed)))
        _judge_own(turn, epoch)
    elif mine:
        raise NotReady(state_of(turn.draft), turn.agreement.missing(turn.draft, mine[-1]))
    out = ordered_out(turn.draft)
    left = set(epoch.roster) - out | set(added)
    if turn.me.device not in out and len(left) >= 2:
        open_run(turn, added=added, policy=policy)


def _judge_own(turn: Turn, epoch: Epoch) -> None:
    """One's own order meets the rules that others will judge it by, and ends the runs that do not carry it out."""
    for suffix, item in list(turn.draft.all(ORDER)):
        if item.order.author == turn.me.device and item.order.th == epoch.th:
            judge_order(turn, item.order, epoch)
            turn.draft.drop(ORDER, suffix)
            adopt_order(turn, item.order)


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
    entry = RunEntry(message=message, entry_id=envelope.entry_id, seq=envelope.seq, hash=envelope.hash)
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
        _begin(turn, run, CommitEntry.decode(waiting.payload), waiting)
        return
    agreed = turn.draft.get(AGREED, run.id)
    epoch = current(turn.draft)
    if commit_turn(turn, run) == turn.now:
        commit(turn, run)
    progress(turn, token=epochs.token_of(turn, agreed) if epoch is None and agreed else None)


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
        return
    if envelope.kind == EntryKind.HANDSHAKE:
        if opened.epoch.ended_at:
            raise PeerError("stale_epoch", "an order for an epoch that has ended")
        take_order(turn, opened.content, opened.sender, opened.epoch)
        progress(turn)
        return
    turn.draft.emit(
        Deliver(
            sender=opened.sender,
            epoch=opened.epoch.number,
            seq=opened.seq,
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
    if run is None:
        if epoch is None or epoch.token_hash != envelope.token_hash or room_of(turn.draft).out:
            raise PeerError("stale_epoch")
        _shut_out(turn, epoch)
    elif run.phase is not Phase.EXPECT_COMMIT:
        turn.draft.put(WAITING, run.id, envelope)
    else:
        _begin(turn, run, entry, envelope)


def _shut_out(turn: Turn, epoch: Epoch) -> None:
    """The room has gone on without this device: put out by an order, or by a run it had no part in."""
    removed = turn.me.device in ordered_out(turn.draft)
    state = room_of(turn.draft)
    turn.draft.put(ROOM, b"", replace(state, out="removed" if removed else "locked"))
    epochs.end_epochs(turn, epoch.th)
    for run in runs_of(turn.draft):
        end_run(turn, run)
    turn.draft.drop_all(ORDER)
    if not removed:
        turn.draft.emit(Fault(code="locked_out"))
    progress(turn)
    _take_held(turn)


def _begin(turn: Turn, run: Run, entry: CommitEntry, envelope: Envelope) -> None:
    """A commit that counts: the run's epoch stands, orders that it met are done, what waited for it is judged."""
    agreed = epochs.judge_commit(turn, envelope, run, entry)
    epoch = epochs.begin_epoch(turn, run, agreed, envelope)
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
            turn.draft.emit(Fault(code=error.code, detail=error.detail))


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
