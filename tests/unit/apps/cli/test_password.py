"""`password`: another password for a profile, from a terminal or from private files."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloister.apps.cli.main import run
from cloister.client import profile as profiles
from cloister.client.profile import Profile
from cloister.errors import PeerError
from cloister.identity.vault import FLOOR_N
from support.people import seeded


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Profile:
    """A profile whose vault costs little, its password in a file that the environment names."""
    monkeypatch.setenv("CLOISTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CLOISTER_PASSPHRASE_FILE", str(_secret(tmp_path / "old", "correct horse")))
    monkeypatch.delenv("CLOISTER_PASSPHRASE_FD", raising=False)
    monkeypatch.delenv("CLOISTER_PROFILE", raising=False)
    rewrap = profiles.vault.rewrap
    monkeypatch.setattr(profiles.vault, "rewrap", lambda data, old, new, rng, n: rewrap(data, old, new, rng, n=FLOOR_N))
    made = Profile.named("alice")
    made.create("correct horse", seeded(1), cost=FLOOR_N)
    return made


def _secret(path: Path, text: str, mode: int = 0o600) -> Path:
    path.touch(mode)
    path.write_text(text + "\n")
    path.chmod(mode)
    return path


def test_without_a_terminal_or_a_file_nothing_is_changed(place: Profile, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["password"]) == 2
    assert "no terminal" in capsys.readouterr().err
    assert place.unlock("correct horse")


@pytest.mark.parametrize(("mode", "code"), [(0o644, 5), (None, 2)])
def test_a_new_password_that_others_can_read_or_that_is_not_there_is_refused(
    mode: int | None, code: int, place: Profile, tmp_path: Path
) -> None:
    path = tmp_path / "new"
    if mode is not None:
        _secret(path, "battery staple", mode)
    assert run(["password", "--new", str(path)]) == code
    assert place.unlock("correct horse")


def test_the_old_password_is_needed(place: Profile, tmp_path: Path) -> None:
    _secret(tmp_path / "old", "wrong")
    assert run(["password", "--new", str(_secret(tmp_path / "new", "battery staple"))]) == 5
    assert place.unlock("correct horse")


def test_a_profile_gets_a_new_password(place: Profile, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = place.unlock("correct horse")
    assert run(["password", "--new", str(_secret(tmp_path / "new", "battery staple"))]) == 0
    captured = capsys.readouterr()
    assert "alice has a new password" in captured.err
    assert "battery" not in captured.out + captured.err
    assert place.unlock("battery staple") == key
    with pytest.raises(PeerError):
        place.unlock("correct horse")


def test_on_a_terminal_it_is_typed(place: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool]] = []

    def type_it(question: str, *, new: bool) -> str:
        asked.append((question, new))
        return "typed"

    monkeypatch.setattr("cloister.apps.cli.password.ask_password", type_it)
    assert run(["-p", "alice", "password"]) == 0
    assert asked == [("New password", True)]
    assert place.unlock("typed")
