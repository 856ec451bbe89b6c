"""`doctor`: is this machine fit, is the profile whole and private, does the relay answer?

Source: docs/cli.md. Every check ends in a line; one that fails has a second line that says what to do, from the
registry of errors, and gives the exit code. Nothing is changed.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from cloister.apps.cli.frame import Command, settings_of
from cloister.apps.cli.output import Settings
from cloister.apps.cli.session import opened, profile_name
from cloister.errors import REGISTRY, CloisterError

if TYPE_CHECKING:
    from cloister.client.api import Status

SPACE_LEAST: Final = 100 * 1024 * 1024
"""Free bytes below which a profile soon cannot keep what it receives."""
PATIENCE: Final = 5.0
"""Seconds that the relay gets to answer."""
_POLL: Final = 0.05
_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Check:
    """One line: what was looked at and found; `code` of the registry where it is not as it must be."""

    name: str
    found: str
    code: str = ""

    @property
    def ok(self) -> bool:
        """Whether all is well here."""
        return not self.code


@click.command(cls=Command)
@click.pass_context
def doctor(ctx: click.Context) -> None:
    """Check this machine, the profile and the relay."""
    settings = settings_of(ctx)
    checks = [*machine(), *profile(settings)]
    screen = settings.screen
    for check in checks:
        screen.data(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:<10} {check.found}")
        if not check.ok:
            screen.data(f"      {'':<10} -> {REGISTRY[check.code].hint}")
        hint = None if check.ok else REGISTRY[check.code].hint
        screen.record("check", name=check.name, ok=check.ok, found=check.found, code=check.code or None, hint=hint)
    failed = [check for check in checks if not check.ok]
    if failed:
        ctx.exit(REGISTRY[failed[0].code].exit_code)


def machine() -> Iterator[Check]:
    """Python, the folder of the profiles, room on the disk."""
    from cloister.client.profile import home

    yield Check("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    place = home()
    standing = next(folder for folder in (place, *place.parents) if folder.exists())
    free = shutil.disk_usage(standing).free
    yield Check("disk", f"{free // _MIB} MiB free at {standing}", "" if free >= SPACE_LEAST else "disk")
    if not os.access(standing, os.W_OK | os.X_OK):
        yield Check("home", f"{standing} cannot be written to", "disk")
    else:
        yield Check("home", str(place))


def profile(settings: Settings) -> Iterator[Check]:
    """The profile's files, and whether it reaches its relay."""
    from cloister.client.profile import Profile

    try:
        place = Profile.named(profile_name(settings))
        if not place.exists:
            raise CloisterError("no_profile", place.name)
        loose = _loose(place.folder)
    except CloisterError as error:
        yield Check("profile", error.sentence, error.code)
        return
    yield Check("profile", f"{place.name} in {place.folder}")
    yield Check("files", f"{loose} can be seen by others" if loose else "yours alone", "loose_files" if loose else "")
    if not loose:
        yield from _connection(settings)


def _loose(folder: Path) -> Path | None:
    """The first file of a profile that is not its user's alone."""
    for path in (folder, *sorted(folder.iterdir())):
        found = path.lstat()
        if found.st_mode & 0o077 or found.st_uid != os.geteuid():
            return path
    return None


def _connection(settings: Settings) -> Iterator[Check]:
    try:
        status = asyncio.run(_status(settings))
    except CloisterError as error:
        if error.code == "usage" and not sys.stdin.isatty():
            yield Check("relay", "not checked: the profile is locked, and there is no terminal to ask for its password")
        else:
            yield Check("vault", error.sentence, error.code)
        return
    if status.relay == "online":
        yield Check("relay", f"{status.address} answers; realm {status.realm}, {status.realm_size} records verified")
    else:
        code = status.last_error if status.last_error in REGISTRY else "unreachable"
        yield Check("relay", f"{status.address}: {REGISTRY[code].sentence}", code)
    yield Check("outbox", f"{status.queued} texts wait" if status.queued else "empty")


async def _status(settings: Settings) -> Status:
    """How the profile stands once it is online, or when patience ends."""
    async with opened(settings) as client:
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE
        status = await client.status()
        while status.relay != "online" and loop.time() < end:
            await asyncio.sleep(_POLL)
            status = await client.status()
        return status
