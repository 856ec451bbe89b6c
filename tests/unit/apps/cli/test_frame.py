"""How commands are found and given their flags."""

from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest

from cloister.apps.cli import frame, main
from cloister.apps.cli.output import Settings


def commands() -> list[str]:
    return sorted(main.TABLE)


@pytest.mark.parametrize("name", commands())
def test_the_short_help_of_the_table_is_the_commands_own(name: str) -> None:
    command = main.cloister.get_command(click.Context(main.cloister), name)
    assert command is not None
    assert command.get_short_help_str(200).rstrip(".") == main.TABLE[name].help.rstrip(".")
    assert command.hidden == main.TABLE[name].hidden


def test_help_imports_no_command() -> None:
    script = (
        "import sys; from cloister.apps.cli.main import run; run(['--help']);"
        "print(*sorted(name for name in sys.modules if name.startswith('cloister')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].split() == [
        "cloister",
        "cloister.apps",
        "cloister.apps.cli",
        "cloister.apps.cli.exits",
        "cloister.apps.cli.failures",
        "cloister.apps.cli.frame",
        "cloister.apps.cli.main",
        "cloister.apps.cli.output",
        "cloister.errors",
    ]


@pytest.mark.parametrize("arguments", [["--json", "version"], ["version", "--json"]])
def test_common_flags_stand_before_or_after_the_command(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(arguments) == 0
    assert json.loads(capsys.readouterr().out)["type"] == "version"


@pytest.mark.parametrize(
    ("environment", "arguments", "profile"),
    [
        ({}, [], None),
        ({"CLOISTER_PROFILE": "bob"}, [], "bob"),
        ({"CLOISTER_PROFILE": ""}, [], None),
        ({"CLOISTER_PROFILE": "bob"}, ["-p", "alice"], "alice"),
    ],
)
def test_a_flag_wins_over_the_environment(
    environment: dict[str, str], arguments: list[str], profile: str | None
) -> None:
    seen: list[Settings] = []

    @click.command(cls=frame.Command)
    @click.pass_context
    def command(ctx: click.Context) -> None:
        seen.append(frame.settings_of(ctx))

    command.main(arguments, standalone_mode=False, obj=Settings.from_environment(environment))
    assert seen[0].profile == profile


def test_no_color_is_heard_wherever_it_is_said() -> None:
    assert Settings.from_environment({}).color
    assert not Settings.from_environment({"NO_COLOR": "1"}).color
    settings = Settings.from_environment({})
    frame.Command("x", callback=lambda: None).main(["--no-color"], standalone_mode=False, obj=settings)
    assert not settings.color
