"""`help`, `version` and `completion`."""

from __future__ import annotations

import json

import pytest

from cloister import __version__
from cloister.apps.cli.exits import MEANINGS
from cloister.apps.cli.main import run
from cloister.errors import REGISTRY


@pytest.mark.parametrize("code", sorted(REGISTRY))
def test_every_error_code_is_explained(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["help", code]) == 0
    out = capsys.readouterr().out
    assert REGISTRY[code].sentence in out
    assert REGISTRY[code].hint in out


def test_exit_codes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["help", "exit-codes", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["code"]: row["meaning"] for row in rows} == {int(code): text for code, text in MEANINGS.items()}


def test_help_alone_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["help"]) == 0
    out = capsys.readouterr().out
    assert "Start here:" in out
    assert "demo-member" not in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["version"]) == 0
    assert capsys.readouterr().out == f"cloister {__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_ask_the_command_itself(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    assert "_CLOISTER_COMPLETE" in capsys.readouterr().out


def test_completion_answers_with_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("_CLOISTER_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "cloister co")
    monkeypatch.setenv("COMP_CWORD", "1")
    with pytest.raises(SystemExit) as left:
        run([])
    assert left.value.code == 0
    assert capsys.readouterr().out.split() == ["plain,completion"]
