"""`room` and `users`."""

from __future__ import annotations

import json

import pytest
from msgspec import structs

from cloister.apps.cli.main import run
from cloister.client import api
from cloister.errors import UsageError
from support.fake_backend import BOB, ROOM, FakeBackend, room


@pytest.mark.parametrize("arguments", [["room", "show", "none"], ["room", "add", "none", "bob"]])
def test_a_room_that_is_not_there_is_exit_code_6(arguments: list[str], backend: FakeBackend) -> None:
    assert run(arguments) == 6


def test_a_user_that_is_not_there_is_exit_code_6(backend: FakeBackend) -> None:
    backend.refuse = UsageError("no_user", "mallory")
    assert run(["room", "add", "triad", "mallory"]) == 6


def test_what_policy_forbids_is_exit_code_9(backend: FakeBackend) -> None:
    backend.refuse = UsageError("not_allowed")
    assert run(["room", "remove", "triad", "alice"]) == 9


@pytest.mark.parametrize("arguments", [["room", "add", "triad"], ["room", "create"], ["room", "nothing"]])
def test_a_command_line_that_is_not_whole_is_usage(arguments: list[str], backend: FakeBackend) -> None:
    assert run(arguments) == 2
    assert backend.commands == []


def test_a_room_is_made_with_its_members(backend: FakeBackend, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["room", "create", "#triad", "--members", "bob, @carol,"]) == 0
    assert backend.commands[0] == api.CreateRoom(title="triad", suite="mls", members=["bob", "carol"])
    out, err = capsys.readouterr()
    assert out == "01234567  triad  pending  alice, bob, carol\n"
    assert "agreeing 1 of 3" in err


def test_who_is_alone_in_a_room_is_told_how_to_take_others_in(
    backend: FakeBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["room", "create", "diary"]) == 0
    assert f"cloister room add {ROOM[:8]} USER" in capsys.readouterr().err


def test_a_made_room_for_programs(backend: FakeBackend, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["room", "create", "triad", "--members", "bob", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["v"], made["type"], made["id"], made["state"]) == (1, "room", ROOM, "pending")


@pytest.mark.parametrize("name", ["triad", "#triad", ROOM, ROOM[:6]])
def test_a_room_is_found_by_title_or_id(name: str, backend: FakeBackend, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["room", "show", name]) == 0
    assert "1234 5678" in capsys.readouterr().out


def test_a_room_is_left_and_who_waits_for_the_others_is_told(
    backend: FakeBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    backend.rooms[0] = structs.replace(backend.rooms[0], state="frozen")
    assert run(["room", "leave", "triad"]) == 0
    assert api.EndRoom(room=ROOM) in backend.commands
    assert "another member's device" in capsys.readouterr().err
    backend.rooms[0] = structs.replace(backend.rooms[0], state="removed")
    assert run(["room", "leave", "triad"]) == 0
    assert capsys.readouterr().err == ""


def test_members_are_added_and_removed(backend: FakeBackend) -> None:
    assert run(["room", "add", "triad", "dave", "@erin"]) == 0
    assert run(["room", "remove", "triad", "bob"]) == 0
    assert api.AddMembers(room=ROOM, users=["dave", "erin"]) in backend.commands
    assert api.RemoveMembers(room=ROOM, users=["bob"]) in backend.commands


def test_rooms_are_listed(backend: FakeBackend, capsys: pytest.CaptureFixture[str]) -> None:
    backend.rooms = [room(), room(id="ff" * 16, title="other", state="frozen")]
    assert run(["room", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "ffffffff  other  frozen  alice, bob, carol"
    assert run(["room", "list", "--json"]) == 0
    assert [json.loads(line)["title"] for line in capsys.readouterr().out.splitlines()] == ["triad", "other"]


def test_no_rooms_yet_is_said_to_people_only(backend: FakeBackend, capsys: pytest.CaptureFixture[str]) -> None:
    backend.rooms = []
    assert run(["room", "list"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "cloister room create" in err


def test_users_are_listed_with_how_they_are_known(backend: FakeBackend, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["users"]) == 0
    assert capsys.readouterr().out.splitlines() == ["alice  laptop  (you)", "bob    phone  (joined with your link)"]
    assert run(["users", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[1])["safety_number"] == "2"


def test_a_users_certificates_are_shown(backend: FakeBackend, capsys: pytest.CaptureFixture[str]) -> None:
    backend.certificates = [
        api.CertificateInfo(
            device=BOB,
            usage=usage,
            serial="3f",
            not_before=0,
            not_after=86_400_000,
            state="revoked",
            place=4,
            authority="ab" * 32,
            der="MAA=",
        )
        for usage in ("device", "sign")
    ]
    assert run(["users", "--show", "@bob"]) == 0
    out, err = capsys.readouterr()
    assert api.ListCertificates(user="bob") in backend.commands
    lines = out.splitlines()
    assert lines[0].split()[:3] == ["phone", "device", "revoked"]
    assert lines[1].endswith("realm log 4  serial 3f")
    assert "pinned at enrolment (abababababababab)" in err
    assert run(["users", "--show", "bob", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["der"] == "MAA="


def test_the_message_numbers_of_a_room_are_shown(backend: FakeBackend, capsys: pytest.CaptureFixture[str]) -> None:
    backend.numbers = [
        api.SequenceInfo(epoch=2, user="alice", device="a", own=True, next=7),
        api.SequenceInfo(epoch=2, user="bob", device="b", own=False, next=12, skipped=1),
    ]
    assert run(["room", "show", "triad", "--sequence"]) == 0
    out = capsys.readouterr().out
    assert "  epoch 2  alice  sends 7 next\n" in out
    assert "  epoch 2  bob    expects 12 next (1 below it not seen)\n" in out
    assert run(["room", "show", "triad", "--sequence", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["user"], row["next"]) for row in rows if row["type"] == "sequence"] == [("alice", 7), ("bob", 12)]


def test_a_suite_that_stores_no_numbers_says_so(backend: FakeBackend, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["room", "show", "triad", "--sequence"]) == 0
    assert "stores no message numbers" in capsys.readouterr().err


def test_a_room_is_handed_over(backend: FakeBackend) -> None:
    assert run(["room", "owners", "triad", "@bob"]) == 0
    assert api.SetOwners(room=ROOM, users=["bob"]) in backend.commands
