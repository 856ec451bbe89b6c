"""The rendezvous: who has a session code is paired with its creator, and the two speak through the relay.

Source: docs/spec/relay.md ("Guests and session codes"), docs/spec/classic/code.md (F5.6), document 004.

    waiting -join-> paired, D1 D2 D3 D4 in turn -> done (a third: session_full, until the code's time is over)
                    the joiner goes, or the creator releases the place -> waiting again, the third time over

Invariants
- Exactly two: one creator, one joiner at a time. A code is 24 random bits, lives limits.CODE_LIFE and is kept in
  memory alone: it ends with its creator's connection and with the process.
- What the two say is passed on unread; only whose turn it is, and that there are four messages, is the relay's.
- Joins that find nothing are counted for each address, joins of a code without D4 for the code.
- Mode and purpose are fixed when the code is made, and told to both when they are paired.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cloister.errors import PeerError
from cloister.primitives import Rng
from cloister.relay.core.ports import Settings
from cloister.relay.core.quota import Buckets
from cloister.relay.core.state import Peer, State
from cloister.wire import limits
from cloister.wire.frames import (
    CreateSession,
    Done,
    JoinSession,
    Paired,
    Pass,
    Passed,
    PeerLeft,
    Release,
    SessionCreated,
    SessionOver,
)

MESSAGES: Final = 4
"""D1 to D4."""
_BURST: Final = 10
_ID_BYTES: Final = 3


@dataclass(slots=True, eq=False)
class Meeting:
    """A code: who made it, who has joined, how many messages were said, how often somebody has joined."""

    id: str
    frame: CreateSession
    creator: Peer
    expires: int
    joiner: Peer | None = None
    said: int = 0
    tries: int = 0

    @property
    def done(self) -> bool:
        """Whether D4 was passed on."""
        return self.said == MESSAGES

    def paired(self, rid: int) -> Paired:
        """What each of the two is told."""
        return Paired(rid=rid, session=self.id, purpose=self.frame.purpose, mode=self.frame.mode)


class Rendezvous:
    """All codes."""

    def __init__(self, settings: Settings, rng: Rng) -> None:
        self._guests = settings.guests
        self._rng = rng
        self._meetings: dict[str, Meeting] = {}
        self._of: dict[Peer, Meeting] = {}
        self._misses: Buckets[str] = Buckets(limits.JOIN_RATE.value, _BURST)
        self._granted: dict[str, int] = {}

    # --- making and joining -----------------------------------------------------------------------------------

    def create(self, peer: Peer, frame: CreateSession, now: int) -> None:
        """Make a code."""
        guest = peer.state is State.GUEST
        if guest and (frame.purpose == "link" or not self._guests):
            raise PeerError("not_allowed", "guests make no sessions here")
        if peer in self._of:
            raise PeerError("quota", "one session code at a time")
        if len(self._meetings) >= limits.CODES.value:
            raise PeerError("quota", "session codes of this relay")
        meeting = Meeting(self._new_id(), frame, peer, now + limits.CODE_LIFE.value)
        self._meetings[meeting.id] = self._of[peer] = meeting
        peer.send(SessionCreated(rid=frame.rid, session=meeting.id, expires=meeting.expires))

    def _new_id(self) -> str:
        while True:
            name = self._rng(_ID_BYTES).hex().upper()
            if name not in self._meetings:
                return name

    def join(self, peer: Peer, frame: JoinSession, now: int) -> None:
        """Pair somebody with a code's creator."""
        misses = self._misses.of(peer.connection.address, now)
        if not misses.has(now):
            raise PeerError("quota", "session codes tried from this address")
        if peer in self._of:
            raise PeerError("quota", "one session code at a time")
        try:
            meeting = self._find(peer, frame, now)
        except PeerError:
            misses.take(now)
            raise
        meeting.joiner, self._of[peer] = peer, meeting
        meeting.tries += 1
        peer.send(meeting.paired(frame.rid))
        meeting.creator.send(meeting.paired(0))

    def _find(self, peer: Peer, frame: JoinSession, now: int) -> Meeting:
        meeting = self._meetings.get(frame.session)
        if meeting is None or now > meeting.expires:
            raise PeerError("no_session")
        if meeting.joiner is not None:
            raise PeerError("session_full")
        if peer.state is State.GUEST and meeting.frame.purpose == "chat" and not self._guests:
            raise PeerError("not_allowed", "guests join no chats here")
        return meeting

    # --- the agreement ----------------------------------------------------------------------------------------

    def pass_on(self, peer: Peer, frame: Pass, now: int) -> None:
        """The next message, from the one whose turn it is to the other."""
        meeting = self._mine(peer, frame.session)
        if meeting.joiner is None:
            raise PeerError("no_session", "nobody has joined")
        turn, other = (meeting.creator, meeting.joiner) if meeting.said % 2 == 0 else (meeting.joiner, meeting.creator)
        if meeting.done or peer is not turn:
            raise PeerError("not_allowed", "not this one's turn")
        meeting.said += 1
        if meeting.done and meeting.frame.purpose == "chat":
            until = now + limits.CODE_LIFE.value
            self._granted |= {meeting.creator.device: until, meeting.joiner.device: until}
        other.send(Passed(session=meeting.id, body=frame.body))
        peer.send(Done(rid=frame.rid))

    def _mine(self, peer: Peer, name: str) -> Meeting:
        meeting = self._of.get(peer)
        if meeting is None or meeting.id != name:
            raise PeerError("no_session")
        return meeting

    def release(self, peer: Peer, frame: Release, now: int) -> None:
        """The creator's word that this try has failed."""
        meeting = self._mine(peer, frame.session)
        if peer is not meeting.creator or meeting.joiner is None:
            raise PeerError("not_allowed", "only the creator, of a joiner")
        peer.send(Done(rid=frame.rid))
        meeting.joiner.send(PeerLeft(session=meeting.id))
        self._free(meeting)

    def granted(self, device: str, now: int) -> bool:
        """Whether this guest has agreed on a key and may make its room."""
        return self._granted.get(device, 0) >= now

    def use(self, device: str) -> None:
        """The room is made."""
        self._granted.pop(device, None)

    # --- endings ----------------------------------------------------------------------------------------------

    def _free(self, meeting: Meeting) -> None:
        """The place is free again; after the third join without D4 the code is burnt."""
        if meeting.joiner is not None:
            self._of.pop(meeting.joiner, None)
        meeting.joiner, meeting.said = None, 0
        if meeting.tries >= limits.CODE_TRIES.value:
            self._end(meeting, "quota")

    def _end(self, meeting: Meeting, code: str) -> None:
        del self._meetings[meeting.id]
        for peer in (meeting.creator, meeting.joiner):
            if peer is not None and self._of.pop(peer, None) is not None and not meeting.done:
                peer.send(SessionOver(session=meeting.id, code=code))

    def leave(self, peer: Peer) -> None:
        """A connection is gone."""
        meeting = self._of.pop(peer, None)
        if meeting is None or meeting.done:
            return
        if peer is meeting.creator:
            self._end(meeting, "closed")
        else:
            meeting.creator.send(PeerLeft(session=meeting.id))
            self._free(meeting)

    def tick(self, now: int) -> None:
        """Codes whose time is over."""
        for meeting in [meeting for meeting in self._meetings.values() if now > meeting.expires]:
            self._end(meeting, "timeout")
        self._granted = {device: until for device, until in self._granted.items() if until >= now}
