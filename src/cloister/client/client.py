"""`Client`: the one interface to a profile, whichever process owns it.

    async with Client.open("alice") as client:
        room = await client.create_room("triad", members=["bob", "carol"])
        await client.send(room.id, "hello", wait=True)
        async for event in client.events():
            ...

Source: docs/sdk.md. A profile belongs to one process at a time. `open` takes it if it is free and otherwise talks to
its owner over the profile's Unix socket; callers see no difference.

Invariants: every error is a CloisterError with `code`, sentence and hint; cancelling a call loses nothing, what was
queued stays queued.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

from cloister.client import api
from cloister.errors import UsageError


class Backend(Protocol):
    """Who carries out commands: the agent in this process, or the one at the other end of the socket."""

    async def execute(self, command: api.Command) -> Any:
        """The command's result, or a CloisterError."""
        ...

    def events(self, since: int | None) -> AsyncIterator[api.Event]:
        """Events with a cursor above `since` (None: only new ones), without end."""
        ...


class Client:
    """A profile's rooms, messages and events."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @classmethod
    @asynccontextmanager
    async def open(cls, profile: str | Path, *, password: str | None = None) -> AsyncIterator[Client]:
        """The profile of this name (or folder); `password` opens its vault when this process becomes the owner.

        Raises UsageError (no_profile, wrong_password, loose_files, profile_in_use, not_owner).
        """
        from cloister.client.opening import open_backend

        async with open_backend(profile, password) as backend:
            yield cls(backend)

    async def status(self) -> api.Status:
        """How this device stands."""
        result: api.Status = await self._backend.execute(api.GetStatus())
        return result

    async def rooms(self) -> list[api.RoomInfo]:
        """All rooms, by title."""
        result: list[api.RoomInfo] = await self._backend.execute(api.ListRooms())
        return result

    async def room(self, name: str) -> api.RoomInfo:
        """The room with this id, id prefix (at least 4 digits) or title (with or without `#`); no_room otherwise."""
        return find_room(await self.rooms(), name)

    async def create_room(self, title: str, *, members: Sequence[str], suite: str = "mls") -> api.RoomInfo:
        """Make a room; it is pending until its key stands."""
        result: api.RoomInfo = await self._backend.execute(
            api.CreateRoom(title=title, suite=suite, members=list(members))
        )
        return result

    async def add(self, room: str, users: Sequence[str]) -> api.RoomInfo:
        """Take users into a room."""
        result: api.RoomInfo = await self._backend.execute(api.AddMembers(room=room, users=list(users)))
        return result

    async def remove(self, room: str, users: Sequence[str]) -> api.RoomInfo:
        """Put users out of a room."""
        result: api.RoomInfo = await self._backend.execute(api.RemoveMembers(room=room, users=list(users)))
        return result

    async def set_owners(self, room: str, users: Sequence[str]) -> api.RoomInfo:
        """Hand a room over: these users are its owners (in suite `transport`: its inviters) from the next epoch on."""
        result: api.RoomInfo = await self._backend.execute(api.SetOwners(room=room, users=list(users)))
        return result

    async def sequence(self, room: str) -> list[api.SequenceInfo]:
        """The message numbers of a room's members as they are stored; empty in suites that store none."""
        result: list[api.SequenceInfo] = await self._backend.execute(api.ListSequence(room=room))
        return result

    async def rekey(self, room: str) -> api.RoomInfo:
        """Make a new key among the same members."""
        result: api.RoomInfo = await self._backend.execute(api.RekeyRoom(room=room))
        return result

    async def answer(self, room: str, *, accept: bool) -> api.RoomInfo:
        """Say yes or no to who asks for a chat (an `Invited` event, or a room with `asks`)."""
        result: api.RoomInfo = await self._backend.execute(api.AnswerRequest(room=room, accept=accept))
        return result

    async def requests(self, policy: Literal["ask", "accept", "default"]) -> str:
        """What to do with requests for a chat; gives what counts from now on: `ask` or `accept`."""
        result: str = await self._backend.execute(api.SetRequests(policy=policy))
        return result

    async def end(self, room: str) -> api.RoomInfo:
        """Leave a room: done once another member has carried it out. A room of suite `pair` ends for both at once.

        UsageError: not_allowed for the last owner of three members or more, read_only where there is nothing to leave.
        """
        result: api.RoomInfo = await self._backend.execute(api.EndRoom(room=room))
        return result

    async def send(self, room: str, text: str, *, wait: bool = False, timeout_ms: int = 0) -> api.Sent:
        """Queue a text; with `wait`, until the relay has stored and signed it.

        After `timeout_ms` (0: as long as it takes) it is given back as it then is: queued, to go out later.
        """
        result: api.Sent = await self._backend.execute(api.Send(room=room, text=text, wait=wait, timeout=timeout_ms))
        return result

    async def history(self, room: str = "", *, since: str = "", limit: int = 100) -> list[api.MessageInfo]:
        """The newest messages, oldest first."""
        result: list[api.MessageInfo] = await self._backend.execute(api.History(room=room, since=since, limit=limit))
        return result

    async def users(self) -> list[api.UserInfo]:
        """Everybody in the realm, by name."""
        result: list[api.UserInfo] = await self._backend.execute(api.ListUsers())
        return result

    async def certificates(self, user: str) -> list[api.CertificateInfo]:
        """A user's certificates, verified against the authority that was pinned at enrolment; no_user."""
        result: list[api.CertificateInfo] = await self._backend.execute(api.ListCertificates(user=user))
        return result

    async def visible(self, visible: bool) -> bool:
        """Let others see when this device is online, or not."""
        result: bool = await self._backend.execute(api.SetPresence(visible=visible))
        return result

    async def broadcast(self, text: str) -> api.BroadcastInfo:
        """A copy to everybody over sessions of two; each is sent as soon as its session stands."""
        result: api.BroadcastInfo = await self._backend.execute(api.Broadcast(text=text))
        return result

    async def check_broadcast(self, number: str) -> api.BroadcastInfo:
        """Compare a broadcast with those who may have got it too; answers come as `BroadcastCompared` events."""
        result: api.BroadcastInfo = await self._backend.execute(api.CheckBroadcast(id=number))
        return result

    async def invite(self, *, uses: int, expires: int) -> str:
        """A link for new people; its tag makes them known as joined with your link."""
        result: str = await self._backend.execute(api.CreateInvite(uses=uses, expires=expires))
        return result

    def events(self, since: int | None = None) -> AsyncIterator[api.Event]:
        """Events in order, without end; `since` is the cursor of the last one handled."""
        return self._backend.events(since)


def find_room(rooms: Sequence[api.RoomInfo], name: str) -> api.RoomInfo:
    """The one room that `name` means; UsageError("no_room") for none, UsageError("usage") for several."""
    plain = name.removeprefix("#")
    found = [room for room in rooms if room.id == plain or room.title.removeprefix("#") == plain]
    if not found and len(plain) >= 4:
        found = [room for room in rooms if room.id.startswith(plain)]
    if not found:
        raise UsageError("no_room", plain)
    if len(found) > 1:
        raise UsageError("usage", f"{len(found)} rooms are called {plain}; use an id")
    return found[0]
