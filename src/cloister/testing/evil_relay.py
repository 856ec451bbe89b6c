"""A dishonest relay: it does one thing to one entry of a room's log, for the clients that it chose.

    relay = Relay(network, realm)
    relay.hook = EvilRelay(relay, Lie("fork", victims=frozenset({"bob"}), room=room, seq=9)).frame

Source: docs/architecture.md ("The promise", 1). The relay keeps its real log and its real rules; only what it tells is
a lie, and it holds its own signing key. What it does to the entry with this `seq`:

- `drop`     leaves it out, of pushes and of pages; the entries around it and their heads are the true ones
- `repeat`   tells it twice
- `reorder`  lets it change places with the next one
- `fork`     shows the victims another entry in its place (with another time) and signs for them every head and every
             acknowledgement from there on, so that what each client sees is a flawless log, and only two clients
             together can tell that there are two

Invariants: frames that do not concern the lie pass as they are; a lie without victims changes nothing. A device that is
told a lie must name the relay (codes of engine.rooms.RELAY_FAULTS), and must show nothing that the log does not hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from msgspec.structs import replace

from cloister.relay.store.interface import EntryRow
from cloister.testing.relay import Relay
from cloister.wire import frames
from cloister.wire.frames import Ack, Entry, Head, Page, Pushed, Stub
from cloister.wire.log import START, entry_hash, sign_head

Told = list[Entry | Stub]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lie:
    """What is done to the entry at `seq` of the room's log, and to whom."""

    kind: Literal["drop", "repeat", "reorder", "fork"]
    victims: frozenset[str]
    room: bytes
    seq: int


class EvilRelay:
    """Tells one lie over a relay in memory; `told` counts the frames that were lies."""

    def __init__(self, relay: Relay, lie: Lie) -> None:
        self.told = 0
        self._relay = relay
        self._lie = lie

    def frame(self, client: str, data: bytes) -> Sequence[bytes]:
        """The frames that leave in place of this one: a hook for `Relay.hook`."""
        if client not in self._lie.victims:
            return [data]
        leaving = [frames.encode(frame) for frame in self._altered(frames.decode_answer(data))]
        self.told += leaving != [data]
        return leaving

    def _altered(self, frame: frames.Answer) -> Sequence[frames.Answer]:
        match frame:
            case Page() | Pushed() if frame.log == self._lie.room:
                return self._entries(frame)
            case Ack() if self._lie.kind == "fork" and self._signed(frame.head):
                return [replace(frame, head=self._head(frame.head))]
            case _:
                return [frame]

    def _entries(self, frame: Page | Pushed) -> list[Page | Pushed]:
        match self._lie.kind:
            case "drop":
                return self._without(frame)
            case "repeat":
                return self._twice(frame)
            case "reorder":
                return [replace(frame, entries=self._exchanged(frame.entries))]
            case "fork":
                entries = [self._other(entry) for entry in frame.entries]
                return [replace(frame, entries=entries, head=self._head(frame.head))]

    # --- drop, repeat, reorder ------------------------------------------------------------------------------

    def _without(self, frame: Page | Pushed) -> list[Page | Pushed]:
        """The frame without the entry; a push of nothing is not sent."""
        entries = [entry for entry in frame.entries if entry.seq != self._lie.seq]
        if not entries and frame.entries and isinstance(frame, Pushed):
            return []
        return [replace(frame, entries=entries)]

    def _twice(self, frame: Page | Pushed) -> list[Page | Pushed]:
        """A push is sent again; in a page, which answers one request, the entry stands twice."""
        if all(entry.seq != self._lie.seq for entry in frame.entries):
            return [frame]
        if isinstance(frame, Pushed):
            return [frame, frame]
        entries: Told = []
        for entry in frame.entries:
            entries += [entry, entry] if entry.seq == self._lie.seq else [entry]
        return [replace(frame, entries=entries)]

    def _exchanged(self, entries: Told) -> Told:
        """The entry and its successor with each other's number, in this order."""
        pair = (self._lie.seq, self._lie.seq + 1)
        exchanged = [replace(entry, seq=sum(pair) - entry.seq) if entry.seq in pair else entry for entry in entries]
        return sorted(exchanged, key=lambda entry: entry.seq)

    # --- fork -----------------------------------------------------------------------------------------------

    def _other(self, entry: Entry | Stub) -> Entry | Stub:
        """The entry as the victims see it."""
        return replace(entry, ts_ms=entry.ts_ms + 1) if entry.seq == self._lie.seq else entry

    def _signed(self, head: Head) -> bool:
        """Whether a head is one of the room's own from the forked entry on."""
        return head.seq >= self._lie.seq and self._hash(head.seq, forked=False) == head.hash

    def _head(self, head: Head) -> Head:
        """The head of the victims' log at this place, signed with the relay's key."""
        if head.seq < self._lie.seq:
            return head
        settings, key = self._relay.realm.settings, self._relay.realm.relay_keys.head
        digest = self._hash(head.seq, forked=True)
        return sign_head(key, settings.realm, self._lie.room, settings.incarnation, head.seq, digest)

    def _hash(self, seq: int, *, forked: bool) -> bytes:
        """The hash of one of the two logs at `seq`; empty where the log has not come so far."""
        settings, room = self._relay.realm.settings, self._lie.room
        digest, at = START, 0
        for row in self._relay.store.entries(room, 0, seq):
            entry = self._other(_stub(row)) if forked else _stub(row)
            digest, at = entry_hash(settings.realm, room, settings.incarnation, digest, entry), row.seq
        return digest if at == seq else b""


def _stub(row: EntryRow) -> Stub:
    return Stub(
        row.seq, row.kind, row.flags, row.epoch, row.token_hash, row.entry_id,
        row.payload_hash, row.attachments_hash, row.ts_ms,
    )  # fmt: skip
