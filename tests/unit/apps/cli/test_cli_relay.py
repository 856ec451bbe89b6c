"""`relay`: making a relay, links, status; on the files of one that does not run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.relay.raw_client import populate

from cloister.apps.cli import relay
from cloister.apps.cli.main import run
from cloister.errors import UsageError
from cloister.identity.invite import parse_invite


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """A relay's folder."""
    assert run(["-q", "relay", "init", "--domain", "chat.example.org", "--folder", str(tmp_path / "relay")]) == 0
    capsys.readouterr()
    return str(tmp_path / "relay")


@pytest.mark.parametrize("arguments", [["status"], ["invite", "create"], ["run"]])
def test_without_a_relay_init_is_named(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["relay", *arguments, "--folder", str(tmp_path / "none")]) == 2
    assert "cloister relay init" in capsys.readouterr().err


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").touch()
    assert run(["relay", "init", "--folder", str(tmp_path)]) == 2
    assert "code: exists" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--realm", "Not A Name"],
        ["--domain", "a b"],
        ["--port", "0"],
        ["--port", "65536"],
        ["--port", "x"],
        ["--listen", "\x1b"],
    ],
)
def test_odd_choices_are_usage(arguments: list[str], tmp_path: Path) -> None:
    assert run(["relay", "init", "--folder", str(tmp_path / "relay"), *arguments]) == 2


def test_a_folder_that_others_can_see_is_refused(folder: str) -> None:
    Path(folder).chmod(0o755)
    assert run(["relay", "status", "--folder", folder]) == 5


@pytest.mark.parametrize("arguments", [["--uses", "0"], ["--uses", "1001"], ["--expires", "soon"], ["--expires", "0d"]])
def test_an_odd_invite_is_usage(arguments: list[str], folder: str) -> None:
    assert run(["relay", "invite", "create", "--folder", folder, *arguments]) == 2


def test_a_new_relay_shows_what_links_pin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = str(tmp_path / "relay")
    arguments = ["--domain", "chat.example.org", "--realm", "home", "--port", "7000"]
    assert run(["relay", "init", *arguments, "--folder", place, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["realm"], made["address"], made["folder"]) == ("home", "chat.example.org:7000", place)
    assert run(["-q", "relay", "invite", "create", "--folder", place, "--uses", "3", "--expires", "12h"]) == 0
    link = parse_invite(capsys.readouterr().out)
    assert (link.host, link.port, link.realm) == ("chat.example.org", 7000, "home")
    assert (link.relay_hash.hex(), link.root_hash.hex()) == (made["relay"], made["root"])
    assert link.inviter is None


def test_the_realm_is_named_after_the_domain(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["relay", "status", "--folder", folder, "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["realm"], status["running"], status["users"]) == ("chat.example.org", False, 0)
    assert run(["relay", "status", "--folder", folder]) == 0
    assert "running      no" in capsys.readouterr().out


def test_the_usual_place_is_beside_the_profiles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLOISTER_HOME", str(tmp_path / "home"))
    assert relay.folder_of(None) == tmp_path / "home-relay"
    assert relay.folder_of("here") == Path("here")


@pytest.mark.parametrize(
    ("text", "amount"), [("30m", 1_800_000), ("12h", 43_200_000), ("7d", 604_800_000), ("2w", 1_209_600_000)]
)
def test_lengths_of_time(text: str, amount: int) -> None:
    assert relay.milliseconds(text) == amount


@pytest.mark.parametrize("text", ["", "7", "d", "-1d", "1.5h", "7 d", "1y", "100000d", "\uff17d"])
def test_what_is_no_length_of_time_is_usage(text: str) -> None:
    with pytest.raises(UsageError):
        relay.milliseconds(text)


def test_a_user_is_disabled_and_enabled(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    populate(Path(folder), 1)

    def said(*arguments: str) -> list[object]:
        assert run(["--json", "relay", "user", *arguments, "--folder", folder]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    (row,) = said("list")
    assert isinstance(row, dict)
    name = str(row["user"])
    assert (row["devices"], row["disabled"]) == (1, False)
    for command, disabled in (("disable", True), ("enable", False)):
        assert said(command, name) == [{"v": 1, "type": "relay_user", "user": name, "disabled": disabled}]
        (row,) = said("list")
        assert isinstance(row, dict)
        assert row["disabled"] is disabled


def test_nobody_of_that_name_is_exit_code_6(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["relay", "user", "disable", "zoe", "--folder", folder]) == 6
    assert "zoe" in capsys.readouterr().err
