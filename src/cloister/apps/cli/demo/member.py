"""One member of the demo: a process that is told over its standard input what to do, and tells what happened.

Source: docs/demo.md ("Processes"). JSON lines both ways, over pipes that nobody else can open.

    <- {"home", "link", "user", "password", "guessable", "members", "title"}    the first line: who this member is
    -> enrolled, waiting, milestone, ready, received, alarm, failed, left, told what happens, as it happens
    <- {"do": "create" | "send" | "settle" | "sequence" | "tell" | "leave" | "return" | "end", ...}    one step

A member that is told to leave sends what it has made and closes its profile; it hears nothing until it returns.
At the end the member opens its own store and writes its secrets, one hexadecimal line each, to the file descriptor
that it was given: a pipe to the process that searches the relay for them.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cloister.apps.cli.demo.chatting import Chatting, tell_of
from cloister.apps.cli.failures import as_cloister_error
from cloister.apps.cli.frame import Command
from cloister.apps.cli.session import caught_up, patiently
from cloister.apps.cli.typed import Typed
from cloister.apps.cli.view import user_of
from cloister.errors import UnavailableError

if TYPE_CHECKING:
    from cloister.client.api import Event
    from cloister.client.client import Client

Tell = Callable[..., None]

VAULT_COST: Final = 2**15
"""scrypt's N for vaults with random passwords that live for seconds, the least that is allowed."""


@click.command("demo-member", cls=Command, hidden=True)
@click.argument("secrets_to", type=int)
def demo_member(secrets_to: int) -> None:
    """One member of the demo."""
    asyncio.run(_member(secrets_to))


def tell(what: str, **fields: Any) -> None:
    """Write one event."""
    sys.stdout.write(json.dumps({"what": what, **fields}) + "\n")
    sys.stdout.flush()


async def _member(secrets_to: int) -> None:
    # imported before the first line comes: the relay is being made meanwhile
    from cloister.client import opening  # noqa: F401
    from cloister.client.client import Client
    from cloister.client.inventory import secrets_of
    from cloister.client.setup import enrol

    told = Typed()
    spec = json.loads(await anext(told))
    if "relay" in spec:
        await _guest(secrets_to, spec, told)
        return
    profile, password = Path(spec["home"]) / spec["user"], spec["password"]
    try:
        join = partial(enrol, profile, spec["link"], user=spec["user"], password=password)
        made = await (join() if spec["guessable"] else join(cost=VAULT_COST))
        tell("enrolled", device=made.device)
        part = Part(spec, tell)
        while True:
            async with Client.open(profile, password=password) as client:
                leaves = await part.attend(client, told)
            if not leaves:
                break
            tell("left")
            await anext(told)  # return
        secrets = [*secrets_of(profile, password), ("recovery words", " ".join(made.words).encode())]
    except Exception as raised:  # told to the conductor, and then raised as everywhere
        error = as_cloister_error(raised)
        tell("failed", code=error.code, detail=error.detail)
        raise
    _give(secrets_to, secrets)


async def _guest(secrets_to: int, spec: dict[str, Any], told: Typed) -> None:
    """A member without an account."""
    from cloister.apps.cli.demo.guest import attend_sessions

    try:
        secrets = await attend_sessions(spec, told, tell)
    except Exception as raised:
        error = as_cloister_error(raised)
        tell("failed", code=error.code, detail=error.detail)
        raise
    _give(secrets_to, secrets)


def _give(secrets_to: int, secrets: list[tuple[str, bytes]]) -> None:
    """Hand the secrets to the process that looks for them."""
    with os.fdopen(secrets_to, "w") as pipe:
        pipe.writelines(f"{name}\t{value.hex()}\n" for name, value in secrets)


class Part:
    """What a member does and has seen, over all its visits."""

    def __init__(self, spec: dict[str, Any], tell: Tell) -> None:
        from cloister.apps.cli.view import Milestones

        self._client: Client
        self._spec = spec
        self._tell = tell
        self._milestones = Milestones()
        self._sent: list[str] = []
        self._received: list[tuple[str, str]] = []
        self._order: list[str] = []
        self._alarms: list[str] = []

    async def attend(self, client: Client, told: AsyncIterator[str]) -> bool:
        """One visit: carry out steps while events are passed on; whether it ends with `leave`, not with the demo."""
        self._client = client
        leaves = False
        async with asyncio.TaskGroup() as tasks:
            events = tasks.create_task(self._watch())
            async for line in told:
                step = json.loads(line)
                if step["do"] in ("end", "leave"):
                    leaves = step["do"] == "leave"
                    break
                await self.step(step)
            if leaves and not await caught_up(client):
                raise UnavailableError("timeout", "not all was sent before it left")
            events.cancel()
        return leaves

    async def step(self, step: dict[str, Any]) -> None:
        """One step: make the room, send texts, or tell what was seen."""
        match step["do"]:
            case "create":
                members = self._spec["members"]
                title = self._spec["title"]
                await patiently(
                    self._client, lambda: self._client.create_room(title, suite=step["suite"], members=members)
                )
            case "send":
                room = await self._client.room(self._spec["title"])
                await self._client.send(room.id, step["text"])
                self._sent.append(step["text"])
            case "sequence":
                room = await self._client.room(self._spec["title"])
                rows = await self._client.sequence(room.id)
                self._tell("sequence", rows=[{"epoch": row.epoch, "user": row.user, "next": row.next} for row in rows])
            case "settle":
                await caught_up(self._client)
                self._tell("settled")
            case _ if await Chatting(self._client, self._spec["title"], self._tell).step(step):
                pass
            case _:
                await self._tell_all()

    async def _watch(self) -> None:
        """Pass on what happens."""
        async for event in self._client.events():
            self.see(event)

    def see(self, event: Event) -> None:
        """Note one event, and pass it on."""
        from cloister.client import api

        tell_of(event, self._spec["title"], self._tell)
        match event:
            case api.MessageReceived():
                message = event.message
                self._order.append(message.id)
                if not message.own:
                    self._received.append((message.sender, message.text))
                    self._tell("received", sender=message.sender, text=message.text)
            case api.RoomChanged():
                missing = sorted(user_of(device) for device in event.room.missing)
                self._tell("waiting", awaits=event.room.awaits, missing=missing)
                for line in self._milestones.lines(event.room, event.what):
                    self._tell("milestone", line=line)
                if event.room.state == "ready" and len(event.room.members) > len(self._spec["members"]):
                    self._tell("ready", key_check=event.room.key_check, epoch=event.room.epoch)
            case api.Alarm():
                self._alarms.append(event.code)
                self._tell("alarm", code=event.code, detail=event.detail)
            case api.SendChanged() if event.sent.state is api.SendState.FAILED:
                self._tell("failed", code=event.sent.code, detail="a message was refused")
            case _:
                pass

    async def _tell_all(self) -> None:
        room = await self._client.room(self._spec["title"])
        self._tell(
            "told",
            sent=self._sent,
            received=self._received,
            order=self._order,
            key_check=room.key_check,
            epoch=room.epoch,
            entries=room.entries,
            head=room.head,
            confirmed=[user_of(device) for device in room.confirmed],
            alarms=[*self._alarms, *(code for code in room.alarms if code not in self._alarms)],
        )
