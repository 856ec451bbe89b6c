"""The realm log, replicated and checked whole: who is who, for every suite and every surface.

Source: docs/spec/identity.md. Invariants: the fold of `identity.realm` accepts each record or the log is broken
(`alarm`); genesis must carry the pinned relay key and root; nobody is looked up anywhere else.
"""

from __future__ import annotations

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
        replica.extend(stored_entries(store, REALM_LOG))
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

    def extend(self, entries: list[Entry | Stub]) -> list[str]:
        """Fold verified entries in; the names of users that are new. PeerError for a record that breaks a rule."""
        before = set(self._state.users()) if self._state else set()
        for entry in entries:
            if not isinstance(entry, Entry):
                raise PeerError("bad_chain", "the relay keeps a record of the realm log back")
            if self._state is None:
                self._state = RealmState.begin(entry.payload, entry.ts_ms)
                self._state.check_pins(self.account.relay_pin, self.account.root_pin)
            else:
                self._state = self._state.apply(entry.payload, entry.ts_ms)
        return sorted(set(self._state.users()) - before) if self._state else []
