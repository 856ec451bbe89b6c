"""A room and a run as this device holds them: the live session, the followed log, and the tokens that open it.

Source: docs/architecture.md ("Life of a message"). Invariant: what is here follows from the rows `rows.RoomRow` and
`rows.RunRow`, the session's items and the log's entries; `rooms` alone changes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cloister.engine.logs import FollowedLog, LogState
from cloister.primitives.kdf import sha256
from cloister.protocols.interface import Session

RELAY_FAULTS: Final = frozenset({"gap", "replay", "bad_chain", "bad_head", "fork", "withheld"})
"""Codes that name the relay, not a member."""


@dataclass(slots=True)
class Room:
    """A room on this device. `blocked` is the realm log size that the next entry waits for, or 0.

    `entering` are tokens of agreed keys, the newest first, of which one commit will stand in the log: any member may
    have proposed a run that takes this device in. `inviter` is the URI of the user by whose invitation the room came
    here (empty: made here), `opened_at` (ms) when.
    """

    id: bytes
    suite: str
    session: Session
    log: FollowedLog
    token: bytes | None = None
    delivered: int = 0
    alarms: list[str] = field(default_factory=list)
    wake_at: int = 0
    blocked: int = 0
    entering: list[bytes] = field(default_factory=list)
    inviter: str = ""
    opened_at: int = 0

    @property
    def token_hash(self) -> bytes:
        """The epoch to which this device may post."""
        return sha256(self.token or b"")

    @property
    def readable(self) -> bool:
        """Whether the relay was never caught here."""
        return not RELAY_FAULTS.intersection(self.alarms)

    @property
    def level(self) -> bool:
        """Whether the log was read to its end, as far as is known."""
        return self.log.state is LogState.FOLLOWING and self.delivered == self.log.chain.seq


@dataclass(slots=True)
class Run:
    """A run's log that is followed for a room."""

    id: bytes
    room: bytes
    token: bytes
    log: FollowedLog
    delivered: int = 0
    blocked: int = 0

    @property
    def level(self) -> bool:
        """Whether the log is being followed."""
        return self.log.state is LogState.FOLLOWING
