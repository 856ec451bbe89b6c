"""`setup`: from an invite link to a profile that is in the realm.

Source: docs/cli.md, docs/spec/identity.md ("Enrolment").

Invariants
- The link is read from a prompt, a file or standard input, never from an argument: it lets a person into the realm.
- The recovery words go to standard output once; they are kept nowhere.
- Link and name are looked at before a password is asked for.
- A setup that was interrupted goes on where it stopped when it is called again.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from cloister.apps.cli.frame import Command, settings_of
from cloister.apps.cli.prompt import ask, password
from cloister.apps.cli.session import first_visit
from cloister.errors import CloisterError, UsageError

if TYPE_CHECKING:
    from cloister.client.setup import SetUp

_MAX_LINK = 4096
_IN_A_ROW = 4


@click.command(cls=Command)
@click.option("--invite", metavar="FILE", help="Read the invite link from a file, `-` for standard input.")
@click.option("--user", metavar="NAME", help="Your name in the realm: 1 to 32 of a-z 0-9 . _ -")
@click.option("--device", metavar="NAME", default="main", show_default=True, help="This device's name.")
@click.pass_context
def setup(ctx: click.Context, invite: str | None, user: str | None, device: str) -> None:
    """Join a realm with an invite link.

    Makes a profile with your keys, protected by a password, and shows the 12 recovery words once.
    """
    from cloister.client.profile import Profile
    from cloister.client.setup import check, enrol

    settings = settings_of(ctx)
    screen = settings.screen
    link = _link(invite)
    check(link)
    name = user or ask("Your name in the realm", instead="--user NAME")
    check(link, name, device)
    profile = settings.profile or name
    goes_on = Profile.named(profile).exists
    secret = password(f"Password of profile {profile}" if goes_on else "New password", new=not goes_on)
    screen.say("making keys and asking the relay to let you in (a few seconds)", "dim")
    made = asyncio.run(enrol(profile, link, user=name, password=secret, device=device))
    for line in _words(made):
        screen.data(line)
    screen.record(
        "setup", profile=profile, user=made.user, device=made.device, realm=made.realm, recovery_words=made.words
    )
    screen.say(f"Welcome to {made.realm}, {made.user}.", "good")
    screen.say("Write these words down, off this machine: only they bring you back when all your devices are lost.")
    screen.say("They are not shown again. What next:")
    screen.say("  cloister users                              who is here")
    screen.say("  cloister room create NAME --members A,B     make a room")
    screen.say("  cloister chat NAME                          talk in it")
    with suppress(CloisterError):  # whatever hinders it now, the next command does it
        asyncio.run(first_visit(profile, secret))


def _link(source: str | None) -> str:
    """The invite link: from a file, standard input, or the person."""
    if source is None:
        return ask("Invite link", instead="--invite FILE, or --invite - for standard input")
    if source == "-":
        return sys.stdin.readline(_MAX_LINK).strip()
    try:
        with open(source, encoding="utf-8") as file:
            return file.read(_MAX_LINK).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise UsageError("usage", f"--invite {source}: {reason}") from None


def _words(made: SetUp) -> list[str]:
    """The recovery words, numbered, four in a row."""
    numbered = [f"{number:>2}. {word:<10}" for number, word in enumerate(made.words, 1)]
    return [" ".join(numbered[start : start + _IN_A_ROW]).rstrip() for start in range(0, len(numbered), _IN_A_ROW)]
