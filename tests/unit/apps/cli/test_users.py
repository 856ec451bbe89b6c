"""`users`, `requests` and `broadcast`."""

from __future__ import annotations

import json

import pytest
from msgspec import structs

from cloister.apps.cli.main import run
from cloister.client import api
from cloister.errors import UsageError
from support.fake_backend import BOB, CAROL, FakeBackend


@pytest.mark.parametrize(
    "arguments", [["broadcast"], ["broadcast", "x", "--check", "ab"], ["requests", "policy", "never"], ["requests"]]
)
def test_a_command_line_that_is_not_whole_is_usage(arguments: list[str], backend: FakeBackend) -> None:
    assert run(arguments) == 2
    assert backend.commands == []


def test_a_broadcast_that_is_not_known_is_exit_code_6(backend: FakeBackend) -> None:
    backend.refuse = UsageError("no_room", "no broadcast 00")
    assert run(["broadcast", "--check", "00"]) == 6


def test_users_says_who_is_online_and_whether_to_be_seen(
    backend: FakeBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    backend.users[1] = structs.replace(backend.users[1], online=True)
    assert run(["users", "--visible"]) == 0
    assert api.SetPresence(visible=True) in backend.commands
    out = capsys.readouterr().out
    assert "joined with your link, online" in out
    assert run(["users", "--hidden"]) == 0
    assert api.SetPresence(visible=False) in backend.commands


def test_who_asks_is_listed_and_answered(backend: FakeBackend, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["requests", "list"]) == 0
    assert "nobody asks" in capsys.readouterr().err
    backend.rooms = [structs.replace(backend.rooms[0], state="pending", asks="bob")]
    assert run(["requests", "list"]) == 0
    assert "bob asks for" in capsys.readouterr().out
    assert run(["requests", "accept", backend.rooms[0].title]) == 0
    assert run(["requests", "decline", backend.rooms[0].title]) == 0
    room = backend.rooms[0].id
    answers = [command for command in backend.commands if isinstance(command, api.AnswerRequest)]
    assert answers == [api.AnswerRequest(room=room, accept=True), api.AnswerRequest(room=room, accept=False)]
    assert run(["requests", "policy", "accept"]) == 0
    assert "requests are accepted" in capsys.readouterr().out
    assert run(["--json", "requests", "policy", "ask"]) == 0
    assert json.loads(capsys.readouterr().out)["policy"] == "ask"


def test_a_copy_under_an_unverified_key_is_marked(backend: FakeBackend, capsys: pytest.CaptureFixture[str]) -> None:
    backend.broadcast = structs.replace(
        backend.broadcast,
        copies=[
            api.BroadcastCopy(user=name, device=device, room="", message="", verified=known, state="ready")
            for name, device, known in (("bob", BOB, True), ("carol", CAROL, False))
        ],
    )
    assert run(["broadcast", "hello all"]) == 0
    assert backend.commands == [api.Broadcast(text="hello all")]
    head, bob, carol = capsys.readouterr().out.splitlines()
    assert "01234-56789" in head
    assert bob.endswith("  verified")
    assert carol.endswith("UNVERIFIED key")


def test_a_comparison_says_who_got_the_same(
    backend: FakeBackend, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloister.apps.cli.broadcast.WAIT", 0.1)
    asked = api.BroadcastCopy(user="bob", device=BOB, room="", message="", verified=True, state="asked")
    backend.broadcast = structs.replace(backend.broadcast, copies=[asked, structs.replace(asked, user="carol")])
    number = backend.broadcast.id
    backend.plan = [
        api.BroadcastCompared(cursor=1, id=number, author="alice", reader="bob", equal=True, check="01234-56789"),
        api.BroadcastCompared(cursor=1, id=number, author="alice", reader="zoe", equal=False, check="01234-56789"),
        api.BroadcastCompared(cursor=1, id="00", author="alice", reader="max", equal=True, check="01234-56789"),
    ]
    assert run(["broadcast", "--check", "abab"]) == 0
    out = capsys.readouterr().out
    assert "bob got the same" in out
    assert "zoe got SOMETHING ELSE" in out
    assert "max" not in out
