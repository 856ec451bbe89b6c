"""What the relay tells its operator: one JSON object a line, from an allow-list.

Source: docs/spec/relay.md ("Logs"). An event is a name of EVENTS with numbers and names of our own: no address,
no id, no name of a user, no token, no text of a peer can be said here, because no parameter takes one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Final, TextIO

EVENTS: Final = frozenset(
    {
        "started",
        "stopping",
        "stopped",
        "out_of_files",
        "disk_full",
        "disk_free",
        "store_failed",
        "internal",
        "minute",
    }
)


class Journal:
    """Writes events to a stream (standard error)."""

    def __init__(self, now: Callable[[], int], stream: TextIO | None = None) -> None:
        self._now = now
        self._stream = stream or sys.stderr

    def say(self, event: str, **numbers: int) -> None:
        """One event; only integers ride along."""
        if event not in EVENTS or not all(type(value) is int for value in numbers.values()):
            raise ValueError("not an event of the journal")
        line = json.dumps({"ts": self._now(), "event": event, **numbers})
        self._stream.write(line + "\n")
        self._stream.flush()
