"""This device's mailbox: items are opened, given to the room they are for, and deleted at the relay once stored.

Source: docs/spec/identity.md ("Mailbox"). Invariants
- Items are handled in order; the position is stored in the unit that handled them, then the relay may delete.
- An item whose sender or context needs a longer realm log waits, with all behind it, until the relay's newest log
  has come; what that does not settle is passed over.
- Numbers grow, by no more than a mailbox can ever have given (JUMP_MOST): a number must not silence what comes after
  it. A relay that does not know the position (`gap`) is read from its first item on.
- An item that cannot be opened or judged is passed over with an alarm: it never blocks the ones behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from cloister.engine import evidence
from cloister.engine.account import Account
from cloister.engine.link import Asked, Link
from cloister.engine.prekeys import Prekeys
from cloister.engine.realm_log import RealmLog
from cloister.engine.room import Room
from cloister.engine.rooms import Rooms
from cloister.engine.unborn import Unborn, gives_way
from cloister.engine.unit import Unit
from cloister.engine.values import Alarm
from cloister.errors import CloisterError, PeerError, UsageError
from cloister.identity.mailbox import MailboxItem, open_item
from cloister.primitives.dh import DhKey
from cloister.primitives.signature import VerifyKey
from cloister.protocols.interface import Behind, Channel, ChannelKind, Effects, Envelope, Me, Session, Suite
from cloister.wire import frames, limits

JUMP_MOST: Final = 1_000_000
"""Between two items: a mailbox that was full all the time, and drained by age alone, takes eighty years for it."""

BESIDE: Final = -1
"""Instead of a log size: an item waits for what stands beside its commit."""

INBOX = Channel(ChannelKind.MAILBOX, b"")


@dataclass(slots=True)
class Inbox:
    """The mailbox's reading position and the items that wait."""

    account: Account
    me: Me
    suites: Mapping[str, Suite]
    link: Link
    realm: RealmLog
    rooms: Rooms
    prekeys: Prekeys
    unborn: Unborn
    mailbox_keys: Callable[[], list[DhKey]]
    need_realm: Callable[[Unit, int], None]
    position: int = 0
    opened: bool = False
    _quiet: int | None = None
    _held: list[frames.Item] = field(default_factory=list)
    _beside: dict[bytes, bytes] = field(default_factory=dict)
    """Token of an epoch -> what stands beside its commit, while the item that needs it is judged."""
    _waiting: bool = False
    _tried: int = 0

    def load(self, unit: Unit) -> None:
        """Where the reading stands."""
        self.position = int.from_bytes(unit.get("meta", b"mail position") or b"", "big")

    def disconnected(self) -> None:
        """What was not handled comes again."""
        self.opened, self._quiet = False, None
        self._held.clear()
        self._waiting, self._tried = False, 0

    def open(self, unit: Unit) -> None:
        """Ask for what waits, once the realm log is there."""
        if not self.opened and self.link.online and self.realm.size:
            self.opened = True
            rid = self.link.request(Asked("mailopen"))
            unit.transmit(frames.encode(frames.MailOpen(rid=rid, after=self.position)))

    def unknown_position(self, unit: Unit) -> None:
        """The relay has never given the item that was read last: somebody else's numbers were believed."""
        if self.position:
            self._alarm(unit, PeerError("gap", "the relay does not know the mail that it gave before"))
            self.position, self.opened = 0, False
            unit.put("meta", b"mail position", bytes(8))

    @property
    def quiet_since(self) -> int | None:
        """When the mailbox last gave something (ms); None while something waits, or before it was opened."""
        return None if self._held else self._quiet

    def answered(self, unit: Unit) -> None:
        """The relay sends what waits."""
        self._quiet = unit.now

    def received(self, unit: Unit, items: list[frames.Item]) -> None:
        """Items came; a relay that sends more than a mailbox holds breaks a rule."""
        if len(self._held) + len(items) > limits.MAILBOX.value:
            raise PeerError("quota", "more mail at once than a mailbox holds")
        last = self._held[-1].number if self._held else self.position
        for item in items:
            if item.number <= last:
                raise PeerError("replay", "mail that was given before")
            if item.number > last + JUMP_MOST:
                raise PeerError("gap", "mail whose number lies ahead of all that a mailbox holds")
            last = item.number
        self._held.extend(items)
        self._quiet = unit.now
        self.work(unit)

    def realm_came(self, unit: Unit) -> None:
        """A page of the realm log came: what waited for it is judged again."""
        self._waiting = False
        self.work(unit)

    def _beside_came(self, unit: Unit, token: bytes, sealed: bytes) -> None:
        """What stands beside an invitation's commit came: the item that waits for it is judged again."""
        self._beside = {token: sealed}
        self._waiting = False
        self.work(unit)
        self._beside = {}

    def work(self, unit: Unit) -> None:
        """Handle what can be handled."""
        before = self.position
        while self._held and not self._waiting:
            item = self._held[0]
            wait = self._handle(unit, item)
            if wait:
                self._waiting = True
                if wait > 0:
                    self._tried = item.number
                    self.need_realm(unit, wait)
                break
            self.position = item.number
            self._held.pop(0)
        if self.position != before:
            unit.put("meta", b"mail position", self.position.to_bytes(8, "big"))
            rid = self.link.request(Asked("mail"))
            unit.transmit(frames.encode(frames.MailAck(rid=rid, upto=self.position)))

    def _handle(self, unit: Unit, item: frames.Item) -> int:
        """Handle one item; the realm log size it must wait for, or 0. It waits once: the newest log decides.

        BESIDE when it waits for what stands beside its commit.
        """
        wait = 0
        try:
            opened = open_item(item.body, self.account.device, self.mailbox_keys(), self._sender_key)
            wait = self._route(unit, opened, item)
        except Behind as error:
            if error.need.what == "group info":
                self._fetch_beside(*error.need.ids)
                return BESIDE
            wait = max((int.from_bytes(size, "big") for size in error.need.ids), default=0)
        except (PeerError, UsageError) as error:  # UsageError: an invitation that this profile has no keys for
            if error.code in ("unknown_sender", "gap") and self._tried != item.number:
                return self.realm.size + 1
            self._alarm(unit, error)
        if wait and self._tried == item.number:
            self._alarm(unit, PeerError("gap", "a realm log that the relay does not have"))
            return 0
        return wait

    def _fetch_beside(self, room: bytes, token: bytes) -> None:
        self.prekeys.group_infos.need(room, token, lambda unit, sealed: self._beside_came(unit, token, sealed))

    def _alarm(self, unit: Unit, error: CloisterError) -> None:
        unit.notify(lambda cursor: Alarm(cursor=cursor, code=error.code, detail=error.detail))

    def _sender_key(self, device: str) -> VerifyKey:
        return self.realm.state().device(device).key

    def _route(self, unit: Unit, opened: MailboxItem, item: frames.Item) -> int:
        """To its room's session, or to its suite as an invitation. The suite's name begins the item's kind."""
        if opened.kind == evidence.KIND:
            self.rooms.told(unit, opened.room or b"", opened.body)
            return 0
        suite, _, kind = opened.kind.partition(" ")
        envelope = Envelope(channel=INBOX, kind=kind, payload=opened.body, entry_id=item.item_id, sender=opened.sender)
        if opened.room is None or suite not in self.suites:
            raise PeerError("unsupported", "a mailbox item of an unknown kind")
        room = self.rooms.rooms.get(opened.room)
        if room is None or self._may_replace(room, suite):
            self._enter(unit, opened.room, suite, envelope, room)
            return 0
        if room.suite != suite:
            raise PeerError("misrouted", "a mailbox item of another suite than its room's")
        return self.rooms.mail(unit, room, envelope)

    def _may_replace(self, room: Room, suite: str) -> bool:
        """Whether a room that never began stands in the way.

        Sessions of suites that have runs, or that ask their person first, judge all that comes for their room.
        """
        caps = self.suites[suite].caps
        return gives_way(room) and (room.suite != suite or (caps.async_join and caps.user_gate is None))

    def _enter(self, unit: Unit, room_id: bytes, suite: str, envelope: Envelope, old: Room | None) -> None:
        """An invitation makes a room, in the place of `old` where it is acceptable."""
        if old is None:
            self.unborn.check_few(envelope.sender or "")
        session, effects = self._join(unit, self.suites[suite], envelope)
        if session.view.room != room_id:
            raise PeerError("misrouted", "an invitation to another room than its item says")
        if old is not None:
            self.unborn.drop(unit, old)
        self.rooms.open(unit, room_id, suite, session, effects, envelope.sender or "")

    def _join(self, unit: Unit, suite: Suite, envelope: Envelope) -> tuple[Session, Effects]:
        """Enter by an invitation, with the key package that it was made for where the suite has such."""
        try:
            return suite.join(self.me, envelope, None, unit.now, unit.rng)
        except Behind as error:
            if error.need.what != "prekeys":
                raise
            prekey = self.prekeys.own(unit, error.need.ids[0])
        if prekey is None:
            raise PeerError("no_session", "an invitation for a key package that is not here any more")
        try:
            joined = suite.join(self.me, envelope, prekey, unit.now, unit.rng)
        except Behind as behind:
            sealed = self._beside.get(behind.need.ids[-1]) if behind.need.what == "group info" else None
            if sealed is None:
                raise
            if not sealed:
                raise PeerError("no_session", "an invitation to an epoch that the relay does not have") from None
            joined = suite.join(self.me, replace(envelope, attachments=sealed), prekey, unit.now, unit.rng)
        self.prekeys.used(unit, prekey)
        return joined
