"""The engine of a guest: one session of two, from the code to the end. No account, no realm log, no mailbox.

    unit = engine.handle(input, now)        driven as `core.Engine` is, by the same agent

Source: docs/spec/classic/code.md ("A guest's client"), document 004. The session is suite `code`'s; once both hold the
key it is a room (`guest_room`).

    stages   waiting -> agreeing -> (compare -> awaiting ->) ready -> ending -> ended

Invariants
- Nothing is stored before the room is there: a code lives as long as its connection. From then on every step is one
  unit, as with devices, and `Tick` after a restart goes on.
- Every failed try of a creator's code is told to the relay (the place is free again) and to the person.
- A frame of the relay that breaks a rule closes the connection and changes nothing else; in the login it ends the
  guest, for another try would meet the same relay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeVar

from cloister.codec.cbor import enc
from cloister.engine import inputs, values
from cloister.engine.account import Account
from cloister.engine.commands import room_info
from cloister.engine.guest_link import GuestLink
from cloister.engine.guest_room import GuestRoom
from cloister.engine.link import Asked, LinkState
from cloister.engine.room import Room
from cloister.engine.store import Store
from cloister.engine.unit import Unit
from cloister.engine.values import Alarm, ConnectionChanged, RoomChanged, SessionChanged
from cloister.errors import CloisterError, PeerError, UnavailableError, UsageError
from cloister.identity.keys import DeviceKeys, UserKeys
from cloister.primitives import Rng
from cloister.protocols.code.forms import Code as SessionCode
from cloister.protocols.code.forms import digits, new_secret, pictures
from cloister.protocols.code.items import CREATOR, EPOCH, JOINER, RECV, RESUME, SEND, policy
from cloister.protocols.code.session import CodeSession
from cloister.protocols.code.suite import Code
from cloister.protocols.interface import (
    Channel,
    ChannelKind,
    Drop,
    Effects,
    EntryKind,
    Envelope,
    EpochChanged,
    Fault,
    Post,
    Put,
    State,
    Wake,
)
from cloister.wire import frames

_ACCOUNT: Final = b"account"
_ROOM_ID: Final = 16
_STATES: Final = {LinkState.CLOSED: "offline", LinkState.ONLINE: "online"}
Wish = values.OpenSession | values.EnterSession
Wished = TypeVar("Wished", values.OpenSession, values.EnterSession)


def guest_account(address: str, pin: bytes, rng: Rng) -> Account:
    """A guest as it begins: a key for one session, no names; `pin` is empty for a relay that was never met."""
    keys = DeviceKeys.generate(rng, rsa=False)
    return Account(
        realm="",
        device=CREATOR,
        address=address,
        user_keys=UserKeys(identity=keys.device, next_key=bytes(32)),
        keys=keys,
        chain=(),
        relay_pin=pin,
        root_pin=bytes(32),
    )


def stored_account(store: Store) -> Account | None:
    """The guest that this store is of, once its room was there."""
    data = store.get("meta", _ACCOUNT)
    return None if data is None else Account.decode(data)


@dataclass(slots=True)
class Meeting:
    """A session before its room is there: the code, the live session, and its items, which are not stored yet."""

    code: SessionCode
    session: CodeSession
    items: dict[bytes, bytes] = field(default_factory=dict)
    wake_at: int = 0


class GuestEngine:
    """A guest's whole state between two inputs."""

    def __init__(self, account: Account, store: Store, rng: Rng) -> None:
        self._store = store
        self._rng = rng
        self._suite = Code()
        self.link = GuestLink(account)
        self._wish: tuple[int, Wish] | None = None
        self._meeting: Meeting | None = None
        self._place: GuestRoom | None = None
        self._told = SessionChanged(cursor=0, stage="")
        if account.realm:
            self.link.resume(self._unit(0))
            self._place = self._build()
            self._place.load(store)

    def _unit(self, now: int) -> Unit:
        return Unit(self._store, now, self._rng, lambda: self._place.messages.cursor if self._place else 0)

    def _build(self) -> GuestRoom:
        return GuestRoom(self.link.account, {"code": self._suite}, self.link)

    @property
    def account(self) -> Account:
        """The guest as it is now: its role, the realm, the relay's pin."""
        return self.link.account

    @property
    def room(self) -> Room | None:
        """The session's room, once both hold the key."""
        return self._place.room if self._place else None

    def secrets(self) -> Iterator[tuple[str, bytes]]:
        """(name, value) of the keys of the room's session, as they are stored."""
        for key, value in self._store.scan("item"):
            shelf = key[_ROOM_ID:].partition(b"/")[0]
            if shelf == EPOCH.name:
                epoch = EPOCH.decode(value)
                yield from (("room key", epoch.exporter), ("confirm key", epoch.confirm))
            elif shelf in (SEND.name, RECV.name):
                yield "chain key", (SEND if shelf == SEND.name else RECV).decode(value).key
            elif shelf == RESUME.name:
                yield "resumption secret", RESUME.decode(value).secret

    # --- inputs -------------------------------------------------------------------------------------------------

    def handle(self, what: inputs.Input, now: int) -> Unit:
        """Handle one input."""
        unit = self._unit(now)
        match what:
            case inputs.Received():
                self._received(unit, what.data)
            case inputs.Execute():
                self._try(unit, what.ticket, lambda: self._execute(unit, what.command))
            case inputs.Meet():
                self._meet(unit, what.ticket, what.command)
            case inputs.Opened():
                self.link.opened(unit, what.tls)
                unit.notify(lambda cursor: ConnectionChanged(cursor=cursor, state="connecting"))
            case inputs.Closed():
                self._closed(unit, what.code)
            case inputs.Tick():
                self._tick(unit)
        self._settle(unit)
        return unit

    def next_wake(self) -> int | None:
        """When `Tick` is due (ms), or None."""
        times = self._place.wakes() if self._place else []
        if self._meeting is not None:
            times.append(self._meeting.wake_at)
        return min((time for time in times if time), default=None)

    def _try(self, unit: Unit, ticket: int, work: Callable[[], Any]) -> None:
        try:
            unit.reply(ticket, work())
        except CloisterError as error:
            unit.reply(ticket, error=error)

    def _closed(self, unit: Unit, code: str) -> None:
        self.link.closed(code)
        if self._place is not None:
            self._place.disconnected()
        if self._meeting is not None:  # the code has ended with its connection
            self._meeting = None
            self._tell(unit, SessionChanged(cursor=0, stage="ended", code="closed"))
        if self._wish is not None and code not in ("", "closed", "unreachable"):
            ticket, self._wish = self._wish[0], None
            unit.reply(ticket, error=UnavailableError(code))
        unit.notify(lambda cursor: ConnectionChanged(cursor=cursor, state="offline", code=code))

    def _tick(self, unit: Unit) -> None:
        meeting = self._meeting
        if meeting is not None and 0 < meeting.wake_at <= unit.now:
            meeting.wake_at = 0
            self._met(unit, meeting, meeting.session.wake(unit.now, unit.rng))

    def _settle(self, unit: Unit) -> None:
        """What is online follows from what is stored; the person hears of each new stage once."""
        if self._place is not None:
            self._place.work(unit)
        self._show(unit)

    def _received(self, unit: Unit, data: bytes) -> None:
        try:
            frame = frames.decode_answer(data)
            if not self._link_frame(unit, frame) and not self._meeting_frame(unit, frame):
                self._room_frame(unit, frame)
        except PeerError as error:
            unit.notify(lambda cursor, error=error: Alarm(  # type: ignore[misc]
                cursor=cursor, code=error.code, detail=error.detail))  # fmt: skip
            unit.disconnect(error.code, final=not self.link.online)
        except UnavailableError as error:
            unit.disconnect(error.code, final=not self.link.online)

    def _link_frame(self, unit: Unit, frame: frames.Answer) -> bool:
        match frame:
            case frames.Challenge():
                self.link.challenged(unit, frame)
            case frames.Welcome():
                self.link.welcomed(unit, frame)
                unit.notify(lambda cursor: ConnectionChanged(cursor=cursor, state="online"))
                self._make_wish(unit)
            case frames.Refused():
                self._refused(unit, frame)
            case frames.Done():
                self.link.answered(frame.rid)
            case frames.Bye():
                unit.disconnect(frame.code)
            case _:
                return False
        return True

    def _meeting_frame(self, unit: Unit, frame: frames.Answer) -> bool:
        match frame:
            case frames.SessionCreated():
                self.link.answered(frame.rid)
                self._created(unit, frame)
            case frames.Paired() if frame.rid:
                self.link.answered(frame.rid)
                self._joined(unit, frame)
            case frames.Paired():
                self._word(unit, frame.session, "paired", enc("paired", frame.mode))
            case frames.Passed():
                self._word(unit, frame.session, EntryKind.HANDSHAKE, frame.body)
            case frames.PeerLeft():
                self._word(unit, frame.session, "left", b"")
            case frames.SessionOver():
                self._word(unit, frame.session, "over", b"")
            case _:
                return False
        return True

    def _room_frame(self, unit: Unit, frame: frames.Answer) -> None:
        place = self._place
        if place is None:
            raise PeerError("bad_encoding", "an answer that nothing awaits")
        match frame:
            case frames.Page():
                place.page(unit, frame)
            case frames.Pushed():
                place.pushed(unit, frame)
            case frames.Behind():
                place.behind(frame)
            case frames.Ack():
                place.acked(unit, frame)
            case _:
                raise PeerError("bad_encoding", "an answer that nothing awaits")

    def _refused(self, unit: Unit, refused: frames.Refused) -> None:
        if not self.link.online:  # the login was refused
            if self._wish is not None:
                ticket, self._wish = self._wish[0], None
                unit.reply(ticket, error=UnavailableError(refused.code, refused.detail))
            unit.disconnect(refused.code, final=True)
            return
        asked = self.link.answered(refused.rid)
        if asked.what != "meeting":
            if self._place is not None:
                self._place.refused(unit, asked, refused.code)
        elif self._wish is not None:
            ticket, self._wish = self._wish[0], None
            unit.reply(ticket, error=UsageError(refused.code, refused.detail))

    # --- the code -----------------------------------------------------------------------------------------------

    def _meet(self, unit: Unit, ticket: int, command: values.SessionCommand) -> None:
        if isinstance(command, values.Compared):
            self._try(unit, ticket, lambda: self._compared(unit, same=command.same))
            return
        try:
            if isinstance(command, values.EnterSession):
                SessionCode.parse(command.code)
            if self._meeting or self._wish or (self._place and self._place.room):
                raise UsageError("exists", "this guest has its session")
        except UsageError as error:
            unit.reply(ticket, error=error)
            return
        self._wish = (ticket, command)
        if self.link.online:
            self._make_wish(unit)

    def _make_wish(self, unit: Unit) -> None:
        """Ask the relay for what the person wants."""
        if self._wish is None:
            return
        wish, rid = self._wish[1], self.link.request(Asked("meeting"))
        if isinstance(wish, values.OpenSession):
            mode: Literal["code", "sas"] = "code" if wish.whole else "sas"
            frame: frames.Frame = frames.CreateSession(rid=rid, purpose="chat", mode=mode)
        else:
            frame = frames.JoinSession(rid=rid, session=SessionCode.parse(wish.code).id)
        unit.transmit(frames.encode(frame))

    def _wished(self, kind: type[Wished]) -> tuple[int, Wished]:
        """What the relay's answer is to; PeerError for an answer that nobody asked for."""
        if self._wish is None or not isinstance(self._wish[1], kind):
            raise PeerError("bad_encoding", "a session that was not asked for")
        (ticket, wish), self._wish = (self._wish[0], self._wish[1]), None
        return ticket, wish

    def _created(self, unit: Unit, frame: frames.SessionCreated) -> None:
        """The relay has given an id: the code is whole, and waits."""
        ticket, wish = self._wished(values.OpenSession)
        code = SessionCode(frame.session, new_secret(unit.rng) if wish.whole else "")
        self.link.account = replace(self.link.account, device=CREATOR)
        place = self._build()
        session, effects = self._suite.create(place.me, unit.rng(16), policy("session"), unit.now, unit.rng)
        self._place, self._meeting = place, Meeting(code, session)
        self._met(unit, self._meeting, effects)
        self._met(unit, self._meeting, session.answer("code", str(code).encode(), unit.now, unit.rng))
        unit.reply(ticket, str(code))

    def _joined(self, unit: Unit, frame: frames.Paired) -> None:
        """The relay has paired this guest with the code's creator."""
        ticket, wish = self._wished(values.EnterSession)
        code = SessionCode.parse(wish.code)
        self.link.account = replace(self.link.account, device=JOINER)
        place = self._build()
        envelope = _envelope(code, "paired", enc("paired", frame.mode))
        try:
            session, effects = self._suite.join(place.me, envelope, None, unit.now, unit.rng)
            meeting = Meeting(code, session)
            self._met(unit, meeting, effects)
            self._met(unit, meeting, session.answer("code", wish.code.encode(), unit.now, unit.rng))
        except (PeerError, UsageError) as error:
            unit.reply(ticket, error=error)
            unit.disconnect(error.code)
            return
        self._place, self._meeting = place, meeting
        unit.reply(ticket, code.id)

    def _word(self, unit: Unit, name: str, kind: str, payload: bytes) -> None:
        """The relay's word about the code, or what the other one has said."""
        meeting = self._meeting
        if meeting is not None and meeting.code.id == name:
            effects = meeting.session.receive(_envelope(meeting.code, kind, payload), unit.now, unit.rng)
            self._met(unit, meeting, effects)

    # --- before the room is there -------------------------------------------------------------------------------

    def _met(self, unit: Unit, meeting: Meeting, effects: Effects) -> None:
        """Carry out what the session wants; with the agreed key it becomes a room."""
        for effect in effects:
            match effect:
                case Put():
                    meeting.items[effect.key] = effect.value
                case Drop():
                    meeting.items.pop(effect.key, None)
                case Wake():
                    meeting.wake_at = min(meeting.wake_at or effect.at, effect.at)
                case Post() if effect.channel.kind is ChannelKind.RENDEZVOUS:
                    self._pass(unit, meeting, effect.payload)
                case Fault():
                    self._failed(unit, meeting, effect)
                case _:
                    pass
        if meeting.session.view.state is State.REMOVED:
            self._meeting = None
        if any(isinstance(effect, EpochChanged) and effect.access_token for effect in effects):
            self._begin(unit, meeting, effects)

    def _begin(self, unit: Unit, meeting: Meeting, effects: Effects) -> None:
        items = tuple(Put(key=key, value=value) for key, value in meeting.items.items())
        rest = tuple(
            effect
            for effect in effects
            if not isinstance(effect, Put | Drop)
            and not (isinstance(effect, Post) and effect.channel.kind is ChannelKind.RENDEZVOUS)
        )
        place = self._place or self._build()
        self._place, self._meeting = place, None
        unit.put("meta", _ACCOUNT, self.link.account.encode())
        place.begin(unit, meeting.session, (*items, *rest))

    def _pass(self, unit: Unit, meeting: Meeting, body: bytes) -> None:
        rid = self.link.request(Asked("meeting"))
        unit.transmit(frames.encode(frames.Pass(rid=rid, session=meeting.code.id, body=body)))

    def _failed(self, unit: Unit, meeting: Meeting, fault: Fault) -> None:
        """A try was refused: the person hears of it, and a creator frees the place."""
        unit.notify(lambda cursor: SessionChanged(cursor=cursor, stage="failed", code=fault.code))
        if fault.fatal and meeting.session.view.state is not State.REMOVED:
            rid = self.link.request(Asked("meeting"))
            unit.transmit(frames.encode(frames.Release(rid=rid, session=meeting.code.id)))

    # --- what the person asks for, and sees ---------------------------------------------------------------------

    def _execute(self, unit: Unit, command: values.Command) -> Any:
        if isinstance(command, values.GetStatus):
            return self._status()
        if self._place is None:
            if isinstance(command, values.ListRooms):
                return []
            raise UsageError("no_room", "the session has not begun")
        return self._place.execute(unit, command)

    def _status(self) -> values.Status:
        place = self._place
        return values.Status(
            user=self.account.device.split("/")[4],
            device=self.account.device,
            realm=self.account.realm,
            relay=_STATES.get(self.link.state, "connecting"),
            address=self.account.address,
            realm_size=0,
            realm_head="",
            rooms=1 if place and place.room else 0,
            queued=place.outbox.queued if place else 0,
            last_error=self.link.last_error,
            caught_up=self.link.idle and (place is None or place.outbox.idle),
        )

    def _compared(self, unit: Unit, *, same: bool) -> str:
        if self._place is None:
            raise UsageError("not_ready", "nothing is to be compared")
        self._place.answer(unit, "sas", b"\x01" if same else b"\x00")
        return self._now().stage

    def _now(self) -> SessionChanged:
        """How the session stands."""
        room = self.room
        if room is None:
            if self._meeting is None:
                return SessionChanged(cursor=0, stage=self._told.stage and "ended", code=self._told.code)
            waits = self._meeting.session.view.missing and not self._meeting.session.opened
            return SessionChanged(cursor=0, stage="waiting" if waits else "agreeing")
        name, view = room.id.hex(), room.session.view
        if view.state is State.PENDING and view.epoch == 0:
            return SessionChanged(cursor=0, stage="agreeing", room=name)
        if view.state is State.PENDING:
            if self.account.device not in view.missing:
                return SessionChanged(cursor=0, stage="awaiting", room=name)
            sas = room.session.sas if isinstance(room.session, CodeSession) else b""
            return SessionChanged(
                cursor=0, stage="compare", room=name, digits=digits(sas), pictures=list(pictures(sas))
            )
        stages = {State.READY: "ready", State.FROZEN: "ending", State.REMOVED: "ended"}
        return SessionChanged(cursor=0, stage=stages.get(view.state, str(view.state)), room=name)

    def _show(self, unit: Unit) -> None:
        place = self._place
        now = self._now()
        if now.stage and now.stage != self._told.stage:
            self._tell(unit, now)
        if place is None:
            return
        moved, place.rooms.moved = place.rooms.moved, set()
        for room_id in moved:
            info = room_info(place.rooms.rooms[room_id])
            unit.notify(lambda cursor, info=info: RoomChanged(  # type: ignore[misc]
                cursor=cursor, room=info, what=f"{info.state}, epoch {info.epoch}"))  # fmt: skip

    def _tell(self, unit: Unit, what: SessionChanged) -> None:
        self._told = what
        unit.notify(
            lambda cursor: SessionChanged(
                cursor=cursor, stage=what.stage, room=what.room, digits=what.digits, pictures=what.pictures,
                code=what.code,
            )
        )  # fmt: skip


def _envelope(code: SessionCode, kind: str, payload: bytes) -> Envelope:
    """What came through the rendezvous, as a session takes it."""
    return Envelope(channel=Channel(ChannelKind.RENDEZVOUS, code.id.encode()), kind=kind, payload=payload)
