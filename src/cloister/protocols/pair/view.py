"""One call of a session of suite `pair`, and what a session shows of itself.

Source: docs/spec/classic/pair.md ("A session's life"). The state follows from the items and is stored nowhere:

    PENDING    asked for and not agreed, or (missing: this device) a request waits for this person
    READY      the session stands; `missing` is who has not proven itself yet (a session by prekey)
    FROZEN     this device has ended it, and waits to see that in the log
    READ_ONLY  nobody was added yet, or restored from a backup
    REMOVED    ended, or declined
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from cloister.errors import UsageError
from cloister.identity.realm import DeviceRecord
from cloister.primitives import Rng
from cloister.protocols.interface import (
    Add,
    Change,
    DeviceId,
    Me,
    Rekey,
    Remove,
    RoomId,
    SessionView,
    State,
)
from cloister.protocols.items import Draft, Shelf
from cloister.protocols.pair.items import (
    AGREED,
    ASKED,
    EPOCH,
    OFFER,
    READ_ONLY,
    RECV,
    ROOM,
    ROOM_ID,
    SEEN,
    SEND,
    SKIP,
    UNPROVEN,
    WANT,
    RoomItem,
    Standing,
)
from cloister.protocols.pair.steps import NAME, REQUESTER, Steps

SHELVES: Final[dict[bytes, Shelf[Any]]] = {
    shelf.name: shelf
    for shelf in (ROOM_ID, ROOM, EPOCH, SEND, RECV, SKIP, WANT, OFFER, ASKED, AGREED, UNPROVEN, SEEN, READ_ONLY)
}


@dataclass(frozen=True, slots=True)
class Turn:
    """One call: whose it is, the draft it works on, the time (ms), the dice."""

    steps: Steps
    me: Me
    room_id: RoomId
    draft: Draft
    now: int
    rng: Rng

    @property
    def room(self) -> RoomItem:
        """The room's own item, which every session has."""
        room = self.draft.get(ROOM)
        if room is None:
            raise UsageError("no_room", "no session in these items")
        return room

    @property
    def standing(self) -> Standing | None:
        """The session that stands."""
        return self.draft.get(EPOCH)

    def record(self, device: DeviceId) -> DeviceRecord:
        """The device as the newest realm log has it; PeerError when it does not count."""
        directory = self.me.directory()
        return directory.device(device, directory.size)


def state_of(draft: Draft, room: RoomItem) -> State:
    """What the session waits for."""
    if room.out:
        return State.REMOVED
    if draft.get(READ_ONLY) is not None:
        return State.READ_ONLY
    if draft.get(EPOCH) is None:
        return State.PENDING if room.peer else State.READ_ONLY
    return State.FROZEN if room.ending else State.READY


def missing(draft: Draft, room: RoomItem, me: DeviceId) -> tuple[DeviceId, ...]:
    """Who has not answered: this person, or the other device."""
    if room.out or not room.peer:
        return ()
    if draft.get(ASKED) is not None:
        return (me,)
    return (room.peer,) if draft.get(EPOCH) is None or draft.get(UNPROVEN) is not None else ()


def awaits(draft: Draft, room: RoomItem) -> str:
    """What the peer owes to an own request: its `response`; `prekey` while none was sent, for the relay is asked."""
    if room.out or not room.peer:
        return ""
    if draft.get(WANT) is not None:
        return "prekey"
    asked = any(each.side == REQUESTER and not each.proven for _, each in draft.all(AGREED))
    return "response" if asked or draft.get(OFFER) is not None or draft.get(UNPROVEN) is not None else ""


def view_of(draft: Draft, room: RoomItem, room_id: RoomId, me: DeviceId) -> SessionView:
    """The state for surfaces."""
    standing = draft.get(EPOCH)
    both = tuple(sorted({me, room.peer})) if room.peer else (me,)
    return SessionView(
        suite=NAME,
        room=room_id,
        epoch=standing.number if standing else 0,
        roster=standing.roster if standing else both,
        state=state_of(draft, room),
        policy=room.policy,
        missing=missing(draft, room, me),
        awaits=awaits(draft, room),
        key_check=standing.key_check if standing else "",
        pending_changes=_pending(draft, room),
    )


def _pending(draft: Draft, room: RoomItem) -> tuple[Change, ...]:
    if room.out or not room.peer:
        return ()
    if draft.get(EPOCH) is None:
        return (Add(room.peer),)
    if room.ending:
        return (Remove(room.peer),)
    under_way = draft.get(OFFER) is not None or next(draft.all(AGREED), None) is not None
    return (Rekey(),) if under_way else ()


def progress(turn: Turn, *, token: bytes | None = None, began_by: int = 0) -> None:
    """Tell that the session's state moved."""
    turn.draft.tell(view_of(turn.draft, turn.room, turn.room_id, turn.me.device), token=token, began_by=began_by)
