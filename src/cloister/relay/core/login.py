"""Login: L1 to L4 at the relay's end (`wire.login` has the checks that both ends share).

Source: docs/spec/login.md. Nothing but hello, login and enrol is parsed before; each connection proves its device
afresh. An unknown device gets the same challenge, the same work and the same answer as a wrong signature.

Checks: LOGIN-03 clock, LOGIN-04 signature by the key that the realm log has, LOGIN-05 age and single use of the
challenge; then the device must count (revoked, not_in_manifest, expired), its user must be served (disabled), and a
certificate that it shows must be the one in the log (bad_cert). Failed tries are counted for each address. Guests:
LOGIN-03, -05 and -08 (`guests`); on a connection without TLS nobody else logs in (not_allowed).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from cloister.errors import PeerError
from cloister.identity.credential import relay_id
from cloister.identity.realm import DeviceRecord
from cloister.primitives import Rng
from cloister.relay.core.directory import Directory
from cloister.relay.core.exclusion import Exclusion
from cloister.relay.core.guests import Guests
from cloister.relay.core.log import Logs
from cloister.relay.core.mailbox import Mailboxes
from cloister.relay.core.ports import RelayKeys, Settings
from cloister.relay.core.quota import Buckets
from cloister.relay.core.state import Peer, State
from cloister.wire import limits, login
from cloister.wire.frames import GuestLogin, Hello, Login, Welcome

Entered = TypeVar("Entered")


class Door:
    """Who comes in."""

    def __init__(
        self,
        settings: Settings,
        keys: RelayKeys,
        rng: Rng,
        directory: Directory,
        exclusion: Exclusion,
        logs: Logs,
        mailboxes: Mailboxes,
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._rng = rng
        self._directory = directory
        self._exclusion = exclusion
        self._logs = logs
        self._mailboxes = mailboxes
        self._failures: Buckets[str] = Buckets(limits.MINUTE / limits.LOGIN_RATE.value, limits.LOGIN_RATE.value)
        self.devices: dict[str, list[Peer]] = {}
        self.guests: Guests

    def hello(self, peer: Peer, frame: Hello, now: int) -> None:
        """L1: answer with a challenge. Without TLS only guests come in."""
        if frame.device is not None and peer.connection.tls == login.NO_TLS:
            raise PeerError("not_allowed", "without TLS only guests log in")
        challenge = login.challenge(
            frame,
            relay_id(self._settings.realm),
            self._keys.identity,
            self._keys.identity.public.raw,
            list(self._keys.chain),
            peer.connection.tls,
            now,
            self._rng,
        )
        peer.hello, peer.challenge = frame, challenge
        peer.state = State.EXPECT_ENROL if frame.device is None else State.EXPECT_LOGIN
        peer.send(challenge)

    def login(self, peer: Peer, frame: Login, now: int) -> None:
        """L3: let the device in, or count the failure."""
        record = self._counted(peer, now, lambda: self._judge(peer, frame, now))
        self._enter(peer, record)
        self._welcome(peer)

    def guest(self, peer: Peer, frame: GuestLogin, now: int) -> None:
        """L3 of a guest: let it in, or count the failure."""
        peer.device = self._counted(peer, now, lambda: self.guests.admit(peer, frame, now))
        peer.state = State.GUEST
        self._count(peer)
        self._welcome(peer)

    def _counted(self, peer: Peer, now: int, judge: Callable[[], Entered]) -> Entered:
        """What `judge` gives; a refusal counts against the address, which has only so many."""
        failures = self._failures.of(peer.connection.address, now)
        if not failures.has(now):
            raise PeerError("quota", "failed logins of this address")
        try:
            return judge()
        except PeerError:
            failures.take(now)
            raise

    def _welcome(self, peer: Peer) -> None:
        """L4."""
        peer.send(
            Welcome(
                connection_id=self._rng(16),
                incarnation=self._settings.incarnation,
                head_key=self._keys.head_key,
                realm_head=self._logs.head(self._directory.log),
                mail_count=self._mailboxes.waiting(peer.device),
            )
        )

    def _judge(self, peer: Peer, frame: Login, now: int) -> DeviceRecord:
        hello, challenge = peer.hello, peer.challenge
        peer.challenge = None  # LOGIN-05: answered once
        if hello is None or challenge is None or hello.device is None:
            raise PeerError("replay", "no challenge stands")
        record = self._find(hello.device)
        # An unknown device is checked against a key that signs no logins: same work, same answer.
        key = self._keys.identity.public if record is None else record.key
        login.check_login(hello, challenge, frame, key, peer.connection.tls, now)
        if record is None:
            raise PeerError("bad_sig")
        self._directory.check_mail(hello.device)
        self._exclusion.check(record.user)
        if record.not_after < now:
            raise PeerError("expired")
        if frame.chain and tuple(frame.chain[:1]) != record.certificates[:1]:
            raise PeerError("bad_cert", "another certificate than the realm log's")
        return record

    def _find(self, device: str) -> DeviceRecord | None:
        try:
            return self._directory.realm.find(device)
        except PeerError:
            return None

    def _enter(self, peer: Peer, record: DeviceRecord) -> None:
        peer.state, peer.device, peer.user = State.READY, record.device_id, record.user
        self._count(peer)

    def _count(self, peer: Peer) -> None:
        """One more connection of a device or guest: all but the newest are closed, also while an older one lingers."""
        peers = self.devices.setdefault(peer.device, [])
        peers.append(peer)
        for surplus in peers[: -limits.DEVICE_CONNECTIONS.value]:
            surplus.connection.close("quota")

    def peers_of(self, device: str) -> tuple[Peer, ...]:
        """The connections of a device."""
        return tuple(self.devices.get(device, ()))

    def leave(self, peer: Peer) -> None:
        """The connection is gone."""
        peers = self.devices.get(peer.device, [])
        if peer in peers:
            peers.remove(peer)
            if not peers:
                del self.devices[peer.device]
