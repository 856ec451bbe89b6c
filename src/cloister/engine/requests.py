"""Invitations that a person answers: who asks, whether this profile says yes by itself, and the answer.

Source: docs/spec/classic/pair.md ("Accept or decline"). Suites whose `caps.user_gate` is "accept" ask before a first
session. What a profile does unless its person has chosen otherwise: where an authority vouches for everybody it says
yes, for whoever asks came by somebody's invite; where anybody may register a name (authority mode `none`) it asks.
Two who ask each other at the same moment have both said yes, and have two rooms: the one with the greater id gives way.

Invariants
- Whether an answer is awaited follows from the session's state and is stored nowhere.
- The choice is kept per profile; it changes nothing about keys: a yes is not a verification.
- A room gives way by being ended like any other, by the device that made it, when both stand and all that was to be
  said in it here has come back in its log: nothing that was accepted is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cloister.engine.account import Account
from cloister.engine.realm_log import RealmLog
from cloister.engine.room import Room
from cloister.engine.rooms import Rooms
from cloister.engine.unit import Unit
from cloister.engine.values import Invited
from cloister.identity.credential import parse_device_id
from cloister.protocols.interface import DeviceId, Leave, State, Suite

_CHOICE: Final = b"chat requests"


@dataclass(slots=True)
class Requests:
    """The profile's choice, and who asks."""

    account: Account
    realm: RealmLog
    rooms: Rooms

    def accepts(self, unit: Unit) -> bool:
        """Whether a request is accepted without asking the person."""
        chosen = unit.get("meta", _CHOICE)
        return self.by_default if chosen is None else chosen == b"accept"

    @property
    def by_default(self) -> bool:
        """What counts while the person has chosen nothing: yes where an authority certifies everybody."""
        return self.realm.state().certifies

    def choose(self, unit: Unit, policy: str) -> None:
        """`ask`, `accept`, or `default`."""
        if policy == "default":
            unit.delete("meta", _CHOICE)
        else:
            unit.put("meta", _CHOICE, policy.encode())

    def waits(self, room: Room) -> bool:
        """Whether the room waits for this person's answer."""
        view = room.session.view
        return view.state is State.PENDING and view.missing == (self.account.device,)

    def answer(self, unit: Unit, room: Room, *, accept: bool) -> None:
        """Say yes or no to who asks for this room; UsageError when nobody does."""
        self.rooms.apply(unit, room, room.session.answer("accept", bytes([accept]), unit.now, unit.rng))
        self.rooms.moved.add(room.id)

    def asks(self, room: Room) -> str:
        """The user on the other side of a room of two."""
        others = [device for device in room.session.view.roster if device != self.account.device]
        return parse_device_id(others[0])[1] if others else ""

    def asking(self, suite: Suite, devices: Sequence[DeviceId]) -> Room | None:
        """The room for which just these devices ask, in a suite that asks its person, and wait for an answer."""
        if suite.caps.user_gate is None:
            return None
        both = {self.account.device, *devices}
        rooms = [room for room in self.rooms.rooms.values() if room.suite == suite.caps.suite and self.waits(room)]
        return next((room for room in rooms if set(room.session.view.roster) == both), None)

    def _crosses(self, unit: Unit, room: Room) -> bool:
        """Whether this device had asked the same one when its request for the room came.

        Mail of one sender comes in order, so both see it; of the two rooms, whoever made the greater id's lets it go.
        One that was not asked for yet gives way in any case.
        """
        found = False
        for own in self.rooms.rooms.values():
            view = own.session.view
            same = own is not room and own.suite == room.suite and view.roster == room.session.view.roster
            if same and not own.inviter and view.missing and view.awaits:
                found = True
                if own.id > room.id or view.awaits == "prekey":
                    own.yields_to = room.id
                    self.rooms.save(unit, own)
        return found

    def give_way(self, unit: Unit, room: Room) -> None:
        """End a room that yields, once nothing waits here to be said in it, and both stand or it was not asked for."""
        other = self.rooms.rooms.get(room.yields_to)
        both = [each.session.view for each in (room, other) if each is not None]
        stand = len(both) == 2 and all(view.state is State.READY and not view.missing for view in both)
        over = (stand and room.level) or both[0].awaits == "prekey"
        if over and self.rooms.outbox.quiet(room.id):
            self.rooms.apply(unit, room, room.session.change([Leave()], unit.now, unit.rng))
            self.rooms.moved.add(room.id)

    def came(self, unit: Unit, room: Room) -> None:
        """A request came: say yes, or tell the person who asks."""
        if self._crosses(unit, room) or self.accepts(unit):
            self.answer(unit, room, accept=True)
            return
        user, room_id, title = self.asks(room), room.id.hex(), room.session.view.policy.title
        unit.notify(lambda cursor: Invited(cursor=cursor, room=room_id, user=user, title=title, suite=room.suite))
