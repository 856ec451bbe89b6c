"""Rooms of suite `mls` with 300 and with 1,000 devices through the whole path, and what they cost.

Engines, the relay's rules and rows, claims, parts, mailboxes, trees beside commits. Nine devices are live, spread over
the realm's names; the others have published packages and stay away, one comes late. `-s` shows the table that
docs/performance.md quotes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloister.engine import values
from cloister.engine.core import Engine
from cloister.errors import UsageError
from cloister.protocols.mls import rules
from cloister.protocols.mls.items import ADDS_MOST
from cloister.relay.core import RelayCore
from cloister.relay.store.sqlite import SqliteStore
from cloister.testing import clock
from cloister.wire import limits
from support.large_room import LargeRealm, LargeWorld, spread
from support.world import World, live

LIVE = 9
TEXTS = 20


@pytest.fixture(autouse=True)
def few_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred for each live device would be a good part of the work."""
    monkeypatch.setattr("cloister.engine.prekeys.STOCK", 2)
    monkeypatch.setattr(limits, "PREKEYS_LOW", replace(limits.PREKEYS_LOW, value=0))


class Costs:
    """Processor time of each engine, by its user's name, and of the relay; bytes that came to the relay."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds: Counter[str] = Counter()
        self.sent = 0
        self.rows: list[tuple[str, float, float, float, float, float]] = []
        for name in ("__init__", "handle"):
            self._timed(monkeypatch, Engine, name, lambda engine: engine._account.user)
        for name in ("frame", "committed", "take_batch", "tick"):
            self._timed(monkeypatch, RelayCore, name, lambda _core: "relay")
        self._timed(monkeypatch, SqliteStore, "apply", lambda _store: "relay")

    def _timed(self, monkeypatch: pytest.MonkeyPatch, kind: type[Any], name: str, of: Callable[[Any], str]) -> None:
        method = getattr(kind, name)

        def timed(this: Any, *given: Any) -> Any:
            begun = time.process_time()
            try:
                return method(this, *given)
            finally:
                self.seconds[of(this)] += time.process_time() - begun
                if name == "frame":
                    self.sent += len(given[1])

        monkeypatch.setattr(kind, name, timed)

    @contextmanager
    def step(self, what: str, who: str) -> Iterator[None]:
        """A row of the table: what `who` and the others and the relay had to do for it."""
        before, sent, at = Counter(self.seconds), self.sent, clock.loop().time()
        yield
        spent = {name: seconds - before[name] for name, seconds in self.seconds.items()}
        others = [seconds for name, seconds in spent.items() if name not in (who, "relay")]
        each = sum(others) / len(others) if others else 0.0
        lasted = clock.loop().time() - at
        self.rows.append((what, spent.get(who, 0.0), each, spent["relay"], (self.sent - sent) / 1024, lasted))

    def show(self, size: int) -> None:
        """The table, in milliseconds and KiB."""
        print(f"\n| {size} devices | who does it (ms) | each other live one (ms) | relay (ms) | KiB sent | virtual s |")
        print("|---|---|---|---|---|---|")
        for what, own, each, relay, sent, lasted in self.rows:
            print(f"| {what} | {own * 1e3:.1f} | {each * 1e3:.1f} | {relay * 1e3:.1f} | {sent:.0f} | {lasted:.1f} |")


class WholeRoom:
    """One life of a room: `size` devices at first, one more that comes late; the first device rules it."""

    def __init__(self, world: LargeWorld, costs: Costs, size: int) -> None:
        self.world = world
        self.costs = costs
        self.size = size
        self.names = list(world.devices)
        self.late = self.names.pop()
        self.first, self.second, self.out, self.last = *self.names[:3], self.names[-1]
        self.room = ""

    async def everywhere(self, size: int, *names: str) -> None:
        """All of these are in one epoch of a ready room with so many members."""
        here = names or tuple(self.names)

        def level() -> bool:
            views = {self.world.view(name, self.room) for name in here}
            return len(views) == 1 and {view[1:3] for view in views} == {(size, "ready")}

        await self.world.until(level)

    async def say(self, who: str, text: str, to: list[str]) -> None:
        await self.world.devices[who].execute(values.Send(room=self.room, text=text))
        await self.world.until(lambda: all(text in self.world.texts(name) for name in to))

    async def begin(self, others: list[str]) -> None:
        with self.costs.step("make the room and take all in", self.first):
            made = await self.world.devices[self.first].execute(
                values.CreateRoom(title="all", suite="mls", members=others)
            )
            self.room = made.id
            await self.everywhere(self.size)

    async def talk(self) -> None:
        for name in (self.first, self.second, self.last):
            await self.say(name, f"from {name}", self.names)
        with self.costs.step(f"{TEXTS} texts", self.first):
            for number in range(TEXTS):
                await self.say(self.first, f"text {number}", self.names)

    async def change(self) -> None:
        """A new key by another member, one put out, one taken in."""
        devices, stay = self.world.devices, [name for name in self.names if name != self.out]
        with self.costs.step("a new key", self.second):
            (before,) = {self.world.view(name, self.room)[0] for name in self.names}
            await devices[self.second].execute(values.RekeyRoom(room=self.room))
            await self.world.until(lambda: {self.world.view(n, self.room)[0] for n in self.names} == {before + 1})
        with self.costs.step("put one out", self.first):
            await devices[self.first].execute(values.RemoveMembers(room=self.room, users=[self.out]))
            await self.everywhere(self.size - 1, *stay)
        await self.say(self.first, "without the one", stay)
        await self.world.until(lambda: self.world.view(self.out, self.room)[2] == "removed")
        assert "without the one" not in self.world.texts(self.out)
        with pytest.raises(UsageError):
            await devices[self.out].execute(values.Send(room=self.room, text="still here"))
        with self.costs.step("take one in", self.first):
            await devices[self.first].execute(values.AddMembers(room=self.room, users=[self.late]))
            entering = self.costs.seconds[self.late]
            await self.everywhere(self.size, *stay, self.late)
            entering = self.costs.seconds[self.late] - entering
        self.costs.rows.append(("that one enters", entering, 0.0, 0.0, 0.0, 0.0))
        await self.say(self.late, "I am late", [*stay, self.late])

    async def come(self, name: str) -> None:
        """A member that was away during all this reads up."""
        with self.costs.step("realm log, entering and reading up of one that was away", name):
            self.world.come(name)
            stay = [each for each in self.names if each != self.out]
            await self.everywhere(self.size, *stay, name)
        await self.say(name, "I was away", [self.first, name])

    async def restart(self) -> None:
        device = self.world.devices[self.last]
        with self.costs.step("a new process", self.last):
            device.crash()
            device.start()
            await self.world.until(lambda: device.engine.link.idle)
        await self.say(self.last, "again here", [self.first, self.last])


@pytest.mark.slow
@pytest.mark.parametrize("size", [300, rules.MEMBERS])
def test_a_whole_room(size: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The life of a room in a realm that has two devices more than the room."""
    realm, costs = LargeRealm(size + 2, tmp_path / "relay.db"), Costs(monkeypatch)
    names = list(realm.accounts)

    async def story(world: World) -> None:
        assert isinstance(world, LargeWorld)
        run = WholeRoom(world, costs, size)
        with costs.step("connect, read the realm log", run.first):
            await world.all_online()
        others = [name for name in names if name not in (run.first, run.late)]
        spare, absent = others[-1], next(name for name in others if name not in world.devices)
        others.remove(spare)
        if size == rules.MEMBERS:
            await refused_creation(run, [*others, spare])
        await run.begin(others)
        await run.talk()
        await run.change()
        await run.come(absent)
        await run.restart()
        if size == rules.MEMBERS:
            await refused_addition(run, spare)
        assert {name: world.alarms(name) for name in world.devices if world.alarms(name)} == {}
        rows = list(world.relay.store.entries(bytes.fromhex(run.room), 0, 100))
        taking_in = rows[1 : 1 + -(-(size - 1) // ADDS_MOST)]
        assert {row.kind for row in taking_in} == {"commit"}
        assert rows[len(taking_in) + 1].kind == "application"
        assert clock.loop().time() < 90, "no rate of the relay is in the way"

    live(story, realm, spread(realm, LIVE), LargeWorld).relay.store.close()
    costs.show(size)


async def refused_creation(run: WholeRoom, others: list[str]) -> None:
    """One device too many: nothing is made, and nothing is sent."""
    before = run.costs.sent
    with pytest.raises(UsageError, match="mls rooms have at most 1000 devices"):
        await run.world.devices[run.first].execute(values.CreateRoom(title="all", suite="mls", members=others))
    assert run.costs.sent == before
    assert not run.world.devices[run.first].engine.rooms.rooms


async def refused_addition(run: WholeRoom, spare: str) -> None:
    before = run.costs.sent
    with pytest.raises(UsageError, match="a room has at most 1000 devices") as caught:
        await run.world.devices[run.first].execute(values.AddMembers(room=run.room, users=[spare]))
    assert caught.value.code == "quota"
    assert run.costs.sent == before
