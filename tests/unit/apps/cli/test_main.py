"""Every ending of a command: one form, one exit code, nothing else on standard output."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys

import click
import pytest

from cloister.apps.cli import main
from cloister.apps.cli.exits import MEANINGS, Exit
from cloister.errors import REGISTRY, CloisterError, PeerError, UnavailableError, UsageError


def raising(error: BaseException) -> click.Command:
    @click.command()
    def command() -> None:
        raise error

    return command


@pytest.fixture
def breaks(monkeypatch: pytest.MonkeyPatch):
    """Makes `cloister version` raise."""

    def set_error(error: BaseException) -> None:
        monkeypatch.setattr("cloister.apps.cli.help.version", raising(error))

    return set_error


@pytest.mark.parametrize("code", sorted(REGISTRY))
def test_every_error_ends_in_the_exit_code_of_its_row(code: str, breaks, capsys: pytest.CaptureFixture[str]) -> None:
    breaks(CloisterError(code))
    assert main.run(["version"]) == REGISTRY[code].exit_code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"error: {REGISTRY[code].sentence}",
        f"  hint: {REGISTRY[code].hint}",
        f"  code: {code}   docs: cloister help {code}",
    ]


def test_every_exit_code_of_the_registry_has_a_meaning() -> None:
    assert {row.exit_code for row in REGISTRY.values()} <= {int(code) for code in MEANINGS}
    assert set(MEANINGS) == set(Exit)


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (KeyboardInterrupt(), Exit.INTERRUPTED),
        (click.Abort(), Exit.INTERRUPTED),
        (click.UsageError("x"), Exit.USAGE),
        (click.BadParameter("x"), Exit.USAGE),
        (click.FileError("x"), Exit.USAGE),
        (PermissionError(13, "denied", "file"), Exit.FAILED),
        (RuntimeError("x"), Exit.FAILED),
        (ExceptionGroup("tasks", [ValueError(), ExceptionGroup("", [PeerError("fork")])]), Exit.INTEGRITY),
        (ExceptionGroup("tasks", [ValueError()]), Exit.FAILED),
    ],
)
def test_other_endings_have_their_exit_code(raised: BaseException, code: Exit, breaks) -> None:
    breaks(raised)
    assert main.run(["version"]) == code


def test_an_internal_error_shows_no_traceback_unless_asked(breaks, capsys: pytest.CaptureFixture[str]) -> None:
    breaks(RuntimeError("the text of a message"))
    assert main.run(["version"]) == Exit.FAILED
    quiet = capsys.readouterr().err
    assert "Traceback" not in quiet
    assert "the text of a message" not in quiet
    assert main.run(["-v", "version"]) == Exit.FAILED
    assert "Traceback" in capsys.readouterr().err


def test_with_json_an_error_is_one_object_on_standard_error(breaks, capsys: pytest.CaptureFixture[str]) -> None:
    breaks(UnavailableError("unreachable", "relay.example:7443"))
    assert main.run(["--json", "version"]) == Exit.UNREACHABLE
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err) == {
        "v": 1,
        "type": "error",
        "code": "unreachable",
        "message": "the relay cannot be reached: relay.example:7443",
        "hint": REGISTRY["unreachable"].hint,
        "exit": 3,
    }


def test_a_detail_with_terminal_controls_is_shown_without_them(breaks, capsys: pytest.CaptureFixture[str]) -> None:
    breaks(UsageError("no_room", "\x1b[2J\x9b1m\x07"))
    assert main.run(["version"]) == Exit.NOT_FOUND
    err = capsys.readouterr().err
    assert not any((char < " " and char != "\n") or "\x7f" <= char <= "\x9f" for char in err)


@pytest.mark.parametrize(
    "arguments",
    [["nothing"], ["--nothing"], ["version", "surplus"], ["completion", "tcsh"], ["help", "nothing"], ["-p"]],
)
def test_a_command_line_that_makes_no_sense_is_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(arguments) == Exit.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert "code: usage" in err


@pytest.mark.parametrize(
    "arguments", [["nothing", "--json"], ["relay", "init", "--port", "0", "--json"], ["--json", "-x"]]
)
def test_json_is_heeded_wherever_it_stands_in_a_senseless_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(arguments) == Exit.USAGE
    assert json.loads(capsys.readouterr().err)["code"] == "usage"


def test_behind_two_dashes_json_is_a_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["version", "--", "--json"]) == Exit.USAGE
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize("arguments", [[], ["room"], ["relay", "invite"]])
def test_without_a_command_its_help_is_shown_and_no_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(arguments) == Exit.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Usage: cloister")
    assert "error" not in err.splitlines()[0]


@pytest.mark.parametrize("stream", [0, 1, 2])
def test_a_closed_standard_stream_is_nobodys_file(stream: int) -> None:
    script = (
        "import os, sys; from cloister.apps.cli import main; sys.argv = ['cloister', 'version'];"
        " code = main.main(); opened = os.open('/dev/zero', os.O_RDONLY); os._exit(code or opened < 3)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], preexec_fn=lambda: os.close(stream), capture_output=stream == 0, timeout=30
    )
    assert done.returncode == 0
    assert b"internal" not in (done.stderr or b"")


def test_files_are_private_and_crashes_leave_no_memory_image() -> None:
    script = (
        "import os, resource; from cloister.apps.cli.main import harden; harden();"
        "print(os.umask(0), resource.getrlimit(resource.RLIMIT_CORE))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{0o077} (0, 0)"
    assert resource.getrlimit(resource.RLIMIT_CORE) is not None


def test_a_reader_that_goes_away_ends_the_command_quietly() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "cloister.apps.cli", "help", "exit-codes"], stdout=write, stderr=subprocess.PIPE
    )
    os.close(write)
    assert done.returncode == 0
    assert done.stderr == b""
