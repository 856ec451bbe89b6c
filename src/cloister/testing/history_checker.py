"""Judges a history of what clients sent, what the relay acknowledged and what was shown. Off-line, no I/O.

    history = History()
    history.member("alice", ROOM); history.sent("alice", ROOM, "m1", "hello"); history.acked("alice", ROOM, "m1")
    history.shown("bob", ROOM, "m1", "hello", seq=7)
    findings = check(history)            # [] when every promise was kept

Source: the promise in docs/architecture.md: an accepted message survives, is shown exactly once, and stands in the
same order for everybody. Works on the histories of simulations and, read from JSON lines, of real processes.

What is found (`Finding.kind`)
- `lost`      an acknowledged message is not shown by a client that was a member when it was stored
- `twice`     a client showed one message twice
- `order`     two clients show two messages in different orders, or one shows a later place before an earlier one
- `gap`       a client shows messages before and after one that somebody else shows, but not that one
- `altered`   what is shown is not what was sent
- `invented`  something is shown that nobody sent
- `unclear`   two clients show one message at different places (`seq`)

Membership: `member(client, room, since, until)` says for which places of the room's log a client was a member;
without bounds it was one all the time. Invariant: the order of events of one client is the order in which it saw them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Literal

FOREVER = 2**63 - 1
"""A place beyond every log's end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of a history. `seq` is the place in the room's log, 0 where it is not known."""

    what: Literal["member", "sent", "acked", "shown"]
    client: str
    room: str
    message: str = ""
    content: str = ""
    seq: int = 0
    until: int = FOREVER


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken promise, in words for a person."""

    kind: str
    client: str
    room: str
    message: str
    detail: str = ""


@dataclass(slots=True)
class History:
    """Events in the order in which each client saw them."""

    events: list[Event] = field(default_factory=list)

    def member(self, client: str, room: str, since: int = 0, until: int = FOREVER) -> None:
        """`client` must show what is stored at places `since` to `until` of the room's log."""
        self.events.append(Event(what="member", client=client, room=room, seq=since, until=until))

    def sent(self, client: str, room: str, message: str, content: str) -> None:
        """`client` was asked to send `content`; `message` is an id of the caller's, unique in the room."""
        self.events.append(Event(what="sent", client=client, room=room, message=message, content=content))

    def acked(self, client: str, room: str, message: str, seq: int = 0) -> None:
        """`client` was told that the relay has stored and signed the message."""
        self.events.append(Event(what="acked", client=client, room=room, message=message, seq=seq))

    def shown(self, client: str, room: str, message: str, content: str, seq: int = 0) -> None:
        """`client` showed the message to its person."""
        self.events.append(Event(what="shown", client=client, room=room, message=message, content=content, seq=seq))

    def dump(self) -> Iterator[str]:
        """JSON lines."""
        return (json.dumps(asdict(event)) for event in self.events)

    @classmethod
    def load(cls, lines: Iterable[str]) -> History:
        """A history from JSON lines; a last line that a kill cut short is left out."""
        history = cls()
        for line in lines:
            try:
                history.events.append(Event(**json.loads(line)))
            except json.JSONDecodeError:
                break
        return history


def check(history: History) -> list[Finding]:
    """Every broken promise; [] when there is none."""
    findings: list[Finding] = []
    for room in sorted({event.room for event in history.events}):
        findings += _Room(room, [event for event in history.events if event.room == room]).findings()
    return findings


class _Room:
    """The history of one room, sorted by what happened."""

    def __init__(self, room: str, events: list[Event]) -> None:
        self.room = room
        self.members: dict[str, list[Event]] = {}
        self.sent: dict[str, Event] = {}
        self.acked: dict[str, Event] = {}
        self.shown: dict[str, list[Event]] = {}
        self.places: dict[str, int] = {}
        for event in events:
            if event.what == "member":
                self.members.setdefault(event.client, []).append(event)
            elif event.what == "sent":
                self.sent[event.message] = event
            elif event.what == "acked":
                self.acked[event.message] = event
            else:
                self.shown.setdefault(event.client, []).append(event)
            if event.seq and event.what in ("acked", "shown"):
                self.places.setdefault(event.message, event.seq)

    def findings(self) -> list[Finding]:
        found: list[Finding] = []
        for client in sorted(self.shown):
            found += self._twice(client)
            found += self._content(client)
            found += self._places(client)
        for client in sorted(self.members):
            found += self._lost(client)
            found += self._gaps(client)
        found += self._orders()
        return found

    def _finding(self, kind: str, client: str, message: str, detail: str = "") -> Finding:
        return Finding(kind, client, self.room, message, detail)

    def _ids(self, client: str) -> list[str]:
        return [event.message for event in self.shown.get(client, [])]

    def _twice(self, client: str) -> Iterator[Finding]:
        for message, times in Counter(self._ids(client)).items():
            if times > 1:
                yield self._finding("twice", client, message, f"{times} times")

    def _content(self, client: str) -> Iterator[Finding]:
        for event in self.shown[client]:
            sent = self.sent.get(event.message)
            if sent is None:
                yield self._finding("invented", client, event.message)
            elif sent.content != event.content:
                yield self._finding("altered", client, event.message, f"by {sent.client}")

    def _places(self, client: str) -> Iterator[Finding]:
        for event in self.shown[client]:
            if event.seq and event.seq != self.places[event.message]:
                yield self._finding("unclear", client, event.message, f"{event.seq} or {self.places[event.message]}")
        for earlier, later in pairwise(event for event in self.shown[client] if event.seq):
            if later.seq < earlier.seq:
                yield self._finding("order", client, later.message, f"place {later.seq} after {earlier.seq}")

    def _must_see(self, client: str, message: str) -> bool:
        """Whether the client was a member at the message's place; an unknown place counts as one."""
        seq = self.places.get(message)
        return any(seq is None or row.seq <= seq <= row.until for row in self.members[client])

    def _lost(self, client: str) -> Iterator[Finding]:
        shown = set(self._ids(client))
        for message, event in self.acked.items():
            if message not in shown and self._must_see(client, message):
                yield self._finding("lost", client, message, f"acknowledged to {event.client}")

    def _gaps(self, client: str) -> Iterator[Finding]:
        """Somebody else's messages between the first and last that this client shows."""
        places = [event.seq for event in self.shown.get(client, []) if event.seq]
        if not places:
            return
        shown = set(self._ids(client))
        for message, seq in sorted(self.places.items(), key=lambda item: item[1]):
            if min(places) < seq < max(places) and message not in shown and self._must_see(client, message):
                if message not in self.acked:  # an acknowledged one is already `lost`
                    yield self._finding("gap", client, message, f"place {seq}")

    def _orders(self) -> Iterator[Finding]:
        """Every two clients show what they both show in the same order."""
        clients = sorted(self.shown)
        first = {
            client: {message: n for n, message in reversed(list(enumerate(self._ids(client))))} for client in clients
        }
        for number, one in enumerate(clients):
            for other in clients[number + 1 :]:
                common = sorted(first[one].keys() & first[other].keys(), key=first[one].__getitem__)
                for earlier, later in pairwise(common):
                    if first[other][earlier] > first[other][later]:
                        yield self._finding("order", other, later, f"before {earlier}, unlike {one}")
