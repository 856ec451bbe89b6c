"""Runs: small logs in which the members of a coming epoch agree on its key.

Source: docs/spec/log.md ("Runs"), protocols.md A.0 of the design ("Run channel"). A run's log has its own id and
one access token for its whole life (epoch 0). Who opens a run for a room must have presented the token of an
epoch of it that has no successor; a run for a new room is open to every device.

Invariants
- A run locks nothing. At most four open ones for a room's epoch; a proposer's next run takes its last one's place
  in that count. The relay remembers proposers in memory only: no row says who proposed what.
- The log ends a run, not a clock: entries are refused after the deadline, reading goes on. Its log is kept as
  long as commits are, because the relay cannot know which run was committed.
- The same request again is carried out once.
"""

from __future__ import annotations

from msgspec.structs import replace

from cloister.errors import PeerError
from cloister.primitives.kdf import sha256
from cloister.relay.core.batch import Gathering
from cloister.relay.core.log import Logs
from cloister.relay.core.mailbox import Mailboxes
from cloister.relay.core.quota import SIZE, Cache
from cloister.relay.core.state import LogState, Peer
from cloister.relay.store.interface import PutRun, RunRow, Store
from cloister.wire import limits
from cloister.wire.frames import NO_TOKEN, REALM_LOG, OpenRun, encode


class Runs:
    """The rules of runs."""

    def __init__(self, store: Store, logs: Logs, mailboxes: Mailboxes, gathering: Gathering) -> None:
        self._store = store
        self._logs = logs
        self._mailboxes = mailboxes
        self._gathering = gathering
        self._deadlines: Cache[str, list[int]] = Cache(lambda _: [], lambda _: False, SIZE)

    def open(self, peer: Peer, frame: OpenRun, now: int) -> None:
        """Open a run's log and leave its first message in the members' mailboxes."""
        digest = sha256(encode(replace(frame, rid=0)))
        state = self._logs.state(frame.run)
        if state.run is not None:
            if state.run.digest != digest:
                raise PeerError("conflict", "the run's id is taken")
        else:
            self._begin(peer, frame, state, digest, now)
        self._gathering.done(peer, frame.rid)

    def _begin(self, peer: Peer, frame: OpenRun, state: LogState, digest: bytes, now: int) -> None:
        if frame.run == REALM_LOG or state.seq or frame.token_hash == NO_TOKEN:
            raise PeerError("conflict", "the run's id is taken")
        if not now < frame.deadline <= now + limits.RUN_LIFE.value:
            raise PeerError("timeout", "a run is open for at most a day")
        room, epoch = self._room(peer, frame)
        if room is None:
            self._count_new(peer, frame, now)
        else:
            self._count(room, epoch, peer.device, frame.run, now)
        self._mailboxes.check(frame.items)
        row = RunRow(frame.run, frame.room, epoch, frame.deadline, digest)
        if room is None:
            self._deadlines.get(peer.device).append(frame.deadline)
        else:
            self._runs(room)[frame.run] = row
            room.proposers[peer.device] = frame.run
        state.run = row
        state.pins += 1
        self._gathering.write(PutRun(row))
        self._logs.begin_epoch(state, frame.token_hash, 0, 0)
        self._mailboxes.deliver(frame.items, now)
        self._gathering.after(lambda _: _unpin(state))

    @staticmethod
    def _room(peer: Peer, frame: OpenRun) -> tuple[LogState | None, bytes | None]:
        """The room and its open epoch, which the peer must have presented."""
        if frame.room is None:
            return None, None
        access = peer.logs.get(frame.room)
        if access is None or not access.tokens or access.state.run is not None:
            raise PeerError("not_allowed", "present the room's token first")
        for token, epoch in access.tokens.items():
            if not epoch.end:
                return access.state, token
        raise PeerError("stale_epoch")

    def _count_new(self, peer: Peer, frame: OpenRun, now: int) -> None:
        deadlines = self._deadlines.get(peer.device)
        deadlines[:] = [deadline for deadline in deadlines if deadline >= now]
        if len(deadlines) >= limits.RUNS_PER_DEVICE.value:
            raise PeerError("quota", "runs that this device has open")

    def _count(self, room: LogState, epoch: bytes | None, device: str, run: bytes, now: int) -> None:
        mine = room.proposers.get(device)
        standing = [
            row for row in self._runs(room).values() if row.deadline >= now and row.epoch == epoch and row.run != mine
        ]
        if len(standing) >= limits.RUNS_PER_ROOM.value:
            raise PeerError("quota", "runs that are open in the room")
        room.runs = {row.run: row for row in standing}

    def _runs(self, room: LogState) -> dict[bytes, RunRow]:
        if room.runs is None:
            room.runs = {row.run: row for row in self._store.runs_of(room.log)}
        return room.runs

    @staticmethod
    def check_post(state: LogState, now: int) -> None:
        """PeerError timeout or quota when a run takes no more entries."""
        run = state.run
        if run is not None and now > run.deadline:
            raise PeerError("timeout", "the run's deadline is over")
        if state.seq >= limits.RUN_ENTRIES.value:
            raise PeerError("quota", "entries of a run")


def _unpin(state: LogState) -> None:
    state.pins -= 1
