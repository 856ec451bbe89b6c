"""`broadcast`: one text to everybody over sessions of two, and the comparison of what they got.

Source: docs/cli.md, docs/spec/classic/pair.md ("Broadcast"). A copy under a key that was not verified is marked so.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import click

from cloister.apps.cli.frame import Command, settings_of
from cloister.apps.cli.session import caught_up, with_client
from cloister.errors import UsageError

if TYPE_CHECKING:
    from cloister.client.api import BroadcastCompared, BroadcastInfo
    from cloister.client.client import Client

WAIT: Final = 3.0
"""Seconds that other readers get to answer a comparison."""


@click.command(cls=Command)
@click.argument("text", required=False)
@click.option("--check", metavar="ID", help="Compare this broadcast with its other readers.")
@click.pass_context
def broadcast(ctx: click.Context, text: str | None, check: str | None) -> None:
    """Send a copy of TEXT to everybody in the realm, each over a session of its own."""
    if (text is None) == (check is None):
        raise UsageError("usage", "give a text, or --check with a broadcast's id")
    if text is not None:
        _send(ctx, text)
    elif check is not None:
        _compare(ctx, check)


def _send(ctx: click.Context, text: str) -> None:
    from cloister.apps.cli import view
    from cloister.client.text import safe_name

    async def work(client: Client) -> BroadcastInfo:
        await caught_up(client)
        sent = await client.broadcast(text)
        await caught_up(client)
        return sent

    screen = settings_of(ctx).screen
    sent = with_client(settings_of(ctx), work)
    screen.data(f"{sent.id}  check {sent.check}")
    for copy in sent.copies:
        mark = "verified" if copy.verified else "UNVERIFIED key"
        screen.data(f"  {safe_name(copy.user)}  {view.device_of(copy.device)}  {mark}")
    screen.record("broadcast", **view.record_of(sent))


def _compare(ctx: click.Context, number: str) -> None:
    from cloister.apps.cli import view
    from cloister.client.text import safe_name

    async def work(client: Client) -> tuple[BroadcastInfo, list[BroadcastCompared]]:
        await caught_up(client)
        answers: dict[tuple[str, str], BroadcastCompared] = {}
        reading = asyncio.create_task(_answers(client, answers))
        await asyncio.sleep(0)
        asked = await client.check_broadcast(number)
        if asked.copies:
            await asyncio.wait([reading], timeout=WAIT)
        reading.cancel()
        return asked, [answer for (number, _), answer in answers.items() if number == asked.id]

    screen = settings_of(ctx).screen
    asked, answers = with_client(settings_of(ctx), work)
    screen.data(f"{asked.id} of {safe_name(asked.author)}  check {asked.check}")
    for answer in answers:
        screen.data(f"  {safe_name(answer.reader)} got {'the same' if answer.equal else 'SOMETHING ELSE'}")
        screen.record("compared", **view.record_of(answer))
    if len(answers) < len(asked.copies):
        screen.say(f"{len(asked.copies) - len(answers)} asked who have not answered", "dim")


async def _answers(client: Client, answers: dict[tuple[str, str], BroadcastCompared]) -> None:
    """Collect what other readers say."""
    from cloister.client.api import BroadcastCompared

    async for event in client.events():
        if isinstance(event, BroadcastCompared):
            answers[event.id, event.reader] = event
