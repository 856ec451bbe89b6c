"""The room of a guest: its log is followed, verified and written by the parts that devices use.

Source: docs/spec/classic/code.md ("A guest's client"), docs/spec/log.md. What `core` does for many logs, for one.

Invariants
- A relay that was caught is read no further; the alarm stays with the room.
- There is nobody to tell by mailbox: a fork's proof is shown to the person alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cloister.content.message import compose, decode_text, encode_text, message_id
from cloister.engine import messages, values
from cloister.engine.account import Account
from cloister.engine.commands import room_info
from cloister.engine.link import Asked, Link
from cloister.engine.logs import FollowedLog, LogState
from cloister.engine.messages import Messages
from cloister.engine.outbox import Outbox
from cloister.engine.room import Room
from cloister.engine.rooms import PATIENCE, Rooms, room_uri, user_uri
from cloister.engine.rows import Outgoing
from cloister.engine.store import Store
from cloister.engine.unit import Unit
from cloister.errors import PeerError, UnavailableError, UsageError
from cloister.identity.realm import DeviceRecord, RealmState
from cloister.protocols.interface import NO_EPOCH, Effects, Leave, Me, Rekey, Session, State, Suite
from cloister.wire import frames


class Nobody:
    """The directory of a guest: it knows nobody, so nobody is verified or revoked."""

    size = 1

    def device(self, device: str, size: int, /) -> DeviceRecord:
        """PeerError("unknown_sender")."""
        raise PeerError("unknown_sender", "a guest knows nobody")

    def stale(self, device: str, size: int, /) -> bool:
        """Nobody has certificates here."""
        return False


class GuestRoom:
    """At most one room: none before both hold the key."""

    def __init__(self, account: Account, suites: Mapping[str, Suite], link: Link) -> None:
        self.me = Me(device=account.device, keys=account.keys, directory=Nobody, realm=account.realm)
        self.messages = Messages(account.realm, lambda user: False)
        self.rooms = Rooms(account, self.me, suites, link, self.messages, lambda unit, size: None)
        self.outbox = Outbox(account, link, _no_realm, self._lane_open, self.rooms.seal)
        self.rooms.outbox = self.outbox
        self._account = account
        self._link = link

    def load(self, store: Store) -> None:
        """Take up what an earlier process left."""
        self.outbox.load(store)
        self.messages.load(store)
        self.rooms.load(store)

    def begin(self, unit: Unit, session: Session, effects: Effects) -> None:
        """Both hold the key: the session is a room from now on."""
        self.rooms.open(unit, session.view.room, session.view.suite, session, effects)

    @property
    def room(self) -> Room | None:
        """The room, once it is there."""
        return next(iter(self.rooms.rooms.values()), None)

    def live(self) -> Room:
        """The room; UsageError("no_room") before it is there."""
        room = self.room
        if room is None:
            raise UsageError("no_room", "the session has not begun")
        return room

    # --- the log ------------------------------------------------------------------------------------------------

    def disconnected(self) -> None:
        """The connection ended: everything is presented and sent again on the next one."""
        self.outbox.disconnected()
        log = self._log()
        if log is not None and log.state is not LogState.BROKEN:
            log.state, log.retry_at, log.tries = LogState.IDLE, 0, 0

    def _log(self) -> FollowedLog | None:
        return None if self.room is None else self.room.log

    def wakes(self) -> list[int]:
        """When `work` has something to do (ms)."""
        room = self.room
        if room is None:
            return []
        times = [room.wake_at]
        if self._link.online:
            times += [room.log.retry_at, self.outbox.retry_at, *(claim.until for claim in room.log.claims.values())]
        return times

    def work(self, unit: Unit) -> None:
        """What follows from what is stored: wake, present, send."""
        self.rooms.wake(unit)
        room = self.room
        if room is None:
            return
        if room.log.claims:
            self.rooms.settle(unit, room)
        if not self._link.online:
            return
        log = room.log
        if room.token is not None and room.readable and log.state is LogState.IDLE and unit.now >= log.retry_at:
            log.state, log.retry_at = LogState.ASKED, 0
            rid = self._link.request(Asked("log", log.id))
            unit.transmit(frames.encode(frames.Present(rid=rid, log=log.id, token=room.token, after=log.chain.seq)))
        self.outbox.pump(unit)

    def _lane_open(self, row: Outgoing) -> bool:
        room = self.rooms.rooms.get(row.log)
        if room is None or row.kind == "mail":
            return False
        return (row.kind == "commit" and row.token_hash == NO_EPOCH) or (room.level and room.readable)

    def page(self, unit: Unit, page: frames.Page) -> None:
        """An answer to present."""
        asked, room = self._link.answered(page.rid), self.room
        if asked.ref != page.log:
            raise PeerError("misrouted", "a page of another log than asked for")
        if room is not None and room.log.state is LogState.ASKED:
            room.log.tries = 0
            room.log.state = LogState.IDLE if page.more else LogState.FOLLOWING
            self._entries(unit, room, page, pushed=False)

    def pushed(self, unit: Unit, frame: frames.Pushed) -> None:
        """New entries; those that do not join are asked for."""
        room = self.rooms.rooms.get(frame.log)
        if room is None or room.log.state is not LogState.FOLLOWING:
            return
        if frame.entries and frame.entries[0].seq > room.log.chain.seq + 1:
            again(room.log)
        else:
            self._entries(unit, room, frame, pushed=True)

    def _entries(self, unit: Unit, room: Room, frame: frames.Page | frames.Pushed, *, pushed: bool) -> None:
        try:
            chains = room.log.check(unit, frame.entries, frame.head, self._link.head_keys, pushed=pushed)
        except PeerError as error:
            self.rooms.caught(unit, room, error, frame.head if error.code == "fork" else None)
            return
        room.log.take(unit, frame.entries, chains, frame.head)
        self.rooms.advance(unit, room.id)
        self.rooms.settle(unit, room)

    def behind(self, frame: frames.Behind) -> None:
        """Entries were not pushed."""
        room = self.rooms.rooms.get(frame.log)
        if room is not None and room.log.state is LogState.FOLLOWING:
            again(room.log)

    def acked(self, unit: Unit, ack: frames.Ack) -> None:
        """The relay has stored and signed an entry; its head must come to be contained."""
        row, room = self.outbox.acked(unit, self._link.answered(ack.rid), ack.seq), self.room
        if row is None or room is None:
            return
        if row.kind == "commit":
            again(room.log)
        try:
            room.log.claim(unit, ack.head, "", self._link.head_keys)
        except PeerError as error:
            self.rooms.caught(unit, room, error, ack.head)

    def refused(self, unit: Unit, asked: Asked, code: str) -> None:
        """The relay does not take an entry, or does not show the log now."""
        room = self.room
        if room is None:
            return
        if asked.what == "log" and room.log.state is LogState.ASKED:
            room.log.state = LogState.IDLE
            room.log.retry_at = unit.now + PATIENCE[min(room.log.tries, len(PATIENCE) - 1)]
            room.log.tries += 1
        elif asked.what == "outbox" and self.outbox.refused(unit, asked, code) is not None:
            if code in ("not_allowed", "stale_epoch", "no_session") and room.log.state is LogState.FOLLOWING:
                again(room.log)

    # --- what the person asks for -------------------------------------------------------------------------------

    def execute(self, unit: Unit, command: values.Command) -> Any:
        """The result; CloisterError when it cannot be carried out."""
        match command:
            case values.ListRooms():
                return [room_info(room) for room in self.rooms.rooms.values()]
            case values.History():
                return messages.history(unit.store, None, command.since, command.limit)
            case values.Send():
                return self._send(unit, self.live(), command.text)
            case values.EndRoom():
                return self._change(unit, Leave())
            case values.RekeyRoom():
                return self._change(unit, Rekey())
            case _:
                raise UsageError("usage", "a guest has one session and nothing else")

    def _change(self, unit: Unit, change: Leave | Rekey) -> values.RoomInfo:
        room = self.live()
        self.rooms.apply(unit, room, room.session.change([change], unit.now, unit.rng))
        return room_info(room)

    def answer(self, unit: Unit, ask: str, value: bytes) -> None:
        """What the person says to a question of the session."""
        room = self.live()
        self.rooms.apply(unit, room, room.session.answer(ask, value, unit.now, unit.rng))

    def _send(self, unit: Unit, room: Room, words: str) -> values.Sent:
        if room.session.view.state in (State.REMOVED, State.READ_ONLY, State.FROZEN) or not room.readable:
            raise UsageError("read_only", room.alarms[-1] if room.alarms else str(room.session.view.state))
        sender, uri = user_uri(self._account.device), room_uri(self._account.realm, room.id)
        text = compose(words, sender=sender, room=uri, rng=unit.rng)
        content = encode_text(text)
        decode_text(content, sender=sender, room=uri)
        identity = message_id(content, sender=sender, room=uri, salt=text.salt)
        self.outbox.text(unit, room.id, content, identity)
        return values.Sent(id=identity.hex(), room=room.id.hex(), state=values.SendState.QUEUED)


def again(log: FollowedLog) -> None:
    """Present the log again at once."""
    if log.state is not LogState.BROKEN:
        log.state, log.retry_at, log.tries = LogState.IDLE, 0, 0


def _no_realm() -> RealmState:
    raise UnavailableError("unreachable", "a guest has no realm log")
