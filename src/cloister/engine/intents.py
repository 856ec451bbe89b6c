"""What people want of a room's membership, kept until it is true.

A suite may lose a race, or be busy with another run: the intent stays and is tried again when the room has moved. An
intent that is true already is dropped; one that the policy forbids is refused at once. Leaving is asked of the others
once in each epoch until one of them has carried it out.
Source: docs/spec/suites.md ("Where intents live").
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace

import msgspec

from cloister.engine import rows
from cloister.engine.room import Room
from cloister.engine.rooms import Rooms
from cloister.engine.rows import Intent
from cloister.engine.store import Store
from cloister.engine.unit import Unit
from cloister.errors import UsageError
from cloister.protocols.interface import Add, Change, Leave, NotReady, Rekey, Remove, SetPolicy, State

_intent = msgspec.msgpack.Decoder(Intent)


@dataclass(slots=True)
class Intents:
    """The intents of each room, in the order they were uttered."""

    rooms: Rooms
    _of: dict[bytes, dict[int, Intent]] = field(default_factory=dict)
    _next: int = 1

    def load(self, store: Store) -> None:
        """Take up what an earlier process left."""
        for key, value in store.scan("intent"):
            number = int.from_bytes(key[16:], "big")
            self._of.setdefault(key[:16], {})[number] = _intent.decode(value)
            self._next = max(self._next, number + 1)

    def want(self, unit: Unit, room: Room, intent: Intent) -> None:
        """Try at once; UsageError where the policy forbids it, otherwise it is kept until it is true."""
        changes = _changes(room, intent)
        if changes:
            if not room.session.view.pending_changes:
                with suppress(NotReady):
                    self._carry_out(unit, room, changes)
                    _note(room, intent)
            self.keep(unit, room, intent)

    def keep(self, unit: Unit, room: Room, intent: Intent) -> None:
        """Remember an intent until it is true."""
        number, self._next = self._next, self._next + 1
        self._of.setdefault(room.id, {})[number] = intent
        unit.put("intent", room.id + rows.key(number), rows.encode(intent))

    def forget(self, room: bytes) -> None:
        """The room is gone."""
        self._of.pop(room, None)

    def work(self, unit: Unit, room: Room) -> None:
        """The room has moved: drop what is true, try again what is not."""
        for number, intent in list(self._of.get(room.id, {}).items()):
            if _shrink(room, intent):
                unit.put("intent", room.id + rows.key(number), rows.encode(intent))
            changes = _changes(room, intent)
            if not changes or room.session.view.state is State.REMOVED:
                self._drop(unit, room, number)
            elif not room.session.view.pending_changes and not _asked(room, intent):
                try:
                    self._carry_out(unit, room, changes)
                    _note(room, intent)
                    unit.put("intent", room.id + rows.key(number), rows.encode(intent))
                except NotReady:
                    continue
                except UsageError as error:
                    self._drop(unit, room, number)
                    self.rooms.alarm(unit, room, error.code, detail=error.detail)
        self._remove_revoked(unit, room)

    def _remove_revoked(self, unit: Unit, room: Room) -> None:
        """A device that the realm has revoked is put out by whoever sees it first."""
        view = room.session.view
        revoked = [device for device in view.roster if self.rooms.revoked(device)]
        if revoked and view.state is State.READY and not view.pending_changes:
            try:
                self._carry_out(unit, room, [Remove(device) for device in revoked])
            except UsageError:
                return  # somebody else's run or order does it

    def _carry_out(self, unit: Unit, room: Room, changes: list[Change]) -> None:
        self.rooms.apply(unit, room, room.session.change(changes, unit.now, unit.rng))
        self.rooms.moved.add(room.id)

    def _drop(self, unit: Unit, room: Room, number: int) -> None:
        self._of[room.id].pop(number, None)
        unit.delete("intent", room.id + rows.key(number))


def _shrink(room: Room, intent: Intent) -> bool:
    """Whether a part of an intent has come true: that is wished no more, whatever becomes of the others.

    Who was taken in and is put out again, by anybody, is not taken in again because somebody else is still awaited.
    """
    if intent.kind not in ("add", "remove"):
        return False
    members, before = set(room.session.view.roster), len(intent.devices)
    intent.devices = [device for device in intent.devices if (device in members) is (intent.kind == "remove")]
    return len(intent.devices) < before


def _changes(room: Room, intent: Intent) -> list[Change]:
    """What is left to do for an intent; empty when it is true."""
    view = room.session.view
    match intent.kind:
        case "add":
            here = {*view.roster, *view.parked}
            return [Add(device) for device in intent.devices if device not in here]
        case "remove":
            here = set(view.roster)
            return [Remove(device) for device in intent.devices if device in here]
        case "rekey":
            return [Rekey()] if view.epoch <= intent.epoch else []
        case "owners":
            owners = tuple(intent.devices)
            return [SetPolicy(replace(view.policy, owners=owners))] if owners != view.policy.owners else []
        case "leave":
            return [Leave()] if set(intent.devices) & set(view.roster) else []


def _asked(room: Room, intent: Intent) -> bool:
    """Whether the others have been asked already, in this epoch: only they can take this device out."""
    return intent.kind == "leave" and intent.epoch == room.session.view.epoch


def _note(room: Room, intent: Intent) -> None:
    if intent.kind == "leave":
        intent.epoch = room.session.view.epoch
