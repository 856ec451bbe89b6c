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
from itertools import takewhile

import click
from click.exceptions import NoArgsIsHelpError

from cloister.apps.cli.exits import Exit
from cloister.apps.cli.failures import as_cloister_error
from cloister.apps.cli.frame import Commands, Entry
from cloister.apps.cli.output import ReaderGoneError, Settings

_PLACE = "cloister.apps.cli"
_START, _MESSAGES, _REALM, _MISC = "Start here", "Messages and rooms", "Run a realm", "More"

TABLE = {
    "demo": Entry(f"{_PLACE}.demo.command:demo", "A relay and three members on this machine, and a report.", _START),
    "setup": Entry(f"{_PLACE}.setup:setup", "Join a realm with an invite link.", _START),
    "chat": Entry(f"{_PLACE}.chat:chat", "Read and write in one room.", _START),
    "session": Entry(
        f"{_PLACE}.session_command:session", "Chat with one other person by a code, without an account.", _START
    ),
    "doctor": Entry(f"{_PLACE}.doctor:doctor", "Check this machine, the profile and the relay.", _START),
    "send": Entry(f"{_PLACE}.messages:send", "Send a text to a room.", _MESSAGES),
    "listen": Entry(f"{_PLACE}.messages:listen", "Write out messages as they come.", _MESSAGES),
    "room": Entry(f"{_PLACE}.rooms:room", "Make rooms, show them, add and remove members, leave.", _MESSAGES),
    "users": Entry(
        f"{_PLACE}.users:users", "Who is in the realm, and who of those who want to be seen is online.", _MESSAGES
    ),
    "requests": Entry(f"{_PLACE}.users:requests", "Who asks for a chat, and what to do with who asks.", _MESSAGES),
    "broadcast": Entry(
        f"{_PLACE}.broadcast:broadcast",
        "Send a copy of TEXT to everybody in the realm, each over a session of its own.",
        _MESSAGES,
    ),
    "relay": Entry(f"{_PLACE}.relay:relay", "Set up and run a relay, make invites.", _REALM),
    "authority": Entry(f"{_PLACE}.authority:authority", "The realm's certificates: issue, revoke, verify.", _REALM),
    "password": Entry(f"{_PLACE}.password:password", "Change the password of a profile.", _MISC),
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
    """Files that this process makes are its user's alone, and a crash leaves no memory image.

    A standard stream that is closed becomes /dev/null: else the next file, a database perhaps, would take its number
    and what is meant for it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            lowest = os.open(os.devnull, os.O_RDWR)  # the number that is free is the stream's
            setattr(sys, name, os.fdopen(lowest, "w" if number else "r"))
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run(arguments: Sequence[str]) -> int:
    """Carry out one command line; gives the exit code, whatever happens."""
    settings = Settings.from_environment(os.environ)
    try:
        result = cloister.main(list(arguments), "cloister", standalone_mode=False, obj=settings)
        return int(result or Exit.DONE)
    except NoArgsIsHelpError as raised:
        click.echo(raised.format_message(), err=True)
        return Exit.USAGE
    except (click.Abort, KeyboardInterrupt):
        settings.screen.say("interrupted", "dim")
        return Exit.INTERRUPTED
    except ReaderGoneError:
        _forget_output()
        return Exit.DONE
    except Exception as raised:  # whatever escapes a command ends in the one form
        settings.json = settings.json or _asks_for_json(arguments, raised)
        error = as_cloister_error(raised)
        settings.screen.error(error, error.info.exit_code)
        return error.info.exit_code


def _asks_for_json(arguments: Sequence[str], raised: Exception) -> bool:
    """Whether --json stands in a command line that was given up before it was read that far."""
    flags = takewhile(lambda argument: argument != "--", arguments)
    return isinstance(raised, click.UsageError) and "--json" in flags


def _forget_output() -> None:
    """Nobody reads any more: keep the interpreter from complaining about it at its end."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)
