"""The one thread that writes: it stores batch after batch, each in one transaction.

Source: docs/spec/relay.md ("Group commit"). While a batch is being synced the core gathers the next one, so the
disk sets the pace and no timer waits. A failed write ends the thread and the process: an fsync is never retried.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue

from cloister.relay.core import Batch
from cloister.relay.store.interface import Store, StoreFailed


class Writer:
    """Stores batches off the event loop; `stored(batch)` and `failed(error)` are called on the loop."""

    def __init__(
        self,
        store: Store,
        loop: asyncio.AbstractEventLoop,
        stored: Callable[[Batch], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._store = store
        self._loop = loop
        self._stored = stored
        self._failed = failed
        self._queue: SimpleQueue[Batch | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def submit(self, batch: Batch) -> None:
        """Store a batch after those submitted before."""
        self._queue.put(batch)

    def stop(self) -> None:
        """End the thread after what was submitted."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (batch := self._queue.get()) is not None:
            try:
                self._store.apply(batch.writes)
            except Exception as error:  # whatever it is: nothing more may be written or acknowledged
                failure = error if isinstance(error, StoreFailed) else StoreFailed("disk", type(error).__name__)
                self._loop.call_soon_threadsafe(self._failed, failure)
                return
            self._loop.call_soon_threadsafe(self._stored, batch)
