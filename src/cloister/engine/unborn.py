"""Rooms that somebody has invited this device into and that have not begun: how many, for how long, what gives way.

Source: docs/spec/suites.md ("Rooms that never begin"). An invitation makes a room here at once, for its session must
answer; nothing but the inviter's word stands behind it until the room's log has shown an epoch.

Invariants
- A room has not begun while it came by an invitation and has no epoch, or no entry of its log was seen.
- At most PER_INVITER such rooms without an epoch of one user's invitations, UNSEEN_MOST in all; the next invitation is
  refused (`quota`).
- Such a room is forgotten when its last run has ended, and after KEEP in any case.
- Nobody holds a room's id by an invitation alone: what was never agreed gives way to an acceptable invitation of
  another suite, and so does a room that the relay does not know.
Left out: what a room's own session bounds (runs, held proposals).
"""

from __future__ import annotations

from typing import Final

from cloister.engine.logs import forget
from cloister.engine.room import Room
from cloister.engine.rooms import Rooms, user_uri
from cloister.engine.unit import Unit
from cloister.errors import PeerError
from cloister.wire import limits

PER_INVITER: Final = 16
"""Rooms of one user's invitations that have no epoch."""
UNSEEN_MOST: Final = limits.USER_ROOMS.value
"""With those that were entered at once (suite `mls`) and whose log was not seen yet: who was away reads them later."""
KEEP: Final = limits.MAILBOX_LIFE.value
"""How long (ms) such a room is kept."""
UNKNOWN_AFTER: Final = 3
"""Times that the relay has refused all the room's tokens in a row: it does not know the room."""


def unborn(room: Room) -> bool:
    """Whether the room came by an invitation and has not begun."""
    return bool(room.inviter) and (room.session.view.epoch == 0 or room.log.chain.seq == 0)


def gives_way(room: Room) -> bool:
    """Whether another suite's invitation may take the room's place."""
    never_agreed = room.session.view.epoch == 0 and not room.entering
    unknown = room.log.chain.seq == 0 and room.log.tries >= UNKNOWN_AFTER
    return unborn(room) and (never_agreed or unknown)


class Unborn:
    """Looks after the rooms that have not begun; `dropped` are those that were forgotten and not told of yet."""

    def __init__(self, rooms: Rooms) -> None:
        self.dropped: list[Room] = []
        self._rooms = rooms

    def check_few(self, inviter: str) -> None:
        """PeerError("quota") when the user of this device has too many rooms here that have not begun."""
        user = user_uri(inviter)
        theirs = [room for room in self._rooms.rooms.values() if room.inviter == user and unborn(room)]
        without_epoch = sum(room.session.view.epoch == 0 for room in theirs)
        if without_epoch >= PER_INVITER or len(theirs) >= UNSEEN_MOST:
            raise PeerError("quota", "too many rooms of one inviter that have not begun")

    def drop_ended(self, unit: Unit) -> None:
        """Forget the rooms whose last run has ended before they began."""
        ended, self._rooms.ended = self._rooms.ended, set()
        for room_id in ended - {run.room for run in self._rooms.runs.values()}:
            room = self._rooms.rooms.get(room_id)
            if room is not None and unborn(room):
                self.drop(unit, room)

    def drop_outdated(self, unit: Unit) -> None:
        """Forget the rooms that have not begun in time."""
        for room in list(self._rooms.rooms.values()):
            if unborn(room) and room.opened_at + KEEP < unit.now:
                self.drop(unit, room)

    def drop(self, unit: Unit, room: Room) -> None:
        """Forget a room with everything that is kept for it."""
        rooms = self._rooms
        for run in [run for run in rooms.runs.values() if run.room == room.id]:
            rooms.unfollow(unit, run.id)
        rooms.outbox.give_up(unit, room.id)
        rooms.prekeys.forget(room.id)
        forget(unit, room.id)
        for table in ("item", "intent", "room"):
            unit.drop_all(table, room.id)
        del rooms.rooms[room.id]
        self.dropped.append(room)
