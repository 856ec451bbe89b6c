"""The engine: one input in, one unit of writes and outputs out. No I/O, no clock, no threads.

    unit = engine.handle(input, now)
    store.apply(unit.writes)          # durable, or the process ends
    for output in unit.outputs: ...   # only now

Source: docs/architecture.md ("Life of a message"). What is online is derived from stored state after every input
(`_settle`): logs that are to be presented, rows that can leave, intents that can be tried. So a lost answer, a crash
or a reconnect needs no handling of its own.

Invariants
- A frame of the relay that breaks a rule closes the connection and changes nothing else; a member's broken rule is an
  alarm.
- `next_wake` says when `Tick` is due.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import structs

from cloister.engine import inputs
from cloister.engine.account import Account
from cloister.engine.broadcast import Broadcasts
from cloister.engine.commands import Commands, asked_info, room_info
from cloister.engine.group_infos import GroupInfos
from cloister.engine.inbox import Inbox
from cloister.engine.intents import Intents
from cloister.engine.link import Asked, Link
from cloister.engine.logs import FollowedLog, LogState, purge
from cloister.engine.messages import Messages
from cloister.engine.outbox import Outbox
from cloister.engine.prekeys import Prekeys
from cloister.engine.presence import Presence
from cloister.engine.realm_log import RealmLog
from cloister.engine.requests import Requests
from cloister.engine.room import Room
from cloister.engine.rooms import PATIENCE, Rooms
from cloister.engine.rows import Outgoing
from cloister.engine.store import Store
from cloister.engine.unborn import Unborn
from cloister.engine.unit import Unit
from cloister.engine.upkeep import Upkeep, stored_account
from cloister.engine.users import Users
from cloister.engine.values import Alarm, ConnectionChanged, RoomChanged
from cloister.errors import CloisterError, PeerError, UnavailableError, UsageError
from cloister.identity.realm import RealmState
from cloister.primitives import Rng
from cloister.protocols.interface import NO_EPOCH, Me, State, Suite
from cloister.wire import frames
from cloister.wire.frames import REALM_LOG, Head
from cloister.wire.limits import HOUR

PURGE_EVERY = 6 * HOUR


class Engine:
    """A device's whole state between two inputs."""

    def __init__(self, account: Account, suites: Mapping[str, Suite], store: Store, rng: Rng) -> None:
        self._store = store
        self._rng = rng
        account = self._account = stored_account(store) or account
        self._realm = RealmLog.load(store, account)
        self.link = Link(account)
        me = Me(device=account.device, keys=account.keys, directory=self._directory, realm=account.realm)
        self._users = Users(account, self._realm)
        self._messages = Messages(account.realm, self._users.verified)
        self.rooms = Rooms(account, me, suites, self.link, self._messages, self._need_realm)
        self.outbox = Outbox(account, self.link, self._directory, self._lane_open, self.rooms.seal)
        self.rooms.outbox = self.outbox
        self._group_infos = GroupInfos(self.link)
        self._prekeys = self.rooms.prekeys = Prekeys(me, suites, self.link, self.rooms, self._group_infos)
        self._messages.broadcasts = broadcasts = Broadcasts(
            account, me, suites, self._realm, self.rooms, self.outbox, self._users.verified
        )
        self._requests = self.rooms.requests = Requests(account, self._realm, self.rooms)
        self._presence = Presence(self.link, self._realm)
        self._intents = Intents(self.rooms)
        self._unborn = Unborn(self.rooms)
        self._upkeep = Upkeep(account, self.link, self._realm)
        self._inbox = Inbox(
            account, me, suites, self.link, self._realm, self.rooms, self._prekeys, self._unborn,
            self._upkeep.mailbox_keys, self._need_realm,
        )  # fmt: skip
        self._commands = Commands(
            account, me, suites, self.link, self._realm, self.rooms, self.outbox, self._intents, self._users,
            self._requests, broadcasts, self._presence,
        )  # fmt: skip
        self._purge_at = 0
        self._load()

    def _load(self) -> None:
        unit = self._unit(0)
        self.outbox.load(self._store)
        self._messages.load(self._store)
        self._users.load(self._store)
        self._inbox.load(unit)
        self._upkeep.load(unit)
        if self._realm.size:
            self.link.load(unit, self._realm.state().relay_key)
            self.rooms.load(self._store)
            self._intents.load(self._store)

    def _unit(self, now: int) -> Unit:
        return Unit(self._store, now, self._rng, lambda: self._messages.cursor)

    def _directory(self) -> RealmState:
        return self._realm.state()

    @property
    def realm(self) -> RealmState:
        """The replica of the realm log; UnavailableError before the first contact."""
        return self._realm.state()

    def knows(self, user: str) -> bool:
        """Whether the replica has this user."""
        return bool(self._realm.size) and user in self._realm.state().users()

    # --- inputs ---

    def handle(self, what: inputs.Input, now: int) -> Unit:
        """Handle one input."""
        unit = self._unit(now)
        match what:
            case inputs.Received():
                self._received(unit, what.data)
            case inputs.Execute():
                self._execute(unit, what)
            case inputs.Opened():
                self.link.opened(unit, what.tls)
                unit.notify(lambda cursor: ConnectionChanged(cursor=cursor, state="connecting"))
            case inputs.Closed():
                self._closed(unit, what.code)
            case inputs.Tick():
                self._purge(unit)
            case inputs.Meet():  # for guests; whoever asks a device for it made a mistake
                unit.reply(what.ticket, error=UsageError("usage", "sessions are a guest's"))
        self._settle(unit)
        return unit

    def next_wake(self) -> int | None:
        """When `Tick` is due (ms), or None."""
        times = [room.wake_at for room in self.rooms.rooms.values()]
        if self.link.online:
            times += [log.retry_at for log, _token in self._logs()]
            times += [claim.until for room in self.rooms.rooms.values() for claim in room.log.claims.values()]
            times += [self.outbox.retry_at, self._group_infos.retry_at]
            times += self._upkeep.next_wake(self._inbox.quiet_since) if self._realm.size else []
        return min((time for time in times if time), default=None)

    def _execute(self, unit: Unit, what: inputs.Execute) -> None:
        try:
            unit.reply(what.ticket, self._commands.execute(unit, what.command))
        except CloisterError as error:
            unit.reply(what.ticket, error=error)

    def _closed(self, unit: Unit, code: str) -> None:
        self.link.closed(code)
        self.outbox.disconnected()
        self._inbox.disconnected()
        self._presence.disconnected()
        self._prekeys.disconnected()
        self._upkeep.disconnected()
        self._group_infos.disconnected()
        for log, _token in self._logs():
            if log.state is not LogState.BROKEN:
                log.state, log.retry_at, log.tries = LogState.IDLE, 0, 0
        unit.notify(lambda cursor: ConnectionChanged(cursor=cursor, state="offline", code=code))

    def _received(self, unit: Unit, data: bytes) -> None:
        try:
            self._answer(unit, frames.decode_answer(data))
        except PeerError as error:
            unit.notify(lambda cursor, error=error: Alarm(  # type: ignore[misc]
                cursor=cursor, code=error.code, detail=error.detail))  # fmt: skip
            unit.disconnect(error.code)
        except UnavailableError as error:
            unit.disconnect(error.code)

    def _answer(self, unit: Unit, frame: frames.Answer) -> None:
        match frame:
            case frames.Pushed():
                self._entries(unit, frame.log, frame, pushed=True)
            case frames.Page():
                self._page(unit, frame)
            case frames.Ack():
                self._acked(unit, self.link.answered(frame.rid), frame)
            case frames.Refused():
                self._refused(unit, frame)
            case frames.Mailed():
                self._inbox.received(unit, frame.items)
            case frames.Done():
                self._done(unit, self.link.answered(frame.rid))
            case frames.Behind():
                self._behind(frame)
            case frames.Users() | frames.Online():
                self._presence.came(unit, frame)
            case _:
                self._session_frame(unit, frame)

    def _session_frame(self, unit: Unit, frame: frames.Answer) -> None:
        match frame:
            case frames.Challenge():
                self.link.challenged(unit, frame)
            case frames.Welcome():
                self.link.welcomed(unit, frame)
                unit.notify(lambda cursor: ConnectionChanged(cursor=cursor, state="online"))
            case frames.MailKeys():
                self.link.answered(frame.rid)
                for device, code in self.outbox.mail_keys(unit, frame):
                    unit.notify(lambda cursor, device=device, code=code: Alarm(  # type: ignore[misc]
                        cursor=cursor, code=code, peer=device, detail="mailbox key"))  # fmt: skip
            case frames.PrekeysLow():
                self._prekeys.low(unit, frame.suite)
            case frames.PrekeysStored():
                self._prekeys.stored(unit, self._ref(frame.rid).decode(), frame.left)
            case frames.PrekeysClaimed():
                self._prekeys.claimed(unit, self._ref(frame.rid), frame.packages)
            case frames.GroupInfo():
                self._group_infos.received(unit, self._ref(frame.rid), frame)
            case frames.Bye():
                unit.disconnect(frame.code)
            case _:
                raise PeerError("bad_encoding", "an answer that nothing awaits")

    def _ref(self, rid: int) -> bytes:
        """What an answered request was about."""
        ref = self.link.answered(rid).ref
        return ref if isinstance(ref, bytes) else b""

    def _acked(self, unit: Unit, asked: Asked, ack: frames.Ack) -> None:
        row = self.outbox.acked(unit, asked, ack.seq)
        room = self.rooms.rooms.get(row.log) if row else None
        if row is not None and room is not None:
            if row.kind == "commit":
                _again(room.log)
            self._claim(unit, room, ack.head)
        elif row is not None and row.kind == "run" and row.log in self.rooms.runs:
            _again(self.rooms.runs[row.log].log)

    def _claim(self, unit: Unit, room: Room, head: Head) -> None:
        """The head of an ack is signed too: the log must come to contain it."""
        try:
            room.log.claim(unit, head, "", self.link.head_keys)
        except PeerError as error:
            self.rooms.caught(unit, room, error, head)

    def _done(self, unit: Unit, asked: Asked) -> None:
        match asked.what:
            case "outbox":
                self.outbox.acked(unit, asked)
            case "mailopen":
                self._inbox.answered(unit)
            case "mailkey":
                self._upkeep.published(unit, asked.ref)
            case _:
                """Nothing waits for the others."""

    def _refused(self, unit: Unit, refused: frames.Refused) -> None:
        if not self.link.online:  # the login was refused
            final = refused.code in ("revoked", "wrong_realm", "unknown_sender", "not_in_manifest")
            unit.disconnect(refused.code, final=final)
            return
        asked = self.link.answered(refused.rid)
        if asked.what == "outbox":
            self._outbox_refused(unit, asked, refused.code)
        elif asked.what == "log":
            log = self._log(asked.ref if isinstance(asked.ref, bytes) else b"")
            if log is not None and log.state is LogState.ASKED:
                log.state = LogState.IDLE
                if not (refused.code == "not_allowed" and self.rooms.try_another(unit, log.id)):
                    log.retry_at = unit.now + PATIENCE[min(log.tries, len(PATIENCE) - 1)]
                    log.tries += 1
        elif asked.what == "mailopen" and refused.code == "gap":
            self._inbox.unknown_position(unit)
        elif asked.what == "mailkeys":
            self.outbox.keys_refused(unit)
        elif asked.what in ("claim", "groupinfo"):
            self._prekeys.refused(unit, asked, refused.code)
        elif asked.what != "stage":  # the commit that names the part is refused after it
            unit.notify(lambda cursor: Alarm(cursor=cursor, code=refused.code, detail=refused.detail))

    def _outbox_refused(self, unit: Unit, asked: Asked, code: str) -> None:
        row = self.outbox.refused(unit, asked, code)
        if row is not None and code in ("not_allowed", "stale_epoch"):
            log = self._log(row.log)
            if log is not None and log.state is LogState.FOLLOWING:
                _again(log)
        elif row is not None and row.kind == "run" and row.number not in self.outbox.rows:
            room = self.rooms.rooms.get(row.room)
            if room is not None:
                self.rooms.run_refused(unit, room, row.log)
        elif row is not None and row.kind == "commit" and row.number not in self.outbox.rows:
            self._prekeys.commit_refused(unit, row)

    # --- logs ---

    def _logs(self) -> list[tuple[FollowedLog, bytes]]:
        return [(self._realm.log, b""), *self.rooms.logs()]

    def _log(self, log: bytes) -> FollowedLog | None:
        if log == REALM_LOG:
            return self._realm.log
        holder = self.rooms.rooms.get(log) or self.rooms.runs.get(log)
        return holder.log if holder else None

    def _page(self, unit: Unit, page: frames.Page) -> None:
        asked = self.link.answered(page.rid)
        log = self._log(page.log)
        if asked.ref != page.log:
            raise PeerError("misrouted", "a page of another log than asked for")
        if log is None or log.state is not LogState.ASKED:
            return
        log.tries = 0
        log.state = LogState.IDLE if page.more else LogState.FOLLOWING
        self._entries(unit, page.log, page, pushed=False)

    def _entries(self, unit: Unit, log_id: bytes, frame: frames.Page | frames.Pushed, *, pushed: bool) -> None:
        log = self._log(log_id)
        if log is None or log.state is LogState.BROKEN:
            return
        if pushed and (log.state is not LogState.FOLLOWING or self._missed(log, frame)):
            return
        try:
            chains = log.check(unit, frame.entries, frame.head, self.link.head_keys, pushed=pushed)
            states = self._realm.judge(frame.entries) if log_id == REALM_LOG else []
        except PeerError as error:
            self._caught(unit, log_id, error, frame.head)
            return
        log.take(unit, frame.entries, chains, frame.head)
        if log_id == REALM_LOG:
            self._realm_grew(unit, self._realm.take(states, chains))
        else:
            self.rooms.advance(unit, log_id)
            room = self.rooms.rooms.get(log_id)
            if room is not None:
                self.rooms.settle(unit, room)
                self.rooms.moved.add(log_id)

    def _missed(self, log: FollowedLog, frame: frames.Page | frames.Pushed) -> bool:
        """A push that does not join: ask for what lies between. A page that does not join is the relay's fault."""
        if frame.entries and frame.entries[0].seq > log.chain.seq + 1:
            _again(log)
            return True
        return False

    def _behind(self, frame: frames.Behind) -> None:
        log = self._log(frame.log)
        if log is not None and log.state is LogState.FOLLOWING:
            _again(log)

    def _caught(self, unit: Unit, log: bytes, error: PeerError, head: Head) -> None:
        """The relay's log does not hold: the room is read no further; without the realm log nothing is."""
        holder = self.rooms.rooms.get(log)
        if holder is None and log in self.rooms.runs:
            self.rooms.runs[log].log.state = LogState.BROKEN
            holder = self.rooms.rooms.get(self.rooms.runs[log].room)
        if holder is not None:
            self.rooms.caught(unit, holder, error, head if error.code == "fork" else None)
            return
        self._realm.log.state = LogState.BROKEN
        self._realm.alarms.append(error.code)
        unit.notify(lambda cursor: Alarm(cursor=cursor, code=error.code, detail=f"realm log: {error.detail}"))

    def _realm_grew(self, unit: Unit, names: list[str]) -> None:
        self._users.joined(unit, names)
        if self._realm.log.state is LogState.FOLLOWING:
            self.rooms.realm_came(unit, self._realm.size)
            self._inbox.realm_came(unit)
        self.rooms.moved.update(self.rooms.rooms)

    def _need_realm(self, unit: Unit, size: int) -> None:
        """Something names a longer realm log: ask for it."""
        if self._realm.log.state is LogState.FOLLOWING and self._realm.size < size:
            _again(self._realm.log)

    # --- after every input ---

    def _settle(self, unit: Unit) -> None:
        self._realm.remember(unit)
        self.rooms.wake(unit)
        for room in list(self.rooms.rooms.values()):
            if room.log.claims:
                self.rooms.settle(unit, room)
            if room.yields_to:
                self._requests.give_way(unit, room)
        moved, self.rooms.moved = self.rooms.moved, set()
        for room_id in moved:
            if room_id in self.rooms.rooms:
                self._intents.work(unit, self.rooms.rooms[room_id])
                self._tell_room(unit, self.rooms.rooms[room_id])
        self._unborn.drop_ended(unit)
        dropped, self._unborn.dropped = self._unborn.dropped, []
        for room in dropped:
            self._intents.forget(room.id)
            self._tell_dropped(unit, room)
        if self.link.online:
            for log, token in self._logs():
                self._present(unit, log, token)
            self._inbox.open(unit)
            if self._realm.size:
                self._prekeys.pump(unit)
                self._presence.pump(unit)
                self._upkeep.pump(unit, self._inbox.quiet_since)
                self._group_infos.pump(unit)
            self.outbox.pump(unit)

    def _present(self, unit: Unit, log: FollowedLog, token: bytes) -> None:
        if log.state is LogState.IDLE and unit.now >= log.retry_at:
            log.state, log.retry_at = LogState.ASKED, 0
            rid = self.link.request(Asked("log", log.id))
            unit.transmit(frames.encode(frames.Present(rid=rid, log=log.id, token=token, after=log.chain.seq)))

    def _lane_open(self, row: Outgoing) -> bool:
        """Whether a row may leave now; texts are judged when they are sealed."""
        if row.log in self.rooms.runs and row.kind == "post":
            return self.rooms.runs[row.log].level
        room = self.rooms.rooms.get(row.log)
        if row.kind == "commit":
            return room is not None and (row.token_hash == NO_EPOCH or room.level)
        if row.kind in ("post", "text"):
            return room is not None and room.level and room.readable
        return bool(self._realm.size)

    def _tell_room(self, unit: Unit, room: Room) -> None:
        info = asked_info(room, self._requests)
        unit.notify(lambda cursor: RoomChanged(cursor=cursor, room=info, what=_what(info)))

    def _tell_dropped(self, unit: Unit, room: Room) -> None:
        info = structs.replace(room_info(room), state=State.REMOVED.value)
        unit.notify(lambda cursor: RoomChanged(cursor=cursor, room=info, what="never began"))

    def _purge(self, unit: Unit) -> None:
        if unit.now >= self._purge_at:
            self._purge_at = unit.now + PURGE_EVERY
            self._unborn.drop_outdated(unit)
            for room in self.rooms.rooms.values():
                purge(unit, room.log)
            self._prekeys.purge(unit)


def _again(log: FollowedLog) -> None:
    """Present the log again at once."""
    if log.state is not LogState.BROKEN:
        log.state, log.retry_at, log.tries = LogState.IDLE, 0, 0


def _what(room: Any) -> str:
    """A line for people on how a room stands."""
    if room.state == "pending":
        return f"agreeing {len(room.members) - len(room.missing)} of {len(room.members)}"
    return f"{room.state}, epoch {room.epoch}, {len(room.members)} members"
