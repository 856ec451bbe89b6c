"""Where batches are stored: briefly on the loop while the disk is quick, else on the thread, always in order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from cloister.relay.core import Batch
from cloister.relay.store.interface import PutMeta, StoreFailed, Write
from cloister.relay.store.memory import MemoryStore
from cloister.relay.writer import QUICK, Writer

BRIEF, LONG = "brief", "long"


class Disk(MemoryStore):
    """A store whose syncs take `seconds` of a clock of its own, and that knows on which thread it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.seconds = QUICK / 2
        self.places: list[str] = []
        self.broken = False

    def brief(self, writes: Sequence[Write]) -> bool:
        return all(isinstance(write, PutMeta) and write.key == BRIEF for write in writes)

    def apply(self, writes: Sequence[Write]) -> None:
        self.places.append("loop" if threading.current_thread() is threading.main_thread() else "thread")
        self.now += self.seconds if self.brief(writes) else 100 * QUICK
        if self.broken:
            raise OSError("the disk is gone")
        super().apply(writes)


class Desk:
    """Submits batches one by one, as the server does."""

    def __init__(self) -> None:
        self.disk = Disk()
        self.answers: asyncio.Queue[Any] = asyncio.Queue()
        answer = self.answers.put_nowait
        loop = asyncio.get_running_loop()
        self.writer = Writer(self.disk, loop, answer, answer, clock=lambda: self.disk.now)

    async def store(self, kind: str) -> str:
        """Store a batch; where that was done."""
        batch = Batch(writes=[PutMeta(kind, b"value")])
        self.writer.submit(batch)
        async with asyncio.timeout(10):
            assert await self.answers.get() is batch
        return self.disk.places[-1]


async def _first() -> None:
    desk = Desk()
    assert [await desk.store(BRIEF) for _ in range(3)] == ["thread", "loop", "loop"]
    desk.writer.stop()


def test_the_disk_is_tried_on_the_thread_first_and_a_quick_one_used_on_the_loop() -> None:
    asyncio.run(_first())


async def _slow() -> None:
    desk = Desk()
    places = [await desk.store(BRIEF), await desk.store(BRIEF)]
    desk.disk.seconds = 2 * QUICK
    places += [await desk.store(BRIEF), await desk.store(BRIEF), await desk.store(BRIEF)]
    desk.disk.seconds = QUICK / 2
    places += [await desk.store(BRIEF), await desk.store(BRIEF)]
    assert places == ["thread", "loop", "loop", "thread", "thread", "thread", "loop"]
    desk.writer.stop()


def test_one_slow_sync_is_the_last_on_the_loop_until_the_thread_sees_a_quick_one() -> None:
    asyncio.run(_slow())


async def _long() -> None:
    desk = Desk()
    assert [await desk.store(kind) for kind in (BRIEF, LONG, BRIEF, LONG)] == ["thread", "thread", "loop", "thread"]
    desk.writer.stop()


def test_a_long_batch_is_stored_on_the_thread_and_says_nothing_of_the_disk() -> None:
    asyncio.run(_long())


async def _broken(kind: str) -> None:
    desk = Desk()
    await desk.store(BRIEF)
    desk.disk.broken = True
    desk.writer.submit(Batch(writes=[PutMeta(kind, b"value")]))
    async with asyncio.timeout(10):
        failure = await desk.answers.get()
    assert isinstance(failure, StoreFailed)
    assert failure.code == "disk"
    assert desk.disk.places == ["thread", "loop" if kind == BRIEF else "thread"]
    desk.writer.stop()


@pytest.mark.parametrize("kind", [BRIEF, LONG])
def test_a_failed_write_is_told_wherever_it_was_tried(kind: str) -> None:
    asyncio.run(_broken(kind))
