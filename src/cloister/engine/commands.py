"""Commands of people and bots, carried out against the engine's parts; results are `values`.

Invariants: a command that cannot be carried out raises a CloisterError before anything has changed; names that do not
exist are said so (`no_room`, `no_user`); nothing here waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from msgspec import structs

from cloister.content.message import compose, decode_text, encode_text, message_id
from cloister.engine import messages, rows, values
from cloister.engine.account import Account
from cloister.engine.broadcast import Broadcasts
from cloister.engine.intents import Intents
from cloister.engine.link import Asked, Link, LinkState
from cloister.engine.logs import LogState
from cloister.engine.outbox import Outbox
from cloister.engine.presence import Presence
from cloister.engine.realm_log import RealmLog
from cloister.engine.requests import Requests
from cloister.engine.room import Room
from cloister.engine.rooms import Rooms, room_uri, user_uri
from cloister.engine.rows import Intent, OwnInvite
from cloister.engine.unit import Unit
from cloister.engine.users import Users
from cloister.errors import PeerError, UsageError
from cloister.identity.credential import parse_device_id
from cloister.identity.invite import Invite, Token, stored_proof
from cloister.protocols.interface import Add, Leave, Me, RoomPolicy, State, Suite
from cloister.protocols.rounds.sequence import numbers_of
from cloister.wire import frames

TITLE_MOST: Final = 128
"""Bytes of a room's title."""
_RELAY: Final = {LinkState.CLOSED: "offline", LinkState.ONLINE: "online"}


@dataclass(slots=True)
class Commands:
    """Who carries out commands."""

    account: Account
    me: Me
    suites: Mapping[str, Suite]
    link: Link
    realm: RealmLog
    rooms: Rooms
    outbox: Outbox
    intents: Intents
    users: Users
    requests: Requests
    broadcasts: Broadcasts
    presence: Presence

    def execute(self, unit: Unit, command: values.Command) -> Any:
        """The command's result; CloisterError when it cannot be carried out."""
        match command:
            case values.ListUsers():
                return self.users.all(self.presence.online)
            case values.ListCertificates():
                return self.users.certificates(command.user)
            case values.GetStatus() | values.ListRooms() | values.ListSequence():
                return self._look(unit, command)
            case values.CreateRoom():
                return self._create(unit, command)
            case values.AddMembers() | values.RemoveMembers() | values.RekeyRoom() | values.SetOwners():
                return self._change(unit, command)
            case values.EndRoom() | values.AnswerRequest() | values.SetRequests() | values.SetPresence():
                return self._decide(unit, command)
            case values.Send() | values.Broadcast() | values.CheckBroadcast():
                return self._say(unit, command)
            case values.History():
                return self._history(unit, command)
            case values.CreateInvite():
                return self._invite(unit, command)

    def _look(self, unit: Unit, command: values.GetStatus | values.ListRooms | values.ListSequence) -> Any:
        """What changes nothing."""
        match command:
            case values.GetStatus():
                return self._status()
            case values.ListRooms():
                return sorted((self._info(room) for room in self.rooms.rooms.values()), key=lambda room: room.title)
            case values.ListSequence():
                return self._sequence(unit, self._room(command.room))

    def _status(self) -> values.Status:
        log = self.realm.log
        return values.Status(
            user=self.account.user,
            device=self.account.device,
            realm=self.account.realm,
            relay=_RELAY.get(self.link.state, "connecting"),
            address=self.account.address,
            realm_size=self.realm.size,
            realm_head=log.chain.hash.hex(),
            rooms=len(self.rooms.rooms),
            queued=self.outbox.queued,
            last_error=self.link.last_error,
            caught_up=self.link.idle and log.state is LogState.FOLLOWING and self.outbox.idle,
        )

    def _create(self, unit: Unit, command: values.CreateRoom) -> values.RoomInfo:
        suite = self.suites.get(command.suite)
        if suite is None:
            raise UsageError("usage", f"there is no suite {command.suite}; there is: {', '.join(self.suites)}")
        if suite.caps.identity == "none":
            raise UsageError("usage", f"{command.suite} has no rooms; see: cloister session")
        title = command.title.strip()
        if not title or len(title.encode()) > TITLE_MOST:
            raise UsageError("usage", f"a title has 1 to {TITLE_MOST} bytes")
        others = self._devices(command.members)
        devices = [device for device in others if device != self.account.device]
        if len(devices) + 1 > suite.caps.max_members:
            raise UsageError("usage", f"{suite.caps.suite} rooms have at most {suite.caps.max_members} devices")
        if suite.caps.identity == "x509" and not self.realm.state().certifies:
            raise UsageError("not_ready", f"this realm certifies nobody, {command.suite} needs certificates: use pair")
        asking = self.requests.asking(suite, devices)
        if asking is not None:  # whoever asks for a chat with them has said yes
            self.requests.answer(unit, asking, accept=True)
            return self._info(asking)
        policy = RoomPolicy(title=title, owners=(self.account.user,))
        room_id = unit.rng(16)
        session, effects = suite.create(self.me, room_id, policy, unit.now, unit.rng)
        if devices:  # asked of the session before the room exists: what it refuses leaves nothing behind
            effects += session.change([Add(device) for device in devices], unit.now, unit.rng)
        room = self.rooms.open(unit, room_id, command.suite, session, effects)
        if devices:
            self.intents.keep(unit, room, Intent(kind="add", devices=devices, epoch=0))
        return self._info(room)

    def _change(
        self,
        unit: Unit,
        command: values.AddMembers | values.RemoveMembers | values.RekeyRoom | values.SetOwners,
    ) -> values.RoomInfo:
        room = self._room(command.room)
        epoch = room.session.view.epoch
        if isinstance(command, values.RekeyRoom):
            intent = Intent(kind="rekey", devices=[], epoch=epoch)
        elif isinstance(command, values.SetOwners):
            if not self._present(room, command.users):
                raise UsageError("usage", "a room has one owner at least")
            intent = Intent(kind="owners", devices=sorted(set(command.users)), epoch=epoch)
        elif isinstance(command, values.AddMembers):
            intent = Intent(kind="add", devices=self._devices(command.users), epoch=epoch)
        else:
            intent = Intent(kind="remove", devices=self._present(room, command.users), epoch=epoch)
        self.intents.want(unit, room, intent)
        return self._info(room)

    def _say(self, unit: Unit, command: values.Send | values.Broadcast | values.CheckBroadcast) -> Any:
        """What goes out to others."""
        match command:
            case values.Send():
                return self._send(unit, command)
            case values.Broadcast():
                return self.broadcasts.send(unit, command.text)
            case values.CheckBroadcast():
                return self.broadcasts.check(unit, command.id)

    def _decide(
        self, unit: Unit, command: values.EndRoom | values.AnswerRequest | values.SetRequests | values.SetPresence
    ) -> Any:
        """What a person decides of a chat with one other, and of being seen."""
        if isinstance(command, values.SetPresence):
            self.presence.choose(unit, visible=command.visible)
            return command.visible
        if isinstance(command, values.SetRequests):
            self.requests.choose(unit, command.policy)
            return "accept" if self.requests.accepts(unit) else "ask"
        room = self._room(command.room)
        if isinstance(command, values.AnswerRequest):
            self.requests.answer(unit, room, accept=command.accept)
        elif self.suites[room.suite].caps.max_members == 2:
            self.rooms.apply(unit, room, room.session.change([Leave()], unit.now, unit.rng))
            self.rooms.moved.add(room.id)
        else:
            self._leave(unit, room)
        return self._info(room)

    def _leave(self, unit: Unit, room: Room) -> None:
        """Ask the others to take this device out; who alone may rule a room that goes on hands it over first."""
        view, me = room.session.view, self.account.user
        if view.state in (State.REMOVED, State.READ_ONLY):
            raise UsageError("read_only", f"the room is {view.state}")
        others = {parse_device_id(device)[1] for device in view.roster} - {me}
        if me in view.policy.owners and not others & set(view.policy.owners) and len(others) > 1:
            raise UsageError("not_allowed", "the last owner hands the room over first: cloister room owners ROOM USER")
        self.intents.want(unit, room, Intent(kind="leave", devices=[self.account.device], epoch=-1))

    def _info(self, room: Room) -> values.RoomInfo:
        """A room as surfaces show it, with who asks for it."""
        return asked_info(room, self.requests)

    def _sequence(self, unit: Unit, room: Room) -> list[values.SequenceInfo]:
        """From the store itself: what a restart will find."""
        items = {key[16:]: value for key, value in unit.store.scan("item", room.id)}
        return [
            values.SequenceInfo(
                epoch=row.epoch,
                user=parse_device_id(row.device)[1],
                device=row.device,
                own=row.own,
                next=row.next,
                skipped=row.skipped,
            )
            for row in numbers_of(items, self.account.device)
        ]

    def _send(self, unit: Unit, command: values.Send) -> values.Sent:
        room = self._room(command.room)
        if room.session.view.state in (State.REMOVED, State.READ_ONLY) or not room.readable:
            state = f"this chat goes on in room {room.yields_to.hex()}" if room.yields_to else room.session.view.state
            raise UsageError("read_only", room.alarms[-1] if room.alarms else str(state))
        sender, uri = user_uri(self.account.device), room_uri(self.account.realm, room.id)
        text = compose(command.text, sender=sender, room=uri, rng=unit.rng)
        content = encode_text(text)
        decode_text(content, sender=sender, room=uri)  # what the others would refuse is refused here
        identity = message_id(content, sender=sender, room=uri, salt=text.salt)
        self.outbox.text(unit, room.id, content, identity)
        return values.Sent(id=identity.hex(), room=room.id.hex(), state=values.SendState.QUEUED)

    def _history(self, unit: Unit, command: values.History) -> list[values.MessageInfo]:
        room = self._room(command.room).id if command.room else None
        try:
            bytes.fromhex(command.since)
        except ValueError:
            raise UsageError("usage", "a message id is a hexadecimal number") from None
        return messages.history(unit.store, room, command.since, command.limit)

    def _invite(self, unit: Unit, command: values.CreateInvite) -> str:
        if not self.link.online:
            raise UsageError("unreachable", "a link is made together with the relay")
        if not 1 <= command.uses <= 1000 or command.expires <= unit.now:
            raise UsageError("usage", "a link has 1 to 1000 uses and ends in the future")
        token = Token.generate(unit.rng)
        row = OwnInvite(secret=token.secret, expires=command.expires)
        unit.put("invite", token.id, rows.encode(row))
        rid = self.link.request(Asked("invite"))
        unit.transmit(
            frames.encode(
                frames.InvitePut(
                    rid=rid,
                    invite=token.id,
                    secret_hash=stored_proof(token.relay_proof()),
                    uses=command.uses,
                    expires=command.expires,
                )
            )
        )
        host, _, port = self.account.address.rpartition(":")
        return str(
            Invite(
                host=host,
                port=int(port),
                realm=self.account.realm,
                relay_hash=self.account.relay_pin,
                root_hash=self.account.root_pin,
                token=token,
                inviter=self.account.user_keys.fingerprint,
            )
        )

    def _room(self, room: str) -> Room:
        try:
            return self.rooms.rooms[bytes.fromhex(room)]
        except (KeyError, ValueError):
            raise UsageError("no_room", room) from None

    def _devices(self, users: Sequence[str]) -> list[str]:
        """All devices of these users that count now."""
        state = self.realm.state()
        devices = []
        for name in users:
            try:
                listed = state.user(name).devices
            except PeerError:
                raise UsageError("no_user", name) from None
            counted = [device for device in listed if not self.rooms.revoked(device)]
            if not counted:
                raise UsageError("no_user", f"{name} has no device that counts")
            devices.extend(counted)
        return devices

    def _present(self, room: Room, users: Sequence[str]) -> list[str]:
        """The devices of these users that are in the room."""
        devices = [device for device in room.session.view.roster if parse_device_id(device)[1] in users]
        absent = set(users) - {parse_device_id(device)[1] for device in devices}
        if absent:
            raise UsageError("no_user", f"{', '.join(sorted(absent))} not in the room")
        return devices


def asked_info(room: Room, requests: Requests) -> values.RoomInfo:
    """A room as surfaces show it, with who asks for it."""
    info = room_info(room)
    return structs.replace(info, asks=requests.asks(room)) if requests.waits(room) else info


def room_info(room: Room) -> values.RoomInfo:
    """A room as surfaces show it."""
    view = room.session.view
    return values.RoomInfo(
        id=room.id.hex(),
        title=view.policy.title,
        suite=room.suite,
        state=view.state.value,
        epoch=view.epoch,
        members=[values.Member(user=parse_device_id(device)[1], device=device) for device in view.roster],
        owners=list(view.policy.owners),
        missing=list(view.missing),
        awaits=view.awaits,
        confirmed=list(view.confirmed),
        parked=list(view.parked),
        key_check=view.key_check,
        entries=room.log.chain.seq,
        head=room.log.chain.hash.hex(),
        alarms=list(room.alarms),
        goes_on_in=room.yields_to.hex(),
    )
