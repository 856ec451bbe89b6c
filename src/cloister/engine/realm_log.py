"""The realm log, replicated and checked whole: who is who, for every suite and every surface.

Source: docs/spec/identity.md. Invariants: the fold of `identity.realm` accepts each record or the log is broken
(`alarm`); genesis must carry the pinned relay key and root; nobody is looked up anywhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cloister.engine.account import Account
from cloister.engine.logs import FollowedLog, stored_entries
from cloister.engine.store import Store
from cloister.errors import PeerError, UnavailableError
from cloister.identity.realm import RealmState
from cloister.wire.frames import REALM_LOG, Entry, Stub


@dataclass(slots=True)
class RealmLog:
    """This device's replica."""

    account: Account
    log: FollowedLog
    _state: RealmState | None = None
    alarms: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, store: Store, account: Account) -> RealmLog:
        """The replica as the store has it, folded again from its first record."""
        replica = cls(account, FollowedLog.load(store, account.realm, REALM_LOG))
        replica.take(replica.judge(stored_entries(store, REALM_LOG)))
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

    def judge(self, entries: Sequence[Entry | Stub]) -> RealmState | None:
        """The state after these entries; PeerError for a record that breaks a rule. Nothing is taken over yet."""
        state = self._state
        for entry in entries:
            if not isinstance(entry, Entry):
                raise PeerError("bad_chain", "the relay keeps a record of the realm log back")
            if state is None:
                state = RealmState.begin(entry.payload, entry.ts_ms)
                state.check_pins(self.account.relay_pin, self.account.root_pin)
            else:
                state = state.apply(entry.payload, entry.ts_ms)
        return state

    def take(self, state: RealmState | None) -> list[str]:
        """The judged state is stored: it counts from now on. The names of users that are new."""
        before = set(self._state.users()) if self._state else set()
        self._state = state
        return sorted(set(state.users()) - before) if state else []
