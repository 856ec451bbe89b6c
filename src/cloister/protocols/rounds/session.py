"""Sessions of the suites that agree in rounds (`nonces`, `shares`): the interface over items, epochs and membership.

Source: docs/spec/suites.md; docs/walkthroughs.md shows the six walks through this file.

What a session waits for follows from its items (`State`): PENDING no epoch yet, READY, FROZEN an order stands,
READ_ONLY fewer than two members or restored from a backup, REMOVED out of the room.

Invariants
- Each call works on a draft; a refusal forgets it, so the state is as it was. A fatal fault ends its run, nothing else.
- A commit that the room's log shows before the run's log has been read that far waits for it; `finish` looks after it.
- One's own records and messages come back in the logs; they give no effect but their place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from cloister.errors import PeerError, UsageError
from cloister.primitives import Rng
from cloister.protocols import record as records
from cloister.protocols.context import Party
from cloister.protocols.interface import (
    Behind,
    Change,
    Effects,
    EntryId,
    EntryKind,
    Envelope,
    Fault,
    Me,
    NotReady,
    RoomId,
    SessionView,
    SignedHead,
    State,
    Wake,
)
from cloister.protocols.items import Draft, Shelf, Stock, stock_of
from cloister.protocols.rounds import epochs
from cloister.protocols.rounds.agenda import agenda, put_off, run_due
from cloister.protocols.rounds.agreement import AGREED, RUN, Agreement, Phase, RunBroken, Turn, fault_of
from cloister.protocols.rounds.commits import WAITING, end_run
from cloister.protocols.rounds.epochs import (
    EPOCH,
    HEAD,
    ORDER,
    READ_ONLY,
    RECV,
    ROOM,
    SEND,
    SKIP,
    RoomState,
    current,
    runs_of,
)
from cloister.protocols.rounds.membership import (
    HELD,
    HERE,
    PARKING,
    SEEN,
    Lapsed,
    ask,
)
from cloister.protocols.rounds.taking import NEWLY_RESTORED, judge_waiting, take
from cloister.protocols.rounds.view import progress, view_of

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
        self._lapsed = Lapsed()
        self._view: SessionView | None = None  # what the items show; forgotten when they change

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
        judge_waiting(turn)
        due = agenda(turn)
        if due and due[0][0] != self._alarm:
            self._alarm = due[0][0]
            turn.draft.emit(Wake(at=self._alarm))
        self._view = None
        return turn.draft.apply()

    # --- what surfaces see --------------------------------------------------------------------------------

    @property
    def view(self) -> SessionView:
        """The state for surfaces."""
        if self._view is None:
            self._view = view_of(self._draft(), self._agreement, self._room, self._me.device)
        return self._view

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
        if next(turn.draft.all(WAITING), None) is not None:  # the log shows that this epoch has ended
            raise NotReady(State.FROZEN, view.missing)
        lapsed = self._lapsed.members(turn, epoch)
        if lapsed:
            raise NotReady(State.FROZEN, lapsed)
        epochs.post_entry(turn, epoch, content, kind=EntryKind.APPLICATION, entry_id=entry_id, head=head)
        return self.finish(turn)

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
            fault = fault_of(error)
            return self._break(envelope, fault, now, rng) if error.fatal else (fault,)
        except PeerError as error:
            return (fault_of(error),)
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
