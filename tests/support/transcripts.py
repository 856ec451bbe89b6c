"""Carries out transcripts: commands, and the output that they must have (tests/transcripts/README.md)."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "transcripts"
CLOISTER = f"{shlex.quote(sys.executable)} -m cloister.apps.cli"
_COMMAND = re.compile(r"([a-z+]+)\$ (.*)")
_EXIT = re.compile(r"\[(\d+)\]")
_PLACEHOLDERS = {
    "<hex>": "[0-9a-f]+",
    "<id>": "[0-9a-f]{8}",
    "<n>": "[0-9]+",
    "<time>": r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ",
    "<...>": ".*",
    "<more>": r"(?:.*\n)*?.*",
}


@dataclass(frozen=True)
class Step:
    """A command of `who`, the lines that it must print, and its exit code."""

    who: str
    command: str
    output: str
    code: int
    line: int


def steps(name: str) -> list[Step]:
    """The steps of a transcript."""
    found: list[Step] = []
    begun: tuple[str, str, int] | None = None
    output: list[str] = []
    code = 0

    def end() -> None:
        if begun is not None:
            found.append(Step(begun[0], begun[1], "\n".join(output), code, begun[2]))

    for number, line in enumerate((FOLDER / name).read_text().splitlines(), 1):
        command, ended = _COMMAND.fullmatch(line), _EXIT.fullmatch(line)
        if command is not None:
            end()
            begun, output, code = (command[1], command[2], number), [], 0
        elif ended is not None:
            code = int(ended[1])
        elif line and not line.startswith("#"):
            output.append(line)
    end()
    return found


def pattern(expected: str) -> re.Pattern[str]:
    """The expected output as a regular expression."""
    text = re.escape(expected)
    for placeholder, form in _PLACEHOLDERS.items():
        text = text.replace(re.escape(placeholder), form)
    return re.compile(text)


def carry_out(step: Step, folder: Path, environment: dict[str, str]) -> None:
    """Run one step in a shell and compare; AssertionError names the transcript's line."""
    command = re.sub(r"\bcloister ", f"{CLOISTER} ", step.command, count=1).replace("$DIR", str(folder))
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, env=environment, timeout=60)
    printed = (done.stdout + done.stderr).replace(str(folder), "$DIR").rstrip("\n")
    assert pattern(step.output).fullmatch(printed), f"line {step.line}: {step.command}\n{printed}"
    assert done.returncode == step.code, f"line {step.line}: exit code {done.returncode}\n{printed}"


def carry_out_all(
    name: str, folder: Path, environment: Callable[[str], dict[str, str]], special: Callable[[Step], bool]
) -> None:
    """All steps; `special` takes those that are no command of the product."""
    for step in steps(name):
        if not special(step):
            carry_out(step, folder, environment(step.who))
