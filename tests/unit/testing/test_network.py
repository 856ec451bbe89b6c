"""Connections in memory: refusals, order, what a break loses and what arrives late."""

from __future__ import annotations

import asyncio

import pytest

from cloister.errors import UnavailableError
from cloister.testing import clock
from cloister.testing.network import Broken, End, Network, Weather

COUNT = 30


async def pair(network: Network, name: str = "alice") -> tuple[End, End]:
    listener = network.listen("relay")
    near = await network.dial(name, "relay")
    return near, await listener.accept()


async def drain(end: End) -> list[int]:
    got = []
    try:
        while True:
            got.append((await end.receive())[0])
    except Broken:
        return got


def test_nobody_answers_where_nobody_listens() -> None:
    with pytest.raises(UnavailableError):
        clock.run(Network().dial("alice", "relay"))


def test_a_partition_breaks_and_refuses_until_it_is_healed() -> None:
    async def main() -> None:
        network = Network(weather=Weather(notice=(0, 1)))
        near, far = await pair(network)
        network.cut("alice")
        with pytest.raises(UnavailableError, match="unreachable"):
            await network.dial("alice", "relay")
        assert await asyncio.gather(drain(near), drain(far)) == [[], []]
        await network.dial("bob", "relay")
        network.heal("alice")
        await network.dial("alice", "relay")

    clock.run(main())


@pytest.mark.parametrize("seed", range(5))
def test_frames_of_a_connection_keep_their_order(seed: int) -> None:
    async def main() -> list[int]:
        near, far = await pair(Network(seed))
        for number in range(COUNT):
            near.send(bytes([number]))
        near.close()
        near.send(b"late")
        return await drain(far)

    assert clock.run(main(), seed) == list(range(COUNT))


def test_a_close_is_noticed_without_any_frame() -> None:
    async def main() -> list[int]:
        near, far = await pair(Network())
        near.close()
        near.close()
        return await drain(far)

    assert clock.run(main()) == []


def test_a_break_loses_an_end_and_delivers_a_beginning() -> None:
    async def main(seed: int) -> tuple[list[int], bool]:
        network = Network(seed, Weather(breaks=0.05))
        near, far = await pair(network)
        for number in range(COUNT):
            near.send(bytes([number]))
            await asyncio.sleep(0.001)
        near.close()
        return await drain(far), network.breaks > 0

    whole = broken = 0
    for seed in range(40):
        got, snapped = clock.run(main(seed), seed)
        assert got == list(range(len(got)))
        assert snapped or len(got) == COUNT
        whole, broken = whole + (len(got) == COUNT), broken + snapped
    assert 0 < whole
    assert broken > 20


def test_frames_of_a_broken_connection_may_arrive_after_those_of_the_next() -> None:
    async def main(seed: int) -> list[int]:
        network = Network(seed, Weather(latency=(0.001, 1.0), notice=(5, 5)))
        listener = network.listen("relay")
        seen: list[int] = []

        async def serve() -> None:
            while True:
                end = await listener.accept()
                tasks.append(asyncio.create_task(read(end)))

        async def read(end: End) -> None:
            try:
                while True:
                    seen.append((await end.receive())[0])
            except Broken:
                return

        tasks = [asyncio.create_task(serve())]
        old = await network.dial("alice", "relay")
        for number in range(5):
            old.send(bytes([number]))
        network.cut("alice")
        network.heal("alice")
        new = await network.dial("alice", "relay")
        new.send(bytes([100]))
        await asyncio.sleep(10)
        for task in tasks:
            task.cancel()
        return seen

    late = [seen for seed in range(40) if (seen := clock.run(main(seed), seed))[-1] != 100]
    assert late


def test_a_process_that_is_killed_takes_nothing_more() -> None:
    async def main() -> tuple[list[int], list[int]]:
        network = Network(weather=Weather(notice=(3, 3)))
        near, far = await pair(network)
        far.send(b"\x07")
        await asyncio.sleep(1)
        far.send(b"\x08")
        network.kill("alice")
        begun = clock.loop().time()
        gone, left = await drain(near), await drain(far)
        assert clock.loop().time() - begun == pytest.approx(3)
        return gone, left

    assert clock.run(main()) == ([], [])


def test_a_listener_that_is_gone_ends_its_connections() -> None:
    async def main() -> list[int]:
        network = Network()
        near, far = await pair(network)
        near.send(b"\x01")
        network.deafen("relay")
        assert await drain(far) == []
        return await drain(near)

    assert clock.run(main()) == []


def test_a_hook_replaces_what_an_end_sends() -> None:
    async def main() -> list[int]:
        near, far = await pair(Network())
        far.outgoing = lambda frame: [frame, frame] if frame[0] % 2 else []
        for number in range(4):
            far.send(bytes([number]))
        far.close()
        return await drain(near)

    assert clock.run(main()) == [1, 1, 3, 3]
