"""Guests: strangers with a key for one session, who may write in the one room that they have agreed on.

Source: docs/spec/relay.md ("Guests and session codes"), docs/spec/classic/code.md.

Invariants
- A guest sees guest rooms and nothing else: not the realm log, no other room, no mailbox, no directory.
- A guest room is made by one of two guests after D4, one a day and key (a key is for one session), holds
  limits.GUEST_ENTRIES entries and limits.GUEST_BYTES, and is deleted as a whole after limits.GUEST_LIFE, read or not.
- Which rooms are guests' is one value of the store: it outlives the process, and names nobody.
- New guests of an address are counted; one that comes back is the same guest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from cloister.errors import PeerError
from cloister.relay.core.batch import Gathering
from cloister.relay.core.fanout import Fanout
from cloister.relay.core.log import Logs
from cloister.relay.core.quota import Buckets, Cache
from cloister.relay.core.rendezvous import Rendezvous
from cloister.relay.core.rooms import Rooms
from cloister.relay.core.state import LogState, Peer
from cloister.relay.store.interface import PutMeta, Store
from cloister.wire import limits
from cloister.wire.frames import NO_TOKEN, Commit, Forget, GuestLogin, Post, Present, Staged
from cloister.wire.guest import check_guest, guest_device

ROOMS: Final = "guest rooms"
"""The store's value: [room id, end (ms)] of each."""
_KNOWN: Final = 4_096
_BURST: Final = 10
_rooms: Final = msgspec.msgpack.Decoder(dict[bytes, int])


class Guests:
    """Who comes as a guest, and what they have written."""

    def __init__(
        self, store: Store, gathering: Gathering, logs: Logs, rooms: Rooms, fanout: Fanout, rendezvous: Rendezvous
    ) -> None:
        self._store = store
        self._gathering = gathering
        self._logs = logs
        self._rooms = rooms
        self._fanout = fanout
        self._rendezvous = rendezvous
        self._rates: Buckets[str] = Buckets(limits.GUEST_RATE.value, _BURST)
        self._makers: Buckets[str] = Buckets(limits.GUEST_LIFE.value, 1)
        self._known: Cache[str, bool] = Cache(lambda _: True, lambda _: False, _KNOWN)
        stored = store.meta(ROOMS)
        self._ends: dict[bytes, int] = _rooms.decode(stored) if stored else {}
        self._sizes: dict[bytes, int] = {}

    # --- the door -----------------------------------------------------------------------------------------------

    def admit(self, peer: Peer, frame: GuestLogin, now: int) -> str:
        """The guest's name in the relay's counts; PeerError bad_sig, replay or quota."""
        hello, challenge = peer.hello, peer.challenge
        peer.challenge = None  # LOGIN-05: answered once
        if hello is None or challenge is None:
            raise PeerError("replay", "no challenge stands")
        check_guest(hello, challenge, frame, peer.connection.tls, now)
        name = guest_device(frame.key)
        if self._known.peek(name) is None:
            if not self._rates.of(peer.connection.address, now).take(now):
                raise PeerError("quota", "new guests of this address")
            self._known.get(name)
        return name

    # --- rooms --------------------------------------------------------------------------------------------------

    def _check(self, room: bytes, now: int) -> None:
        """PeerError no_session unless it is a guest room whose time is not over."""
        if self._ends.get(room, 0) < now:
            raise PeerError("no_session")

    def present(self, peer: Peer, frame: Present, now: int) -> None:
        """Read and follow a guest room."""
        if self._ends.get(frame.log, 0) < now:  # the same answer as for a room whose token is unknown
            raise PeerError("not_allowed", "the token opens nothing here")
        self._fanout.present(peer, frame, now)

    def forget(self, peer: Peer, frame: Forget, now: int) -> None:
        """Stop following it."""
        self._fanout.forget(peer, frame, now)

    def post(self, peer: Peer, frame: Post, now: int) -> None:
        """Write in a guest room."""
        self._check(frame.log, now)
        self._counted(frame.log, frame.entry_id, frame.payload, lambda: self._rooms.post(peer, frame, now))

    def commit(self, peer: Peer, frame: Commit, now: int) -> None:
        """Make the room, go on with another key, or end it."""
        payload = frame.payload
        if isinstance(payload, Staged) or frame.items or frame.group_info is not None or frame.staged_items is not None:
            raise PeerError("not_allowed", "guests commit a payload and nothing else")
        if frame.expects == NO_TOKEN and frame.log not in self._ends:
            self._make(peer, frame, now)
            return
        self._check(frame.log, now)
        self._counted(frame.log, frame.entry_id, payload, lambda: self._rooms.commit(peer, frame, now))

    def _make(self, peer: Peer, frame: Commit, now: int) -> None:
        if not self._rendezvous.granted(peer.device, now):
            raise PeerError("not_allowed", "a guest's room follows a session code")
        made = self._makers.of(peer.device, now)
        if not made.has(now):
            raise PeerError("quota", "rooms of this guest")
        if len(self._ends) >= limits.GUEST_ROOMS.value:
            raise PeerError("quota", "guest rooms of this relay")
        if self._logs.state(frame.log).seq:
            raise PeerError("conflict", "the room's id is taken")
        self._rooms.commit(peer, frame, now)
        made.take(now)
        self._rendezvous.use(peer.device)
        self._ends[frame.log] = now + limits.GUEST_LIFE.value
        self._keep()

    def _counted(self, room: bytes, entry_id: bytes, payload: bytes, append: Callable[[], None]) -> None:
        """Append within the room's limits; what stands already is only answered again."""
        state = self._logs.state(room)
        before = state.seq
        if self._logs.seen(state, entry_id) is None:
            size = self._size(state)
            if state.seq >= limits.GUEST_ENTRIES.value or size + len(payload) > limits.GUEST_BYTES.value:
                raise PeerError("quota", "a guest room is full")
        append()
        if state.seq > before:
            self._sizes[room] = self._size(state) + len(payload)

    def _size(self, state: LogState) -> int:
        """Bytes of payload in a room; counted from the store once."""
        size = self._sizes.get(state.log)
        if size is None:
            rows = [*self._store.entries(state.log, 0, state.durable), *state.pending.values()]
            unique = {row.seq: len(row.payload or b"") for row in rows}
            size = self._sizes[state.log] = sum(unique.values())
        return size

    def _keep(self) -> None:
        self._gathering.write(PutMeta(ROOMS, msgspec.msgpack.encode(self._ends)))

    def tick(self, now: int) -> None:
        """Rooms whose time is over go."""
        over = [room for room, end in self._ends.items() if end < now]
        for room in over:
            del self._ends[room]
            self._sizes.pop(room, None)
            self._logs.drop(room)
        if over:
            self._keep()
