"""`users` and `requests`: who is in the realm, who asks for a chat, and what this profile does with who asks.

Source: docs/cli.md, docs/spec/classic/pair.md ("Accept or decline"). Every command speaks to the profile's owner where
one runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cloister.apps.cli.frame import Command, Commands, settings_of
from cloister.apps.cli.rooms import plain
from cloister.apps.cli.session import caught_up, patiently, with_client

if TYPE_CHECKING:
    from cloister.client.api import CertificateInfo, RoomInfo, UserInfo
    from cloister.client.client import Client


@click.command(cls=Command)
@click.option("--show", metavar="NAME", help="This user's certificates, as verified against the realm's authority.")
@click.option("--visible/--hidden", default=None, help="Let others see when you are online, or not (the default).")
@click.pass_context
def users(ctx: click.Context, show: str | None, visible: bool | None) -> None:
    """Who is in the realm, and who of those who want to be seen is online.

    The relay says who is online, and nothing follows from it: keys and members come from elsewhere.
    """
    from cloister.apps.cli import view
    from cloister.client.text import safe_name

    if show is not None:
        _certificates(ctx, show)
        return

    async def work(client: Client) -> list[UserInfo]:
        if visible is not None:
            await client.visible(visible)
        await caught_up(client)
        return await client.users()

    screen = settings_of(ctx).screen
    found = with_client(settings_of(ctx), work)
    width = max((len(safe_name(user.name)) for user in found), default=0)
    for user in found:
        devices = ", ".join(view.device_of(device) for device in user.devices)
        trusted = {"own": "you", "link": "joined with your link", "log": "in the realm's log"}.get(user.how, user.how)
        there = ", online" if user.online else ""
        screen.data(f"{safe_name(user.name):<{width}}  {devices}  ({trusted}{there})")
        screen.record("user", **view.record_of(user))


def _certificates(ctx: click.Context, name: str) -> None:
    """Write a user's certificates."""
    from cloister.apps.cli import view

    async def work(client: Client) -> list[CertificateInfo]:
        (user,) = plain([name]) or [name]
        await caught_up(client)
        return await client.certificates(user)

    screen = settings_of(ctx).screen
    found = with_client(settings_of(ctx), work)
    for row in found:
        screen.data(
            f"{view.device_of(row.device):<12} {row.usage:<8} {row.state:<8} "
            f"{view.iso(row.not_before)} to {view.iso(row.not_after)}  realm log {row.place}  serial {row.serial}"
        )
        screen.record("certificate", **view.record_of(row))
    if found:
        screen.say(f"all issued by the authority that was pinned at enrolment ({found[0].authority[:16]})", "dim")


@click.group(cls=Commands)
def requests() -> None:
    """Who asks for a chat, and what to do with who asks."""


@requests.command("list")
@click.pass_context
def list_(ctx: click.Context) -> None:
    """Who asks for a chat and waits for your answer."""
    from cloister.apps.cli import view
    from cloister.client.text import safe_name

    async def work(client: Client) -> list[RoomInfo]:
        await caught_up(client)
        return [room for room in await client.rooms() if room.asks]

    screen = settings_of(ctx).screen
    found = with_client(settings_of(ctx), work)
    for room in found:
        screen.data(f"{room.id[: view.SHORT_ID]}  {safe_name(room.asks)} asks for {safe_name(room.title)}")
        screen.record("request", **view.record_of(room))
    if not found:
        screen.say("nobody asks", "dim")


@requests.command()
@click.argument("name", metavar="ROOM")
@click.pass_context
def accept(ctx: click.Context, name: str) -> None:
    """Say yes: the chat begins."""
    _answer(ctx, name, accept=True)


@requests.command()
@click.argument("name", metavar="ROOM")
@click.pass_context
def decline(ctx: click.Context, name: str) -> None:
    """Say no: the room is over for both."""
    _answer(ctx, name, accept=False)


def _answer(ctx: click.Context, name: str, *, accept: bool) -> None:
    from cloister.apps.cli import view

    async def work(client: Client) -> RoomInfo:
        found = await patiently(client, lambda: client.room(name))
        await client.answer(found.id, accept=accept)
        await caught_up(client)
        return await client.room(found.id)

    screen = settings_of(ctx).screen
    room = with_client(settings_of(ctx), work)
    screen.data(view.room_row(room))
    screen.record("room", **view.record_of(room))


@requests.command()
@click.argument("choice", type=click.Choice(["ask", "accept", "default"]))
@click.pass_context
def policy(ctx: click.Context, choice: str) -> None:
    """Ask you each time, or accept everybody in the realm; default: accept where an authority certifies everybody."""

    async def work(client: Client) -> str:
        await caught_up(client)
        return await client.requests(choice)  # type: ignore[arg-type]

    screen = settings_of(ctx).screen
    now = with_client(settings_of(ctx), work)
    screen.data("requests are accepted" if now == "accept" else "you are asked each time")
    screen.record("requests", policy=now)
