"""`cloister demo`: the main job on this machine in a few seconds, shown as it happens, with a report that proves it.

Source: docs/demo.md.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from cloister.apps.cli.demo.acts import NAMES
from cloister.apps.cli.frame import Command, settings_of
from cloister.apps.cli.prompt import password
from cloister.errors import CloisterError, UsageError

if TYPE_CHECKING:
    from cloister.apps.cli.demo.report import Report
    from cloister.apps.cli.output import Screen

MEMBERS: Final = "alice,bob,carol"
_MEMBERS_LEAST, _MEMBERS_MOST = 2, 8
_PEOPLE: Final = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi")
_NAME_LEAST: Final = 3


@click.command(cls=Command)
@click.argument("suite", type=click.Choice(NAMES), default="nonces")
@click.option("--members", default=MEMBERS, show_default=True, metavar="A,B,...", help="Who takes part.")
@click.option("-n", "count", type=int, metavar="N", help=f"How many take part, {_MEMBERS_LEAST} to {_MEMBERS_MOST}.")
@click.option("--ask-passwords", is_flag=True, help="Choose a password for each profile yourself.")
@click.option("--keep", metavar="DIR", help="Keep everything in this new folder.")
@click.pass_context
def demo(
    ctx: click.Context, suite: str, members: str, count: int | None, ask_passwords: bool, keep: str | None
) -> None:
    """A relay and three members on this machine, and a report.

    Each is a process of its own. They enrol by invite links, agree on a key, and talk; then everything that the relay
    stored is searched for what it must not know.
    """
    from cloister.apps.cli.demo.conductor import Plan, perform
    from cloister.apps.cli.demo.live import watching

    screen = settings_of(ctx).screen
    names = _names(members if count is None else _people(count))
    if suite == "code":  # guests have no names, and are two
        names = ("creator", "joiner")
    passwords = {name: password(f"Password of {name}", new=True) for name in names} if ask_passwords else {}
    with _folder(keep) as folder, watching(screen, names) as watch:
        report = asyncio.run(perform(Plan(folder=folder, members=names, suite=suite, passwords=passwords), watch))
    show(screen, report, kept=keep)


def show(screen: Screen, report: Report, *, kept: str | None = None) -> None:
    """Write the report; raises the first failure that it names."""
    for line in report.lines():
        screen.data(line)
    screen.record("demo", **report.record())
    if kept:
        screen.say(f"everything is kept in {kept}", "dim")
    failures = report.failures()
    if failures:
        code, sentence = failures[0]
        raise CloisterError(code, sentence)
    names = ", ".join(told.name for told in report.members)
    screen.say(f"{names} talked through a relay that cannot read ({report.seconds:.1f} s)", "good")


def _people(count: int) -> str:
    """The first names of the list."""
    if not _MEMBERS_LEAST <= count <= _MEMBERS_MOST:
        raise UsageError("usage", f"the demo takes {_MEMBERS_LEAST} to {_MEMBERS_MOST} members")
    return ",".join(_PEOPLE[:count])


def _names(text: str) -> tuple[str, ...]:
    """The members' names; long enough to be searched for."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if len(set(names)) != len(names) or not _MEMBERS_LEAST <= len(names) <= _MEMBERS_MOST:
        raise UsageError("usage", f"the demo takes {_MEMBERS_LEAST} to {_MEMBERS_MOST} different names")
    if any(len(name) < _NAME_LEAST for name in names):
        raise UsageError("usage", f"a name in the demo has at least {_NAME_LEAST} letters")
    return names


@contextmanager
def _folder(keep: str | None) -> Iterator[Path]:
    """A private folder: the one to keep, which must not be there yet, or one that goes with the demo."""
    if keep is not None:
        path = Path(keep).absolute()
        try:
            path.mkdir(mode=0o700)
        except OSError as error:
            raise UsageError("usage", f"--keep {keep}: {error.strerror}") from error
        yield path
        return
    path = Path(tempfile.mkdtemp(prefix="cloister-demo-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
