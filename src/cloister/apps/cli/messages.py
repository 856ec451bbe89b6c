"""`send` and `listen`: one text out, or all messages as they come.

Source: docs/cli.md.

Invariants
- A text that is queued is never lost: it goes out whenever the profile is next open. `send` waits for the relay a
  moment, then says that the text is queued and ends with 0; with --wait sent that is exit code 8, or 3 when there is
  no connection.
- `listen` writes each message once, in the order of its room's log.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

from cloister.apps.cli.frame import Command, settings_of
from cloister.apps.cli.session import lasting, patiently, with_client
from cloister.errors import UnavailableError, UsageError

if TYPE_CHECKING:
    from cloister.apps.cli.output import Screen
    from cloister.client.api import Event, Sent
    from cloister.client.client import Client

GRACE_MS = 5_000
"""How long `send` waits for the relay unless told, in ms."""


@click.command(cls=Command)
@click.argument("to", metavar="ROOM")
@click.argument("text", required=False)
@click.option("--wait", type=click.Choice(("sent",)), help="End with 0 only when the relay has stored it.")
@click.option("--timeout", type=click.FloatRange(min=0.001), metavar="SECONDS", help="How long to wait for that.")
@click.pass_context
def send(ctx: click.Context, to: str, text: str | None, wait: str | None, timeout: float | None) -> None:
    """Send a text to a room.

    TEXT of `-`, or none, means standard input.
    """
    body = _text(text)

    async def work(client: Client) -> Sent:
        room = await patiently(client, lambda: client.room(to))
        wait_ms = int(timeout * 1000) if timeout else 0 if wait else GRACE_MS
        sent = await client.send(room.id, body, wait=True, timeout_ms=wait_ms)
        if wait and sent.state == "queued":
            offline = (await client.status()).relay != "online"
            raise UnavailableError("unreachable" if offline else "not_stored", "the text stays queued")
        return sent

    sent = with_client(settings_of(ctx), work)
    screen = settings_of(ctx).screen
    screen.data(sent.id)
    screen.record("sent", id=sent.id, room=sent.room, state=sent.state.value, seq=sent.seq or None)
    if sent.state == "queued":
        screen.say("queued: it goes out when the room's key is agreed and the relay can be reached", "dim")
    else:
        screen.say("sent: the relay has stored and signed it", "dim")


def _text(text: str | None) -> str:
    """The text itself, or all of standard input without its last newline."""
    if text is None or text == "-":
        try:
            text = sys.stdin.buffer.read().decode().removesuffix("\n")
        except UnicodeDecodeError:
            raise UsageError("usage", "standard input is not UTF-8 text") from None
    if not text:
        raise UsageError("usage", "the text is empty")
    return text


@click.command(cls=Command)
@click.argument("rooms", nargs=-1, metavar="[ROOM]...")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N messages.")
@click.option("--timeout", type=click.FloatRange(min=0.001), metavar="SECONDS", help="End with 8 after this long.")
@click.pass_context
def listen(ctx: click.Context, rooms: tuple[str, ...], count: int | None, timeout: float | None) -> None:
    """Write out messages as they come.

    All rooms, or those named. With --json every event is an object; Ctrl+C ends it.
    """

    listener = Listener(settings_of(ctx).screen, rooms, count)

    async def listening() -> None:
        try:
            async with asyncio.timeout(timeout):
                await lasting(settings_of(ctx), listener.listen)
        except TimeoutError:
            raise UnavailableError("time_over", f"{timeout:g} s") from None

    asyncio.run(listening())


class Listener:
    """Writes events until `count` messages of the wanted rooms were written; goes on where it was when begun anew."""

    def __init__(self, screen: Screen, rooms: Sequence[str], count: int | None) -> None:
        self._screen = screen
        self._rooms = rooms
        self._left = count
        self._cursor: int | None = None

    async def listen(self, client: Client) -> None:
        """Write events as they come."""
        wanted = {(await patiently(client, partial(client.room, name))).id for name in self._rooms}
        async for event in client.events(self._cursor):
            self._cursor = event.cursor
            if _concerns(event, wanted):
                self._write(event, with_room=len(wanted) != 1)
            if self._left == 0:
                return

    def _write(self, event: Event, *, with_room: bool) -> None:
        from cloister.apps.cli import view
        from cloister.client import api

        kind, fields = view.event_record(event)
        self._screen.record(kind, **fields)
        if isinstance(event, api.MessageReceived):
            self._screen.data(view.message_lines(event.message, with_room=with_room))
            self._left = None if self._left is None else self._left - 1
        elif not self._screen.json and (line := view.event_line(event)):
            self._screen.say(f"* {line}", "dim")


def _concerns(event: Event, wanted: set[str]) -> bool:
    """Whether an event is about one of the wanted rooms (none named: all), or about no room at all."""
    from cloister.client import api

    room = ""
    match event:
        case api.MessageReceived():
            room = event.message.room
        case api.RoomChanged():
            room = event.room.id
        case api.SendChanged():
            room = event.sent.room
        case api.Alarm() | api.Invited():
            room = event.room
        case _:
            """About no room."""
    return not wanted or not room or room in wanted
