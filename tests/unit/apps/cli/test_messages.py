"""`send` and `listen`."""

from __future__ import annotations

import io
import json

import pytest

from cloister.apps.cli.main import run
from cloister.client import api
from cloister.errors import UsageError
from support.fake_backend import ROOM, FakeBackend, message, room


def standard_input(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))


# --- send ---------------------------------------------------------------------------------------------------


def test_send_to_no_room_is_exit_code_6(backend: FakeBackend) -> None:
    assert run(["send", "none", "hi"]) == 6


@pytest.mark.parametrize("data", [b"", b"\n", b"\xff"])
def test_send_of_nothing_or_no_text_is_usage(
    data: bytes, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    standard_input(monkeypatch, data)
    assert run(["send", "triad", "-"]) == 2
    assert backend.commands == []


def test_send_into_a_room_that_is_read_only_is_exit_code_9(backend: FakeBackend) -> None:
    backend.refuse = UsageError("read_only")
    assert run(["send", "triad", "hi"]) == 9


def test_send_while_offline_is_queued_and_done(backend: FakeBackend, capsys: pytest.CaptureFixture[str]) -> None:
    backend.stays_queued = True
    assert run(["send", "triad", "hi", "--json", "--timeout", "0.01"]) == 0
    sent = json.loads(capsys.readouterr().out)
    assert (sent["state"], sent["id"], sent["room"]) == ("queued", f"{1001:064x}", ROOM)


@pytest.mark.parametrize(("relay", "code"), [("online", 8), ("connecting", 3), ("offline", 3)])
def test_send_that_must_arrive_and_does_not(relay: str, code: int, backend: FakeBackend) -> None:
    backend.stays_queued = True
    backend.relay = relay
    assert run(["send", "triad", "hi", "--wait", "sent", "--timeout", "0.01"]) == code


def test_send_gives_the_messages_id(backend: FakeBackend, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["send", "#triad", "hello"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{1001:064x}\n"
    assert err.startswith("sent")
    assert backend.commands[-1] == api.Send(room=ROOM, text="hello", wait=True, timeout=5000)


@pytest.mark.parametrize("arguments", [["send", "triad", "-"], ["send", "triad"]])
def test_send_reads_standard_input_whole(
    arguments: list[str], backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    standard_input(monkeypatch, "disk 91 %\nüber\n".encode())
    assert run([*arguments, "--wait", "sent"]) == 0
    assert backend.commands[-1] == api.Send(room=ROOM, text="disk 91 %\nüber", wait=True, timeout=0)


# --- listen -------------------------------------------------------------------------------------------------


def received(text: str, number: int, **changes: object) -> api.MessageReceived:
    return api.MessageReceived(cursor=number, message=message(text, number=number, **changes))


def test_listen_to_no_room_is_exit_code_6(backend: FakeBackend) -> None:
    assert run(["listen", "none"]) == 6


def test_listen_ends_with_8_when_the_time_is_over(backend: FakeBackend) -> None:
    assert run(["listen", "--timeout", "0.02"]) == 8


def test_listen_goes_on_with_the_profiles_next_owner(backend: FakeBackend, capsys: pytest.CaptureFixture[str]) -> None:
    backend.plan = [received("one", 1), None]
    backend.next_plan = [received("two", 2)]
    assert run(["listen", "--count", "2"]) == 0
    assert [line.split(": ")[1] for line in capsys.readouterr().out.splitlines()] == ["one", "two"]
    assert backend.passwords == [None, None]


def test_listen_writes_messages_as_they_come(backend: FakeBackend, capsys: pytest.CaptureFixture[str]) -> None:
    backend.plan = [received("one", 1), received("two", 2)]
    assert run(["listen", "--count", "2"]) == 0
    assert [line.split(" ", 1)[1] for line in capsys.readouterr().out.splitlines()] == [
        "#triad bob: one",
        "#triad bob: two",
    ]


def test_listen_to_one_room_leaves_out_others(backend: FakeBackend, capsys: pytest.CaptureFixture[str]) -> None:
    backend.rooms = [room(), room(id="ff" * 16, title="other")]
    backend.plan = [received("there", 1, room="ff" * 16), received("here", 2)]
    assert run(["listen", "triad", "--count", "1"]) == 0
    out = capsys.readouterr().out
    assert "bob: here" in out
    assert "there" not in out
    assert "#triad" not in out


def test_listen_for_programs_gives_every_event(backend: FakeBackend, capsys: pytest.CaptureFixture[str]) -> None:
    backend.plan = [
        api.ConnectionChanged(cursor=1, state="online"),
        api.RoomChanged(cursor=2, room=room(), what="x"),
        api.Alarm(cursor=3, code="fork", room=ROOM),
        api.SendChanged(cursor=4, sent=api.Sent(id="1", room=ROOM, state=api.SendState.SENT)),
        api.UserJoined(cursor=5, name="dave", how="log"),
        received("\x1b[2Jhi", 6),
    ]
    assert run(["listen", "triad", "--json", "--count", "1"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "\x1b" not in out
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["type"] for line in lines] == ["connection", "room", "alarm", "sent", "user", "message"]
    assert all(line["v"] == 1 for line in lines)
    assert lines[-1]["text"] == "\x1b[2Jhi"


def test_listen_tells_people_of_alarms(backend: FakeBackend, capsys: pytest.CaptureFixture[str]) -> None:
    backend.plan = [api.Alarm(cursor=3, code="fork", room=ROOM), received("x", 1)]
    assert run(["listen", "--count", "1"]) == 0
    assert "ALARM fork" in capsys.readouterr().err
