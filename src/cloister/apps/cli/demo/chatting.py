"""What a member of the demo of suite `pair` does: the steps that no other suite has.

Source: docs/demo.md ("Suites"). Each step waits until what it needs is there, does it, and tells what was seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from cloister.client.api import Event, RoomInfo
    from cloister.client.client import Client

Tell = Callable[..., None]
_POLL: Final = 0.05


class Chatting:
    """One member's steps; `title` is the room of the two."""

    def __init__(self, client: Client, title: str, tell: Tell) -> None:
        self._client = client
        self._title = title
        self._tell = tell

    async def step(self, step: dict[str, Any]) -> bool:
        """Carry out a step of this suite; False when it is none."""
        act = {
            "visible": self._visible,
            "users": self._users,
            "ask me": self._ask_me,
            "accept": self._accept,
            "broadcast": self._broadcast,
            "compare": self._compare,
            "terminate": self._terminate,
        }.get(step["do"])
        if act is not None:
            await act(step)
        return act is not None

    async def _visible(self, step: dict[str, Any]) -> None:
        await self._client.visible(True)

    async def _users(self, step: dict[str, Any]) -> None:
        users = await self._client.users()
        while sum(user.online for user in users) < step["online"]:
            await asyncio.sleep(_POLL)
            users = await self._client.users()
        names = [user.name for user in users]
        self._tell("users", names=names, online=[user.name for user in users if user.online])

    async def _ask_me(self, step: dict[str, Any]) -> None:
        await self._client.requests("ask")
        self._tell("asked")

    async def _accept(self, step: dict[str, Any]) -> None:
        room = await self._room(lambda room: bool(room.asks))
        await self._client.answer(room.id, accept=True)
        self._tell("accepted", user=room.asks)

    async def _broadcast(self, step: dict[str, Any]) -> None:
        sent = await self._client.broadcast(step["text"])
        copies = [(copy.user, "verified" if copy.verified else "unverified key") for copy in sent.copies]
        self._tell("broadcast", id=sent.id, check=sent.check, copies=copies)

    async def _compare(self, step: dict[str, Any]) -> None:
        other = step["with"]
        made = await self._client.create_room(f"with {other}", suite="pair", members=[other])
        await self._room(lambda room: room.id == made.id and room.state == "ready" and not room.missing)
        await self._client.check_broadcast(step["id"])

    async def _terminate(self, step: dict[str, Any]) -> None:
        room = await self._client.room(self._title)
        await self._client.end(room.id)

    async def _room(self, wanted: Callable[[RoomInfo], bool]) -> RoomInfo:
        """The first room that is so, as soon as there is one."""
        while True:
            for room in await self._client.rooms():
                if wanted(room):
                    return room
            await asyncio.sleep(_POLL)


def tell_of(event: Event, title: str, tell: Tell) -> None:
    """Pass on what only this suite's members see."""
    from cloister.client import api

    if isinstance(event, api.BroadcastCompared):
        tell("compared", reader=event.reader, equal=event.equal)
    elif isinstance(event, api.RoomChanged) and event.room.title == title and event.room.state == "removed":
        tell("over")
