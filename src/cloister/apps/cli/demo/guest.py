"""One guest of the demo of suite `code`: a member's process without an account, which makes or joins two sessions.

Source: docs/demo.md ("Suites"). The same JSON lines as `member`, with these of its own:

    <- {"relay", "members"}                                 the first line: where to meet, and as which role
    <- {"do": "session", "whole"} | {"do": "join", "code"} | {"do": "same"} | {"do": "finish"}
    -> code, stage                                          the code that was made; each stage of the session
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from cloister.apps.cli.demo.member import Part, Tell

if TYPE_CHECKING:
    from cloister.client.api import Event
    from cloister.client.session import SessionClient


async def attend_sessions(spec: dict[str, Any], told: AsyncIterator[str], tell: Tell) -> list[tuple[str, bytes]]:
    """Session after session, until the demo ends; what must not stand at the relay."""
    from cloister.client.session import open_session

    tell("enrolled", device="a guest")
    secrets: list[tuple[str, bytes]] = []
    goes_on = True
    while goes_on:
        async with open_session(spec["relay"]) as client:
            part = GuestPart(spec, tell)
            goes_on = await part.sit(client, told)
            secrets += [*part.codes, *client.secrets()]
    return secrets


class GuestPart(Part):
    """What a guest does and has seen in one session."""

    def __init__(self, spec: dict[str, Any], tell: Tell) -> None:
        super().__init__({**spec, "title": "session"}, tell)
        self.codes: list[tuple[str, bytes]] = []
        self._session: SessionClient

    async def sit(self, client: SessionClient, told: AsyncIterator[str]) -> bool:
        """One session: carry out steps; whether another one follows."""
        self._client = self._session = client
        async with asyncio.TaskGroup() as tasks:
            events = tasks.create_task(self._watch())
            async for line in told:
                step = json.loads(line)
                if step["do"] in ("end", "next"):
                    events.cancel()
                    return bool(step["do"] == "next")
                await self.step(step)
            events.cancel()
        return False

    async def step(self, step: dict[str, Any]) -> None:
        """One step of the session, or one that all members know."""
        match step["do"]:
            case "session":
                code = await self._session.create(whole=step["whole"])
                self._secret(code)
                self._tell("code", code=code)
            case "join":
                await self._session.join(step["code"])
                self._secret(step["code"])
            case "same":
                await self._session.compared(same=True)
            case "finish":
                await self._session.finish()
            case _:
                await super().step(step)

    def _secret(self, code: str) -> None:
        """The second half of a code; the first is the relay's own."""
        half = code.partition("-")[2]
        if half:
            self.codes += [("code", half.encode()), ("code", half.replace("-", "").encode())]

    def see(self, event: Event) -> None:
        """Note one event, and pass it on."""
        from cloister.client import api

        if isinstance(event, api.SessionChanged):
            self._tell("stage", stage=event.stage, digits=event.digits, pictures=event.pictures, code=event.code)
        else:
            super().see(event)
