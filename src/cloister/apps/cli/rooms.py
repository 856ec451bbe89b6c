"""`room` and `users`: who is where, and who may come and go.

Source: docs/cli.md. Every command speaks to the profile's owner where one runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cloister.apps.cli.frame import Commands, settings_of
from cloister.apps.cli.session import caught_up, patiently, with_client

if TYPE_CHECKING:
    from cloister.apps.cli.output import Screen
    from cloister.client.api import RoomInfo, SequenceInfo
    from cloister.client.client import Client


@click.group(cls=Commands)
def room() -> None:
    """Make rooms, show them, add and remove members, leave."""


@room.command()
@click.argument("name")
@click.option("--members", default="", metavar="A,B,...", help="Who is in it beside you.")
@click.option("--suite", default="mls", show_default=True, metavar="NAME", help="How the key is agreed.")
@click.pass_context
def create(ctx: click.Context, name: str, members: str, suite: str) -> None:
    """Make a room.

    Members are in it at once, also while they are away; in a room of a classic suite the key is agreed as soon as all
    have been online. `cloister chat NAME` shows how far they are.
    """

    async def work(client: Client) -> RoomInfo:
        title = name.removeprefix("#")
        made = await patiently(client, lambda: client.create_room(title, suite=suite, members=names(members)))
        return await _after(client, made)

    from cloister.apps.cli import view

    made = with_client(settings_of(ctx), work)
    screen = settings_of(ctx).screen
    _show(screen, made)
    if len(made.members) == 1:
        screen.say(f"nobody else is in it yet: cloister room add {made.id[: view.SHORT_ID]} USER", "dim")


@room.command("list")
@click.pass_context
def list_(ctx: click.Context) -> None:
    """All rooms of this device."""
    from cloister.apps.cli import view

    async def work(client: Client) -> list[RoomInfo]:
        await caught_up(client)
        return await client.rooms()

    screen = settings_of(ctx).screen
    found = with_client(settings_of(ctx), work)
    for row in found:
        screen.data(view.room_row(row))
        screen.record("room", **view.record_of(row))
    if not found:
        screen.say("no rooms yet; make one with: cloister room create NAME --members A,B", "dim")


@room.command()
@click.argument("name", metavar="ROOM")
@click.option("--sequence", is_flag=True, help="The members' message numbers, as they are stored.")
@click.pass_context
def show(ctx: click.Context, name: str, sequence: bool) -> None:
    """A room's members, key and log."""
    from cloister.apps.cli import view

    async def work(client: Client) -> tuple[RoomInfo, list[SequenceInfo]]:
        found = await patiently(client, lambda: client.room(name))
        return found, await client.sequence(found.id) if sequence else []

    found, numbers = with_client(settings_of(ctx), work)
    screen = settings_of(ctx).screen
    for line in view.room_details(found):
        screen.data(line)
    screen.record("room", **view.record_of(found))
    for line in view.sequence_lines(numbers):
        screen.data(line)
    for row in numbers:
        screen.record("sequence", **view.record_of(row))
    if sequence and not numbers:
        screen.say(f"suite {found.suite} stores no message numbers of its members", "dim")


@room.command()
@click.argument("name", metavar="ROOM")
@click.argument("user", nargs=-1, required=True)
@click.pass_context
def owners(ctx: click.Context, name: str, user: tuple[str, ...]) -> None:
    """Hand a room over to these users, who are in it.

    They are its owners from the next key on. In a room of suite transport the owners are its inviters.
    """

    async def work(client: Client) -> RoomInfo:
        found = await patiently(client, lambda: client.room(name))
        return await _after(client, await client.set_owners(found.id, plain(user)))

    _show(settings_of(ctx).screen, with_client(settings_of(ctx), work))


@room.command()
@click.argument("name", metavar="ROOM")
@click.argument("user", nargs=-1, required=True)
@click.pass_context
def add(ctx: click.Context, name: str, user: tuple[str, ...]) -> None:
    """Take users into a room; they read what is written from then on."""

    async def work(client: Client) -> RoomInfo:
        found = await patiently(client, lambda: client.room(name))
        return await _after(client, await patiently(client, lambda: client.add(found.id, plain(user))))

    _show(settings_of(ctx).screen, with_client(settings_of(ctx), work))


@room.command()
@click.argument("name", metavar="ROOM")
@click.argument("user", nargs=-1, required=True)
@click.pass_context
def remove(ctx: click.Context, name: str, user: tuple[str, ...]) -> None:
    """Put users out of a room; they read nothing that is written from then on."""

    async def work(client: Client) -> RoomInfo:
        found = await patiently(client, lambda: client.room(name))
        return await _after(client, await client.remove(found.id, plain(user)))

    _show(settings_of(ctx).screen, with_client(settings_of(ctx), work))


@room.command()
@click.argument("name", metavar="ROOM")
@click.pass_context
def leave(ctx: click.Context, name: str) -> None:
    """Leave a room; you read nothing that is written from then on.

    Another member's device carries it out as soon as it is online. The last owner of a room that goes on hands it over
    first, with: cloister room owners ROOM USER.
    """

    async def work(client: Client) -> RoomInfo:
        found = await patiently(client, lambda: client.room(name))
        return await _after(client, await client.end(found.id))

    left = with_client(settings_of(ctx), work)
    screen = settings_of(ctx).screen
    _show(screen, left)
    if left.state == "frozen":
        screen.say("asked: another member's device takes you out as soon as it is online", "dim")


def names(text: str) -> list[str]:
    """The names in a list with commas."""
    return plain(text.split(","))


def plain(users: list[str] | tuple[str, ...]) -> list[str]:
    """User names without the `@` that people put before them."""
    return [name for user in users if (name := user.strip().removeprefix("@"))]


async def _after(client: Client, info: RoomInfo) -> RoomInfo:
    """The room once the change is on its way: this process may be the only one that can send it."""
    await caught_up(client)
    return await client.room(info.id)


def _show(screen: Screen, info: RoomInfo) -> None:
    """A room after a change: its row as data, how far its key is in words."""
    from cloister.apps.cli import view

    screen.data(view.room_row(info))
    screen.record("room", **view.record_of(info))
    if info.state == "pending":
        screen.say(view.agreement(info), "dim")
