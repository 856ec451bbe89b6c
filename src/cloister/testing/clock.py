"""A deterministic asyncio loop: time is virtual, and the order of what is ready comes from a seed.

    result = run(main(), seed=7)          # runs as fast as the machine can; `loop.time()` moves by itself

Source: docs/architecture.md ("testing"). For simulations of many virtual hours in a second of real time.

Invariants
- Time moves only when nothing is ready, and then straight to the next timer; it never sleeps.
- Everything that is ready at one moment runs in an order drawn from the seed, and what becomes ready meanwhile runs
  after all of it: nobody starves. The same seed and the same program give the same order.
- A program in which nothing is ready and no timer is set can never go on: `Stuck` is raised instead of hanging.
- Times are seconds as asyncio has them; `milliseconds()` is the `now` of Cloister's pure parts, from EPOCH on.

Left out on purpose: sockets, threads, subprocesses, signals. They are not deterministic; use `network`.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from asyncio import AbstractEventLoop, BaseEventLoop, Handle, TimerHandle
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, NoReturn, TypeVar

_T = TypeVar("_T")

EPOCH: Final = 1_790_000_000_000
"""Milliseconds since 1970 at which virtual time begins (September 2026)."""


class Stuck(RuntimeError):
    """Nothing is ready and no timer is set, but the program has not ended."""


class VirtualLoop(BaseEventLoop):
    """The loop. Use `run`, or `asyncio.Runner(loop_factory=lambda: VirtualLoop(seed))`.

    `steps` counts the callbacks that ran. `on_step`, when set, is called before each one: a simulation crashes its
    processes there. `failures` are exceptions that nobody awaited, as asyncio describes them.
    """

    _ready: deque[Handle]
    _scheduled: list[TimerHandle]

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.steps = 0
        self.on_step: Callable[[int], None] | None = None
        self.failures: list[dict[str, Any]] = []
        self._order = random.Random(seed)  # noqa: S311 - a schedule, not a secret
        self._now = 0.0
        self.set_exception_handler(self._keep)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def milliseconds(self) -> int:
        """Virtual milliseconds since 1970."""
        return EPOCH + round(self._now * 1000)

    def run_in_executor(self, *args: Any) -> NoReturn:  # type: ignore[override]
        """Refused: threads are not deterministic."""
        raise RuntimeError("no threads under the virtual clock")

    def _run_once(self) -> None:
        """Everything that is ready now, in the seed's order; time moves when that is nothing."""
        if not self._ready:
            self._advance()
        batch = list(self._ready)
        self._ready.clear()
        if len(batch) > 1:
            self._order.shuffle(batch)
        for handle in batch:
            if not handle.cancelled():
                self.steps += 1
                if self.on_step is not None:
                    self.on_step(self.steps)
                handle._run()  # noqa: SLF001 - what every loop does with its handles

    def _advance(self) -> None:
        timers = self._scheduled
        while timers and timers[0].cancelled():
            heapq.heappop(timers)
        if not timers:
            raise Stuck("nothing is ready and no timer is set")
        self._now = max(self._now, timers[0].when())
        while timers and timers[0].when() <= self._now:
            self._ready.append(heapq.heappop(timers))

    def _keep(self, _: AbstractEventLoop, context: dict[str, Any]) -> None:
        self.failures.append(context)

    def _write_to_self(self) -> None:
        """Nothing sleeps, so nothing has to be woken."""


def run(main: Coroutine[Any, Any, _T], seed: int = 0, *, forgive: tuple[type[BaseException], ...] = ()) -> _T:
    """Run `main` under a VirtualLoop and give its result; what nobody awaited raises after it.

    Exceptions of the kinds in `forgive` are planted ones: nobody need await them.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(seed)) as runner:
        result = runner.run(main)
        loop = runner.get_loop()
        for context in loop.failures if isinstance(loop, VirtualLoop) else ():
            error = context.get("exception")
            if not isinstance(error, forgive):
                raise error or RuntimeError(context.get("message"))
    return result


def loop() -> VirtualLoop:
    """The running VirtualLoop."""
    running = asyncio.get_running_loop()
    if not isinstance(running, VirtualLoop):
        raise RuntimeError("not under the virtual clock: use cloister.testing.clock.run")
    return running


def now() -> int:
    """Virtual milliseconds since 1970, of the running loop."""
    return loop().milliseconds()
