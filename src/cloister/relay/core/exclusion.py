"""Users whom the operator serves no more: their devices do not log in, until they are served again.

Source: docs/spec/relay.md ("Admin"), docs/decisions.md. A matter between the operator and this relay: no record says
so, no member judges by it, keys and names stay who they were. So it works in every realm, also where the authority
certifies nobody and no revocation list can name a device. What a relay can do by it, it could always do: not serve.

Invariants
- The names stand as one value in the store, written in the batch that ends the connections.
- What waits for a user stays, within its limits, as for anybody who is away.
"""

from __future__ import annotations

from typing import Final

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError, UnavailableError
from cloister.relay.core.batch import Gathering
from cloister.relay.store.interface import PutMeta, Store

DISABLED: Final = "disabled users"
"""The meta key of their names."""
_MOST: Final = 2**20


class Exclusion:
    """The names, in memory and in the store; UnavailableError("damaged") when they cannot be read."""

    def __init__(self, store: Store, gathering: Gathering) -> None:
        self._gathering = gathering
        stored = store.meta(DISABLED)
        self._names = _decoded(stored) if stored else frozenset[str]()

    def __contains__(self, user: str) -> bool:
        return user in self._names

    def check(self, user: str) -> None:
        """PeerError("disabled") when the user is not served."""
        if user in self._names:
            raise PeerError("disabled")

    def put(self, user: str, disabled: bool) -> None:
        """Serve a user no more, or again."""
        self._names = self._names | {user} if disabled else self._names - {user}
        self._gathering.write(PutMeta(DISABLED, enc(sorted(self._names))))


def _decoded(data: bytes) -> frozenset[str]:
    try:
        fields = Fields.decode(data, "disabled users")
        names = fields.array("names", _MOST)
        fields.end()
        each = Fields(names, "name")
        return frozenset(each.text("name") for _ in names)
    except PeerError as error:
        raise UnavailableError("damaged", error.detail) from error
