"""Who is online, of those who want to be seen; and whether this device does.

Source: docs/spec/classic/pair.md, fix F4.6. Invariants
- A hint for people: no key, no member and no name follows from it; names that the realm log does not have are passed
  over. Whoever is known here is known from the realm log alone.
- This device is seen only when its person has chosen so; the choice is kept, and told to the relay on each connection.
- The list is asked for once on each connection; changes are pushed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cloister.engine.link import Asked, Link
from cloister.engine.realm_log import RealmLog
from cloister.engine.unit import Unit
from cloister.engine.values import PresenceChanged
from cloister.wire import frames

_CHOICE = b"visible"


@dataclass(slots=True)
class Presence:
    """What the relay says of who is there."""

    link: Link
    realm: RealmLog
    online: set[str] = field(default_factory=set)
    _asked: bool = False

    def disconnected(self) -> None:
        """Nothing is known any more."""
        self._asked = False
        self.online.clear()

    def pump(self, unit: Unit) -> None:
        """Once on each connection: ask who is there, and say whether to be seen."""
        if self._asked:
            return
        self._asked = True
        unit.transmit(frames.encode(frames.UserList(rid=self.link.request(Asked("users")))))
        if unit.get("meta", _CHOICE) is not None:
            self._say(unit, visible=True)

    def choose(self, unit: Unit, *, visible: bool) -> None:
        """Be seen, or not."""
        if visible:
            unit.put("meta", _CHOICE, b"")
        else:
            unit.delete("meta", _CHOICE)
        if self.link.online:
            self._say(unit, visible=visible)

    def _say(self, unit: Unit, *, visible: bool) -> None:
        rid = self.link.request(Asked("presence"))
        unit.transmit(frames.encode(frames.Presence(rid=rid, visible=visible)))

    def came(self, unit: Unit, frame: frames.Users | frames.Online) -> None:
        """The list, whose names are no news, or a change."""
        if isinstance(frame, frames.Online):
            self._changed(unit, frame.name, online=frame.online)
            return
        self.link.answered(frame.rid)
        for name in frame.online:
            self._changed(unit, name, online=True)

    def _changed(self, unit: Unit, name: str, *, online: bool) -> None:
        """Somebody came or went, as the relay says."""
        if name not in self.realm.state().users() or (name in self.online) == online:
            return
        if online:
            self.online.add(name)
        else:
            self.online.discard(name)
        unit.notify(lambda cursor: PresenceChanged(cursor=cursor, user=name, online=online))
