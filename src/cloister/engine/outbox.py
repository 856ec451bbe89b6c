"""What must reach the relay: stored before it is sent, sent again until it is answered, never sent twice as two.

Source: docs/architecture.md ("Life of a message"). A row belongs to a lane (a log, or one mailbox lane); the rows of
a lane leave in order. Texts and handshake posts of a lane may be under way together (WINDOW); a commit, a run or a
mailbox item holds its lane until it is answered.

Invariants
- A text is sealed only when its room is ready and its log read to the end, and the sealed frame is stored with the
  ratchet state in the same unit. The same frame (same entry id) goes out after every reconnect: the relay answers a
  repeated entry id with the first ack.
- A text keeps its content until its entry was read in the log. `stale_epoch` makes it wait for the next epoch and be
  sealed again under a new entry id; the old one can no longer appear, its epoch having been read to the end.
- Mailbox items are sealed once, then stored, then sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from cloister.engine import rows
from cloister.engine.account import Account
from cloister.engine.link import Asked, Link
from cloister.engine.rows import Outgoing
from cloister.engine.store import Store
from cloister.engine.unit import Unit
from cloister.engine.values import Alarm, SendChanged, SendState, Sent
from cloister.errors import PeerError, UsageError
from cloister.identity.mailbox import MailboxItem, MailboxKey, seal_item
from cloister.identity.realm import RealmState
from cloister.primitives.kdf import sha256
from cloister.protocols.interface import Commit, Direct, OpenRun, Post
from cloister.wire import frames, limits
from cloister.wire.frames import Mail

WINDOW: Final = 16
"""Posts of one lane that may be under way together."""
MAIL_LANE: Final = b"mail"
MAIL_KEY: Final = b"mail key "
"""With a device's id the name of the row that holds the time (ms) of its newest statement seen here."""
FRAME_ROOM: Final = limits.FRAME.value - 4 * limits.KIB
"""Bytes of a frame that mailbox items may take."""
PART: Final = limits.PART.value
STAGED: Final = limits.STAGE_LIFE.value // 2
"""How long (ms) what went up in parts is taken to wait at the relay."""
RETRY: Final = 2_000
"""Pause (ms) after the relay refused for a limit; doubled up to RETRY_MOST."""
RETRY_MOST: Final = 60_000

_row = msgspec.msgpack.Decoder(Outgoing)

Sealer = Callable[[Unit, Outgoing], bool]
"""Seals a text row of a room: True when `frame` is set, False when the room cannot seal now."""


@dataclass(slots=True)
class Outbox:
    """The rows, by number; `lane_open(row)` tells whether a row may leave now."""

    account: Account
    link: Link
    realm: Callable[[], RealmState]
    lane_open: Callable[[Outgoing], bool]
    seal_text: Sealer
    rows: dict[int, Outgoing] = field(default_factory=dict)
    retry_at: int = 0
    _lanes: dict[bytes, dict[int, None]] = field(default_factory=dict)
    _sent: set[int] = field(default_factory=set)
    _own: dict[bytes, int] = field(default_factory=dict)
    _staged: dict[bytes, int] = field(default_factory=dict)
    """Digest of what went up in parts over this connection -> when (ms)."""
    _mail_keys: dict[str, bytes | None] = field(default_factory=dict)
    _keys_from: int = 0
    _keys_asked: bool = False
    _asked_for: list[str] = field(default_factory=list)
    _pause: int = RETRY
    _next: int = 1

    def load(self, store: Store) -> None:
        """Take up what an earlier process left."""
        for key, value in store.scan("outbox"):
            row = _row.decode(value)
            self._keep(row)
            self._next = int.from_bytes(key, "big") + 1

    def _keep(self, row: Outgoing) -> None:
        self.rows[row.number] = row
        self._lanes.setdefault(row.log, {})[row.number] = None
        if row.kind == "text" and row.entry_id:
            self._own[row.log + row.entry_id] = row.number

    def _add(self, unit: Unit, **fields: Any) -> Outgoing:
        row = Outgoing(number=self._next, **fields)
        self._next += 1
        self._keep(row)
        self.save(unit, row)
        return row

    def save(self, unit: Unit, row: Outgoing) -> None:
        """Store a row as it is now."""
        unit.put("outbox", rows.key(row.number), rows.encode(row))
        if row.kind == "text" and row.entry_id:
            self._own[row.log + row.entry_id] = row.number

    def drop(self, unit: Unit, row: Outgoing) -> None:
        """The row has done its work."""
        unit.delete("outbox", rows.key(row.number))
        self.rows.pop(row.number, None)
        self._sent.discard(row.number)
        lane = self._lanes.get(row.log, {})
        lane.pop(row.number, None)
        if not lane:
            self._lanes.pop(row.log, None)
        self._own.pop(row.log + row.entry_id, None)

    # --- what comes in from sessions and people ---

    def text(self, unit: Unit, room: bytes, content: bytes, message_id: bytes) -> Outgoing:
        """Queue a person's text."""
        return self._add(unit, kind="text", room=room, log=room, content=content, message_id=message_id)

    def post(self, unit: Unit, room: bytes, effect: Post, token_hash: bytes) -> None:
        """Queue a handshake entry for a room's or a run's log."""
        frame = frames.Post(
            rid=0,
            log=effect.channel.id,
            kind=effect.kind.value,
            token_hash=token_hash,
            entry_id=effect.entry_id,
            payload=effect.payload,
        )
        log = effect.channel.id
        self._add(
            unit, kind="post", room=room, log=log, frame=frames.encode(frame), entry_id=effect.entry_id,
            token_hash=token_hash,
        )  # fmt: skip

    def commit(self, unit: Unit, suite: str, effect: Commit) -> None:
        """Queue a commit or create."""
        frame = frames.Commit(
            rid=0,
            log=effect.room,
            expects=effect.expects,
            entry_id=effect.entry_id,
            payload=effect.payload,
            next=effect.next_token_hash,
            group_info=effect.group_info,
            items=[],
        )
        self._add(
            unit, kind="commit", room=effect.room, log=effect.room, frame=frames.encode(frame),
            plain=_named(suite, effect.sealed), entry_id=effect.entry_id, token_hash=effect.expects,
        )  # fmt: skip

    def open_run(self, unit: Unit, room: bytes, suite: str, effect: OpenRun, token_hash: bytes) -> None:
        """Queue the opening of a run."""
        frame = frames.OpenRun(
            rid=0, run=effect.run_id, room=effect.room, token_hash=token_hash, deadline=effect.deadline, items=[]
        )
        self._add(
            unit,
            kind="run",
            room=room,
            log=effect.run_id,
            frame=frames.encode(frame),
            plain=_named(suite, effect.sealed),
        )

    def direct(self, unit: Unit, room: bytes, suite: str, effect: Direct) -> None:
        """Queue a mailbox item."""
        self._add(
            unit,
            kind="mail",
            room=room,
            log=MAIL_LANE,
            plain=_named(suite, [(effect.device, effect.kind, effect.body)]),
        )

    def pending_run(self, run_id: bytes) -> bool:
        """Whether the run's opening has not been acked yet."""
        return any(self.rows[number].kind == "run" for number in self._lanes.get(run_id, ()))

    def own(self, log: bytes, entry_id: bytes) -> Outgoing | None:
        """The text row that became this entry, if it is one of ours."""
        number = self._own.get(log + entry_id)
        return None if number is None else self.rows.get(number)

    def quiet(self, room: bytes) -> bool:
        """Whether nothing waits to be stored in the room, and all that was sent has come back in its log."""
        return not self._lanes.get(room)

    @property
    def queued(self) -> int:
        """Texts that the relay has not acked."""
        return sum(1 for row in self.rows.values() if row.kind == "text" and not row.acked)

    @property
    def idle(self) -> bool:
        """Whether nothing but texts is still to be sent."""
        return all(row.kind == "text" for row in self.rows.values())

    def abandon(self, unit: Unit, log: bytes) -> None:
        """Nobody reads this log any more: what was still to be sent to it is of no use."""
        for number in list(self._lanes.get(log, ())):
            self.drop(unit, self.rows[number])

    # --- sending ---

    def disconnected(self) -> None:
        """Everything unanswered goes out again on the next connection."""
        self._sent.clear()
        self._staged.clear()
        self._mail_keys.clear()
        self._keys_asked = False
        self.retry_at = 0

    def pump(self, unit: Unit) -> None:
        """Send what can be sent; others' mailbox keys are asked for anew each day."""
        if self._keys_from + limits.DAY < unit.now:
            self._mail_keys.clear()
            self._keys_from = unit.now
        if not self.link.online or unit.now < self.retry_at:
            return
        self.retry_at = 0
        for log in list(self._lanes):
            self._pump_lane(unit, list(self._lanes[log]))

    def _pump_lane(self, unit: Unit, numbers: list[int]) -> None:
        """In order; only texts that cannot be sealed yet are passed: what makes the room ready stands behind them."""
        under_way, waiting = 0, False
        for number in numbers:
            row = self.rows[number]
            text = row.kind == "text"
            if row.acked or (text and waiting):
                continue
            if number not in self._sent:
                if not self._prepare(unit, row):
                    if not text:
                        return
                    waiting = True
                    continue
                self._send(unit, row)
            under_way += 1
            if row.kind not in ("text", "post") or under_way >= WINDOW:
                return

    def _prepare(self, unit: Unit, row: Outgoing) -> bool:
        """Whether the row's frame is complete and may leave."""
        if not self.lane_open(row):
            return False
        if row.plain:
            return self._seal_items(unit, row)
        if row.kind == "text" and not row.frame:
            return self.seal_text(unit, row)
        return True

    def _send(self, unit: Unit, row: Outgoing) -> None:
        rid = self.link.request(Asked("outbox", row.number, row.entry_id))
        frame = self._in_parts(unit, frames.decode_request(row.frame))
        unit.transmit(frames.encode(msgspec.structs.replace(frame, rid=rid)))
        self._sent.add(row.number)

    def _in_parts(self, unit: Unit, frame: frames.Request) -> frames.Request:
        """A commit beyond a frame names what is large in it, which goes up first in parts."""
        if not isinstance(frame, frames.Commit):
            return frame
        if len(frames.encode(frame)) > FRAME_ROOM and isinstance(frame.payload, bytes):
            frame = msgspec.structs.replace(frame, payload=self._stage(unit, frame.payload))
        if len(frames.encode(frame)) > FRAME_ROOM and isinstance(frame.group_info, bytes):
            frame = msgspec.structs.replace(frame, group_info=self._stage(unit, frame.group_info))
        if len(frames.encode(frame)) > FRAME_ROOM and frame.items:
            items = self._stage(unit, frames.encode_items(frame.items))
            frame = msgspec.structs.replace(frame, items=[], staged_items=items)
        return frame

    def _stage(self, unit: Unit, data: bytes) -> frames.Staged:
        """Send the bytes in parts, unless they wait there since the last try; what stands for them in the commit."""
        digest = sha256(data)
        staged = frames.Staged(hash=digest, size=len(data))
        if self._staged.get(digest, -STAGED) + STAGED > unit.now:
            return staged
        self._staged[digest] = unit.now
        for offset in range(0, len(data), PART):
            part, rid = data[offset : offset + PART], self.link.request(Asked("stage"))
            stage = frames.Stage(rid=rid, hash=digest, size=len(data), offset=offset, data=part)
            unit.transmit(frames.encode(stage))
        return staged

    def _seal_items(self, unit: Unit, row: Outgoing) -> bool:
        """Seal the row's mailbox items, once all their recipients' keys are known."""
        missing = [device for device, _kind, _body in row.plain if device not in self._mail_keys]
        if missing:
            self._ask_keys(unit, missing)
            return False
        try:
            items = [
                Mail(device=device, item_id=unit.rng(16), body=self._sealed(unit, row, device, kind, body))
                for device, kind, body in row.plain
                if self._mail_keys[device] is not None
            ]
        except UsageError as error:  # larger than an item may be: it can never leave
            code, detail = error.code, error.detail
            self.drop(unit, row)
            unit.notify(lambda cursor: Alarm(cursor=cursor, code=code, room=row.room.hex(), detail=detail))
            return False
        if row.kind == "mail":
            if not items:  # the device is gone: nothing can reach it
                self.drop(unit, row)
                return False
            frame: frames.Request = frames.Deposit(rid=0, mail=items[0])
        else:
            if row.kind == "run":
                items = self._overflow(unit, row, items)
            frame = msgspec.structs.replace(frames.decode_request(row.frame), items=items)
        row.frame, row.plain = frames.encode(frame), []
        self.save(unit, row)
        return True

    def _overflow(self, unit: Unit, row: Outgoing, items: list[Mail]) -> list[Mail]:
        """The items that fit into the frame that opens a run; the others follow it one by one."""
        room, fit = FRAME_ROOM, 0
        for item in items:
            room -= len(item.body) + limits.DEVICE_ID.value + 64
            fit += room > 0
        for item in items[fit:]:
            frame = frames.encode(frames.Deposit(rid=0, mail=item))
            self._add(unit, kind="mail", room=row.room, log=row.log, frame=frame)
        return items[:fit]

    def _sealed(self, unit: Unit, row: Outgoing, device: str, kind: str, body: bytes) -> bytes:
        item = MailboxItem(sender=self.account.device, recipient=device, kind=kind, room=row.room, body=body)
        key = self._mail_keys[device] or b""
        return seal_item(item, key, self.account.keys.device, unit.rng)

    def _ask_keys(self, unit: Unit, devices: list[str]) -> None:
        if not self._keys_asked:
            self._keys_asked = True
            self._asked_for = devices
            rid = self.link.request(Asked("mailkeys"))
            unit.transmit(frames.encode(frames.GetMailKeys(rid=rid, devices=devices)))

    def keys_refused(self, unit: Unit) -> None:
        """The relay did not give the mailbox keys now: ask again after a pause."""
        self._keys_asked = False
        self.retry_at = unit.now + self._pause

    def mail_keys(self, unit: Unit, answer: frames.MailKeys) -> list[tuple[str, str]]:
        """Mailbox keys came; the devices whose statement was refused, each with the code."""
        self._keys_asked = False
        if len(answer.statements) != len(self._asked_for):
            raise PeerError("bad_encoding", "mailbox keys that were not asked for")
        refused = []
        for device, data in zip(self._asked_for, answer.statements, strict=True):
            try:
                self._mail_keys[device] = None if data is None else self._checked(unit, device, data)
            except PeerError as error:
                self._mail_keys[device] = None
                refused.append((device, error.code))
        return refused

    def _checked(self, unit: Unit, device: str, data: bytes) -> bytes:
        """The key of a statement that is not older than the newest one seen here: the relay must not bring back
        a key that its owner has given up.
        """
        statement = MailboxKey.decode(data)
        statement.check(device, self.realm().device(device).key)
        name = MAIL_KEY + device.encode()
        newest = int.from_bytes(unit.get("meta", name) or b"", "big")
        if statement.ts < newest:
            raise PeerError("replay", "an older mailbox key than was shown before")
        unit.put("meta", name, statement.ts.to_bytes(8, "big"))
        return statement.public

    # --- answers ---

    def _answered(self, asked: Asked) -> Outgoing | None:
        """The row an answer is for, unless it is gone or was sealed again since."""
        row = self.rows.get(asked.ref) if isinstance(asked.ref, int) else None
        return row if row is not None and row.entry_id == asked.tag else None

    def acked(self, unit: Unit, asked: Asked, seq: int = 0) -> Outgoing | None:
        """The relay has stored and signed the row's entry at `seq` (or stored its item, which has none)."""
        row = self._answered(asked)
        if row is None:
            return None
        self._pause = RETRY
        if row.kind == "text":
            row.acked = True
            self.save(unit, row)
            self.told_sent(unit, row, seq)
        else:
            self._staged.clear()
            self.drop(unit, row)
        return row

    def refused(self, unit: Unit, asked: Asked, code: str) -> Outgoing | None:
        """The relay refused: wait, seal again, or give up."""
        row = self._answered(asked)
        if row is None:
            return None
        if row.kind == "text" and code == "stale_epoch":
            return row  # sealed again when its epoch was read to the end: only the log says that it does not stand
        self._sent.discard(row.number)
        if code in ("quota", "storage_full", "not_allowed", "clock_skew"):
            self.retry_at = unit.now + self._pause
            self._pause = min(2 * self._pause, RETRY_MOST)
        elif row.kind == "text" and code == "conflict":
            self.unseal(unit, row)
        else:
            self._staged.clear()
            self.drop(unit, row)
            if row.kind == "text":
                self._tell(unit, row, SendState.FAILED, code)
        return row

    def unseal(self, unit: Unit, row: Outgoing) -> None:
        """The sealed form is of no more use: the content waits to be sealed again."""
        self._own.pop(row.log + row.entry_id, None)
        self._sent.discard(row.number)
        row.frame, row.entry_id, row.token_hash = b"", b"", b""
        self.save(unit, row)

    def epoch_over(self, unit: Unit, room: bytes, token_hash: bytes | None) -> None:
        """The room's log was read to the end of an epoch: what was sealed for another one than this is undone.

        None: nothing more is sealed for now; what was made already (the order by which this device leaves) still goes.
        """
        for number in list(self._lanes.get(room, ())):
            row = self.rows[number]
            if row.frame and row.token_hash != token_hash and not row.acked:
                if row.kind == "text":
                    self.unseal(unit, row)
                elif token_hash is not None and number not in self._sent:
                    self.drop(unit, row)

    def give_up(self, unit: Unit, room: bytes) -> None:
        """This device is out of the room: nothing of it can be sent any more."""
        for number in list(self._lanes.get(room, ())):
            row = self.rows[number]
            self.drop(unit, row)
            if row.kind == "text" and not row.acked:
                self._tell(unit, row, SendState.FAILED, "read_only")

    def told_sent(self, unit: Unit, row: Outgoing, seq: int) -> None:
        """The row's entry stands at `seq`: its ack came, or it was read in the log before."""
        self._tell(unit, row, SendState.SENT, seq=seq)

    def _tell(self, unit: Unit, row: Outgoing, state: SendState, code: str = "", seq: int = 0) -> None:
        sent = Sent(id=row.message_id.hex(), room=row.room.hex(), state=state, seq=seq, code=code)
        unit.notify(lambda cursor: SendChanged(cursor=cursor, sent=sent))


def _named(suite: str, items: Iterable[tuple[str, str, bytes]]) -> list[tuple[str, str, bytes]]:
    """Mailbox items with their suite's name before their kind: who receives one for a new room must know it."""
    return [(device, f"{suite} {kind}", body) for device, kind, body in items]


def sealed_text(outbox: Outbox, unit: Unit, row: Outgoing, post: Post, token_hash: bytes) -> None:
    """Take a session's sealed record into the row."""
    frame = frames.Post(
        rid=0,
        log=row.log,
        kind=post.kind.value,
        token_hash=token_hash,
        entry_id=post.entry_id,
        payload=post.payload,
    )
    row.frame, row.entry_id, row.token_hash = frames.encode(frame), post.entry_id, token_hash
    outbox.save(unit, row)


def is_sent(row: Outgoing, entry: frames.Entry) -> bool:
    """Whether an entry with the row's id is what the row sent: the relay could store other bytes under the id."""
    post = frames.decode_request(row.frame)
    return isinstance(post, frames.Post) and (post.kind, post.token_hash, post.payload) == (
        entry.kind,
        entry.token_hash,
        entry.payload,
    )
