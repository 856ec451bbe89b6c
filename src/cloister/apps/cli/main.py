"""The command `cloister`: its tree, and how every ending becomes an exit code.

Source: docs/cli.md, docs/spec/errors.md.

Invariants
- Before anything else: umask 077 and no core dumps, so that no file and no crash gives a secret away.
- Every error ends in one form on standard error and one of the exit codes of `exits.Exit`; no traceback unless -v.
- A reader of standard output that goes away ends the command quietly.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Sequence

import click

from cloister.apps.cli.exits import Exit
from cloister.apps.cli.frame import Commands, Entry
from cloister.apps.cli.output import ReaderGoneError, Settings
from cloister.errors import CloisterError, InternalError, UnavailableError, UsageError

_PLACE = "cloister.apps.cli"
_START, _MESSAGES, _REALM, _MISC = "Start here", "Messages and rooms", "Run a realm", "More"

TABLE = {
    "demo": Entry(f"{_PLACE}.demo.command:demo", "A relay and three members on this machine, and a report.", _START),
    "setup": Entry(f"{_PLACE}.setup:setup", "Join a realm with an invite link.", _START),
    "chat": Entry(f"{_PLACE}.chat:chat", "Read and write in one room.", _START),
    "doctor": Entry(f"{_PLACE}.doctor:doctor", "Check this machine, the profile and the relay.", _START),
    "send": Entry(f"{_PLACE}.messages:send", "Send a text to a room.", _MESSAGES),
    "listen": Entry(f"{_PLACE}.messages:listen", "Write out messages as they come.", _MESSAGES),
    "room": Entry(f"{_PLACE}.rooms:room", "Make rooms, show them, add and remove members.", _MESSAGES),
    "users": Entry(f"{_PLACE}.rooms:users", "Who is in the realm.", _MESSAGES),
    "relay": Entry(f"{_PLACE}.relay:relay", "Set up and run a relay, make invites.", _REALM),
    "authority": Entry(f"{_PLACE}.authority:authority", "The realm's certificates: issue, revoke, verify.", _REALM),
    "completion": Entry(f"{_PLACE}.help:completion", "Completion for bash, zsh or fish.", _MISC),
    "help": Entry(f"{_PLACE}.help:help_", "What an error or exit code means.", _MISC),
    "version": Entry(f"{_PLACE}.help:version", "Which version this is.", _MISC),
    "demo-member": Entry(f"{_PLACE}.demo.member:demo_member", "One member of the demo.", hidden=True),
}


@click.group(cls=Commands, table=TABLE, top=True, context_settings={"help_option_names": ["-h", "--help"]})
def cloister() -> None:
    """End-to-end encrypted rooms over a relay of your own that cannot read them."""


def main() -> int:
    """The entry point; gives the exit code."""
    harden()
    return run(sys.argv[1:])


def harden() -> None:
    """Files that this process makes are its user's alone, and a crash leaves no memory image."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run(arguments: Sequence[str]) -> int:
    """Carry out one command line; gives the exit code, whatever happens."""
    settings = Settings.from_environment(os.environ)
    try:
        result = cloister.main(list(arguments), "cloister", standalone_mode=False, obj=settings)
        return int(result or Exit.DONE)
    except (click.Abort, KeyboardInterrupt):
        settings.screen.say("interrupted", "dim")
        return Exit.INTERRUPTED
    except ReaderGoneError:
        _forget_output()
        return Exit.DONE
    except Exception as raised:  # whatever escapes a command ends in the one form
        error = as_cloister_error(raised)
        settings.screen.error(error, error.info.exit_code)
        return error.info.exit_code


def as_cloister_error(raised: BaseException) -> CloisterError:
    """The product's error for anything that a command may raise; its cause is kept for -v."""
    if isinstance(raised, BaseExceptionGroup):
        return as_cloister_error(_first_cause(raised))
    if isinstance(raised, CloisterError):
        return raised
    error: CloisterError
    if isinstance(raised, click.UsageError):
        error = UsageError("usage", _usage_detail(raised))
    elif isinstance(raised, click.ClickException):
        error = UsageError("usage", raised.format_message())
    elif isinstance(raised, OSError):
        error = UnavailableError("disk", ": ".join(filter(None, (str(raised.filename or ""), raised.strerror))))
    else:
        error = InternalError("internal", type(raised).__name__)
    error.__cause__ = raised
    return error


def _first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group of tasks that is ours, else the first one."""
    ours = group.subgroup(CloisterError) or group
    first = ours.exceptions[0]
    return _first_cause(first) if isinstance(first, BaseExceptionGroup) else first


def _usage_detail(error: click.UsageError) -> str:
    detail = error.format_message().rstrip(".")
    return f"{detail} ({error.ctx.command_path} --help)" if error.ctx else detail


def _forget_output() -> None:
    """Nobody reads any more: keep the interpreter from complaining about it at its end."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)
