"""The realm log, replicated and checked whole: who is who, for every suite and every surface.

Source: docs/spec/identity.md. Invariants: the fold of `identity.realm` accepts each record or the log is broken
(`alarm`); genesis must carry the pinned relay key and root; nobody is looked up anywhere else. What the fold found of
certificates is stored with the log's hash at that place, so that a start does not verify them again.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cloister.engine.account import Account
from cloister.engine.logs import FollowedLog, stored_rows
from cloister.engine.store import Store
from cloister.engine.unit import Unit
from cloister.errors import PeerError, UnavailableError
from cloister.identity.realm import RealmState
from cloister.wire.frames import REALM_LOG, Entry, Stub
from cloister.wire.log import Chain

HASH: Final = 32


@dataclass(slots=True)
class RealmLog:
    """This device's replica."""

    account: Account
    log: FollowedLog
    _state: RealmState | None = None
    alarms: list[str] = field(default_factory=list)
    _new: list[tuple[int, bytes, bytes]] = field(default_factory=list)

    @classmethod
    def load(cls, store: Store, account: Account) -> RealmLog:
        """The replica as the store has it, folded again from its first record.

        What was found of a record at this place of this log before is not verified again.
        """
        replica = cls(account, FollowedLog.load(store, account.realm, REALM_LOG))
        found = dict(store.scan("found"))
        state: RealmState | None = None
        for hash_there, entry in stored_rows(store, REALM_LOG):
            row = found.get(entry.seq.to_bytes(8, "big"), b"")
            known = row[HASH:] if row and hmac.compare_digest(row[:HASH], hash_there) else None
            state = replica.step(state, entry, known)
            if known is None:
                replica._new.append((entry.seq, hash_there, state.findings))
        replica._state = state
        return replica

    @property
    def size(self) -> int:
        """Records known; 0 before the first contact."""
        return self._state.size if self._state else 0

    def state(self) -> RealmState:
        """The newest state; UnavailableError before the first contact with the relay."""
        if self._state is None:
            raise UnavailableError("unreachable", "the realm log has not been fetched yet")
        return self._state

    def judge(self, entries: Sequence[Entry | Stub]) -> list[RealmState]:
        """The state after each of these entries; PeerError for a record that breaks a rule. Nothing is taken over."""
        states: list[RealmState] = []
        for entry in entries:
            states.append(self.step(states[-1] if states else self._state, entry))
        return states

    def step(self, state: RealmState | None, entry: Entry | Stub, found: bytes | None = None) -> RealmState:
        """The state after one more entry; `found` as in `RealmState.apply`."""
        if not isinstance(entry, Entry):
            raise PeerError("bad_chain", "the relay keeps a record of the realm log back")
        if state is not None:
            return state.apply(entry.payload, entry.ts_ms, found)
        state = RealmState.begin(entry.payload, entry.ts_ms)
        state.check_pins(self.account.relay_pin, self.account.root_pin)
        return state

    def take(self, states: Sequence[RealmState], chains: Sequence[Chain]) -> list[str]:
        """The judged entries are stored: they count from now on. The names of users that are new."""
        before = set(self._state.users()) if self._state else set()
        for state, chain in zip(states, chains, strict=True):
            self._state = state
            self._new.append((chain.seq, chain.hash, state.findings))
        return sorted(set(self._state.users()) - before) if self._state else []

    def remember(self, unit: Unit) -> None:
        """Keep what was found: a restart need not verify it again."""
        for seq, hash_there, found in self._new:
            unit.put("found", seq.to_bytes(8, "big"), hash_there + found)
        self._new.clear()
