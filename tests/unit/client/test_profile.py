"""A profile's folder: who may read it, who owns it, what opens it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cloister.client import profile as profiles
from cloister.client.profile import Profile, check_private, read_private, write_private
from cloister.errors import CloisterError, UnavailableError, UsageError
from cloister.identity.vault import FLOOR_N
from support.people import seeded


def refused(code: str, call: object, *args: object) -> None:
    with pytest.raises(CloisterError) as caught:
        call(*args)  # type: ignore[operator]
    assert caught.value.code == code


@pytest.fixture
def place(tmp_path: Path) -> Profile:
    return Profile.named(tmp_path / "alice")


def test_a_wrong_password_is_one_clear_refusal(place: Profile) -> None:
    key = place.create("correct", seeded(1), cost=FLOOR_N)
    refused("wrong_password", place.unlock, "wrong")
    assert place.unlock("correct") == key


def test_another_password_needs_the_old_one_and_keeps_the_key(place: Profile) -> None:
    key = place.create("correct", seeded(1), cost=FLOOR_N)
    before = place.vault_file.read_bytes()
    refused("wrong_password", lambda: place.change_password("wrong", "new", seeded(2), cost=FLOOR_N))
    refused("usage", lambda: place.change_password("correct", "", seeded(2), cost=FLOOR_N))
    assert place.vault_file.read_bytes() == before
    place.change_password("correct", "new", seeded(2), cost=FLOOR_N)
    refused("wrong_password", place.unlock, "correct")
    assert place.unlock("new") == key
    place.vault_file.chmod(0o640)
    refused("loose_files", lambda: place.change_password("new", "newer", seeded(3), cost=FLOOR_N))


def test_an_altered_vault_does_not_open(place: Profile) -> None:
    place.create("correct", seeded(1), cost=FLOOR_N)
    data = bytearray(place.vault_file.read_bytes())
    data[-1] ^= 1
    place.vault_file.write_bytes(bytes(data))
    refused("wrong_password", place.unlock, "correct")


def test_a_second_profile_of_the_same_name_is_refused(place: Profile) -> None:
    place.create("a", seeded(1), cost=FLOOR_N)
    refused("exists", place.create, "b", seeded(2))


def test_files_that_others_can_read_are_refused(place: Profile) -> None:
    place.create("a", seeded(1), cost=FLOOR_N)
    place.vault_file.chmod(0o640)
    refused("loose_files", place.unlock, "a")
    place.vault_file.chmod(0o600)
    place.folder.chmod(0o755)
    refused("loose_files", place.unlock, "a")


def test_a_link_in_the_place_of_a_file_is_refused(place: Profile, tmp_path: Path) -> None:
    place.create("a", seeded(1), cost=FLOOR_N)
    elsewhere = tmp_path / "elsewhere"
    place.vault_file.rename(elsewhere)
    place.vault_file.symlink_to(elsewhere)
    refused("loose_files", place.unlock, "a")
    with pytest.raises(UnavailableError):
        read_private(place.vault_file)


def test_files_of_another_user_are_refused(place: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    place.create("a", seeded(1), cost=FLOOR_N)
    monkeypatch.setattr(profiles.os, "geteuid", lambda: os.getuid() + 1)
    refused("loose_files", check_private, place.vault_file)


def test_everything_is_private_whatever_the_umask(place: Profile) -> None:
    before = os.umask(0)
    try:
        place.create("a", seeded(1), cost=FLOOR_N)
        lock = place.own()
    finally:
        os.umask(before)
    assert lock is not None
    place.disown(lock)
    assert place.folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in place.folder.iterdir()} == {0o600}


def test_a_profile_has_one_owner_at_a_time(place: Profile) -> None:
    place.create("a", seeded(1), cost=FLOOR_N)
    lock = place.own()
    assert lock is not None
    assert place.own() is None
    place.disown(lock)
    again = place.own()
    assert again is not None
    place.disown(again)


def test_a_profile_that_is_not_there_is_said_so(place: Profile) -> None:
    refused("no_profile", place.unlock, "a")
    refused("no_profile", place.own)


def test_names_and_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOISTER_HOME", str(tmp_path))
    assert Profile.named("bob").folder == tmp_path / "bob"
    monkeypatch.delenv("CLOISTER_HOME")
    assert Profile.named("bob").folder.name == "bob"
    for name in ("", ".hidden", "x" * 65):
        refused("usage", Profile.named, name)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_private(path, b"old")
    write_private(path, b"new")
    assert read_private(path) == b"new"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    with pytest.raises(UnavailableError, match="disk"):
        write_private(tmp_path / "missing" / "file", b"x")
    assert UsageError("no_profile").info.exit_code == 6
