"""Where batches are stored, each in one transaction: on the loop while that is the quickest, else on one thread.

Source: docs/spec/relay.md ("Group commit"). While a batch is being synced on the thread the core gathers the next
one, so the disk sets the pace and no timer waits. To hand a batch to the thread and back costs two switches between
threads and the processors' caches, more than a statement on a disk that syncs in a fraction of a millisecond: there a
brief batch (`Store.brief`) is stored at once, and what arrives meanwhile waits in the sockets for the next turn.

Invariants
- Batches are stored in the order submitted; the next one is submitted after `stored` of the last.
- A sync that took QUICK or longer was the last one on the loop, until the thread sees a quick one: a slow disk holds
  up nobody but those who wait for it.
- A failed write is the last one, and the process ends: an fsync is never retried.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

from cloister.relay.core import Batch
from cloister.relay.store.interface import Store, StoreFailed

QUICK: Final = 0.001
"""Seconds."""


class Writer:
    """Stores batches; `stored(batch)` and `failed(error)` are called on the loop, perhaps before `submit` returns."""

    def __init__(
        self,
        store: Store,
        loop: asyncio.AbstractEventLoop,
        stored: Callable[[Batch], None],
        failed: Callable[[Exception], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._store = store
        self._loop = loop
        self._stored = stored
        self._failed = failed
        self._clock = clock
        self._quick = False
        self._queue: SimpleQueue[Batch | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def submit(self, batch: Batch) -> None:
        """Store a batch."""
        brief = self._store.brief(batch.writes)
        if not (brief and self._quick):
            self._queue.put(batch)
        elif (failure := self._apply(batch, brief)) is None:
            self._stored(batch)
        else:
            self._failed(failure)

    def stop(self) -> None:
        """End the thread after what was submitted."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (batch := self._queue.get()) is not None:
            failure = self._apply(batch, self._store.brief(batch.writes))
            if failure is not None:
                self._loop.call_soon_threadsafe(self._failed, failure)
                return
            self._loop.call_soon_threadsafe(self._stored, batch)

    def _apply(self, batch: Batch, brief: bool) -> StoreFailed | None:
        """Store a batch, and learn of a brief one how quick the disk is."""
        began = self._clock()
        try:
            self._store.apply(batch.writes)
        except Exception as error:  # whatever it is: nothing more may be written or acknowledged
            return error if isinstance(error, StoreFailed) else StoreFailed("disk", type(error).__name__)
        if brief:
            self._quick = self._clock() - began < QUICK
        return None
