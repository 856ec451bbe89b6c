"""`doctor`: each failure has a line that says what to do, and an exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cloister.apps.cli import doctor
from cloister.apps.cli.main import run
from cloister.errors import REGISTRY
from support.fake_backend import FakeBackend


@pytest.fixture
def profile(backend: FakeBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A profile on the disk whose owner is the fake one."""
    folder = tmp_path / "alice"
    folder.mkdir(mode=0o700)
    (folder / "vault").touch(0o600)
    monkeypatch.setattr(doctor, "PATIENCE", 0.05)
    return folder


def checks(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}


def test_without_a_profile_setup_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLOISTER_HOME", str(tmp_path / "none"))
    monkeypatch.delenv("CLOISTER_PROFILE", raising=False)
    assert run(["doctor"]) == 6
    out = capsys.readouterr().out
    assert "FAIL  profile" in out
    assert f"-> {REGISTRY['no_profile'].hint}" in out


def test_files_that_others_can_see_are_named(profile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (profile / "vault").chmod(0o644)
    assert run(["doctor", "--json"]) == 5
    row = checks(capsys)["files"]
    assert row["code"] == "loose_files"
    assert str(profile / "vault") in str(row["found"])


@pytest.mark.parametrize("state", ["offline", "connecting"])
def test_a_relay_that_does_not_answer_is_exit_code_3(
    state: str, profile: Path, backend: FakeBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    backend.relay = state
    assert run(["doctor", "--json"]) == 3
    assert checks(capsys)["relay"]["code"] == "unreachable"


def test_a_wrong_password_is_exit_code_5(
    profile: Path, backend: FakeBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.locked_with = "secret"
    (tmp_path / "given").touch(0o600)
    (tmp_path / "given").write_text("guess")
    monkeypatch.setenv("CLOISTER_PASSPHRASE_FILE", str(tmp_path / "given"))
    assert run(["doctor"]) == 5


def test_a_locked_profile_without_a_terminal_is_not_a_failure(
    profile: Path, backend: FakeBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    backend.locked_with = "secret"
    assert run(["doctor"]) == 0
    assert "not checked" in capsys.readouterr().out


def test_a_full_disk_is_named(
    profile: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "SPACE_LEAST", 2**80)
    assert run(["doctor"]) == 1
    assert REGISTRY["disk"].hint in capsys.readouterr().out


def test_all_is_well(profile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json"]) == 0
    found = checks(capsys)
    assert list(found) == ["python", "disk", "home", "profile", "files", "relay", "outbox"]
    assert all(row["ok"] for row in found.values())
