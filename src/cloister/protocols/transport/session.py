"""A room of suite `transport` on one device: what its owner asks for, and what time brings.

Source: docs/spec/classic/transport.md; `reading` is what it does with envelopes.

A change is one commit (I0) with an invitation (I1) for every other member, stored by the relay together or not at all;
who makes it holds the inviter's role. Whoever asks to leave, or is out of the realm, goes with every commit.

    change   one's own commit, kept as an invitation to oneself until it comes back in the log
    answer   `commit-refused` (its entry id): the relay has not stored it and will not
    wake     a rekey after REKEY_AFTER or REKEY_MESSAGES, leaves carried out, who has not acknowledged, forgetting

Invariants
- Each call works on a draft; a refusal forgets it, so the state is as it was.
- A fatal fault is a commit that its own maker has spoilt: the room has gone on, this device is locked out of it.
- Time alone changes nothing: what is due happens in `wake`, each holder of the role k minutes after the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from cloister.errors import PeerError, UsageError
from cloister.primitives import Rng
from cloister.protocols import record as records
from cloister.protocols.interface import (
    Behind,
    Change,
    Effects,
    EntryId,
    EntryKind,
    Envelope,
    Fault,
    Leave,
    Me,
    NotReady,
    RoomId,
    RoomPolicy,
    Roster,
    SessionView,
    SignedHead,
    State,
    Wake,
)
from cloister.protocols.items import Draft, Stock, stock_of
from cloister.protocols.policy import Right, permits
from cloister.protocols.rounds import epochs
from cloister.protocols.rounds.agreement import RunBroken, fault_of
from cloister.protocols.rounds.commits import drop_epoch
from cloister.protocols.rounds.epochs import EPOCH, READ_ON, READ_ONLY, ROOM, Epoch, RoomState, current, room_of
from cloister.protocols.rounds.membership import TURN_APART, Lapsed
from cloister.protocols.rounds.run import DAY, HOUR, MINUTE
from cloister.protocols.transport.inviting import invite, leave, pending, rank, require_rights, wish
from cloister.protocols.transport.items import (
    INVITE,
    LEAVING,
    REST,
    ROOM_ID,
    SEEN,
    SHELVES,
    STANDING,
    TOLD,
    WAITING,
    Turn,
    leaving,
    own_commit,
    place_of,
    state_of,
    unconfirmed,
)
from cloister.protocols.transport.reading import SEEN_FOR, forget_ended, holds_role, lock_out, progress, take
from cloister.protocols.transport.steps import NAME, Steps

REKEY_AFTER: Final = 7 * DAY
REKEY_MESSAGES: Final = 10_000
LOST: Final = 10 * MINUTE
"""How long (ms) a commit waits for its invitation before the device counts as locked out."""

Action = Callable[[Turn], None]


class TransportSession:
    """See `interface.Session`; `variant` is that of a room which begins here."""

    def __init__(self, agreement: Steps, variant: str, me: Me, room: RoomId, stock: Stock) -> None:
        self._agreement = agreement
        self._variant = variant
        self._me = me
        self._room = room
        self._stock = stock
        self._alarm: int | None = None
        self._lapsed = Lapsed()

    @classmethod
    def fresh(
        cls, agreement: Steps, variant: str, me: Me, room: RoomId, policy: RoomPolicy, now: int, rng: Rng
    ) -> tuple[TransportSession, Turn]:
        """A session that holds nothing yet, and the turn that makes it; UsageError for a profile without RSA keys."""
        if me.keys.rsa_sign is None or me.keys.rsa_decrypt is None:
            raise UsageError("not_ready", "this profile has no RSA keys")
        session = cls(agreement, variant, me, room, {})
        turn = session.turn(now, rng)
        turn.draft.put(ROOM_ID, b"", room)
        turn.draft.put(ROOM, b"", RoomState(policy=policy))
        return session, turn

    @classmethod
    def restored(cls, agreement: Steps, variant: str, me: Me, items: Mapping[bytes, bytes]) -> TransportSession:
        """The session as its items have it; UnavailableError("damaged")."""
        stock = stock_of(items, SHELVES)
        room = stock[ROOM_ID.name].get(b"")
        if not isinstance(room, bytes) or b"" not in stock[ROOM.name]:
            raise UsageError("no_room", "no session in these items")
        return cls(agreement, variant, me, room, stock)

    # --- one call -----------------------------------------------------------------------------------------

    def _draft(self) -> Draft:
        return Draft(self._stock, SHELVES)

    def turn(self, now: int, rng: Rng) -> Turn:
        """What one call works with."""
        return Turn(self._me, self._agreement, self._room, self._draft(), now, rng)

    def finish(self, turn: Turn) -> Effects:
        """Make the draft the state; its effects, and the next time to wake where it changed."""
        due = self._agenda(turn)
        if due and due[0][0] != self._alarm:
            self._alarm = due[0][0]
            turn.draft.emit(Wake(at=self._alarm))
        return turn.draft.apply()

    # --- what surfaces see --------------------------------------------------------------------------------

    @property
    def view(self) -> SessionView:
        """The state for surfaces; `missing` have not acknowledged the key yet."""
        draft = self._draft()
        room, epoch, own = room_of(draft), current(draft), own_commit(draft)
        context = None if own is None else own.to
        roster = context.roster if context is not None else (self._me.device,)
        if epoch is not None:
            missing = unconfirmed(draft, self._agreement, epoch)
        else:
            missing = tuple(device for device in roster if device != self._me.device)
        return SessionView(
            suite=NAME,
            room=self._room,
            epoch=epoch.number if epoch else 0,
            roster=epoch.roster if epoch else roster,
            state=state_of(draft, self._agreement),
            policy=epoch.policy if epoch else room.policy,
            missing=missing,
            awaits="acknowledgements" if missing else "",
            confirmed=tuple(device for device in epoch.roster if device not in missing) if epoch else (),
            key_check=epoch.key_check if epoch else "",
            joined_at=room.joined_at,
            pending_changes=pending(draft, epoch, context),
        )

    # --- what a caller asks -------------------------------------------------------------------------------

    def change(self, changes: Sequence[Change], now: int, rng: Rng) -> Effects:
        """One commit for all changes, or a request to be taken out; UsageError where that is not allowed."""
        turn = self.turn(now, rng)
        state, epoch = state_of(turn.draft, self._agreement), current(turn.draft)
        if room_of(turn.draft).out or state is State.PENDING or own_commit(turn.draft) is not None:
            raise NotReady(state)
        try:
            if any(isinstance(change, Leave) for change in changes):
                leave(turn, epoch, changes)
            else:
                added, removed, policy = wish(turn, epoch, changes)
                require_rights(turn, epoch, added, removed, policy)
                invite(turn, self._variant, added, removed, policy)
        except PeerError as error:
            raise UsageError(error.code, error.detail) from error
        return self.finish(turn)

    def answer(self, ask: str, value: bytes, now: int, rng: Rng) -> Effects:
        """`commit-refused`: the relay has not stored this device's commit, and will not."""
        if ask != "commit-refused":
            raise UsageError("usage", "nothing was asked")
        turn = self.turn(now, rng)
        own = own_commit(turn.draft)
        if own is None or own.entry_id != value:
            return ()
        turn.draft.drop(INVITE, place_of(own.invite.token.terms))
        progress(turn)
        return self.finish(turn)

    def seal(self, content: bytes, entry_id: EntryId, head: SignedHead | None, now: int, rng: Rng) -> Effects:
        """The stored chain, then the post. NotReady unless the room is READY and all members count in the realm."""
        turn = self.turn(now, rng)
        state, epoch = state_of(turn.draft, self._agreement), current(turn.draft)
        if state is not State.READY or epoch is None:
            raise NotReady(state, unconfirmed(turn.draft, self._agreement, epoch) if epoch else ())
        gone = self._lapsed.members(turn, epoch)
        if gone:
            raise NotReady(State.FROZEN, gone)
        epochs.post_entry(turn, epoch, content, kind=EntryKind.APPLICATION, entry_id=entry_id, head=head)
        return self.finish(turn)

    def export(self, label: str, context: bytes, length: int, *, pending: bool = False) -> bytes:
        """A secret of the standing epoch; of a pending one none is at hand before its commit was read (NotReady)."""
        epoch = current(self._draft())
        if epoch is None or pending:
            raise NotReady(State.PENDING)
        return records.export(NAME, epoch.exporter, label, context, length)

    # --- what comes in ------------------------------------------------------------------------------------

    def receive(self, envelope: Envelope, now: int, rng: Rng) -> Effects:
        """Take an envelope; every refusal is a Fault (or a Need) and leaves the state as it was."""
        turn = self.turn(now, rng)
        try:
            take(turn, envelope)
        except Behind as behind:
            return (behind.need,)
        except RunBroken as error:
            return self._broken(error, now, rng) if error.fatal else (fault_of(self._agreement.refusal(error)),)
        except PeerError as error:
            return (fault_of(self._agreement.refusal(error)),)
        return self.finish(turn)

    def _broken(self, error: RunBroken, now: int, rng: Rng) -> Effects:
        """A commit that its maker has spoilt: its invitation is void, and a member cannot follow the room any more."""
        turn = self.turn(now, rng)
        for place, held in list(turn.draft.all(INVITE)):
            if held.invite.token.terms.inviter == error.peer:
                turn.draft.drop(INVITE, place)
        epoch = current(turn.draft)
        turn.draft.emit(fault_of(error))
        if epoch is not None and not room_of(turn.draft).out:
            turn.draft.drop(WAITING)
            lock_out(turn, epoch)
        else:
            progress(turn)
        return self.finish(turn)

    # --- time ---------------------------------------------------------------------------------------------

    def wake(self, now: int, rng: Rng) -> Effects:
        """Do what is due, and say when to wake next."""
        self._alarm = None
        turn = self.turn(now, rng)
        if turn.draft.get(READ_ONLY) == b"":
            # What a backup was about to enter it may have entered before, and have sealed in: not taken up again.
            turn.draft.drop_all(INVITE)
            turn.draft.drop(WAITING)
            turn.draft.put(READ_ONLY, b"", now.to_bytes(8, "big"))
        while True:
            due = [action for at, action in self._agenda(turn) if at <= now]
            if not due:
                break
            due[0](turn)
        if turn.draft.moved:
            progress(turn)
        return self.finish(turn)

    def _agenda(self, turn: Turn) -> list[tuple[int, Action]]:
        """All that time will bring, as (ms, action), the earliest first."""
        found: list[tuple[int, Action]] = [
            (epoch.ended_at + READ_ON, _forget(th)) for th, epoch in turn.draft.all(EPOCH) if epoch.ended_at
        ]
        found += [(until, _unsee(name)) for name, until in turn.draft.all(SEEN)]
        found += [(held.at + SEEN_FOR, _void(name)) for name, held in turn.draft.all(INVITE) if not held.entry_id]
        epoch, waiting = current(turn.draft), turn.draft.get(WAITING)
        if epoch is not None and not room_of(turn.draft).out:
            if waiting is not None:
                found.append((waiting.at + LOST, _lost(epoch)))
            else:
                found += self._of_epoch(turn, epoch)
        return sorted(found, key=lambda item: item[0])

    def _of_epoch(self, turn: Turn, epoch: Epoch) -> list[tuple[int, Action]]:
        """Who has not acknowledged in time is told by the inviter; whoever holds the role renews the key."""
        draft, me = turn.draft, self._me.device
        found: list[tuple[int, Action]] = []
        standing = draft.get(STANDING, epoch.th)
        if standing is not None and standing.inviter == me and draft.get(TOLD, epoch.th) is None:
            silent = unconfirmed(draft, self._agreement, epoch)
            if silent:
                found.append((standing.deadline, _tell(epoch, silent)))
        if own_commit(draft) is not None or draft.get(READ_ONLY) is not None:
            return found
        out = leaving(draft)
        user = epochs.record_of(turn, me, epoch.log_size).user
        if me in out or not holds_role(turn, epoch, user, out) or not permits(epoch.policy, user, Right.REKEY):
            return found
        wait = TURN_APART * rank(turn, epoch, out)
        full = epochs.messages(draft, epoch) >= REKEY_MESSAGES
        times = [turn.now if full else epoch.began_at + REKEY_AFTER + wait]
        times += [since + wait for device, since in draft.all(LEAVING) if device.decode() in epoch.roster]
        return [*found, (max(min(times), draft.get(REST) or 0), self._renew)]

    def _renew(self, turn: Turn) -> None:
        """A commit without a change of its own; when it cannot be made, it rests for an hour."""
        try:
            invite(turn, self._variant, (), frozenset(), None)
        except (UsageError, PeerError) as error:
            turn.draft.put(REST, b"", turn.now + HOUR)
            turn.draft.emit(Fault(code=error.code, detail=error.detail))


def _forget(th: bytes) -> Action:
    def act(turn: Turn) -> None:
        drop_epoch(turn.draft, th)
        forget_ended(turn)

    return act


def _unsee(invite_id: bytes) -> Action:
    return lambda turn: turn.draft.drop(SEEN, invite_id)


def _void(place: bytes) -> Action:
    return lambda turn: turn.draft.drop(INVITE, place)


def _lost(epoch: Epoch) -> Action:
    return lambda turn: lock_out(turn, epoch)


def _tell(epoch: Epoch, silent: Roster) -> Action:
    def act(turn: Turn) -> None:
        turn.draft.put(TOLD, epoch.th, turn.now)
        turn.draft.emit(Fault(code="not_confirmed", detail=", ".join(silent)))

    return act
