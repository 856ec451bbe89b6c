"""Rooms and runs: verified entries go to their session, its effects become rows, frames and events.

Source: docs/architecture.md ("Life of a message"), docs/spec/log.md.

Invariants
- An entry reaches the session once and in log order, after it was verified and stored. What a session cannot judge
  yet (`Need("realm")`) waits with everything behind it for the relay's newest realm log; an entry that names a longer
  one is passed over.
- Session items, the reading position, delivered messages and outgoing rows of one step are one unit.
- One's own texts are shown from the outbox when their entry comes back in the log, never before.
- A relay that was caught in a room is not read further there; the alarm stays with the room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from cloister.engine import evidence, rows
from cloister.engine.account import Account
from cloister.engine.link import Link
from cloister.engine.logs import FollowedLog, LogState, forget
from cloister.engine.messages import Messages, Place
from cloister.engine.outbox import Outbox, is_sent, sealed_text
from cloister.engine.room import RELAY_FAULTS as RELAY_FAULTS
from cloister.engine.room import Room as Room
from cloister.engine.room import Run
from cloister.engine.rows import Outgoing, RoomRow, RunRow
from cloister.engine.store import Store
from cloister.engine.unit import Unit
from cloister.engine.values import Alarm
from cloister.errors import PeerError
from cloister.primitives.kdf import sha256
from cloister.protocols.interface import (
    Ask,
    Channel,
    ChannelKind,
    Commit,
    Deliver,
    Direct,
    Directory,
    Drop,
    Effect,
    Effects,
    Envelope,
    EpochChanged,
    Fault,
    Follow,
    Me,
    Need,
    NotReady,
    OpenRun,
    Post,
    Put,
    Session,
    SignedHead,
    State,
    Suite,
    Unfollow,
    Wake,
)
from cloister.wire.frames import Entry, Head, Stub
from cloister.wire.log import Chain

if TYPE_CHECKING:
    from cloister.engine.prekeys import Prekeys
    from cloister.engine.requests import Requests

PATIENCE: Final = (100, 200, 400, 800, 1_600, 3_200, 5_000)
"""Pauses (ms) before a log that is not there yet is asked for again."""

NOWHERE: Final[Place] = (0, 0)

_room_row = msgspec.msgpack.Decoder(RoomRow)
_run_row = msgspec.msgpack.Decoder(RunRow)
_entry = msgspec.msgpack.Decoder(Entry | Stub)


class Rooms:
    """All rooms and runs of this device."""

    def __init__(
        self, account: Account, me: Me, suites: Mapping[str, Suite], link: Link, messages: Messages,
        need_realm: Callable[[Unit, int], None],
    ) -> None:  # fmt: skip
        self.rooms: dict[bytes, Room] = {}
        self.runs: dict[bytes, Run] = {}
        self.outbox: Outbox
        self.prekeys: Prekeys
        self.requests: Requests
        self.moved: set[bytes] = set()
        """Rooms whose state changed in this unit."""
        self.ended: set[bytes] = set()
        """Rooms of which a run has ended."""
        self._account = account
        self._me = me
        self._suites = suites
        self._link = link
        self._judged: tuple[Directory | None, dict[str, bool]] = (None, {})
        self._messages = messages
        self._need_realm = need_realm

    def load(self, store: Store) -> None:
        """Take up rooms and runs where the store has them."""
        realm = self._account.realm
        for key, value in store.scan("room"):
            row = _room_row.decode(value)
            items = {item[16:]: data for item, data in store.scan("item", key)}
            session = self._suites[row.suite].restore(self._me, items)
            log = FollowedLog.load(store, realm, key)
            self.rooms[key] = Room(
                key, row.suite, session, log, row.token, row.delivered, row.alarms, wake_at=1,
                entering=dict(zip(row.entering, row.offered_by or [""] * len(row.entering), strict=True)),
                inviter=row.inviter, opened_at=row.opened_at, yields_to=row.yields_to,
            )  # fmt: skip
        for key, value in store.scan("run"):
            run = _run_row.decode(value)
            self.runs[key] = Run(key, run.room, run.token, FollowedLog.load(store, realm, key), run.delivered)

    def open(
        self, unit: Unit, room_id: bytes, suite: str, session: Session, effects: Effects, inviter: str = ""
    ) -> Room:
        """A session that a suite has just made becomes a room; `inviter` is the device that asked this one in."""
        log = FollowedLog(Chain(self._account.realm, room_id))
        room = Room(room_id, suite, session, log, inviter=user_uri(inviter), opened_at=unit.now)
        self.rooms[room_id] = room
        self.save(unit, room)
        self.apply(unit, room, effects)
        joined_at = session.view.joined_at
        if joined_at is not None:
            self.claim(unit, room, joined_at, "?")
        self.moved.add(room_id)
        return room

    def save(self, unit: Unit, room: Room) -> None:
        """Store the room's row."""
        row = RoomRow(
            suite=room.suite, token=room.token, delivered=room.delivered, alarms=room.alarms,
            entering=list(room.entering), inviter=room.inviter, opened_at=room.opened_at,
            offered_by=list(room.entering.values()), yields_to=room.yields_to,
        )  # fmt: skip
        unit.put("room", room.id, rows.encode(row))

    def _save_run(self, unit: Unit, run: Run) -> None:
        unit.put("run", run.id, rows.encode(RunRow(room=run.room, token=run.token, delivered=run.delivered)))

    # --- reading ---

    def logs(self) -> Iterator[tuple[FollowedLog, bytes]]:
        """Every log that can be read now, with the token that opens it."""
        for room in self.rooms.values():
            if room.token is not None and room.readable:
                yield room.log, room.token
        for run in self.runs.values():
            if not self.outbox.pending_run(run.id):
                yield run.log, run.token

    def advance(self, unit: Unit, log: bytes) -> None:
        """Give the session what was verified and not given yet."""
        if log in self.rooms:
            self._advance_room(unit, self.rooms[log])
        elif log in self.runs:
            self._advance_run(unit, self.runs[log])

    def realm_came(self, unit: Unit, size: int) -> None:
        """The relay's newest realm log came: whoever waited for it goes on, past an entry that names a longer one."""
        holders: list[Room | Run] = [*self.rooms.values(), *self.runs.values()]
        for holder in holders:
            if not holder.blocked:
                continue
            if holder.blocked > size:
                room = holder if isinstance(holder, Room) else self.rooms[holder.room]
                self.alarm(unit, room, "gap", peer="?", detail="an entry names a realm log that does not exist")
                holder.delivered += 1
            holder.blocked = 0
            self.advance(unit, holder.id)

    def _advance_room(self, unit: Unit, room: Room) -> None:
        channel = Channel(ChannelKind.ROOM, room.id)
        before = room.delivered
        while room.delivered < room.log.chain.seq and not room.blocked and room.id in self.rooms:
            digest, entry = self._entry(unit, room.id, room.delivered + 1)
            if isinstance(entry, Entry) and not self._give(unit, room, room, channel, entry, digest):
                break
            room.delivered += 1
        if room.delivered != before:
            self.save(unit, room)

    def _advance_run(self, unit: Unit, run: Run) -> None:
        room = self.rooms.get(run.room)
        channel = Channel(ChannelKind.RUN, run.id)
        before = run.delivered
        while room and run.delivered < run.log.chain.seq and not run.blocked and run.id in self.runs:
            digest, entry = self._entry(unit, run.id, run.delivered + 1)
            if isinstance(entry, Entry) and not self._give(unit, room, run, channel, entry, digest):
                break
            run.delivered += 1
        if run.delivered != before and run.id in self.runs:
            self._save_run(unit, run)

    def _entry(self, unit: Unit, log: bytes, seq: int) -> tuple[bytes, Entry | Stub]:
        row = unit.get("entry", log + seq.to_bytes(8, "big"))
        if row is None:
            raise PeerError("damaged", "a verified entry is no longer stored")
        return row[:32], _entry.decode(row[32:])

    def _give(self, unit: Unit, room: Room, holder: Room | Run, channel: Channel, entry: Entry, digest: bytes) -> bool:
        """Give one entry; False when it must wait for the realm log."""
        own = self.outbox.own(channel.id, entry.entry_id)
        if own is not None:
            if not is_sent(own, entry):
                self.caught(unit, room, PeerError("bad_chain", f"entry {entry.seq} is not what was sent from here"))
                return False
            self._show_own(unit, room, own, entry)
            return True
        envelope = Envelope(
            channel=channel,
            kind=entry.kind,
            payload=entry.payload,
            entry_id=entry.entry_id,
            seq=entry.seq,
            hash=digest,
            token_hash=entry.token_hash,
            next_token_hash=entry.next_token_hash,
            head=signed_head(room.log.head) if holder is room else None,
            ts_ms=entry.ts_ms,
        )
        effects = room.session.receive(envelope, unit.now, unit.rng)
        size = _needed(effects)
        if size:
            holder.blocked = size
            self._need_realm(unit, size)
            return False
        self.apply(unit, room, effects, (entry.seq, entry.ts_ms))
        return True

    def mail(self, unit: Unit, room: Room, envelope: Envelope) -> int:
        """Give a mailbox item to its room's session; the realm log size it must wait for, or 0."""
        effects = room.session.receive(envelope, unit.now, unit.rng)
        size = _needed(effects)
        if not size:
            self.apply(unit, room, effects)
        return size

    def wake(self, unit: Unit) -> None:
        """Sessions whose time has come."""
        for room in list(self.rooms.values()):
            if room.wake_at and room.wake_at <= unit.now and self._me.directory().size:
                room.wake_at = 0
                self.apply(unit, room, room.session.wake(unit.now, unit.rng))

    # --- effects ---

    def apply(self, unit: Unit, room: Room, effects: Effects, place: Place = NOWHERE) -> None:
        """Carry out what a session wants, within this unit."""
        for effect in effects:
            self._persist(unit, room, effect)
            self._outgoing(unit, room, effect)
            self._tell(unit, room, effect, place)

    def _persist(self, unit: Unit, room: Room, effect: Effect) -> None:
        match effect:
            case Put():
                unit.put("item", room.id + effect.key, effect.value)
            case Drop():
                unit.delete("item", room.id + effect.key)
            case Follow():
                self._follow(unit, room, effect.run_id, effect.token)
            case Unfollow():
                self.unfollow(unit, effect.run_id)
                self.ended.add(room.id)
            case EpochChanged():
                self._epoch(unit, room, effect)
            case Wake():
                room.wake_at = min(room.wake_at or effect.at, effect.at)
            case Need(what="prekeys"):
                self.prekeys.need(unit, room, effect)
            case Need(what="group info"):
                self.prekeys.beside(room, *effect.ids)
            case _:
                pass

    def _outgoing(self, unit: Unit, room: Room, effect: Effect) -> None:
        match effect:
            case Post():
                run = self.runs.get(effect.channel.id)
                token_hash = sha256(run.token) if run else room.token_hash
                self.outbox.post(unit, room.id, effect, token_hash)
            case Commit():
                self.outbox.commit(unit, room.suite, effect)
            case OpenRun():
                self._follow(unit, room, effect.run_id, effect.token)
                self.outbox.open_run(unit, room.id, room.suite, effect, sha256(effect.token))
            case Direct():
                self.outbox.direct(unit, room.id, room.suite, effect)
            case _:
                pass

    def _tell(self, unit: Unit, room: Room, effect: Effect, place: Place) -> None:
        match effect:
            case Deliver():
                self._deliver(unit, room, effect, place)
            case Fault():
                # What a session refuses was made by a member, known or not: it is never laid on the relay.
                unknown = "?" if effect.code in RELAY_FAULTS else ""
                self.alarm(unit, room, effect.code, peer=effect.peer or unknown, detail=effect.detail)
            case Ask(kind="accept"):
                self.requests.came(unit, room)
            case _:
                pass

    def _follow(self, unit: Unit, room: Room, run_id: bytes, token: bytes) -> None:
        if run_id not in self.runs:
            self.runs[run_id] = Run(run_id, room.id, token, FollowedLog(Chain(self._account.realm, run_id)))
            self._save_run(unit, self.runs[run_id])

    def unfollow(self, unit: Unit, run_id: bytes) -> None:
        """A run's log is of no more use: nothing of it is kept."""
        self.runs.pop(run_id, None)
        unit.delete("run", run_id)
        forget(unit, run_id)
        self.outbox.abandon(unit, run_id)

    def _epoch(self, unit: Unit, room: Room, effect: EpochChanged) -> None:
        """A new epoch, or a step towards one.

        The token of an agreed key whose commit is awaited opens the log for those who enter, for the first time or
        again; the others, whose sessions give none, read the epoch they are in to its end first.
        """
        self.moved.add(room.id)
        if effect.state is State.PENDING:
            if effect.access_token is not None and effect.access_token not in room.entering:
                room.offer(effect.access_token, user_uri(effect.proposer))
                self.save(unit, room)
        elif effect.access_token is not None:
            room.entering = {}
            if effect.access_token != room.token:
                room.take(effect.access_token)
            self.save(unit, room)
            self.outbox.epoch_over(unit, room.id, room.token_hash)
            joined_at = room.session.view.joined_at
            if joined_at is not None and effect.began_by:  # what the inviter saw must join what is shown here
                self.claim(unit, room, joined_at, "?")
        elif effect.state is State.REMOVED:
            self.outbox.give_up(unit, room.id)
        elif effect.state is State.READ_ONLY:
            self.outbox.epoch_over(unit, room.id, None)

    def try_another(self, unit: Unit, log: bytes) -> bool:
        """The relay knows no epoch of a room's token: see `Room.next_token`."""
        room = self.rooms.get(log)
        if room is None or not room.entering:
            return False
        more = room.next_token()
        self.save(unit, room)
        return more

    def run_refused(self, unit: Unit, room: Room, run_id: bytes) -> None:
        """The relay does not take the run: its session ends it."""
        self.apply(unit, room, room.session.answer("run-refused", run_id, unit.now, unit.rng))

    # --- messages ---

    def seal(self, unit: Unit, row: Outgoing) -> bool:
        """Seal a queued text, if its room can."""
        room = self.rooms.get(row.room)
        if room is None or not self.may_post(room):
            return False
        try:
            effects = room.session.seal(row.content, unit.rng(16), signed_head(room.log.head), unit.now, unit.rng)
        except NotReady:
            return False
        for effect in effects:
            if isinstance(effect, Post):
                sealed_text(self.outbox, unit, row, effect, room.token_hash)
            else:
                self.apply(unit, room, (effect,))
        return bool(row.frame)

    def may_post(self, room: Room) -> bool:
        """Whether texts may be sealed: a key, a log read to its end, a relay that was not caught, nobody revoked."""
        view = room.session.view
        if view.state is not State.READY or not room.level or not room.readable:
            return False
        return not any(self.revoked(device) for device in view.roster)

    def revoked(self, device: str) -> bool:
        """Whether the realm log has revoked the device or taken it out of its user's manifest."""
        directory = self._me.directory()
        if self._judged[0] is not directory:  # a text asks for all members: each is judged once
            self._judged = (directory, {})
        judged = self._judged[1]
        if device not in judged:
            judged[device] = _out(directory, device)
        return judged[device]

    def _show_own(self, unit: Unit, room: Room, row: Outgoing, entry: Entry) -> None:
        self._messages.show(
            unit, room, row.message_id, self._account.device, row.content, (entry.seq, entry.ts_ms), own=True
        )
        if not row.acked:
            self.outbox.told_sent(unit, row, entry.seq)
        self.outbox.drop(unit, row)

    def _deliver(self, unit: Unit, room: Room, effect: Deliver, place: Place) -> None:
        try:
            self._messages.received(unit, room, effect.sender, effect.content, place)
        except PeerError as error:
            self.alarm(unit, room, error.code, peer=effect.sender, detail=error.detail)
        if effect.head is not None:
            self.claim(unit, room, effect.head, effect.sender)

    # --- the relay is watched ---

    def claim(self, unit: Unit, room: Room, head: SignedHead, peer: str) -> None:
        """Compare a head that a member has seen with the room's log."""
        shown = Head(incarnation=head.incarnation, seq=head.seq, hash=head.hash, signature=head.signature)
        try:
            room.log.claim(unit, shown, peer, self._link.head_keys)
        except PeerError as error:
            if error.code == "fork":
                self.caught(unit, room, error, shown)
            else:
                self.alarm(unit, room, error.code, peer=peer, detail=error.detail)

    def settle(self, unit: Unit, room: Room) -> None:
        """Claims that the log has reached, and those that the relay has not made good in time."""
        differs = room.log.settle(unit)
        if differs is not None:
            self.caught(unit, room, PeerError("fork", f"at entry {differs.head.seq}"), differs.head)
        elif self._link.online and room.log.overdue(unit.now) and room.session.view.state is not State.REMOVED:
            self.caught(unit, room, PeerError("withheld"))

    def caught(self, unit: Unit, room: Room, error: PeerError, theirs: Head | None = None) -> None:
        """The relay broke a rule in this room: say so once, with proof where there is one, and read no further."""
        if error.code in room.alarms:
            return
        proof = room.log.prove_fork(unit, theirs, self._link.statements) if theirs else None
        if proof is not None:
            others = [device for device in room.session.view.roster if device != self._account.device]
            evidence.share(unit, self.outbox, proof, others)
        room.log.state = LogState.BROKEN
        self.alarm(unit, room, error.code, detail=error.detail, proof=proof.encode().hex() if proof else "")

    def told(self, unit: Unit, room_id: bytes, body: bytes) -> None:
        """A member says that it has caught the relay; PeerError when that proves nothing."""
        room, identity = self.rooms.get(room_id), self._link.identity
        if room is None or identity is None:
            raise PeerError("misrouted", "a proof about a room that is not here")
        evidence.judge(body, self._account.realm, room_id, identity)
        if "fork" not in room.alarms:
            room.log.state = LogState.BROKEN
            self.alarm(unit, room, "fork", detail="shown by a member", proof=body.hex())

    def alarm(self, unit: Unit, room: Room, code: str, *, peer: str = "", detail: str = "", proof: str = "") -> None:
        """Tell that a rule was broken; what names the relay stays with the room."""
        if not peer and code in RELAY_FAULTS and code not in room.alarms:
            room.alarms.append(code)
            self.save(unit, room)
        unit.notify(
            lambda cursor: Alarm(cursor=cursor, code=code, room=room.id.hex(), peer=peer, detail=detail, proof=proof)
        )
        self.moved.add(room.id)


def _out(directory: Directory, device: str) -> bool:
    try:
        directory.device(device, directory.size)
    except PeerError as error:
        return error.code in ("revoked", "not_in_manifest")
    return False


def _needed(effects: Effects) -> int:
    """The realm log size that the input must wait for, or 0."""
    for effect in effects:
        if isinstance(effect, Need) and effect.what == "realm":
            return max(int.from_bytes(size, "big") for size in effect.ids)
    return 0


def signed_head(head: Head | None) -> SignedHead | None:
    """A verified head in the form that sessions carry."""
    if head is None:
        return None
    return SignedHead(incarnation=head.incarnation, seq=head.seq, hash=head.hash, signature=head.signature)


def user_uri(device: str) -> str:
    """The URI of a device's user, as content names senders."""
    return device.partition("/d/")[0]


def room_uri(realm: str, room: bytes) -> str:
    """The URI of a room, as content names it."""
    return f"cloister://{realm}/r/{room.hex()}"
