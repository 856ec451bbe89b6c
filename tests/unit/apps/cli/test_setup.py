"""`setup`: what is read from where, and what is shown."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from cloister.apps.cli.main import run
from cloister.client.setup import SetUp
from cloister.errors import PeerError, UnavailableError

LINK = "cloister:join?relay=localhost:1&realm=home#1." + ".".join(("A" * 43, "A" * 43, "A" * 64, ""))
WORDS = tuple(f"word{number}" for number in range(1, 13))


@pytest.fixture
def enrolled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """What `enrol` was called with; a password stands ready."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    async def enrol(*args: Any, **kwargs: Any) -> SetUp:
        calls.append((args, kwargs))
        return SetUp(user=kwargs["user"], device="cloister://home/u/alice/d/main", realm="home", words=WORDS)

    monkeypatch.setattr("cloister.client.setup.enrol", enrol)
    secret = tmp_path / "secret"
    secret.touch(0o600)
    secret.write_text("correct horse\n")
    monkeypatch.setenv("CLOISTER_PASSPHRASE_FILE", str(secret))
    monkeypatch.delenv("CLOISTER_PASSPHRASE_FD", raising=False)
    monkeypatch.delenv("CLOISTER_PROFILE", raising=False)
    monkeypatch.setenv("CLOISTER_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("sys.stdin", io.StringIO(LINK + "\n"))
    return calls


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["setup", "--user", "alice"], "--invite"),
        (["setup", "--invite", "-"], "--user"),
        (["setup", "--invite", "/nowhere", "--user", "alice"], "/nowhere"),
    ],
)
def test_what_is_missing_without_a_terminal_is_named(
    arguments: list[str], named: str, enrolled: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    assert named in capsys.readouterr().err
    assert enrolled == []


def test_without_a_password_nothing_is_made(
    enrolled: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CLOISTER_PASSPHRASE_FILE")
    assert run(["setup", "--invite", "-", "--user", "alice"]) == 2
    assert "CLOISTER_PASSPHRASE_FILE" in capsys.readouterr().err
    assert enrolled == []


@pytest.mark.parametrize(
    ("link", "user"), [("nonsense", "alice"), (LINK[:-2], "alice"), (LINK, "Alice"), (LINK, "../alice")]
)
def test_a_bad_link_or_name_is_refused_before_a_password_is_asked_for(
    link: str, user: str, enrolled: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CLOISTER_PASSPHRASE_FILE")
    monkeypatch.setattr("sys.stdin", io.StringIO(link + "\n"))
    assert run(["setup", "--invite", "-", "--user", user]) == 2
    assert "password" not in capsys.readouterr().err
    assert enrolled == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PeerError("bad_invite"), 2),
        (PeerError("used_invite"), 9),
        (PeerError("wrong_realm"), 4),
        (UnavailableError("unreachable"), 3),
    ],
)
def test_a_failed_enrolment_ends_with_its_code(
    error: Exception, code: int, enrolled: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def enrol(*_args: Any, **_kwargs: Any) -> SetUp:
        raise error

    monkeypatch.setattr("cloister.client.setup.enrol", enrol)
    assert run(["setup", "--invite", "-", "--user", "alice"]) == code


def test_a_newcomer_is_let_in_and_sees_the_words_once(enrolled: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["setup", "--invite", "-", "--user", "alice"]) == 0
    assert enrolled == [
        (("alice", LINK), {"user": "alice", "password": "correct horse", "device": "main"}),
    ]
    out, err = capsys.readouterr()
    assert out.split() == [part for number, word in enumerate(WORDS, 1) for part in (f"{number}.", word)]
    assert "Welcome to home, alice." in err
    assert "correct horse" not in out + err
    assert not any(word in err for word in WORDS)


def test_the_profile_may_have_another_name_than_the_user(enrolled: list[Any]) -> None:
    assert run(["-p", "work", "setup", "--invite", "-", "--user", "alice", "--device", "laptop"]) == 0
    assert enrolled[0][0][0] == "work"
    assert enrolled[0][1]["device"] == "laptop"


def test_the_link_may_stand_in_a_file(enrolled: list[Any], tmp_path: Path) -> None:
    (tmp_path / "link").write_text(f"  {LINK}\n")
    assert run(["setup", "--invite", str(tmp_path / "link"), "--user", "alice"]) == 0
    assert enrolled[0][0][1] == LINK
    (tmp_path / "link").write_bytes(os.urandom(8) + b"\xff")
    assert run(["setup", "--invite", str(tmp_path / "link"), "--user", "alice"]) == 2


def test_for_programs_the_result_is_one_object(enrolled: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["setup", "--invite", "-", "--user", "alice", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["recovery_words"] == list(WORDS)
    assert made["profile"] == "alice"
