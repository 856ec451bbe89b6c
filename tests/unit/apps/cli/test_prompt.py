"""Passwords and questions: from a person at a terminal, or from where the environment points."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloister.apps.cli import prompt
from cloister.errors import UsageError


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CLOISTER_PASSPHRASE_FD", raising=False)
    monkeypatch.delenv("CLOISTER_PASSPHRASE_FILE", raising=False)
    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        yield


def secret_file(folder: Path, data: bytes, mode: int = 0o600) -> Path:
    path = folder / "secret"
    path.write_bytes(data)
    path.chmod(mode)
    return path


def refused(call) -> UsageError:
    with pytest.raises(UsageError) as caught:
        call()
    return caught.value


def test_without_a_terminal_nothing_is_asked_and_the_flag_is_named() -> None:
    assert "--invite" in refused(lambda: prompt.ask("the invite link", instead="--invite FILE")).detail


def test_without_a_terminal_the_password_variables_are_named() -> None:
    error = refused(prompt.password)
    assert error.code == "usage"
    assert "CLOISTER_PASSPHRASE_FILE" in error.detail
    assert "CLOISTER_PASSPHRASE_FD" in error.detail


@pytest.mark.parametrize("data", [b"", b"\n", b"\nsecond", b"\xff\n"])
def test_an_empty_or_odd_password_is_refused(data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOISTER_PASSPHRASE_FILE", str(secret_file(tmp_path, data)))
    assert refused(prompt.password).code == "usage"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_password_file_that_others_can_read_is_refused(
    mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOISTER_PASSPHRASE_FILE", str(secret_file(tmp_path, b"x", mode)))
    assert refused(prompt.password).code == "loose_files"


def test_a_password_file_that_is_not_there_is_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOISTER_PASSPHRASE_FILE", str(tmp_path / "none"))
    assert refused(prompt.password).code == "usage"


@pytest.mark.parametrize("descriptor", ["x", "-1", "987"])
def test_a_descriptor_that_is_not_open_is_usage(descriptor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOISTER_PASSPHRASE_FD", descriptor)
    assert refused(prompt.password).code == "usage"


@pytest.mark.parametrize("data", [b"pa ss\n", b"pa ss", b"pa ss\r\nmore\n"])
def test_the_first_line_of_the_file_is_the_password(
    data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOISTER_PASSPHRASE_FILE", str(secret_file(tmp_path, data)))
    assert prompt.password() == "pa ss"


def test_the_descriptor_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOISTER_PASSPHRASE_FILE", str(secret_file(tmp_path, b"file")))
    read, write = os.pipe()
    os.write(write, b"pipe\n")
    os.close(write)
    monkeypatch.setenv("CLOISTER_PASSPHRASE_FD", str(read))
    assert prompt.password() == "pipe"
    os.close(read)
