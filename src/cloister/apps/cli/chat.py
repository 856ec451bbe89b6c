"""`chat ROOM --plain`: one process that reads lines from the person and writes what the room says.

Source: docs/cli.md, and the prompts of document 002 ("Begin chatting!").

Invariants
- Messages are data and go to standard output; everything else is for people and goes to standard error.
- What is typed before the key is agreed, or without a connection, is queued and goes out later.
- Ctrl+C and the end of input leave with exit code 0; at the end of input the texts that are on their way are given
  a moment to be stored.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import click

from cloister.apps.cli.frame import Command, settings_of
from cloister.apps.cli.session import lasting, patiently
from cloister.apps.cli.typed import Typed
from cloister.errors import CloisterError

if TYPE_CHECKING:
    from cloister.apps.cli.output import Screen
    from cloister.client.api import Event, MessageInfo, RoomInfo
    from cloister.client.client import Client

BACKLOG: Final = 10
"""Messages from before that are shown at the start."""
GRACE: Final = 10.0
"""Seconds that texts get to be stored after the end of input."""


@click.command(cls=Command)
@click.argument("name", metavar="ROOM")
@click.option("--plain", is_flag=True, expose_value=False, help="Line mode (the only one so far).")
@click.pass_context
def chat(ctx: click.Context, name: str) -> None:
    """Read and write in one room.

    Type a line and press Enter to send it; Ctrl+C or Ctrl+D leaves.
    """
    settings = settings_of(ctx)

    talk: list[Chat] = []

    async def work(client: Client) -> None:
        room = await patiently(client, lambda: client.room(name))
        if not talk:
            talk.append(Chat(settings.screen, Typed(), own_echo=not sys.stdin.isatty()))
        await talk[0].run(client, room)

    with suppress(KeyboardInterrupt):
        asyncio.run(lasting(settings, work))


class Chat:
    """One room on one screen. `own_echo` shows one's own messages, which a terminal has shown as they were typed."""

    def __init__(self, screen: Screen, typed: AsyncIterator[str], *, own_echo: bool) -> None:
        from cloister.apps.cli.view import Milestones

        self._screen = screen
        self._typed = typed
        self._own_echo = own_echo
        self._milestones = Milestones()
        self._shown: set[str] = set()
        self._on_their_way: set[str] = set()
        self._settled = asyncio.Event()
        self._link = ""

    async def run(self, client: Client, room: RoomInfo) -> None:
        """Show the room and send what is typed, until there is no more input; what was shown is not shown again."""
        self._client = client
        self._room = room
        async with asyncio.TaskGroup() as tasks:
            events = tasks.create_task(self._show_events())
            await client.status()  # by its answer the events are being listened to: nothing falls between
            await self._show_beginning()
            while await self._send_next():
                pass
            await self._settle()
            events.cancel()

    async def _show_beginning(self) -> None:
        for message in await self._client.history(self._room.id, limit=BACKLOG):
            self._show_message(message)
        self._show_room(await self._client.room(self._room.id))

    async def _show_events(self) -> None:
        async for event in self._client.events():
            self._show(event)

    def _show(self, event: Event) -> None:
        from cloister.apps.cli import view
        from cloister.client import api

        match event:
            case api.MessageReceived() if event.message.room == self._room.id:
                self._show_message(event.message)
            case api.RoomChanged() if event.room.id == self._room.id:
                self._show_room(event.room, event.what)
            case api.SendChanged() if event.sent.room == self._room.id:
                if event.sent.state is not api.SendState.QUEUED:
                    self._arrived(event.sent.id)
                self._say(view.event_line(event))
            case api.Alarm() if event.room in ("", self._room.id):
                self._say(view.event_line(event), "bad")
            case api.ConnectionChanged():
                before, self._link = self._link, view.event_line(event)
                self._say(self._link if self._link != before else "")  # each try to connect says it anew
            case api.UserJoined(alarm=True):
                self._say(view.event_line(event), "bad")
            case _:
                pass

    def _show_message(self, message: MessageInfo) -> None:
        from cloister.apps.cli import view

        if message.id in self._shown:
            return
        self._shown.add(message.id)
        self._arrived(message.id)
        self._screen.record("message", **view.message_record(message))
        if self._own_echo or not message.own:
            self._screen.data(view.message_lines(message, with_room=False))

    def _show_room(self, room: RoomInfo, what: str = "") -> None:
        self._room = room
        for line in self._milestones.lines(room, what):
            self._say(line, "good" if room.state == "ready" else "dim")

    def _say(self, line: str, style: str = "dim") -> None:
        if line:
            self._screen.say(f"* {line}", style)

    async def _send_next(self) -> bool:
        """Send the next line that is typed; one that cannot be sent is said so. False at the end of input."""
        try:
            line = await anext(self._typed)
            if line.strip():
                await self._send(line)
        except StopAsyncIteration:
            return False
        except CloisterError as error:
            self._screen.error(error, error.info.exit_code)
        return True

    async def _send(self, line: str) -> None:
        sent = await self._client.send(self._room.id, line)
        if sent.state == "queued" and sent.id not in self._shown:
            self._on_their_way.add(sent.id)
            self._settled.clear()

    def _arrived(self, message: str) -> None:
        self._on_their_way.discard(message)
        if not self._on_their_way:
            self._settled.set()

    async def _settle(self) -> None:
        if not self._on_their_way:
            return
        try:
            async with asyncio.timeout(GRACE):
                await self._settled.wait()
        except TimeoutError:
            self._say(f"{len(self._on_their_way)} not stored yet; sent when the profile is next open")
