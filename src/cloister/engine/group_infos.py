"""Fetching what stands beside a commit at the relay: who is invited by it needs it to enter.

Source: docs/spec/relay.md ("Parts"), docs/spec/mls-rooms.md ("Invitations"). A suite names it by room and token of the
epoch (`Need("group info")`); it comes in parts of 128 KiB and goes, whole, to whoever asked.

Invariants
- One at a time, at most limits.COMMIT bytes, in memory only: after a restart it is asked for again
  by the mailbox item or session that needs it.
- What the relay does not have is handed over as nothing (b""), once; refused for a limit, it is asked for again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cloister.engine.link import Asked, Link
from cloister.engine.unit import Unit
from cloister.errors import PeerError
from cloister.wire import frames

RETRY: Final = 2_000
"""Pause (ms) after the relay refused for a limit."""
Then = Callable[[Unit, bytes], None]
"""Takes the bytes; nothing where the relay has none."""


@dataclass(slots=True)
class _Fetch:
    log: bytes
    then: Then
    data: bytes = b""


@dataclass(slots=True)
class GroupInfos:
    """What is asked for, by the token of its epoch, in the order of asking."""

    link: Link
    retry_at: int = 0
    _fetches: dict[bytes, _Fetch] = field(default_factory=dict)
    _asked: bool = False

    def need(self, log: bytes, token: bytes, then: Then) -> None:
        """Fetch it as soon as a connection stands; asking again replaces who gets it."""
        if token in self._fetches:
            self._fetches[token].then = then
        else:
            self._fetches[token] = _Fetch(log, then)

    def pump(self, unit: Unit) -> None:
        """Ask for the next part, if none is under way."""
        if self._fetches and not self._asked and unit.now >= self.retry_at:
            self.retry_at = 0
            token, fetch = next(iter(self._fetches.items()))
            self._asked = True
            rid = self.link.request(Asked("groupinfo", token))
            unit.transmit(
                frames.encode(frames.GetGroupInfo(rid=rid, log=fetch.log, token=token, offset=len(fetch.data)))
            )

    def disconnected(self) -> None:
        """What was not answered is asked for again."""
        self._asked = False

    def received(self, unit: Unit, token: bytes, part: frames.GroupInfo) -> None:
        """A part came; PeerError for more than was announced."""
        self._asked = False
        fetch = self._fetches[token]
        fetch.data += part.data
        if len(fetch.data) > part.size:
            raise PeerError("bad_encoding", "more of a group info than there is")
        if len(fetch.data) == part.size:
            del self._fetches[token]
            fetch.then(unit, fetch.data)

    def refused(self, unit: Unit, token: bytes, code: str) -> None:
        """The relay does not have it, or not for this token, or not now."""
        self._asked = False
        if code in ("not_allowed", "no_session"):
            self._fetches.pop(token).then(unit, b"")
        else:
            self.retry_at = unit.now + RETRY
