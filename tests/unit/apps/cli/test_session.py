"""Which profile is used, and when a password is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloister.apps.cli import session
from cloister.apps.cli.main import run
from cloister.apps.cli.output import Settings
from cloister.errors import UsageError
from support.fake_backend import FakeBackend


def profile(home: Path, name: str) -> None:
    (home / name).mkdir()
    (home / name / "vault").touch()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLOISTER_HOME", str(tmp_path))
    return tmp_path


def test_without_any_profile_setup_is_the_hint(home: Path) -> None:
    with pytest.raises(UsageError) as caught:
        session.profile_name(Settings())
    assert caught.value.code == "no_profile"


def test_several_profiles_must_be_told_apart(home: Path) -> None:
    profile(home, "alice")
    profile(home, "bob")
    with pytest.raises(UsageError) as caught:
        session.profile_name(Settings())
    assert caught.value.code == "usage"
    assert "alice, bob" in caught.value.detail


def test_the_only_profile_needs_no_name(home: Path) -> None:
    profile(home, "alice")
    (home / "other").mkdir()
    assert session.profile_name(Settings()) == "alice"
    assert session.profile_name(Settings(profile="carol")) == "carol"


def test_a_profile_that_is_not_there_is_said_so(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-p", "nobody", "users"]) == 6
    assert "cloister setup" in capsys.readouterr().err


def test_a_running_owner_needs_no_password(backend: FakeBackend) -> None:
    assert run(["users"]) == 0
    assert backend.passwords == [None]


def test_a_locked_profile_asks_once(backend: FakeBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    backend.locked_with = "secret"
    monkeypatch.setattr("cloister.apps.cli.session.ask_password", lambda _question: "secret")
    assert run(["users"]) == 0
    assert backend.passwords == [None, "secret"]


def test_a_locked_profile_without_a_terminal_is_usage(backend: FakeBackend, capsys: pytest.CaptureFixture[str]) -> None:
    backend.locked_with = "secret"
    assert run(["users"]) == 2
    assert "CLOISTER_PASSPHRASE_FILE" in capsys.readouterr().err


def test_a_wrong_password_is_said_so_and_never_shown(
    backend: FakeBackend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backend.locked_with = "secret"
    given = tmp_path / "given"
    given.write_text("guess-4711\n")
    given.chmod(0o600)
    monkeypatch.setenv("CLOISTER_PASSPHRASE_FILE", str(given))
    assert run(["-v", "users"]) == 5
    out, err = capsys.readouterr()
    assert "wrong_password" in err
    assert "guess-4711" not in out + err
    assert "secret" not in out + err
