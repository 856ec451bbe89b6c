"""Appending to logs and reading them: seq, hash chain, signed heads, pages.

Source: docs/spec/log.md, delivery of the design section 2. Rooms, runs and the realm have logs of this one form.

Invariants
- `seq` is gapless per log and given when an entry is decided, in the order of decisions; batches are stored in
  that order, so the disk never holds an entry without the ones before it.
- Heads are signed only for entries that stand on the disk: one signature for each log and batch, and one for
  a page that ends elsewhere.
- Only what is durable is ever sent.
- An epoch of the disk that is not in memory is read on demand; one that a batch under way has made or ended
  is in memory.
"""

from __future__ import annotations

from typing import Final

from cloister.primitives.kdf import sha256
from cloister.relay.core.batch import Appended, Gathering
from cloister.relay.core.ports import RelayKeys, Settings
from cloister.relay.core.quota import Cache
from cloister.relay.core.state import Access, EpochState, LogState
from cloister.relay.store.interface import DropLog, EntryRow, EpochRow, PutEpoch, Store
from cloister.wire import limits
from cloister.wire.frames import REALM_LOG, Entry, Head, Stub
from cloister.wire.log import NO_ATTACHMENTS, START, attachments_hash, chain_prefix, link_hash, sign_head

LOADED: Final = 4096
"""States of logs kept in memory beyond those in use."""
_EPOCHS: Final = 64
"""Epochs of one log kept in memory beyond those in use."""
_ENTRY: Final = 192
"""Bytes of an entry in a page beside its payload, hashes and kind, or of a stub: an upper bound."""


class Logs:
    """All logs."""

    def __init__(self, store: Store, settings: Settings, keys: RelayKeys, gathering: Gathering) -> None:
        self._store = store
        self._settings = settings
        self._key = keys.head
        self._gathering = gathering
        self._states: Cache[bytes, LogState] = Cache(self._load, lambda state: state.in_use, LOADED)
        self._going: set[bytes] = set()

    def _load(self, log: bytes) -> LogState:
        state = LogState(log, chain_prefix(self._settings.realm, log, self._settings.incarnation))
        last = self._store.last(log)
        if last is not None:
            state.seq = state.durable = last.seq
            state.hash = state.durable_hash = last.hash
            state.ts_ms = last.ts_ms
        state.run = self._store.run(log)
        return state

    def state(self, log: bytes) -> LogState:
        """The state of a log, empty or not."""
        return self._states.get(log)

    def drop(self, log: bytes) -> None:
        """A log goes as a whole: nobody reads or writes it any more, nor opens what the disk still has of it."""
        self._going.add(log)
        self._let_go(log)
        self._gathering.write(DropLog(log))

        def gone(_now: int) -> None:
            self._going.discard(log)
            self._let_go(log)  # somebody may have asked for it meanwhile

        self._gathering.after(gone)

    def _let_go(self, log: bytes) -> None:
        state = self._states.peek(log)
        if state is not None:
            for peer in state.accesses:
                peer.logs.pop(log, None)
                peer.behind.discard(log)
            state.accesses.clear()
            state.followers.clear()
            self._states.drop(log)

    # --- epochs ---------------------------------------------------------------------------------------------

    def known_epoch(self, log: bytes, token_hash: bytes) -> EpochState | None:
        """An epoch that stands on the disk. The work is the same whether log or token is unknown."""
        if log in self._going:
            return None
        state = self._states.peek(log)
        epoch = None if state is None else state.epochs.get(token_hash)
        if epoch is not None and state is not None and epoch.begin <= state.durable:
            return epoch
        row = self._store.epoch(log, token_hash)
        return None if row is None else self._keep(self.state(log), row)

    def epoch(self, state: LogState, token_hash: bytes) -> EpochState | None:
        """An epoch as of now, durable or not."""
        epoch = state.epochs.get(token_hash)
        if epoch is None:
            row = self._store.epoch(state.log, token_hash)
            epoch = None if row is None else self._keep(state, row)
        return epoch

    def _keep(self, state: LogState, row: EpochRow) -> EpochState:
        epoch = state.epochs.get(row.token_hash)
        if epoch is None:
            if len(state.epochs) >= _EPOCHS:
                self._forget_epochs(state)
            epoch = EpochState(row.token_hash, row.label, row.begin, row.end, row.next)
            state.epochs[row.token_hash] = epoch
        return epoch

    @staticmethod
    def _forget_epochs(state: LogState) -> None:
        """Keep what is open, under way, or held by a peer."""
        held = {token for access in state.accesses.values() for token in access.tokens}
        state.epochs = {
            token: epoch
            for token, epoch in state.epochs.items()
            if token in held or not epoch.end or max(epoch.begin, epoch.end) > state.durable
        }

    def begin_epoch(self, state: LogState, token_hash: bytes, label: int, begin: int) -> None:
        """A new epoch, made by entry `begin`."""
        state.epochs[token_hash] = EpochState(token_hash, label, begin)
        self._gathering.write(PutEpoch(EpochRow(state.log, token_hash, label, begin, 0, None)))

    def end_epoch(self, state: LogState, epoch: EpochState, end: int, successor: bytes | None) -> None:
        """The epoch ends with entry `end`."""
        epoch.end, epoch.next = end, successor
        self._gathering.write(PutEpoch(EpochRow(state.log, epoch.token_hash, epoch.label, epoch.begin, end, successor)))

    # --- appending ------------------------------------------------------------------------------------------

    def seen(self, state: LogState, entry_id: bytes) -> EntryRow | None:
        """The entry with this id: of a batch under way, or of the disk."""
        return state.pending.get(entry_id) or self._store.entry(state.log, entry_id)

    def append(
        self,
        state: LogState,
        kind: str,
        epoch: int,
        token_hash: bytes,
        entry_id: bytes,
        payload: bytes,
        now: int,
        following: bytes | None = None,
        group_info_hash: bytes | None = None,
        item_hashes: list[bytes] | None = None,
    ) -> EntryRow:
        """The next entry of a log. `following` is the next token hash of a create or commit."""
        items = item_hashes or []
        attachments = NO_ATTACHMENTS
        if following is not None or group_info_hash is not None or items:
            attachments = attachments_hash(following, group_info_hash, items)
        seq = state.seq = state.seq + 1
        ts_ms = state.ts_ms = now if now > state.ts_ms else state.ts_ms
        payload_hash = sha256(payload)
        digest = state.hash = link_hash(
            state.prefix, state.hash, seq, kind, 0, epoch, token_hash, entry_id, payload_hash, attachments, ts_ms
        )
        row = EntryRow(
            state.log, seq, kind, 0, epoch, token_hash, entry_id, payload, payload_hash, attachments,
            following, group_info_hash, b"".join(items), ts_ms, digest,
        )  # fmt: skip
        state.pending[entry_id] = row
        appended = self._gathering.appended(state)
        appended.rows.append(row)
        appended.entries.append(
            Entry(seq, kind, 0, epoch, token_hash, entry_id, payload, ts_ms, following, group_info_hash, items)
        )
        return row

    def committed(self, appended: Appended) -> Head:
        """The entries stand on the disk: the one signature that covers them."""
        state = appended.state
        state.pins -= 1
        for row in appended.rows:
            del state.pending[row.entry_id]
        last = appended.rows[-1]
        state.durable, state.durable_hash = last.seq, last.hash
        settings = self._settings
        head = state.head = sign_head(self._key, settings.realm, state.log, settings.incarnation, last.seq, last.hash)
        return head

    def row_at(self, state: LogState, seq: int) -> EntryRow:
        """A durable entry."""
        return next(self._store.entries(state.log, seq - 1, seq))

    # --- heads and pages ------------------------------------------------------------------------------------

    def sign(self, state: LogState, seq: int, digest: bytes) -> Head:
        """A signed head."""
        return sign_head(self._key, self._settings.realm, state.log, self._settings.incarnation, seq, digest)

    def head(self, state: LogState) -> Head:
        """The head of what is durable."""
        if state.head is None:
            state.head = self.sign(state, state.durable, state.durable_hash)
        return state.head

    def head_at(self, state: LogState, seq: int) -> Head:
        """The head at a durable entry, or the newest when there is no such entry."""
        if seq >= state.durable:
            return self.head(state)
        return self.sign(state, seq, self.row_at(state, seq).hash if seq else START)

    def page(self, access: Access, after: int, upto: int) -> list[Entry | Stub]:
        """What of the entries after < seq <= upto fits into a page; a larger entry goes alone."""
        items: list[Entry | Stub] = []
        size = stubs = 0
        rows = self._store.entries(access.state.log, after, upto)
        for row in rows:
            item = shown(access, row)
            if isinstance(item, Stub):
                stubs += _ENTRY
            size += _ENTRY if isinstance(item, Stub) else _ENTRY + len(item.payload) + 34 * len(item.item_hashes)
            if items and (size > limits.LOG_PAGE.value or stubs > limits.STUBS.value):
                break
            items.append(item)
        return items


def shown(access: Access, row: EntryRow) -> Entry | Stub:
    """What a peer sees of an entry: all of it where a token that it has presented opens it, else the stub."""
    if row.payload is None or not _opens(access, row):
        return Stub(
            row.seq, row.kind, row.flags, row.epoch, row.token_hash, row.entry_id,
            row.payload_hash, row.attachments_hash, row.ts_ms,
        )  # fmt: skip
    hashes = row.item_hashes
    items = [hashes[at : at + 32] for at in range(0, len(hashes), 32)]
    return Entry(
        row.seq, row.kind, row.flags, row.epoch, row.token_hash, row.entry_id,
        row.payload, row.ts_ms, row.next_token_hash, row.group_info_hash, items,
    )  # fmt: skip


def _opens(access: Access, row: EntryRow) -> bool:
    if row.log == REALM_LOG:
        return True
    tokens = access.tokens
    return row.token_hash in tokens or (row.next_token_hash is not None and row.next_token_hash in tokens)
