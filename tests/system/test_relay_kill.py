"""kill -9 of a real relay under load: what was acknowledged is there, once; and a stop in good order."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from pathlib import Path

import pytest
from benchmarks.relay.raw_client import ROOM_TOKEN, connect

from cloister.wire import frames
from cloister.wire.log import Chain
from support.processes import RelayProcess
from support.senders import ROOM, Sender

pytestmark = pytest.mark.system

KILLS = 30


@pytest.mark.parametrize("seed", [1])
def test_thirty_kills_lose_nothing_that_was_acknowledged(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    relay = RelayProcess.make(tmp_path / "relay", 4)
    senders = [Sender(member, number) for number, member in enumerate(relay.members)]
    started = []

    async def one_life(number: int) -> None:
        if number == 0:
            async with connect("127.0.0.1", relay.port, relay.members[0]) as client:
                assert isinstance(await client.create(ROOM), frames.Ack)
        load = asyncio.gather(*(sender.run(relay.port) for sender in senders))
        await asyncio.sleep(rng.uniform(0.05, 0.6))
        relay.kill()
        await load

    for number in range(KILLS):
        started.append(relay.start())
        asyncio.run(one_life(number))
    relay.start()
    asyncio.run(check(relay, senders))
    assert relay.stop() == 0
    assert sorted(started)[-1] < 10
    assert sum(len(sender.acked) for sender in senders) > 10 * KILLS


async def check(relay: RelayProcess, senders: list[Sender]) -> None:
    """The whole log: a chain without a break, every acknowledged entry at its place, none twice."""
    async with connect("127.0.0.1", relay.port, relay.members[0]) as client:
        page = await client.present(ROOM, ROOM_TOKEN)
    chain = Chain("system.example", ROOM)
    for entry in page.entries:
        chain = chain.step(entry)
    assert (chain.seq, chain.hash) == (page.head.seq, page.head.hash)
    places = {entry.entry_id: entry.seq for entry in page.entries}
    assert [entry_id for entry_id, count in Counter(e.entry_id for e in page.entries).items() if count > 1] == []
    for sender in senders:
        assert {entry_id: places.get(entry_id) for entry_id in sender.acked} == sender.acked


def test_a_stop_under_load_acknowledges_what_it_took_and_says_goodbye(tmp_path: Path) -> None:
    relay = RelayProcess.make(tmp_path / "relay", 3)
    relay.start()
    senders = [Sender(member, number) for number, member in enumerate(relay.members)]

    async def load() -> float:
        async with connect("127.0.0.1", relay.port, relay.members[0]) as client:
            await client.create(ROOM)
        work = asyncio.gather(*(sender.run(relay.port) for sender in senders))
        async with connect("127.0.0.1", relay.port, relay.members[0]) as client:
            await asyncio.sleep(0.5)
            began = time.monotonic()
            code = await asyncio.to_thread(relay.stop)
            took = time.monotonic() - began
            assert code == 0
            assert await client.receive() == frames.Bye(code="closed")
        await work
        return took

    assert asyncio.run(load()) < 5
    relay.start()
    asyncio.run(check(relay, senders))
    assert sum(len(sender.acked) for sender in senders) > 10
    assert relay.stop() == 0
