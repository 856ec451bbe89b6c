"""What the core holds in memory: peers, logs, epochs, and what a peer may read of a log.

Source: docs/spec/relay.md ("Core"). Plain state without rules. A log's state may be ahead of the disk by the
batches that are under way: `seq`, `hash`, `pending` and an epoch's `end` say what has been decided, `durable`
and `head` what stands on the disk and has been signed.

    A connection: EXPECT_HELLO -hello-> EXPECT_LOGIN | EXPECT_ENROL -login-> READY ; any fault -> CLOSED
                  EXPECT_ENROL -enrol-> EXPECT_HELLO, -guest-> GUEST
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from cloister.relay.core.ports import Connection
from cloister.relay.core.quota import Bucket
from cloister.relay.store.interface import EntryRow, RunRow
from cloister.wire import limits
from cloister.wire.frames import Challenge, Frame, Head, Hello, encode
from cloister.wire.log import START


class State(Enum):
    """What is awaited of a connection."""

    EXPECT_HELLO = auto()
    EXPECT_LOGIN = auto()
    EXPECT_ENROL = auto()
    READY = auto()
    GUEST = auto()
    CLOSED = auto()


LOGGED_IN: Final = frozenset({State.READY, State.GUEST})
"""Requests are taken."""


@dataclass(slots=True, eq=False)
class EpochState:
    """An epoch as of now: ended by entry `end` (0: open) for the one with token hash `next`."""

    token_hash: bytes
    label: int
    begin: int
    end: int = 0
    next: bytes | None = None


@dataclass(slots=True, eq=False)
class LogState:
    """A log in memory; it stays there while a peer has access to it or a batch with it is under way.

    `followers` have been sent everything up to `durable` and get what comes.
    """

    log: bytes
    prefix: bytes
    seq: int = 0
    hash: bytes = START
    ts_ms: int = 0
    durable: int = 0
    durable_hash: bytes = START
    head: Head | None = None
    run: RunRow | None = None
    pending: dict[bytes, EntryRow] = field(default_factory=dict)
    epochs: dict[bytes, EpochState] = field(default_factory=dict)
    accesses: dict[Peer, Access] = field(default_factory=dict)
    followers: dict[Connection, Peer] = field(default_factory=dict)
    pins: int = 0
    commits: Bucket | None = None
    proposers: dict[str, bytes] = field(default_factory=dict)
    runs: dict[bytes, RunRow] | None = None

    @property
    def in_use(self) -> bool:
        """Whether the state must stay in memory."""
        return self.pins > 0 or bool(self.accesses)


@dataclass(slots=True, eq=False)
class Access:
    """What one connection may read of a log: `tokens` are the epochs whose tokens it has presented, oldest first."""

    state: LogState
    tokens: dict[bytes, EpochState] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Peer:
    """A connection and who is at its other end.

    `behind` are logs that it must present again and has not been told so; `mail` is the last item sent, None
    before MailOpen.
    """

    connection: Connection
    requests: Bucket
    state: State = State.EXPECT_HELLO
    hello: Hello | None = None
    challenge: Challenge | None = None
    device: str = ""
    user: str = ""
    logs: dict[bytes, Access] = field(default_factory=dict)
    behind: set[bytes] = field(default_factory=set)
    in_flight: int = 0
    mail: int | None = None

    def send(self, frame: Frame) -> None:
        """Queue one frame."""
        self.connection.send(encode(frame))

    @property
    def clogged(self) -> bool:
        """Whether as much waits for this reader as may."""
        return self.connection.waiting >= limits.SEND_BUFFER.value
