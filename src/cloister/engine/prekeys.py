"""This device's key packages, and those of others that a room waits for.

Source: docs/spec/prekeys.md. On each connection the relay is asked how many one-time packages are left; when they are
few it gets new ones, and one of last resort with them. A session that needs others' packages says so
(`Need("prekeys")`); they are claimed and given to it (`answer("prekeys")`).

Invariants
- A private half is stored in the unit that sends its package, before it can be claimed.
- The private half of a one-time package is erased in the unit that has entered a room by it; one of last resort stays
  until its time is over, and so does what was never used, KEEP longer: an invitation may wait in the mailbox.
- A claim that got no answer is made again on the next connection; a session asks again by itself in its own time.
  What exceeds one claim is asked for in several, and given to the session together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from cloister.codec.cbor import enc
from cloister.engine import rows
from cloister.engine.group_infos import GroupInfos
from cloister.engine.link import Asked, Link
from cloister.engine.rooms import PATIENCE, Room, Rooms
from cloister.engine.rows import Outgoing, OwnPrekey
from cloister.engine.unit import Unit
from cloister.errors import PeerError
from cloister.protocols.interface import Fault, Me, Need, PreKey, Suite
from cloister.wire import frames, limits

STOCK: Final = limits.PREKEYS.value
"""One-time packages that the relay should have."""
KEEP: Final = limits.MAILBOX_LIFE.value
"""How long (ms) a private half outlives its package: as long as an invitation may wait."""

_row = msgspec.msgpack.Decoder(OwnPrekey)


@dataclass(slots=True)
class _Claim:
    """For one room: devices whose packages are still to be asked for, those that were asked for, what came."""

    left: list[str]
    asked: list[str] = field(default_factory=list)
    found: list[list[object]] = field(default_factory=list)


@dataclass(slots=True)
class Prekeys:
    """What was asked and not answered yet; the private halves are in the store."""

    me: Me
    suites: Mapping[str, Suite]
    link: Link
    rooms: Rooms
    group_infos: GroupInfos
    _asked: bool = False
    _claims: dict[bytes, _Claim] = field(default_factory=dict)

    def disconnected(self) -> None:
        """What was not answered is asked again."""
        self._asked = False
        for claim in self._claims.values():
            claim.left, claim.asked = claim.asked + claim.left, []

    # --- one's own ------------------------------------------------------------------------------------------

    def pump(self, unit: Unit) -> None:
        """Once a connection stands: how many packages are left? And whatever is to be claimed."""
        directory = self.me.directory()
        if not self._asked:
            self._asked = True
            for name, suite in self.suites.items():
                if suite.caps.async_join:
                    self._put(unit, name, [])
        for room, claim in self._claims.items():
            if not claim.asked and directory.size:
                self._claim(unit, room, claim)

    def _put(self, unit: Unit, suite: str, packages: list[frames.Prekey]) -> None:
        rid = self.link.request(Asked("prekeys", suite.encode()))
        unit.transmit(frames.encode(frames.PrekeysPut(rid=rid, suite=suite, packages=packages)))

    def low(self, unit: Unit, suite: str) -> None:
        """The relay says that few are left."""
        if suite in self.suites:
            self._put(unit, suite, [])

    def stored(self, unit: Unit, suite: str, left: int) -> None:
        """The relay has so many one-time packages: make new ones when they are few."""
        if left > limits.PREKEYS_LOW.value or suite not in self.suites:
            return
        try:
            made = self.suites[suite].prekeys(self.me, STOCK - left, unit.now, unit.rng)
        except PeerError:
            return  # this device does not count any more: its packages are of no use
        for each in made:
            row = OwnPrekey(
                suite=suite,
                public=each.public,
                private=each.private,
                expires=each.expires,
                last_resort=each.last_resort,
            )
            unit.put("prekey", each.ref, rows.encode(row))
        if made:
            self._put(unit, suite, [_published(each) for each in made])

    def own(self, unit: Unit, ref: bytes) -> PreKey | None:
        """An own package with its private half."""
        data = unit.get("prekey", ref)
        if data is None:
            return None
        row = _row.decode(data)
        return PreKey(public=row.public, private=row.private, ref=ref, expires=row.expires, last_resort=row.last_resort)

    def used(self, unit: Unit, prekey: PreKey) -> None:
        """A room was entered by it: a one-time package is used up."""
        if not prekey.last_resort:
            unit.delete("prekey", prekey.ref)

    def purge(self, unit: Unit) -> None:
        """Forget private halves that nothing can need any more."""
        for ref, data in unit.store.scan("prekey"):
            if _row.decode(data).expires < unit.now - KEEP:
                unit.delete("prekey", ref)

    # --- others' --------------------------------------------------------------------------------------------

    def need(self, unit: Unit, room: Room, need: Need) -> None:
        """A session waits for packages: own ones are at hand, others' are claimed."""
        own = [prekey for ref in need.ids if (prekey := self.own(unit, ref)) is not None]
        for prekey in own:
            value = enc(prekey.public, prekey.private, prekey.ref, prekey.expires, prekey.last_resort)
            if self._supply(unit, room, "prekey", value):
                self.used(unit, prekey)
        names = [device for ref in need.ids if (device := _name(ref))]
        if names and room.id not in self._claims:
            self._claims[room.id] = _Claim(names)

    def _claim(self, unit: Unit, room: bytes, claim: _Claim) -> None:
        """As many as one frame takes; the session gets all of them together."""
        most = limits.PREKEY_CLAIM.value
        claim.asked, claim.left = claim.left[:most], claim.left[most:]
        rid, suite = self.link.request(Asked("claim", room)), self.rooms.rooms[room].suite
        unit.transmit(frames.encode(frames.PrekeysClaim(rid=rid, suite=suite, devices=claim.asked)))

    def claimed(self, unit: Unit, room: bytes, packages: list[frames.Prekey | None]) -> None:
        """Packages came: the session judges them."""
        claim = self._claims.get(room)
        if claim is None:  # the room is gone
            return
        if len(claim.asked) != len(packages):
            raise PeerError("bad_encoding", "key packages that were not asked for")
        claim.found += [
            [device, each.package, each.ref, each.not_before, each.not_after]
            for device, each in zip(claim.asked, packages, strict=True)
            if each is not None
        ]
        claim.asked = []
        if not claim.left:
            self._claimed(unit, room)

    def _claimed(self, unit: Unit, room: bytes) -> None:
        found = self._claims.pop(room).found
        self._supply(unit, self.rooms.rooms[room], "prekeys", enc(found))

    def beside(self, room: Room, log: bytes, token: bytes) -> None:
        """A session needs what stands beside the commit that takes this device in again."""

        def then(unit: Unit, sealed: bytes) -> None:
            if self.rooms.rooms.get(room.id) is room:  # it may be gone by now
                self._supply(unit, room, "group info", enc(token, sealed))

        self.group_infos.need(log, token, then)

    def _supply(self, unit: Unit, room: Room, ask: str, value: bytes) -> bool:
        """Give a session the packages that it needed; whether it could use them now."""
        effects = room.session.answer(ask, value, unit.now, unit.rng)
        self.rooms.apply(unit, room, effects)
        if any(isinstance(effect, Need) and effect.what == "realm" for effect in effects):
            room.wake_at = min(room.wake_at or unit.now + PATIENCE[-1], unit.now + PATIENCE[-1])
        return not any(isinstance(effect, Fault | Need) for effect in effects)

    def forget(self, room: bytes) -> None:
        """The room is gone: nothing is claimed for it."""
        self._claims.pop(room, None)

    def refused(self, unit: Unit, asked: Asked, code: str) -> None:
        """The relay gives no more now: the session goes on with those that came, and asks again in its time."""
        room = asked.ref if isinstance(asked.ref, bytes) else b""
        if asked.what == "groupinfo":
            self.group_infos.refused(unit, room, code)
        elif room in self._claims and self._claims[room].found:
            self._claimed(unit, room)
        else:
            self._claims.pop(room, None)

    def commit_refused(self, unit: Unit, row: Outgoing) -> None:
        """The relay has not stored a commit and will not: a suite that keeps it for its return forgets it."""
        room = self.rooms.rooms.get(row.room)
        if room is not None and self.suites[room.suite].caps.async_join:
            effects = room.session.answer("commit-refused", row.entry_id, unit.now, unit.rng)
            self.rooms.apply(unit, room, effects)


def _published(each: PreKey) -> frames.Prekey:
    return frames.Prekey(
        ref=each.ref,
        not_before=each.not_before,
        not_after=each.expires,
        last_resort=each.last_resort,
        package=each.public,
    )


def _name(ref: bytes) -> str:
    """The device that an id of Need("prekeys") names; empty for a reference of a package."""
    return ref.decode() if ref.startswith(b"cloister://") else ""
