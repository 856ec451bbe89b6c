"""`session` without a relay: what is asked, what is shown at each stage, how each ending ends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cloister.apps.cli.main import run
from cloister.client import api
from cloister.errors import UsageError
from support.fake_backend import ROOM, room

CODE = "A3F2B1-7Q4K-M9XP"


def stage(name: str, **more: object) -> api.SessionChanged:
    return api.SessionChanged(cursor=0, stage=name, **more)  # type: ignore[arg-type]


class FakeSession:
    """A session whose events are the test's; `asked` is what the command wanted of it."""

    def __init__(self, events: Sequence[api.Event], pinned: bool) -> None:
        self._events = events
        self.pinned = pinned
        self.asked: list[str] = []
        self._more = asyncio.Event()

    async def create(self, *, whole: bool = True) -> str:
        self.asked.append("whole" if whole else "id")
        return CODE if whole else CODE[:6]

    async def join(self, code: str) -> str:
        self.asked.append(code)
        if code == "wrong form":
            raise UsageError("usage", "no code")
        return code[:6]

    async def compared(self, *, same: bool) -> str:
        self.asked.append("same" if same else "different")
        self._more.set()
        return "awaiting"

    async def finish(self) -> None:
        self.asked.append("finish")

    async def again(self) -> None:
        self.asked.append("again")

    async def rooms(self) -> list[api.RoomInfo]:
        return []

    async def room(self, name: str) -> api.RoomInfo:
        return room()

    async def status(self) -> None:
        return None

    async def history(self, room: str = "", *, limit: int = 0) -> list[api.MessageInfo]:
        return []

    async def events(self, since: int | None = None) -> AsyncIterator[api.Event]:
        for event in self._events:
            if isinstance(event, api.SessionChanged) and event.stage == "awaiting":
                await self._more.wait()
            yield event
        await asyncio.Event().wait()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Plans sessions: `opened(events, ...)`, one for each try; gives what was opened."""
    made: list[FakeSession] = []
    plans: list[tuple[Sequence[api.Event], bool]] = []

    @asynccontextmanager
    async def fake(*arguments: object, **options: object) -> AsyncIterator[FakeSession]:
        events, pinned = plans.pop(0)
        made.append(FakeSession(events, pinned))
        yield made[-1]

    def plan(*events: api.Event, pinned: bool = False) -> list[FakeSession]:
        plans.append((events, pinned))
        return made

    monkeypatch.setenv("CLOISTER_HOME", str(tmp_path))
    monkeypatch.setattr("cloister.client.session.open_session", fake)
    monkeypatch.setattr("cloister.client.session.resume_session", fake)
    return plan


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch):
    """What stands on standard input: `typed("same\\n")`; it does not end."""
    read, write = os.pipe()
    stream = os.fdopen(read)
    monkeypatch.setattr("sys.stdin", stream)
    yield lambda text: os.write(write, text.encode())
    os.close(write)
    stream.close()


def test_without_a_terminal_the_commands_are_named(typed, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["session"]) == 2
    assert "session create" in capsys.readouterr().err


def test_a_code_that_is_none_is_usage(opened, typed) -> None:
    opened()
    assert run(["session", "join", "wrong form"]) == 2


def test_the_code_is_data_and_everything_else_is_for_people(opened, typed, capsys: pytest.CaptureFixture[str]) -> None:
    made = opened(stage("waiting"), stage("agreeing"), stage("ended"))
    assert run(["session", "create"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{CODE}\n"
    assert "share this code" in err
    assert "not pinned" in err
    assert "Diffie-Hellman" in err
    assert made[0].asked == ["whole"]


def test_a_burnt_code_ends_with_the_integrity_code(opened, typed) -> None:
    failed = stage("failed", code="wrong_code_or_mitm")
    opened(stage("waiting"), failed, stage("waiting"), failed, stage("ended"))
    assert run(["session", "create"]) == 10


def test_a_try_that_failed_before_the_right_one_is_forgiven(opened, typed) -> None:
    opened(stage("waiting"), stage("failed", code="wrong_code_or_mitm"), stage("waiting"), stage("ended"))
    assert run(["session", "create"]) == 0


def test_a_connection_lost_while_waiting_is_said_so(opened, typed) -> None:
    opened(stage("waiting"), stage("ended", code="closed"))
    assert run(["session", "create"]) == 3


@pytest.mark.parametrize(("code", "status"), [("wrong_realm", 4), ("clock_skew", 3), ("quota", 9)])
def test_a_relay_that_is_no_good_ends_it(opened, typed, code: str, status: int) -> None:
    opened(api.ConnectionChanged(cursor=0, state="offline", code=code))
    assert run(["session", "create"]) == status


def test_an_unreachable_relay_is_tried_again(opened, typed, capsys: pytest.CaptureFixture[str]) -> None:
    opened(api.ConnectionChanged(cursor=0, state="offline", code="unreachable"), stage("ended"))
    assert run(["session", "create", "--relay", "relay.example:7443"]) == 0
    err = capsys.readouterr().err
    assert "trying again" in err
    assert "met for the first time" in err


def test_a_known_relay_is_said_to_be_the_same(opened, typed, capsys: pytest.CaptureFixture[str]) -> None:
    opened(stage("ended"), pinned=True)
    assert run(["session", "join", CODE, "--relay", "relay.example:7443"]) == 0
    assert "the same as before" in capsys.readouterr().err


def test_the_string_is_compared_before_the_chat(opened, typed, capsys: pytest.CaptureFixture[str]) -> None:
    shown = stage("compare", digits="1234 5678 9012", pictures=["X cat", "Y dog"])
    made = opened(shown, stage("awaiting"), stage("ready", room=ROOM), stage("ended"))
    typed("perhaps\nsame\n")
    assert run(["session", "create", "--id-only"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == CODE[:6]
    assert "1234 5678 9012" in err
    assert "X cat, Y dog" in err
    assert err.count("Is it the same on both sides?") == 2
    assert made[0].asked == ["id", "same"]


def test_a_string_that_differs_ends_with_the_integrity_code(opened, typed) -> None:
    made = opened(stage("compare", digits="1", pictures=[]), stage("awaiting"), stage("ended"))
    typed("different\n")
    assert run(["session", "join", CODE[:6]]) == 10
    assert made[0].asked == [CODE[:6], "different"]


def test_the_end_of_input_ends_the_session(opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloister.apps.cli.session_command.GOODBYE", 0.1)
    made = opened(stage("ready", room=ROOM))
    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        assert run(["session", "create"]) == 0
    assert made[0].asked == ["whole", "finish"]


def test_the_end_of_input_leaves_a_kept_session(
    opened, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "password"
    secret.touch(0o600)
    secret.write_text("correct horse\n")
    monkeypatch.setenv("CLOISTER_PASSPHRASE_FILE", str(secret))
    made = opened(stage("ready", room=ROOM))
    opened(stage("ready", room=ROOM))
    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        assert run(["session", "create", "--keep", "talk"]) == 0
        assert "cloister session resume talk" in capsys.readouterr().err
        assert run(["session", "resume", "talk"]) == 0
    assert [session.asked for session in made] == [["whole"], ["again"]]
