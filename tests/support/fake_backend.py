"""A Backend without engine, relay or disk: commands are noted, results are what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from cloister.client import api
from cloister.errors import UnavailableError, UsageError

ALICE = "cloister://home/u/alice/d/laptop"
BOB = "cloister://home/u/bob/d/phone"
CAROL = "cloister://home/u/carol/d/desk"
ROOM = "0123456789abcdef0123456789abcdef"
TIME = 1_795_000_000_000


def room(**changes: Any) -> api.RoomInfo:
    """A ready room of three."""
    fields: dict[str, Any] = {
        "id": ROOM,
        "title": "triad",
        "suite": "nonces",
        "state": "ready",
        "epoch": 1,
        "members": [api.Member(user=device.split("/")[4], device=device) for device in (ALICE, BOB, CAROL)],
        "owners": ["alice"],
        "key_check": "1234 5678",
        "entries": 4,
        "head": "ab" * 32,
    }
    return api.RoomInfo(**(fields | changes))


def message(text: str, *, number: int = 1, sender: str = "bob", **changes: Any) -> api.MessageInfo:
    """A message in that room."""
    fields: dict[str, Any] = {
        "id": f"{number:064x}",
        "room": ROOM,
        "room_title": "triad",
        "sender": sender,
        "device": BOB,
        "verified": True,
        "text": text,
        "time": TIME,
        "seq": number,
    }
    return api.MessageInfo(**(fields | changes))


class FakeBackend:
    """Rooms and users of a profile; `emit` tells an event to all listeners."""

    def __init__(self) -> None:
        self.commands: list[api.Command] = []
        self.rooms = [room()]
        self.users = [
            api.UserInfo(name="alice", devices=[ALICE], safety_number="1", how="own"),
            api.UserInfo(name="bob", devices=[BOB], safety_number="2", how="link"),
        ]
        self.broadcast = api.BroadcastInfo(id="ab" * 16, author="alice", check="01234-56789", copies=[])
        self.messages: list[api.MessageInfo] = []
        self.numbers: list[api.SequenceInfo] = []
        self.certificates: list[api.CertificateInfo] = []
        self.relay = "online"
        self.refuse: Exception | None = None
        self.stays_queued = False
        self.plan: list[api.Event | None] = []
        """Told to a listener when it comes; None ends the connection to the owner."""
        self.next_plan: list[api.Event | None] = []
        """Told to the listener that comes after the connection ended."""
        self.passwords: list[str | None] = []
        self.locked_with: str | None = None
        self._queues: list[asyncio.Queue[api.Event | None]] = []
        self._sent = 0

    async def execute(self, command: api.Command) -> Any:
        if not isinstance(command, api.GetStatus):
            self.commands.append(command)
        if self.refuse is not None and not isinstance(command, (api.ListRooms, api.GetStatus)):
            raise self.refuse
        match command:
            case api.GetStatus():
                return api.Status(
                    user="alice", device=ALICE, realm="home", relay=self.relay, address="localhost:1",
                    realm_size=3, realm_head="", rooms=1, queued=0, caught_up=self.relay == "online",
                    last_error="" if self.relay == "online" else "unreachable",
                )  # fmt: skip
            case api.ListRooms():
                return self.rooms
            case api.CreateRoom():
                made = room(title=command.title, state="pending", missing=[BOB, CAROL], epoch=0, key_check="")
                alone = msgspec.structs.replace(made, state="read-only", missing=[], members=made.members[:1])
                self.rooms = [made if command.members else alone]
                return self.rooms[0]
            case api.AddMembers() | api.RemoveMembers() | api.RekeyRoom() | api.SetOwners() | api.EndRoom():
                return self.rooms[0]
            case api.Send():
                return self._send(command)
            case api.History():
                return self.messages[-command.limit :]
            case api.ListSequence() | api.ListUsers() | api.ListCertificates() | api.Broadcast() | api.CheckBroadcast():
                return self._shown(command)
            case _:
                return self._decide(command)

    def _shown(self, command: api.Command) -> Any:
        match command:
            case api.ListSequence():
                return self.numbers
            case api.ListUsers():
                return self.users
            case api.ListCertificates():
                return self.certificates
            case _:
                return self.broadcast

    def _decide(self, command: api.Command) -> Any:
        match command:
            case api.AnswerRequest():
                self.rooms = [structs.replace(self.rooms[0], asks="")]
                return self.rooms[0]
            case api.SetRequests():
                return "accept" if command.policy == "accept" else "ask"
            case api.SetPresence():
                return command.visible
            case _:
                return "cloister:join?..."

    def _send(self, command: api.Send) -> api.Sent:
        self._sent += 1
        number = 1000 + self._sent
        if self.stays_queued:
            return api.Sent(id=f"{number:064x}", room=command.room, state=api.SendState.QUEUED)
        self.emit(
            api.MessageReceived(cursor=number, message=message(command.text, number=number, sender="alice", own=True))
        )
        state = api.SendState.SENT if command.wait else api.SendState.QUEUED
        return api.Sent(id=f"{number:064x}", room=command.room, state=state, seq=number if command.wait else 0)

    def emit(self, event: api.Event | None) -> None:
        for queue in self._queues:
            queue.put_nowait(event)

    async def events(self, since: int | None) -> AsyncIterator[api.Event]:
        queue: asyncio.Queue[api.Event | None] = asyncio.Queue()
        self._queues.append(queue)
        plan, self.plan = self.plan, []
        for event in plan:
            queue.put_nowait(event)
        while (event := await queue.get()) is not None:
            yield event
        self.plan = self.next_plan
        raise UnavailableError("closed", "the owner of the profile ended")

    @asynccontextmanager
    async def open(self, profile: str | Path, password: str | None) -> AsyncIterator[FakeBackend]:
        """Stands in for client.opening.open_backend."""
        self.passwords.append(password)
        if self.locked_with is not None and password != self.locked_with:
            raise UsageError("wrong_password")
        yield self
