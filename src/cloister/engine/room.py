"""A room and a run as this device holds them: the live session, the followed log, and the tokens that open it.

Source: docs/architecture.md ("Life of a message"). Invariant: what is here follows from the rows `rows.RoomRow` and
`rows.RunRow`, the session's items and the log's entries; `rooms` alone changes it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from cloister.engine.logs import FollowedLog, LogState
from cloister.primitives.kdf import sha256
from cloister.protocols.interface import Session

RELAY_FAULTS: Final = frozenset({"gap", "replay", "bad_chain", "bad_head", "fork", "withheld"})
"""Codes that name the relay, not a member."""
ENTERING_OF_ONE: Final = 8
"""Agreed keys of one user's proposals that take this device in and are not committed yet."""
ENTERING_MOST: Final = 64
"""Those of all users."""


@dataclass(slots=True)
class Room:
    """A room on this device. `blocked` is the realm log size that the next entry waits for, or 0.

    `entering` are tokens of agreed keys, the newest last, each with the URI of the user who proposed it. The commit of
    one of them will stand in the log, and only the relay knows of which: any member may have proposed to take this
    device in, and so may strangers. `inviter` is the URI of the user by whose invitation the room came
    here (empty: made here), `opened_at` (ms) when. `yields_to` is the room of the same two in which they go on (see
    `requests`), or empty.
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
    entering: dict[bytes, str] = field(default_factory=dict)
    inviter: str = ""
    opened_at: int = 0
    yields_to: bytes = b""

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

    def take(self, token: bytes) -> None:
        """Open the log with this token from now on."""
        self.token = token
        if self.log.state is not LogState.BROKEN:
            self.log.state, self.log.retry_at, self.log.tries = LogState.IDLE, 0, 0

    def offer(self, token: bytes, user: str) -> None:
        """A key that the user proposed is agreed and awaits its commit: its token is tried after those that wait."""
        trying = self.token in self.entering and self.log.state in (LogState.IDLE, LogState.ASKED)
        hold(self.entering, token, user)
        if trying:
            self.log.retry_at = 0
        else:  # it is the first, or the log is read by another one whose commit may lead nowhere
            self.take(token)

    def next_token(self) -> bool:
        """The relay knows no epoch of this token: the commit of another agreed key may be the one that stands.

        True while not all were tried; then it is the first one's turn again.
        """
        tokens = list(self.entering)
        at = tokens.index(self.token) + 1 if self.token in self.entering else 0
        self.token = tokens[at % len(tokens)]
        return at < len(tokens)


def hold(entering: dict[bytes, str], token: bytes, user: str) -> None:
    """Hold one more token; where there are too many, its user's oldest goes, or that of the user who has most.

    So whoever offers many pushes out its own. All others keep one at least, up to ENTERING_MOST users.
    """
    entering.setdefault(token, user)
    of_each = Counter(entering.values())
    if of_each[user] <= ENTERING_OF_ONE and len(entering) <= ENTERING_MOST:
        return
    loser = user if of_each[user] > ENTERING_OF_ONE else of_each.most_common(1)[0][0]
    del entering[next(held for held, of in entering.items() if of == loser)]


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
