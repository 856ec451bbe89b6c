"""Broadcast: one text to everybody, a copy over each session of suite `pair`, and the comparison of the copies.

Source: docs/spec/classic/pair.md ("Broadcast"); `content.broadcast` has the forms. Not a session: an object over many.

Invariants
- The fan-out is this client's: one text row for each copy, in the room of two with that device. Where there is none,
  one is asked for, and the copy waits in the outbox until the session stands; who declines gets nothing (`failed`).
- A broadcast is kept as a receipt (author, id, audience hash, content id), one's own as well as received ones.
- A receipt leaves only when a person asks for the comparison, or in answer to somebody who has got the same broadcast.
- What differs is an alarm that names who told it; who of the two others lies is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from cloister.content.broadcast import ID_SIZE, SALT_SIZE, Copy, Receipt, audience_hash, content_id
from cloister.content.message import compose, encode_text, message_id
from cloister.engine.account import Account
from cloister.engine.messages import BROADCAST_SUITE as SUITE
from cloister.engine.outbox import Outbox
from cloister.engine.realm_log import RealmLog
from cloister.engine.room import Room
from cloister.engine.rooms import Rooms, room_uri, user_uri
from cloister.engine.unit import Unit
from cloister.engine.values import BroadcastCompared, BroadcastCopy, BroadcastInfo
from cloister.errors import PeerError, UsageError
from cloister.identity.credential import parse_device_id
from cloister.protocols.interface import Add, Me, RoomPolicy, State, Suite

FAN_OUT: Final = 100
"""Most copies of one broadcast."""
_KEPT: Final = b"broadcast "
_TOLD: Final = b"broadcast told "


@dataclass(slots=True)
class Broadcasts:
    """Sends, keeps and compares broadcasts. `verified(user)` tells how a name is known."""

    account: Account
    me: Me
    suites: Mapping[str, Suite]
    realm: RealmLog
    rooms: Rooms
    outbox: Outbox
    verified: Callable[[str], bool]

    # --- sending -------------------------------------------------------------------------------------------

    def send(self, unit: Unit, text: str) -> BroadcastInfo:
        """A copy to every other device of the realm; UsageError no_user or quota."""
        devices = self._audience()
        number, salt = unit.rng(ID_SIZE), unit.rng(SALT_SIZE)
        audience = audience_hash([*devices, self.account.device])
        author = self.account.device
        receipt = Receipt(author=author, id=number, audience=audience, content=content_id(salt, text))
        copies, copy = [], Copy(id=number, audience=audience, salt=salt, content=b"")
        for device in devices:
            room = self._room_with(device) or self._open(unit, device)
            copies.append(self._copy(unit, room, device, copy, text))
        self.keep(unit, receipt)
        return BroadcastInfo(id=number.hex(), author=parse_device_id(author)[1], check=receipt.check, copies=copies)

    def _audience(self) -> list[str]:
        """The devices that count of everybody else."""
        state = self.realm.state()
        found = []
        for user in state.users():
            if user != self.account.user:
                found += [device for device in state.user(user).devices if not self.rooms.revoked(device)]
        if not found:
            raise UsageError("no_user", "nobody else is in the realm")
        if len(found) > FAN_OUT:
            raise UsageError("quota", f"a broadcast has at most {FAN_OUT} copies; use a room")
        return found

    def _room_with(self, device: str) -> Room | None:
        """The room of two with this device that stands, or is being agreed; the one that stands first."""
        found = [room for room in self._pairs() if device in room.session.view.roster]
        found.sort(key=lambda room: room.session.view.state is not State.READY)
        return found[0] if found else None

    def _pairs(self) -> list[Room]:
        alive = (State.READY, State.PENDING)
        rooms = self.rooms.rooms.values()
        return [room for room in rooms if room.suite == SUITE and room.session.view.state in alive and room.readable]

    def _open(self, unit: Unit, device: str) -> Room:
        """Ask for a session with this device."""
        user, suite, room_id = parse_device_id(device)[1], self.suites[SUITE], unit.rng(16)
        policy = RoomPolicy(title=f"{self.account.user}, {user}", owners=(self.account.user,))
        session, effects = suite.create(self.me, room_id, policy, unit.now, unit.rng)
        effects += session.change([Add(device)], unit.now, unit.rng)
        return self.rooms.open(unit, room_id, SUITE, session, effects)

    def _copy(self, unit: Unit, room: Room, device: str, copy: Copy, text: str) -> BroadcastCopy:
        sender, uri = user_uri(self.account.device), room_uri(self.account.realm, room.id)
        message = compose(text, sender=sender, room=uri, rng=unit.rng)
        content = encode_text(message)
        identity = message_id(content, sender=sender, room=uri, salt=message.salt)
        whole = Copy(id=copy.id, audience=copy.audience, salt=copy.salt, content=content)
        self.outbox.text(unit, room.id, whole.encode(), identity)
        user = parse_device_id(device)[1]
        return BroadcastCopy(
            user=user,
            device=device,
            room=room.id.hex(),
            message=identity.hex(),
            verified=self.verified(user),
            state=room.session.view.state.value,
        )

    # --- receiving -----------------------------------------------------------------------------------------

    def keep(self, unit: Unit, receipt: Receipt) -> None:
        """Remember a broadcast; PeerError("conflict") when its author has sent another one under this id."""
        key = _KEPT + receipt.id + receipt.author.encode()
        before = unit.get("meta", key)
        if before is not None and before != receipt.encode():
            raise PeerError("conflict", "two broadcasts of one author under one id")
        unit.put("meta", key, receipt.encode())

    # --- comparing -----------------------------------------------------------------------------------------

    def check(self, unit: Unit, number: str) -> BroadcastInfo:
        """Compare a broadcast with everybody with whom a session stands; answers come as events. UsageError."""
        receipt = self._find(unit, number)
        asked = []
        for room in self._pairs():
            others = [device for device in room.session.view.roster if device != self.account.device]
            if room.session.view.state is State.READY and others and others[0] != receipt.author:
                self._tell(unit, room, receipt)
                user = parse_device_id(others[0])[1]
                asked.append(
                    BroadcastCopy(
                        user=user, device=others[0], room=room.id.hex(), message="", verified=self.verified(user),
                        state="asked",
                    )
                )  # fmt: skip
        author = parse_device_id(receipt.author)[1]
        return BroadcastInfo(id=receipt.id.hex(), author=author, check=receipt.check, copies=asked)

    def _find(self, unit: Unit, number: str) -> Receipt:
        try:
            prefix = bytes.fromhex(number)
        except ValueError:
            raise UsageError("usage", "a broadcast's id is a hexadecimal number") from None
        rows = unit.store.scan("meta", _KEPT + prefix)
        found = [receipt for _, data in rows if (receipt := Receipt.read(data)) is not None]
        if not found:
            raise UsageError("no_room", f"no broadcast {number}")
        if len(found) > 1:  # too few digits, or somebody has copied another's id
            raise UsageError("usage", f"{number} is a broadcast of each of {', '.join(each.author for each in found)}")
        return found[0]

    def _tell(self, unit: Unit, room: Room, receipt: Receipt) -> None:
        """Send one's own receipt, and remember that."""
        unit.put("meta", _TOLD + room.id + receipt.id, b"")
        self.outbox.text(unit, room.id, receipt.encode(), unit.rng(32))

    def told(self, unit: Unit, room_id: bytes, sender: str, receipt: Receipt) -> None:
        """Another reader's receipt: compare it with the own one; who has none says nothing."""
        data = unit.get("meta", _KEPT + receipt.id + receipt.author.encode())
        mine = Receipt.read(data) if data is not None else None
        room = self.rooms.rooms.get(room_id)
        if mine is None or room is None:
            return
        equal, peer, author = mine == receipt, parse_device_id(sender)[1], parse_device_id(receipt.author)[1]
        number, check = receipt.id.hex(), mine.check
        unit.notify(
            lambda cursor: BroadcastCompared(
                cursor=cursor, id=number, author=author, reader=peer, equal=equal, check=check
            )
        )
        if not equal:
            detail = f"{peer} has got something else from {author}"
            self.rooms.alarm(unit, room, "conflict", peer=sender, detail=detail)
        if unit.get("meta", _TOLD + room.id + receipt.id) is None:
            self._tell(unit, room, mine)
