"""`cloister demo transport`: how many take part, whose passwords, and numbers that a restart must not change."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cloister.apps.cli.demo import command, conductor
from cloister.apps.cli.demo.conductor import Happening, Plan, no_watch
from cloister.apps.cli.demo.member import Part
from cloister.apps.cli.demo.transport import TransportDemo
from cloister.apps.cli.main import run
from cloister.client import api
from cloister.client.client import Client
from cloister.errors import UnavailableError, UsageError
from support.fake_backend import FakeBackend


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """The plans that a command made; nothing is performed."""
    plans: list[Plan] = []

    async def perform(plan: Plan, _watch: Any) -> None:
        plans.append(plan)
        raise UsageError("usage", "not performed here")

    monkeypatch.setattr(conductor, "perform", perform)
    return plans


@pytest.mark.parametrize("count", ["0", "1", "9", "-3"])
def test_a_number_of_members_that_makes_no_demo_is_usage(count: str, planned: list[Plan]) -> None:
    assert run(["demo", "transport", "-n", count]) == 2
    assert planned == []


def test_so_many_members_as_asked_for_take_part(planned: list[Plan]) -> None:
    run(["demo", "transport", "-n", "5"])
    (plan,) = planned
    assert plan.members == ("alice", "bob", "carol", "dave", "erin")
    assert (plan.suite, plan.passwords) == ("transport", {})


def test_one_password_is_asked_for_each_profile(planned: list[Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool]] = []

    def type_it(question: str, *, new: bool) -> str:
        asked.append((question, new))
        return f"secret {len(asked)}"

    monkeypatch.setattr(command, "password", type_it)
    run(["demo", "transport", "-n", "2", "--ask-passwords"])
    assert asked == [("Password of alice", True), ("Password of bob", True)]
    assert planned[0].passwords == {"alice": "secret 1", "bob": "secret 2"}
    assert "secret" not in repr(planned[0])


def test_passwords_are_not_asked_for_without_a_terminal(planned: list[Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLOISTER_PASSPHRASE_FILE", raising=False)
    monkeypatch.delenv("CLOISTER_PASSPHRASE_FD", raising=False)
    assert run(["demo", "transport", "--ask-passwords"]) == 2
    assert planned == []


def test_a_member_tells_what_its_database_has() -> None:
    backend = FakeBackend()
    backend.numbers = [api.SequenceInfo(epoch=1, user="bob", device="b", own=False, next=4)]
    told: list[tuple[str, dict[str, Any]]] = []
    member = Part({"title": "triad", "members": []}, lambda what, **fields: told.append((what, fields)))
    member._client = Client(backend)
    asyncio.run(member.step({"do": "sequence"}))
    assert told == [("sequence", {"rows": [{"epoch": 1, "user": "bob", "next": 4}]})]


class _Member:
    """Tells numbers; after it was told to leave it tells others."""

    name, pid, stage = "alice", 1, "talking"

    def __init__(self, queue: asyncio.Queue[dict[str, Any]], after: int) -> None:
        self._queue, self._next, self._after = queue, 3, after

    async def tell(self, step: dict[str, Any]) -> None:
        match step["do"]:
            case "settle":
                self._queue.put_nowait({"what": "settled"})
            case "leave":
                self._next = self._after
                self._queue.put_nowait({"what": "left"})
            case "sequence":
                rows = [{"epoch": 1, "user": "alice", "next": self._next}]
                self._queue.put_nowait({"what": "sequence", "rows": rows})


@pytest.mark.parametrize("after", [3, 0])
def test_numbers_that_change_by_a_restart_end_the_demo(after: int, tmp_path: Path) -> None:
    seen: list[Happening] = []

    async def story() -> None:
        demo = TransportDemo(Plan(folder=tmp_path, members=("alice",)), seen.append)
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        demo._queues["alice"] = queue
        await demo._start_again(_Member(queue, after))  # type: ignore[arg-type]
        assert demo.milestones == [
            "sequence numbers in the database before and after restart: alice has alice 3",
        ]

    if after:
        asyncio.run(story())
        assert any("before and after restart" in each.what for each in seen)
        return
    with pytest.raises(UnavailableError, match="changed by a restart"):
        asyncio.run(story())
    assert no_watch(seen[0]) is None  # type: ignore[func-returns-value]
