"""How commands are found, loaded and given their common flags.

Source: docs/cli.md (generated from these commands).

Invariants
- `cloister --help` imports no command: the table holds each one's short help (a test compares it with the command's
  own), and `Commands.get_command` imports a module when its command is called.
- The common flags stand before or after the command's name: `cloister --json room list`, `cloister room list --json`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click

from cloister.apps.cli.output import Settings


@dataclass(frozen=True, slots=True)
class Entry:
    """A command that is loaded when it is called: `module:attribute`, its short help, its section."""

    place: str
    help: str
    section: str = "Commands"
    hidden: bool = False


def _keep(name: str, value: Any = None) -> Callable[[click.Context, click.Parameter, Any], None]:
    """A callback that stores the flag in the settings; `value` is what a plain flag stands for."""

    def store(ctx: click.Context, _parameter: click.Parameter, given: Any) -> None:
        if given not in (None, False):
            setattr(ctx.ensure_object(Settings), name, given if value is None else value[0])

    return store


def common_options(*, hidden: bool) -> list[click.Option]:
    """The flags that every command takes; below the top only --json is listed."""
    return [
        click.Option(
            ["-p", "--profile"],
            metavar="NAME",
            help="The profile to use (else CLOISTER_PROFILE, else the only one).",
            callback=_keep("profile"),
            expose_value=False,
            hidden=hidden,
        ),
        click.Option(
            ["--json"],
            is_flag=True,
            help="Write JSON objects, one a line.",
            callback=_keep("json"),
            expose_value=False,
        ),
        click.Option(
            ["-q", "--quiet"],
            is_flag=True,
            help="Say nothing but data and errors.",
            callback=_keep("quiet"),
            expose_value=False,
            hidden=hidden,
        ),
        click.Option(
            ["-v", "--verbose"],
            is_flag=True,
            help="Show where an error came from.",
            callback=_keep("verbose"),
            expose_value=False,
            hidden=hidden,
        ),
        click.Option(
            ["--no-color"],
            is_flag=True,
            help="No colour (as NO_COLOR).",
            callback=_keep("color", (False,)),
            expose_value=False,
            hidden=hidden,
        ),
    ]


class Command(click.Command):
    """A command with the common flags."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(common_options(hidden=True))


class Commands(click.Group):
    """A group whose commands are loaded when they are called."""

    command_class = Command

    def __init__(self, *args: Any, table: dict[str, Entry] | None = None, top: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.table = table or {}
        self.params.extend(common_options(hidden=not top))

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names in the order of their tables."""
        return [*self.table, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, its module imported now."""
        entry = self.table.get(cmd_name)
        if entry is None:
            return super().get_command(ctx, cmd_name)
        module, attribute = entry.place.split(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands by section, from the table alone."""
        if not self.table:
            super().format_commands(ctx, formatter)
            return
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, entry in self.table.items():
            if not entry.hidden:
                sections.setdefault(entry.section, []).append((name, entry.help))
        for section, rows in sections.items():
            with formatter.section(section):
                formatter.write_dl(rows)


def settings_of(ctx: click.Context) -> Settings:
    """The settings of this call."""
    return ctx.ensure_object(Settings)
