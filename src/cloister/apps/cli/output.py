"""What a command writes: data to standard output, everything for people to standard error.

Source: docs/cli.md ("Conventions").

Invariants
- With --json standard output holds JSON objects only, one a line, each with `"v": 1` and a `type`; fields are added,
  never changed. An error is one object on standard error.
- Nothing that this module writes holds a control character but newline and tab, whoever wrote the text: a last
  guard behind `safe_text` and `safe_name`, which callers use for what peers wrote. JSON is ASCII.
- Colour only on a terminal, and neither with NO_COLOR nor with --no-color.
- No secret is ever passed here but the recovery words and invite links that a command exists to show.
"""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TextIO

from cloister.errors import CloisterError

_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_STYLES: Final = {"bad": "1;31", "good": "1;32", "dim": "2", "strong": "1"}


@dataclass(slots=True)
class Settings:
    """The flags that every command takes, after the environment was looked at."""

    profile: str | None = None
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    color: bool = True
    password: str | None = field(default=None, repr=False)
    """Once it is known: a profile may have to be opened again."""
    screen: Screen = field(init=False)

    def __post_init__(self) -> None:
        """The screen reads the flags when it writes, not when it is made."""
        self.screen = Screen(self)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """CLOISTER_PROFILE and NO_COLOR; flags come later and win."""
        return cls(profile=environment.get("CLOISTER_PROFILE") or None, color=not environment.get("NO_COLOR"))


class ReaderGoneError(Exception):
    """Nobody reads standard output any more (`cloister listen | head -1`): the command has done its part."""


class Screen:
    """Writes for one command."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def json(self) -> bool:
        """Whether data are JSON lines."""
        return self._settings.json

    @property
    def is_terminal(self) -> bool:
        """Whether a person reads standard error as it appears."""
        return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    @property
    def quiet(self) -> bool:
        """Whether only data and errors are wanted."""
        return self._settings.quiet

    @property
    def color(self) -> bool:
        """Whether colour is wanted at all."""
        return self._settings.color

    def data(self, line: str) -> None:
        """A line of data for people; nothing with --json, where `record` speaks."""
        if not self.json:
            self._write(sys.stdout, guarded(line))

    def record(self, kind: str, **fields: Any) -> None:
        """An object of data for programs; nothing without --json."""
        if self.json:
            self._write(sys.stdout, json_line(kind, **fields))

    def say(self, line: str, style: str = "") -> None:
        """A line about what happens; not with --quiet."""
        if not self._settings.quiet:
            self._write(sys.stderr, self._styled(guarded(line), style))

    def error(self, error: CloisterError, exit_code: int) -> None:
        """The error in its one form: what happened, what to do next, its code."""
        if self.json:
            fields = {"code": error.code, "message": error.sentence, "hint": error.hint, "exit": exit_code}
            self._write(sys.stderr, json_line("error", **fields))
        else:
            self._write(sys.stderr, f"{self._styled('error:', 'bad')} {guarded(error.sentence)}")
            self._write(sys.stderr, f"  hint: {guarded(error.hint)}")
            self._write(sys.stderr, f"  code: {error.code}   docs: cloister help {error.code}")
        if self._settings.verbose and error.__cause__ is not None:
            self._write(sys.stderr, guarded("".join(traceback.format_exception(error.__cause__)).rstrip()))

    def _styled(self, text: str, style: str) -> str:
        wanted = style and self.color and sys.stderr.isatty()
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if wanted else text

    @staticmethod
    def _write(stream: TextIO, line: str) -> None:
        try:
            stream.write(line + "\n")
            stream.flush()
        except BrokenPipeError:
            raise ReaderGoneError from None


def guarded(text: str) -> str:
    """`text` without control characters but newline and tab."""
    return _CONTROL.sub("\ufffd", text)


def json_line(kind: str, **fields: Any) -> str:
    """One JSON object in ASCII: `v` and `type` first."""
    return json.dumps({"v": 1, "type": kind, **fields})
