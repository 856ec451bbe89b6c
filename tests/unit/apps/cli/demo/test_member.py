"""A member of the demo: what it does when told, and what it tells."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cloister.apps.cli.demo import acts, processes
from cloister.apps.cli.demo.conductor import Conductor, Happening
from cloister.apps.cli.demo.live import Board, watching
from cloister.apps.cli.demo.member import Part
from cloister.apps.cli.output import Settings
from cloister.client import api
from cloister.client.client import Client
from cloister.client.suites import SUITES
from cloister.errors import UnavailableError
from support.fake_backend import BOB, CAROL, FakeBackend, message, room
from support.payloads import PAYLOADS, forbidden

SPEC = {"title": "triad", "members": ["bob", "carol"]}


def part(backend: FakeBackend) -> tuple[Part, list[tuple[str, dict[str, Any]]]]:
    told: list[tuple[str, dict[str, Any]]] = []
    member = Part(SPEC, lambda what, **fields: told.append((what, fields)))
    member._client = Client(backend)
    return member, told


def test_a_member_makes_the_room_and_sends() -> None:
    backend = FakeBackend()
    member, _told = part(backend)
    asyncio.run(member.step({"do": "create", "suite": "nonces"}))
    asyncio.run(member.step({"do": "send", "text": "hello"}))
    made, _, sent = backend.commands
    assert made == api.CreateRoom(title="triad", suite="nonces", members=["bob", "carol"])
    assert isinstance(sent, api.Send)
    assert sent.text == "hello"


def test_a_member_tells_what_it_sees() -> None:
    member, told = part(FakeBackend())
    for event in (
        api.RoomChanged(cursor=1, room=room(state="pending", missing=[CAROL, BOB], awaits="shares"), what=""),
        api.RoomChanged(cursor=2, room=room(members=room().members[:1]), what=""),
        api.RoomChanged(cursor=3, room=room(), what=""),
        api.MessageReceived(cursor=4, message=message("hi")),
        api.MessageReceived(cursor=5, message=message("mine", number=2, own=True)),
        api.Alarm(cursor=6, code="fork"),
        api.SendChanged(cursor=7, sent=api.Sent(id="1", room="2", state=api.SendState.FAILED, code="quota")),
        api.ConnectionChanged(cursor=8, state="online"),
    ):
        member.see(event)
    assert ("waiting", {"awaits": "shares", "missing": ["bob", "carol"]}) in told
    assert ("milestone", {"line": "agreeing 1 of 3 (waiting for bob, carol)"}) in told
    assert [fields for what, fields in told if what == "ready"] == [{"key_check": "1234 5678", "epoch": 1}]
    assert [fields for what, fields in told if what == "received"] == [{"sender": "bob", "text": "hi"}]
    assert [fields["code"] for what, fields in told if what == "alarm"] == ["fork"]
    assert [fields["code"] for what, fields in told if what == "failed"] == ["quota"]


def test_a_member_tells_all_at_the_end() -> None:
    backend = FakeBackend()
    backend.rooms = [room(alarms=["fork", "gap"], confirmed=[BOB, CAROL])]
    member, told = part(backend)
    member.see(api.MessageReceived(cursor=4, message=message("hi")))
    member.see(api.Alarm(cursor=6, code="fork"))
    asyncio.run(member.step({"do": "tell"}))
    what, fields = told[-1]
    assert what == "told"
    assert fields["received"] == [("bob", "hi")]
    assert fields["order"] == [f"{1:064x}"]
    assert fields["alarms"] == ["fork", "gap"]
    assert fields["confirmed"] == ["bob", "carol"]
    assert (fields["entries"], fields["head"]) == (4, "ab" * 32)


async def lines(*steps: str) -> AsyncIterator[str]:
    for step in steps:
        yield json.dumps({"do": step})


@pytest.mark.parametrize(("last", "leaves"), [("leave", True), ("end", False)])
def test_a_visit_ends_with_leave_or_with_the_demo(last: str, leaves: bool) -> None:
    backend = FakeBackend()
    member, told = part(backend)
    assert asyncio.run(member.attend(Client(backend), lines("settle", last, "send"))) is leaves
    assert [what for what, _ in told] == ["settled"]


def test_a_member_that_cannot_send_all_does_not_leave() -> None:
    backend = FakeBackend()
    backend.relay = "offline"
    member, _ = part(backend)
    with pytest.raises(ExceptionGroup) as raised:
        asyncio.run(member.attend(Client(backend), lines("leave")))
    assert raised.group_contains(UnavailableError, match="before it left")


def test_every_suite_with_a_demo_has_its_conductor() -> None:
    for name in acts.NAMES:
        conductor = acts.conductor_of(name)
        assert issubclass(conductor, Conductor)
        assert conductor.proof
        assert name in SUITES
    with pytest.raises(LookupError):
        acts.conductor_of("other")


def test_what_a_process_of_the_demo_sees_holds_nothing_of_the_persons_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOISTER_PASSPHRASE_FILE", "x")
    monkeypatch.setenv("OTHER", "y")
    assert "CLOISTER_PASSPHRASE_FILE" not in processes.environment()
    assert processes.environment()["OTHER"] == "y"


@pytest.mark.parametrize(
    ("code", "words"), [(None, "closed its output"), (3, "ended with 3"), (-9, "was killed by signal 9")]
)
def test_endings_in_words(code: int | None, words: str) -> None:
    assert processes.ending(code) == words


def test_a_code_that_a_member_made_up_is_not_believed() -> None:
    assert processes.error_of({"code": "fork", "detail": ""}, "bob").code == "fork"
    assert processes.error_of({"code": "made-up", "detail": "x"}, "bob").code == "demo_failed"


# --- the table ----------------------------------------------------------------------------------------------


def drawn(board: Board) -> str:
    from rich.console import Console

    console = Console(width=200, color_system=None)
    with console.capture() as shown:
        console.print(board.table())
    return shown.get()


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_payload_reaches_the_table(payload: str) -> None:
    board = Board(["relay", "bob"])
    board.note(Happening(who="bob", what=f"read alice: {payload} [red]", kind="message", pid=1))
    assert not forbidden(drawn(board).replace("\n", ""))
    if len(payload) < 100:
        assert "[red]" in drawn(board)


def test_the_table_shows_who_has_reached_what() -> None:
    board = Board(["relay", "bob"])
    board.note(Happening(who="bob", what="enrolled", kind="stage", pid=42))
    board.note(Happening(who="bob", what="agreeing 2 of 3", kind="milestone", pid=42))
    line = next(line for line in drawn(board).splitlines() if line.startswith("bob"))
    assert line.split() == ["bob", "42", "enrolled", "agreeing", "2", "of", "3"]


def test_without_a_terminal_there_are_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with watching(Settings().screen, ["bob"]) as watch:
        watch(Happening(who="bob", what="enrolled", kind="stage", pid=1))
    assert capsys.readouterr().err == "bob      enrolled\n"
