"""What a person is asked: texts and passwords, on a terminal only.

Source: docs/cli.md ("Conventions").

Invariants
- Where standard input is no terminal nothing is asked: UsageError that names the flag or variable to use.
- A password comes from CLOISTER_PASSPHRASE_FD, CLOISTER_PASSPHRASE_FILE or a prompt without echo, in this order;
  never from an argument or a bare variable. A file that others can read is refused (loose_files).
- A question has standard input to itself, and one Ctrl+C ends it, also where a loop runs.
- Prompts go to standard error, so that standard output stays data.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from cloister.apps.cli.typed import TURN
from cloister.errors import UsageError

_MAX_SECRET = 64 * 1024
_SOURCES = "CLOISTER_PASSPHRASE_FILE or CLOISTER_PASSPHRASE_FD"


def ask(question: str, *, instead: str) -> str:
    """A line from the person; `instead` names the flag that says it without a terminal."""
    if not sys.stdin.isatty():
        raise UsageError("usage", f"there is no terminal to ask for {question}: use {instead}")
    with _asking():
        answer: str = click.prompt(question, err=True)
    return answer.strip()


@contextmanager
def _asking() -> Iterator[None]:
    """A running loop takes the first Ctrl+C for itself and would end nothing while a question blocks it."""
    with TURN:
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def given_password() -> str | None:
    """The password that the environment points to, or None."""
    if descriptor := os.environ.get("CLOISTER_PASSPHRASE_FD"):
        return _from_descriptor(descriptor)
    if path := os.environ.get("CLOISTER_PASSPHRASE_FILE"):
        return _from_file(Path(path), "CLOISTER_PASSPHRASE_FILE")
    return None


def ask_password(question: str = "Password", *, new: bool = False) -> str:
    """A password from the person, twice when it is new; UsageError without a terminal."""
    if not sys.stdin.isatty():
        raise UsageError("usage", f"a password is needed and there is no terminal: use {_SOURCES}")
    with _asking():
        answer: str = click.prompt(question, hide_input=True, confirmation_prompt=new, err=True)
    return answer


def password(question: str = "Password", *, new: bool = False) -> str:
    """The password that the environment points to, else from the person."""
    given = given_password()
    return ask_password(question, new=new) if given is None else given


def password_in(path: str) -> str:
    """The first line of a private file; UsageError where there is none, or where others can read it."""
    return _from_file(Path(path), "password file")


def _from_descriptor(text: str) -> str:
    try:
        with os.fdopen(int(text), "rb", closefd=False) as stream:
            return _first_line(stream.read(_MAX_SECRET))
    except (ValueError, OSError):
        raise UsageError("usage", "CLOISTER_PASSPHRASE_FD names no open file") from None


def _from_file(path: Path, what: str) -> str:
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            if stat.S_ISREG(mode) and mode & 0o077:
                raise UsageError("loose_files", str(path))
            return _first_line(stream.read(_MAX_SECRET))
    except OSError as error:
        raise UsageError("usage", f"{what}: {error.strerror}") from None


def _first_line(data: bytes) -> str:
    try:
        line = data.decode().partition("\n")[0].removesuffix("\r")
    except UnicodeDecodeError:
        raise UsageError("usage", "the password is not UTF-8") from None
    if not line:
        raise UsageError("usage", "the password is empty")
    return line
