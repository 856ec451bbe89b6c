"""Sessions of suite `pair`: what a caller asks, messages, the end of a session, time.

Source: docs/spec/classic/pair.md. What leads to a session stands in `handshake`, what is shown in `view`.

Invariants
- Each call works on a draft; a refusal forgets it, so the state is as it was.
- `terminate` is a sealed record, and the commit without a next epoch in one entry: the other side can never see one
  without the other. Who ended the session erases its receive key when that entry comes back in the log.
- A number that is missing in the other's chain begins a new session; a repeated one is refused.
- An unsealed chat_terminate is a hint that changes nothing (fix F4.4).
Left out: prekeys for rekeys (the room's log is there), the JSON form, users and broadcast (the engine's).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from cloister.errors import PeerError, UsageError
from cloister.primitives import Rng
from cloister.primitives.kdf import sha256
from cloister.protocols.checks import check
from cloister.protocols.interface import (
    Add,
    Behind,
    Change,
    Channel,
    ChannelKind,
    Commit,
    Deliver,
    DeviceId,
    Effects,
    EntryId,
    EntryKind,
    Envelope,
    Fault,
    Leave,
    Me,
    NotReady,
    Post,
    Rekey,
    Remove,
    RoomId,
    SessionView,
    SetPolicy,
    SignedHead,
    State,
    Wake,
)
from cloister.protocols.items import Draft, Stock, stock_of
from cloister.protocols.pair import handshake, items
from cloister.protocols.pair.items import (
    AGREED,
    ASKED,
    EPOCH,
    OFFER,
    READ_ONLY,
    RECV,
    ROOM,
    ROOM_ID,
    SEND,
    SKIP,
    TERMINATE,
    UNPROVEN,
    WANT,
    Place,
    RoomItem,
    Standing,
)
from cloister.protocols.pair.steps import NAME, STORED, Steps
from cloister.protocols.pair.view import SHELVES, Turn, missing, progress, state_of, view_of
from cloister.protocols.record import export

DAY: Final = 24 * 60 * 60_000
LATER: Final = 10 * 60_000
"""How much later (ms) than the requester the other side begins the daily rekey."""
MESSAGES_MOST: Final = 1 << 20
"""Messages of one session, both directions together."""
RESTORED: Final = b"\1"
"""What a restored copy's mark says once nothing of the backup is under way any more."""


class PairSession:
    """See `interface.Session`."""

    def __init__(self, steps: Steps, me: Me, room: RoomId, stock: Stock) -> None:
        self._steps = steps
        self._me = me
        self._room = room
        self._stock = stock
        self._alarm: int | None = None
        self._counted: tuple[int, bool] = (0, True)

    @classmethod
    def fresh(cls, steps: Steps, me: Me, room: RoomId, item: RoomItem, now: int, rng: Rng) -> tuple[PairSession, Turn]:
        """A session that holds nothing yet, and the turn that makes it."""
        session = cls(steps, me, room, {})
        turn = session._turn(now, rng)
        turn.draft.put(ROOM_ID, b"", room)
        turn.draft.put(ROOM, b"", item)
        return session, turn

    @classmethod
    def restored(cls, steps: Steps, me: Me, stored: Mapping[bytes, bytes]) -> PairSession:
        """The session as its items have it; UnavailableError("damaged")."""
        stock = stock_of(stored, SHELVES)
        room = stock[ROOM_ID.name].get(b"")
        if not isinstance(room, bytes) or b"" not in stock[ROOM.name]:
            raise UsageError("no_room", "no session in these items")
        return cls(steps, me, room, stock)

    def _turn(self, now: int, rng: Rng) -> Turn:
        return Turn(self._steps, self._me, self._room, Draft(self._stock, SHELVES), now, rng)

    def finish(self, turn: Turn) -> Effects:
        """Make the draft the state; its effects, and the next time to wake where it changed."""
        agenda = _agenda(turn)
        if agenda and agenda[0][0] != self._alarm:
            self._alarm = agenda[0][0]
            turn.draft.emit(Wake(at=self._alarm))
        return turn.draft.apply()

    @property
    def view(self) -> SessionView:
        """The state for surfaces."""
        draft = Draft(self._stock, SHELVES)
        room = draft.get(ROOM)
        if room is None:
            raise UsageError("no_room", "no session in these items")
        return view_of(draft, room, self._room, self._me.device)

    # --- what a caller asks -------------------------------------------------------------------------------

    def change(self, changes: Sequence[Change], now: int, rng: Rng) -> Effects:
        """Add the one other device, make a new session, or end it; UsageError where that is not possible."""
        turn = self._turn(now, rng)
        if turn.room.out or turn.room.ending:
            raise NotReady(state_of(turn.draft, turn.room))
        try:
            self._change(turn, list(changes))
        except PeerError as error:
            raise UsageError(error.code, error.detail) from error
        progress(turn)
        return self.finish(turn)

    def _change(self, turn: Turn, changes: list[Change]) -> None:
        room = turn.room
        match changes:
            case [Add(device)]:
                self._add(turn, device)
            case [Leave()]:
                _terminate(turn)
            case [Remove(device)] if device and device in (room.peer, self._me.device):
                _terminate(turn)
            case [Rekey()]:
                _rekey(turn)
                handshake.request(turn, room.policy)
            case [SetPolicy(policy)]:
                _rekey(turn)
                handshake.check_rights(turn, self._me.device, policy)
                handshake.request(turn, policy)
            case _:
                raise UsageError("usage", "a room of this suite has exactly two devices")

    def _add(self, turn: Turn, device: DeviceId) -> None:
        if turn.room.peer or device == self._me.device:
            raise UsageError("usage", "a room of this suite has exactly two devices")
        turn.record(self._me.device)
        turn.record(device)
        turn.draft.put(ROOM, b"", replace(turn.room, peer=device))
        handshake.ask_prekey(turn)

    def answer(self, ask: str, value: bytes, now: int, rng: Rng) -> Effects:
        """`accept` (one byte, 1 or 0), `prekeys` (the peer's, or none), `commit-refused` (the entry id)."""
        turn = self._turn(now, rng)
        match ask:
            case "accept":
                handshake.decided(turn, accept=value == b"\1")
            case "prekeys":
                handshake.prekey_came(turn, value)
            case "commit-refused":
                handshake.commit_refused(turn, value)
            case _:
                raise UsageError("usage", f"nothing is asked that {ask} answers")
        if turn.draft.moved:
            progress(turn)
        return self.finish(turn)

    def wake(self, now: int, rng: Rng) -> Effects:
        """Do what is due, and say when to wake next."""
        self._alarm = None
        turn = self._turn(now, rng)
        if turn.draft.get(READ_ONLY) == b"":
            for shelf in (WANT, OFFER, ASKED, AGREED, UNPROVEN):
                turn.draft.drop_all(shelf)
            turn.draft.put(READ_ONLY, b"", RESTORED)
        _work(turn)
        if turn.draft.moved:
            progress(turn)
        return self.finish(turn)

    def seal(self, content: bytes, entry_id: EntryId, head: SignedHead | None, now: int, rng: Rng) -> Effects:
        """The stored chain, then the post. NotReady unless the session stands and the peer counts in the realm."""
        turn = self._turn(now, rng)
        state, standing = state_of(turn.draft, turn.room), turn.standing
        if state is not State.READY or standing is None:
            raise NotReady(state, missing(turn.draft, turn.room, self._me.device))
        if not self._peer_counts(turn):
            raise NotReady(State.FROZEN, (turn.room.peer,))
        place = Place(room=self._room, kind=EntryKind.APPLICATION, entry_id=entry_id)
        payload = _sealed(turn, standing, items.type_of(content), content, place, head)
        channel = Channel(ChannelKind.ROOM, self._room)
        turn.draft.emit(Post(channel=channel, kind=EntryKind.APPLICATION, entry_id=entry_id, payload=payload))
        return self.finish(turn)

    def _peer_counts(self, turn: Turn) -> bool:
        """Whether the realm counts the peer, asked once for each size of its log."""
        size = self._me.directory().size
        if self._counted[0] != size:
            try:
                turn.record(turn.room.peer)
                self._counted = (size, True)
            except PeerError:
                self._counted = (size, False)
        return self._counted[1]

    def export(self, label: str, context: bytes, length: int, *, pending: bool = False) -> bytes:
        """A secret of the session, or of the agreed one whose commit is awaited; NotReady where there is none."""
        draft = Draft(self._stock, SHELVES)
        standing = draft.get(EPOCH)
        exporter = standing.exporter if standing else None
        if pending:
            agreed = [each.keys.exporter for _, each in draft.all(AGREED)]
            exporter = agreed[-1] if agreed else None
        if exporter is None:
            raise NotReady(State.PENDING)
        return export(NAME, exporter, label, context, length)

    # --- what comes in ------------------------------------------------------------------------------------

    def receive(self, envelope: Envelope, now: int, rng: Rng) -> Effects:
        """Take an envelope; every refusal is a Fault (or a Need) and leaves the state as it was."""
        turn = self._turn(now, rng)
        try:
            _take(turn, envelope)
        except Behind as behind:
            return (behind.need,)
        except PeerError as error:
            return (Fault(code=error.code, detail=error.detail, check=error.check),)
        return self.finish(turn)


def _rekey(turn: Turn) -> None:
    """NotReady unless a session stands and no other is being made."""
    if turn.standing is None or turn.draft.get(OFFER) is not None:
        raise NotReady(state_of(turn.draft, turn.room), missing(turn.draft, turn.room, turn.me.device))


# --- messages and the end ----------------------------------------------------------------------------------


def _sealed(turn: Turn, standing: Standing, what: str, content: bytes, place: Place, head: SignedHead | None) -> bytes:
    """A sealed entry of the room's log; the draft holds the chain after it. A backup's chain may have been used."""
    chain = turn.draft.get(SEND)
    if chain is None or turn.draft.get(READ_ONLY) is not None:
        raise NotReady(state_of(turn.draft, turn.room))
    payload, following = items.seal(standing, chain, what, content, place, head)
    turn.draft.put(SEND, b"", following)
    return payload


def _terminate(turn: Turn) -> None:
    """End the session: a sealed record that closes the epoch. What never stood is given up at once."""
    standing = turn.standing
    if standing is None:
        turn.draft.put(ROOM, b"", replace(turn.room, out="ended"))
        handshake.erase(turn)
        return
    entry_id = turn.rng(16)
    place = Place(room=turn.room_id, kind=EntryKind.COMMIT, entry_id=entry_id)
    payload = _sealed(turn, standing, TERMINATE, b"", place, None)
    turn.draft.put(ROOM, b"", replace(turn.room, ending=entry_id))
    turn.draft.emit(
        Commit(
            room=turn.room_id,
            expects=sha256(standing.token(turn.room_id)),
            entry_id=entry_id,
            payload=payload,
            next_token_hash=None,
        )
    )


def _take(turn: Turn, envelope: Envelope) -> None:
    """To whom the envelope belongs."""
    before = turn.standing.sid if turn.standing else b""
    if turn.room.out:
        check_not_over(envelope)
    elif envelope.channel.kind is ChannelKind.MAILBOX:
        _mail(turn, envelope)
    elif envelope.channel != Channel(ChannelKind.ROOM, turn.room_id):
        raise PeerError("misrouted", "this suite has no other log")
    elif envelope.kind in (EntryKind.CREATE, EntryKind.COMMIT) and envelope.next_token_hash is not None:
        handshake.committed(turn, envelope)
        if turn.room.ending and turn.standing is not None and turn.standing.sid != before:
            _terminate(turn)  # the other's new session came first; the wish to end stands
    elif envelope.kind in (EntryKind.COMMIT, EntryKind.APPLICATION):
        _record(turn, envelope)
    else:
        raise PeerError("unsupported", "an entry of another kind")


@check("PAI-25")
def check_not_over(envelope: Envelope) -> None:
    """PeerError("no_session") for what wants to go on with a room that is over; what was under way is passed over."""
    if envelope.kind in ("chat_request", EntryKind.APPLICATION):
        raise PeerError("no_session", "this room is over", check="PAI-25")


def _mail(turn: Turn, envelope: Envelope) -> None:
    match envelope.kind:
        case "chat_request":
            handshake.asked(turn, envelope)
        case "chat_response":
            handshake.responded(turn, envelope)
        case "chat_confirm":
            handshake.confirmed(turn, envelope)
        case "chat_terminate":
            if turn.steps.ends_by_hint():
                _ended(turn)
        case _:
            raise PeerError("unsupported", "a mailbox item of another kind")


def _ended(turn: Turn) -> None:
    """The session is over: both sides erase it."""
    turn.draft.put(ROOM, b"", replace(turn.room, out="ended"))
    handshake.erase(turn)
    progress(turn)


def _record(turn: Turn, envelope: Envelope) -> None:
    """A message, or the record that ends the session; one's own come back and give nothing but that end."""
    standing = turn.standing
    if standing is None:
        raise PeerError("stale_epoch", "no session stands here")
    items.check_follows(envelope.token_hash, sha256(standing.token(turn.room_id)))
    place = Place(room=turn.room_id, kind=envelope.kind, entry_id=envelope.entry_id)
    record = items.unwrap(standing, envelope.payload, place)
    if record.side == standing.side:
        if envelope.kind == EntryKind.COMMIT:  # one of the two has closed the room, whoever it says it is
            _ended(turn)
        else:
            items.check_own_number(record, turn.draft.get(SEND))
        return
    chain = turn.draft.get(RECV)
    if chain is None:
        raise PeerError("damaged", "a session without its chain")
    what, content, moved = items.open_record(standing, record, chain, turn.draft.get(SKIP, _skip(record.n)), place)
    if what == TERMINATE:
        _ended(turn)
        return
    turn.draft.put(RECV, b"", moved.chain)
    for number, key in moved.kept:
        turn.draft.put(SKIP, _skip(number), key)
    for number in moved.spent:
        turn.draft.drop(SKIP, _skip(number))
    sender = standing.ids[record.side].device
    turn.draft.emit(
        Deliver(
            sender=sender,
            epoch=standing.number,
            seq=record.n,
            entry_id=envelope.entry_id,
            content=content,
            head=record.head,
        )
    )
    if record.n > chain.seq:
        _gap(turn, sender)


def _gap(turn: Turn, sender: DeviceId) -> None:
    """Messages are missing before this one: say so, and make a new session unless one is under way."""
    turn.draft.emit(Fault(code="gap", peer=sender, detail="messages are missing before this one"))
    under_way = turn.draft.get(OFFER) is not None or next(turn.draft.all(AGREED), None) is not None
    if not under_way and turn.draft.get(READ_ONLY) is None and not turn.room.ending:
        handshake.try_request(turn, turn.room.policy)


def _skip(number: int) -> bytes:
    return number.to_bytes(8, "big")


# --- time --------------------------------------------------------------------------------------------------


def _agenda(turn: Turn) -> list[tuple[int, str]]:
    """What is to be done when (ms), the first first."""
    draft, room, standing = turn.draft, turn.room, turn.standing
    if room.out or room.ending or draft.get(READ_ONLY) is not None:
        return []
    want, offer, found = draft.get(WANT), draft.get(OFFER), []
    if want is not None:
        found.append((want, "want"))
    if offer is not None:
        found.append((offer.request.ts + STORED, "offer"))
    waiting = [each.request.ts + STORED for _, each in draft.all(AGREED)]
    if waiting:
        found.append((min(waiting), "agreed"))
    elif standing is not None and offer is None:
        send, recv = draft.get(SEND), draft.get(RECV)
        used = (send.seq if send else 0) + (recv.seq if recv else 0)
        late = standing.began + DAY + standing.side * LATER
        found.append((standing.began if used >= MESSAGES_MOST else late, "rekey"))
    return sorted(found)


def _work(turn: Turn) -> None:
    """Do what is due."""
    for at, what in _agenda(turn):
        if at > turn.now:
            continue
        if what == "want":
            handshake.ask_prekey(turn)
            continue
        if what == "agreed":
            handshake.forget_agreed(turn)
            continue
        if what == "offer":
            turn.draft.emit(Fault(code="timeout", peer=turn.room.peer, detail="the request was not answered"))
        handshake.try_request(turn, turn.room.policy)
