"""Rooms: create, post, commit. The right of access is a key, not a row.

Source: docs/spec/log.md ("Access", "Commits"), delivery of the design section 2. At the relay an epoch *is* the
SHA-256 of its token; its number is only a label.

Checks of a post, in order: the token was presented on this connection (not_allowed); the entry_id is new, or
the same bytes again (the first ack) or other bytes (conflict); the epoch has no successor (stale_epoch;
no_session when the room was ended); the kind is one that may be posted; run rules (`runs`).
Checks of a commit, in order: the same first two; its predecessor has no successor, or the same one (its ack),
else stale_epoch; sizes; the next token hash is new; rates; the mailboxes of its items have room. A create is a
commit against NO_TOKEN that presents nothing.

Invariants
- A refused request changes nothing, and spends no rate but that of requests.
- A commit's payload, epoch change, group info and mailbox items are one transaction.
- A group info is read with the token of the epoch that its commit began; it is kept as long as mail.
Left out: contest (unsupported), external joins, restore.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cloister.errors import PeerError
from cloister.primitives.kdf import sha256
from cloister.relay.core.batch import Gathering
from cloister.relay.core.log import Logs
from cloister.relay.core.mailbox import Mailboxes
from cloister.relay.core.quota import Bucket, Buckets
from cloister.relay.core.runs import Runs
from cloister.relay.core.stage import Staging
from cloister.relay.core.state import EpochState, LogState, Peer
from cloister.relay.store.interface import EntryRow, PutGroupInfo, Store
from cloister.wire import limits
from cloister.wire.frames import (
    NO_TOKEN,
    REALM_LOG,
    Commit,
    GetGroupInfo,
    GroupInfo,
    Mail,
    Payload,
    Post,
    Staged,
    decode_items,
)
from cloister.wire.log import attachments_hash

CREATE: Final = "create"
COMMIT: Final = "commit"
_RESERVED: Final = frozenset({CREATE, COMMIT})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Digests:
    """What a commit is compared by: nothing has to be assembled for it."""

    kind: str
    token_hash: bytes
    payload: bytes
    group_info: bytes | None
    items: list[bytes]
    attachments: bytes

    @classmethod
    def of(cls, frame: Commit, mails: Sequence[Mail]) -> _Digests:
        group_info = None if frame.group_info is None else _digest(frame.group_info)
        items = sorted(sha256(mail.body) for mail in mails)
        return cls(
            kind=CREATE if frame.expects == NO_TOKEN else COMMIT,
            token_hash=frame.expects,
            payload=_digest(frame.payload),
            group_info=group_info,
            items=items,
            attachments=attachments_hash(frame.next, group_info, items),
        )

    def same(self, row: EntryRow) -> bool:
        return (row.kind, row.token_hash, row.payload_hash, row.attachments_hash) == (
            self.kind,
            self.token_hash,
            self.payload,
            self.attachments,
        )


def _digest(payload: Payload) -> bytes:
    return payload.hash if isinstance(payload, Staged) else sha256(payload)


class Rooms:
    """The rules of rooms; those of runs stand in `runs`."""

    def __init__(
        self, store: Store, logs: Logs, runs: Runs, mailboxes: Mailboxes, staging: Staging, gathering: Gathering
    ) -> None:
        self._store = store
        self._logs = logs
        self._runs = runs
        self._mailboxes = mailboxes
        self._staging = staging
        self._gathering = gathering
        self._commits: Buckets[str] = Buckets(limits.COMMIT_RATE.value, 3)
        self._creates: Buckets[str] = Buckets(limits.DAY / limits.USER_ROOMS.value, limits.USER_ROOMS.value)

    # --- post -----------------------------------------------------------------------------------------------

    def post(self, peer: Peer, frame: Post, now: int) -> None:
        """Append an entry under an epoch whose token the peer has presented."""
        access = peer.logs.get(frame.log)
        epoch = access.tokens.get(frame.token_hash) if access is not None else None
        if access is None or epoch is None:
            raise PeerError("not_allowed", "present the token first")
        state = access.state
        row = self._logs.seen(state, frame.entry_id)
        if row is not None:
            same = row.token_hash == frame.token_hash and row.kind == frame.kind
            self._again(peer, frame.rid, state, row, same and row.payload_hash == sha256(frame.payload))
            return
        if epoch.end:
            raise PeerError("stale_epoch" if epoch.next is not None else "no_session")
        if frame.kind in _RESERVED:
            raise PeerError("not_allowed", "a commit has a frame of its own")
        if state.run is not None:
            self._runs.check_post(state, now)
        row = self._logs.append(state, frame.kind, epoch.label, frame.token_hash, frame.entry_id, frame.payload, now)
        self._gathering.ack(peer, frame.rid, state, row.seq, row.ts_ms)

    def _again(self, peer: Peer, rid: int, state: LogState, row: EntryRow, same: bool) -> None:
        if not same:
            raise PeerError("conflict", "the entry id stands for other bytes")
        self._gathering.ack(peer, rid, state, row.seq, row.ts_ms)

    # --- create and commit ----------------------------------------------------------------------------------

    def commit(self, peer: Peer, frame: Commit, now: int) -> None:
        """End an epoch and begin the next, or create a room."""
        if frame.contest:
            raise PeerError("unsupported", "contest")
        if frame.log == REALM_LOG:
            raise PeerError("not_allowed")
        items = self._items(peer, frame, now)
        digests = _Digests.of(frame, items)
        creates = frame.expects == NO_TOKEN
        if creates:
            state, epoch = self._logs.state(frame.log), None
        else:
            state, epoch = self._presented(peer, frame)
        if self._answered(peer, frame, digests, state, epoch):
            return
        payload, group_info = self._judge(peer, frame, items, state, now)
        self._take_rates(peer, state, creates, now)
        label = 0 if epoch is None else epoch.label
        row = self._logs.append(
            state, digests.kind, label, frame.expects, frame.entry_id, payload, now,
            frame.next, digests.group_info, digests.items,
        )  # fmt: skip
        if epoch is not None:
            self._logs.end_epoch(state, epoch, row.seq, frame.next)
        if frame.next is not None:
            self._logs.begin_epoch(state, frame.next, label + 1, row.seq)
        if group_info is not None:
            self._gathering.write(PutGroupInfo(frame.log, row.seq, row.ts_ms, group_info))
        self._mailboxes.deliver(items, now)
        parts = (frame.payload, frame.group_info, frame.staged_items)
        self._staging.used(peer, [part for part in parts if isinstance(part, Staged)])
        self._gathering.ack(peer, frame.rid, state, row.seq, row.ts_ms)

    def _items(self, peer: Peer, frame: Commit, now: int) -> list[Mail]:
        """The mailbox items of a commit: those in its frame, and those that went up in parts."""
        if frame.staged_items is None:
            return frame.items
        items = [*frame.items, *decode_items(self._staging.resolve(peer, frame.staged_items, now))]
        if len(items) > limits.COMMIT_ITEMS.value:
            raise PeerError("quota", "items of a commit")
        return items

    def _presented(self, peer: Peer, frame: Commit) -> tuple[LogState, EpochState]:
        access = peer.logs.get(frame.log)
        epoch = access.tokens.get(frame.expects) if access is not None else None
        if access is None or epoch is None or access.state.run is not None:
            raise PeerError("not_allowed", "present the token first")
        return access.state, epoch

    def _answered(
        self, peer: Peer, frame: Commit, digests: _Digests, state: LogState, epoch: EpochState | None
    ) -> bool:
        """Whether an entry that stands already answers this request; stale_epoch when it forbids it."""
        row = self._logs.seen(state, frame.entry_id)
        if row is not None:
            self._again(peer, frame.rid, state, row, digests.same(row))
            return True
        successor = self._successor(state, epoch)
        if successor is None:
            return False
        seq, following = successor
        if following is None:
            raise PeerError("no_session", "the room was ended")
        if frame.next is None or following != frame.next:
            raise PeerError("stale_epoch")
        self._gathering.ack(peer, frame.rid, state, seq, self._time_of(state, seq))
        return True

    def _successor(self, state: LogState, epoch: EpochState | None) -> tuple[int, bytes | None] | None:
        """The entry that followed the predecessor and the token hash that it made; None if there is none yet."""
        if epoch is not None:
            return (epoch.end, epoch.next) if epoch.end else None
        if state.run is not None:
            raise PeerError("conflict", "the id is a run's")
        return (1, self._row(state, 1).next_token_hash) if state.seq else None

    def _row(self, state: LogState, seq: int) -> EntryRow:
        for row in state.pending.values():
            if row.seq == seq:
                return row
        return self._logs.row_at(state, seq)

    def _time_of(self, state: LogState, seq: int) -> int:
        return self._row(state, seq).ts_ms

    def _judge(
        self, peer: Peer, frame: Commit, items: Sequence[Mail], state: LogState, now: int
    ) -> tuple[bytes, bytes | None]:
        """The last checks that change nothing; gives the payload and the group info as bytes."""
        creates = frame.expects == NO_TOKEN
        if frame.next is None and creates:
            raise PeerError("bad_encoding", "a room begins with an epoch")
        if frame.next is not None and (frame.next == NO_TOKEN or self._logs.epoch(state, frame.next) is not None):
            raise PeerError("conflict", "the next token is one of this log already")
        self._check_size(frame.payload, frame.group_info, items)
        self._mailboxes.check(items)
        payload = self._staging.resolve(peer, frame.payload, now)
        return payload, None if frame.group_info is None else self._staging.resolve(peer, frame.group_info, now)

    @staticmethod
    def _check_size(payload: Payload, group_info: Payload | None, items: Sequence[Mail]) -> None:
        size = sum(len(mail.body) for mail in items)
        for part in (payload, group_info):
            if part is not None:
                size += part.size if isinstance(part, Staged) else len(part)
        if size > limits.COMMIT.value:
            raise PeerError("quota", "a commit is at most 8 MiB")

    def _take_rates(self, peer: Peer, state: LogState, creates: bool, now: int) -> None:
        if creates:
            if not self._creates.of(peer.device, now).take(now):
                raise PeerError("quota", "rooms made today")
            return
        if state.commits is None:
            state.commits = Bucket(limits.ROOM_COMMIT_RATE.value, 10, now)
        mine = self._commits.of(peer.device, now)
        if not (mine.has(now) and state.commits.take(now)):
            raise PeerError("quota", "commits follow each other too quickly")
        mine.take(now)

    # --- what stands beside a commit ------------------------------------------------------------------------

    def group_info(self, peer: Peer, frame: GetGroupInfo, now: int) -> None:
        """A part of the group info of the commit that began the token's epoch: newcomers need it to enter."""
        epoch = self._logs.known_epoch(frame.log, sha256(frame.token))
        if epoch is None:
            raise PeerError("not_allowed", "the token opens nothing here")
        found = self._store.group_info(frame.log, epoch.begin, frame.offset, limits.PART.value)
        if found is None or not found[1]:
            raise PeerError("no_session", "nothing more stands beside this commit")
        peer.send(GroupInfo(rid=frame.rid, size=found[0], data=found[1]))
