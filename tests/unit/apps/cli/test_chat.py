"""`chat --plain`: one process that reads and writes."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator

import pytest

from cloister.apps.cli import chat
from cloister.apps.cli.main import run
from cloister.apps.cli.output import Settings
from cloister.client import api
from cloister.client.client import Client
from cloister.errors import UsageError
from support.fake_backend import BOB, CAROL, ROOM, FakeBackend, message, room


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "GRACE", 0.1)


async def typed(*lines: str, pause: float = 0.01) -> AsyncIterator[str]:
    for line in lines:
        await asyncio.sleep(pause)
        yield line
    await asyncio.sleep(pause)


def talk(backend: FakeBackend, *lines: str, own_echo: bool = True, json: bool = False) -> None:
    async def run_chat() -> None:
        client = Client(backend)
        info = await client.room("triad")
        await chat.Chat(Settings(json=json).screen, typed(*lines), own_echo=own_echo).run(client, info)

    asyncio.run(run_chat())


def words(text: str) -> list[str]:
    """Lines without their time of day."""
    return [line[6:] if line[2:3] == ":" else line for line in text.splitlines()]


def test_chat_in_no_room_is_exit_code_6(backend: FakeBackend) -> None:
    assert run(["chat", "none", "--plain"]) == 6


def test_the_chat_goes_on_with_the_profiles_next_owner(
    backend: FakeBackend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read, write = os.pipe()
    backend.plan = [api.MessageReceived(cursor=1, message=message("one")), None]
    backend.next_plan = [api.MessageReceived(cursor=2, message=message("two", number=2))]
    backend.messages = [message("one")]
    threading.Timer(0.3, lambda: os.close(write)).start()
    os.write(write, b"typed before\n")
    with os.fdopen(read) as stream:
        monkeypatch.setattr("sys.stdin", stream)
        assert run(["chat", "triad", "--plain"]) == 0
    shown = words(capsys.readouterr().out)
    assert [line for line in shown if line.startswith("bob")] == ["bob: one", "bob: two"]
    assert [sent.text for sent in backend.commands if isinstance(sent, api.Send)] == ["typed before"]


def test_a_text_that_is_refused_is_said_so_and_the_chat_goes_on(
    backend: FakeBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    backend.refuse = UsageError("read_only")
    with pytest.raises(UsageError):
        asyncio.run(Client(backend).history())
    backend.refuse = None

    async def run_chat() -> None:
        async def two() -> AsyncIterator[str]:
            yield "before"
            backend.refuse = UsageError("read_only")
            yield "refused"
            backend.refuse = None
            yield "after"

        await chat.Chat(Settings().screen, two(), own_echo=True).run(Client(backend), room())

    asyncio.run(run_chat())
    assert "code: read_only" in capsys.readouterr().err
    assert [sent.text for sent in backend.commands if isinstance(sent, api.Send)] == ["before", "refused", "after"]


def test_a_line_that_is_no_text_is_refused_and_the_chat_goes_on(
    backend: FakeBackend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read, write = os.pipe()
    os.write(write, b"before\n\xff\xfe\nafter\n")
    os.close(write)
    with os.fdopen(read) as stream:
        monkeypatch.setattr("sys.stdin", stream)
        assert run(["chat", "triad", "--plain"]) == 0
    assert "code: usage" in capsys.readouterr().err
    assert [sent.text for sent in backend.commands if isinstance(sent, api.Send)] == ["before", "after"]


def test_milestones_are_told_and_messages_are_data(backend: FakeBackend, capsys: pytest.CaptureFixture[str]) -> None:
    backend.rooms = [room(state="pending", missing=[BOB, CAROL], epoch=0)]
    backend.plan = [
        api.RoomChanged(cursor=1, room=room(state="pending", missing=[CAROL], epoch=0), what=""),
        api.RoomChanged(cursor=2, room=room(id="ff" * 16, state="frozen"), what="another room"),
        api.RoomChanged(cursor=3, room=room(), what=""),
        api.MessageReceived(cursor=4, message=message("hi")),
        api.MessageReceived(cursor=5, message=message("elsewhere", number=2, room="ff" * 16)),
    ]
    talk(backend, "hello", "", "  ")
    out, err = capsys.readouterr()
    assert words(out) == ["bob: hi", "alice: hello"]
    said = err.splitlines()
    assert "* agreeing 2 of 3 (waiting for carol)" in said
    assert said.index("* Begin chatting!") > said.index("* agreeing 2 of 3 (waiting for carol)")
    assert "another room" not in err


def test_own_messages_are_not_repeated_where_they_were_typed(
    backend: FakeBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    talk(backend, "hello", own_echo=False)
    assert capsys.readouterr().out == ""


def test_earlier_messages_are_shown_once(backend: FakeBackend, capsys: pytest.CaptureFixture[str]) -> None:
    backend.messages = [message(f"m{number}", number=number) for number in range(1, 15)]
    backend.plan = [api.MessageReceived(cursor=14, message=backend.messages[-1])]
    talk(backend)
    assert words(capsys.readouterr().out) == [f"bob: m{number}" for number in range(5, 15)]


def test_alarms_are_told(backend: FakeBackend, capsys: pytest.CaptureFixture[str]) -> None:
    backend.plan = [
        api.Alarm(cursor=1, code="fork", room=ROOM),
        api.Alarm(cursor=2, code="gap", room="ff" * 16),
        api.ConnectionChanged(cursor=3, state="offline", code="closed"),
        api.SendChanged(cursor=4, sent=api.Sent(id="1", room=ROOM, state=api.SendState.FAILED, code="quota")),
    ]
    talk(backend)
    err = capsys.readouterr().err
    assert "* ALARM fork" in err
    assert "gap" not in err
    assert "* relay: offline (closed)" in err
    assert "* not sent: quota" in err


def test_a_relay_that_stays_away_is_said_once(backend: FakeBackend, capsys: pytest.CaptureFixture[str]) -> None:
    states = [("offline", "unreachable"), ("offline", "unreachable"), ("connecting", ""), ("offline", "unreachable")]
    backend.plan = [
        api.ConnectionChanged(cursor=number, state=state, code=code) for number, (state, code) in enumerate(states, 1)
    ]
    talk(backend)
    said = [line for line in capsys.readouterr().err.splitlines() if "relay:" in line]
    assert said == ["* relay: offline (unreachable)", "* relay: connecting", "* relay: offline (unreachable)"]


def test_at_the_end_of_input_what_is_not_stored_yet_is_said(
    backend: FakeBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    backend.stays_queued = True
    talk(backend, "one", "two")
    assert "* 2 not stored yet" in capsys.readouterr().err
