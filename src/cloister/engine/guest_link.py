"""The connection of a guest: the same login as a device's, with a key of its own and whatever relay is there.

Source: docs/spec/login.md ("Guests"). States as in `link`.

Invariants
- A guest that was given no pin takes the relay that answers, and from then on no other: `pin` is kept for the next time
  by whoever drives it. What protects the two people is their code or the string, not the relay's name.
- The realm's name comes from the relay; it binds the heads of the log and proves nothing to a guest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cloister.engine.link import Link, LinkState
from cloister.engine.unit import Unit
from cloister.errors import PeerError
from cloister.identity.credential import realm_name, relay_id
from cloister.primitives.signature import VerifyKey
from cloister.wire import frames, guest, login

_RELAY_KEY = b"relay key"


@dataclass(slots=True)
class GuestLink(Link):
    """The state of a guest's one connection; its account takes the realm's name at the first login."""

    def resume(self, unit: Unit) -> None:
        """Take up what an earlier process of this guest knew of the relay."""
        stored = unit.get("meta", _RELAY_KEY)
        if stored is not None:
            self.load(unit, VerifyKey("ed25519", stored))

    def opened(self, unit: Unit, tls: bytes) -> None:
        """A connection stands."""
        self._tls, self._hello = tls, login.hello(None, unit.rng)
        self.state = LinkState.EXPECT_CHALLENGE
        unit.transmit(frames.encode(self._hello))

    def challenged(self, unit: Unit, challenge: frames.Challenge) -> None:
        """L2 came: check the relay as far as it is known, prove this guest."""
        if self.state is not LinkState.EXPECT_CHALLENGE or self._hello is None:
            raise PeerError("bad_encoding", "a challenge that was not awaited")
        pin = self.account.relay_pin or guest.own_pin(challenge)
        self.identity = login.check_challenge(self._hello, challenge, pin, self._tls, unit.now)
        realm = _realm_of(challenge.server_id)
        if self.account.realm not in ("", realm):
            raise PeerError("wrong_realm", "the relay has another realm than before")
        self.account = replace(self.account, realm=realm, relay_pin=pin)
        answer = guest.guest_login(self._hello, challenge, self.account.keys.device, self._tls, unit.now)
        self.state = LinkState.EXPECT_WELCOME
        unit.transmit(frames.encode(answer))

    def welcomed(self, unit: Unit, welcome: frames.Welcome) -> None:
        """L4 came: the login is done."""
        Link.welcomed(self, unit, welcome)
        if self.identity is not None:
            unit.put("meta", _RELAY_KEY, self.identity.raw)


def _realm_of(server_id: str) -> str:
    """The realm in a relay's id; PeerError("bad_name")."""
    realm = realm_name(server_id.removeprefix("cloister://").removesuffix("/relay"))
    if relay_id(realm) != server_id:
        raise PeerError("bad_name", "not a relay's id")
    return realm
