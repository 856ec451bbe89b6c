"""The virtual clock: refusals, order by seed, speed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from cloister.testing import clock
from cloister.testing.clock import EPOCH, Stuck, VirtualLoop, run


def test_waiting_for_what_can_never_happen_is_refused() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Stuck):
        run(main())


def test_threads_are_refused() -> None:
    async def main() -> None:
        await asyncio.to_thread(print)

    with pytest.raises(RuntimeError, match="threads"):
        run(main())


def test_a_closed_loop_takes_nothing() -> None:
    loop = VirtualLoop()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_soon(print)


def test_a_loop_does_not_run_inside_itself() -> None:
    async def main() -> None:
        clock.loop().run_forever()

    with pytest.raises(RuntimeError, match="running"):
        run(main())


def test_another_loop_is_not_the_virtual_one() -> None:
    async def main() -> None:
        clock.now()

    with pytest.raises(RuntimeError, match="virtual clock"):
        asyncio.run(main())


def test_a_loop_that_is_stopped_early_gives_no_result() -> None:
    async def main() -> None:
        clock.loop().stop()
        await asyncio.sleep(1)

    loop = VirtualLoop()
    task = loop.create_task(main())
    with pytest.raises(RuntimeError, match="stopped"):
        loop.run_until_complete(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()


def test_an_exception_that_nobody_awaits_is_not_lost() -> None:
    async def main() -> None:
        clock.loop().call_soon(int, "x")
        await asyncio.sleep(1)

    with pytest.raises(ValueError, match="invalid literal"):
        run(main())


def test_an_exception_of_the_program_reaches_the_caller() -> None:
    async def main() -> None:
        await asyncio.sleep(1)
        raise KeyError("x")

    with pytest.raises(KeyError):
        run(main())


def test_time_jumps_to_the_next_timer() -> None:
    async def main() -> tuple[float, int]:
        await asyncio.sleep(3600)
        return clock.loop().time(), clock.now()

    begun = time.monotonic()
    assert run(main()) == (3600, EPOCH + 3_600_000)
    assert time.monotonic() - begun < 1


def _order(seed: int) -> list[int]:
    seen: list[int] = []

    async def worker(number: int) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
            seen.append(number)

    async def main() -> None:
        await asyncio.gather(*(worker(number) for number in range(8)))

    run(main(), seed)
    return seen


def test_the_same_seed_gives_the_same_order_and_another_seed_another() -> None:
    assert _order(1) == _order(1)
    assert len({tuple(_order(seed)) for seed in range(10)}) == 10


def test_nobody_starves() -> None:
    """Every round runs everything that was ready: after k rounds, each of the workers has had k turns."""
    order = _order(5)
    assert [sorted(order[n : n + 8]) for n in (0, 8, 16)] == [list(range(8))] * 3


def test_timeouts_cancellation_and_generators_work() -> None:
    closed = []

    async def numbers() -> AsyncIterator[int]:
        try:
            for number in range(10):
                yield number
                await asyncio.sleep(10)
        finally:
            closed.append(clock.loop().time())

    async def main() -> list[int]:
        seen = []
        try:
            async with asyncio.timeout(25):
                async for number in numbers():
                    seen.append(number)
        except TimeoutError:
            return seen
        return []

    assert run(main()) == [0, 1, 2]
    assert closed == [25]


def test_a_hundred_thousand_timers_are_quick() -> None:
    """A thousand virtual hours; the bound is generous, the figure on two cores is about a second."""

    async def main() -> int:
        loop = clock.loop()
        for number in range(100_000):
            loop.call_later(number * 36.0, int)
        await asyncio.sleep(3_600_000)
        return loop.steps

    begun = time.monotonic()
    assert run(main()) > 100_000
    assert time.monotonic() - begun < 10


def test_a_hook_sees_every_step() -> None:
    seen: list[int] = []

    async def main() -> None:
        clock.loop().on_step = seen.append
        await asyncio.sleep(1)
        await asyncio.sleep(1)
        clock.loop().on_step = None

    run(main())
    assert seen == sorted(seen)
    assert len(seen) >= 2


def test_a_call_from_elsewhere_needs_no_wake_up() -> None:
    loop = VirtualLoop()
    loop.call_soon_threadsafe(loop.stop)
    loop.run_forever()
    loop.close()
    assert loop.steps == 1
