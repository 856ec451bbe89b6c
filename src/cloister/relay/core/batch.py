"""The writes gathered since the last batch, and what may happen once they stand on the disk.

Source: docs/spec/relay.md ("Group commit"). Handlers add writes and promises here and nowhere else; a promise
is kept only by `RelayCore.committed`. Batches are committed in the order in which they were taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cloister.relay.core.state import LogState, Peer
from cloister.relay.store.interface import EntryRow, PutEntries, Write
from cloister.wire.frames import Done, Entry, Frame


@dataclass(slots=True, eq=False)
class Appended:
    """What a batch adds to one log: at least one entry, as it is stored and as it is sent."""

    state: LogState
    rows: list[EntryRow] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)


Ack = tuple[Peer, int, LogState, int, int]
"""(peer, rid, log, seq, ts_ms): answered with the log's head once the batch stands."""


@dataclass(slots=True, eq=False)
class Batch:
    """`writes` go to the store in one transaction; the rest is the core's."""

    writes: list[Write] = field(default_factory=list)
    acks: list[Ack] = field(default_factory=list)
    logs: dict[bytes, Appended] = field(default_factory=dict)
    after: list[Callable[[int], None]] = field(default_factory=list)


class Gathering:
    """Where the batch that is being gathered stands."""

    __slots__ = ("batch",)

    def __init__(self) -> None:
        self.batch = Batch()

    def write(self, *writes: Write) -> None:
        """Add writes."""
        self.batch.writes.extend(writes)

    def appended(self, state: LogState) -> Appended:
        """What the batch adds to a log, which is in use until it stands."""
        appended = self.batch.logs.get(state.log)
        if appended is None:
            appended = self.batch.logs[state.log] = Appended(state)
            self.batch.writes.append(PutEntries(appended.rows))
            state.pins += 1
        return appended

    def ack(self, peer: Peer, rid: int, state: LogState, seq: int, ts_ms: int) -> None:
        """Acknowledge an entry once everything gathered so far stands."""
        peer.in_flight += 1
        self.batch.acks.append((peer, rid, state, seq, ts_ms))

    def after(self, promise: Callable[[int], None]) -> None:
        """Call `promise(now)` once everything gathered so far stands."""
        self.batch.after.append(promise)

    def answer(self, peer: Peer, frame: Frame) -> None:
        """Send an answer once everything gathered so far stands."""
        peer.in_flight += 1

        def send(_now: int) -> None:
            peer.in_flight -= 1
            peer.send(frame)

        self.batch.after.append(send)

    def done(self, peer: Peer, rid: int) -> None:
        """Say that a request was carried out once everything gathered so far stands."""
        self.answer(peer, Done(rid=rid))

    def take(self) -> Batch | None:
        """Begin a new batch; the old one if there is anything in it."""
        batch = self.batch
        if not (batch.writes or batch.acks or batch.after):
            return None
        self.batch = Batch()
        return batch
