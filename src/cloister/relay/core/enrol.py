"""Enrolment and the authority at the relay: invites, certificates, revocation.

Source: docs/spec/identity.md ("Enrolment"), delivery of the design section 4. Mode `embedded`: the relay holds the
authority, whose state is stored in the transaction of the realm record that used it.

    reply = enc( "enrolled", log size, leaves )       what Enrolled carries

Checks of an enrolment, in order: the address's rate; `identity.enrolment.check_register`; the same bytes under the
same invite were answered before (that answer again); the invite (used_invite for unknown, wrong, ended or used
up); the name is free (identity_changed, conflict); certificates; the realm's fold.

Where the realm certifies nobody (mode `none`) and is open, a name may be registered without an invite, 10 an hour and
address; the proof of possession is the same (F4.1), and a name once registered accepts only its key.

Invariants
- A refused enrolment leaves authority, realm and invite as they were.
- Of an invite the relay knows its id and a hash; it can admit, but cannot claim that the inviter's friend came.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from typing import Final

from cloister.codec.cbor import enc
from cloister.errors import PeerError
from cloister.identity.authority import Authority
from cloister.identity.enrolment import Application, InviteProof, check_register
from cloister.identity.invite import stored_proof
from cloister.identity.records import NewCertificates, NewCrl
from cloister.primitives import Rng
from cloister.primitives.kdf import sha256
from cloister.relay.core.batch import Gathering
from cloister.relay.core.directory import Directory
from cloister.relay.core.ports import Settings
from cloister.relay.core.quota import Buckets
from cloister.relay.core.state import Peer, State
from cloister.relay.store.interface import InviteRow, PutEnrolment, PutInvite, PutMeta, Store
from cloister.wire import limits
from cloister.wire.frames import Certify, Enrol, Enrolled, InvitePut, digest
from cloister.wire.login import NO_TLS

NO_INVITE: Final = bytes(16)
"""What stands for the invite's id where there was none."""
AUTHORITY: str = "authority"
"""The meta key of the authority's state."""


class Admission:
    """Who may join, and what the authority says of them."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        authority: Authority,
        rng: Rng,
        directory: Directory,
        gathering: Gathering,
    ) -> None:
        self._store = store
        self._settings = settings
        self._authority = authority
        self._rng = rng
        self._directory = directory
        self._gathering = gathering
        self._rates: Buckets[str] = Buckets(limits.MINUTE / limits.ENROL_RATE.value, limits.ENROL_RATE.value)
        self._registrations: Buckets[str] = Buckets(
            limits.HOUR / limits.REGISTER_RATE.value, limits.REGISTER_RATE.value
        )
        self._invites: dict[bytes, InviteRow] = {}
        self._replies: dict[tuple[bytes, bytes], bytes] = {}

    # --- enrolment ------------------------------------------------------------------------------------------

    def enrol(self, peer: Peer, frame: Enrol, now: int) -> None:
        """Take a newcomer in; afterwards the connection may log in. Not without TLS: only guests come there."""
        if peer.connection.tls == NO_TLS:
            raise PeerError("not_allowed", "without TLS only guests come in")
        if not self._rates.of(peer.connection.address, now).take(now):
            raise PeerError("quota", "enrolments of this address")
        hello, challenge = peer.hello, peer.challenge
        peer.challenge = None
        if hello is None or challenge is None:
            raise PeerError("replay", "no challenge stands")
        application = check_register(frame.request, self._settings.realm, digest(hello), digest(challenge), now)
        if application.invite is None:
            reply = self._register(peer.connection.address, application, now)
        else:
            reply = self._admit(application, application.invite, now)
        peer.state = State.EXPECT_HELLO
        self._gathering.answer(peer, Enrolled(rid=frame.rid, reply=reply))

    def _register(self, address: str, application: Application, now: int) -> bytes:
        """A name that somebody registers without an invite: the first key that comes has it."""
        if not self._settings.open or self._directory.realm.certifies:
            raise PeerError("used_invite", "this realm takes in by invite only")
        key = NO_INVITE, sha256(application.encode())
        reply = self._replies.get(key) or self._store.enrolment(*key)
        if reply is not None:
            return reply
        self._check_name(application)
        if not self._registrations.of(address, now).take(now):
            raise PeerError("quota", "registrations of this address")
        return self._answer(key, self._take_in(application, now), now)

    def _answer(self, key: tuple[bytes, bytes], reply: bytes, now: int) -> bytes:
        """Remember the answer: the same bytes get it again."""
        self._replies[key] = reply
        self._gathering.write(PutEnrolment(*key, reply, now))
        self._gathering.after(lambda _: _forget(self._replies, key))
        return reply

    def _admit(self, application: Application, proof: InviteProof, now: int) -> bytes:
        key = proof.id, sha256(application.encode())
        reply = self._replies.get(key) or self._store.enrolment(*key)
        if reply is not None:
            return reply
        row = self._invite(proof.id)
        if row is None or row.expires < now or row.uses < 1:
            raise PeerError("used_invite")
        if not hmac.compare_digest(stored_proof(proof.relay_proof), row.secret_hash):
            raise PeerError("used_invite")
        self._check_name(application)
        reply = self._take_in(application, now)
        self._keep_invite(row._replace(uses=row.uses - 1))
        return self._answer(key, reply, now)

    def _check_name(self, application: Application) -> None:
        """The name is free; said before certificates are issued for nothing."""
        try:
            standing = self._directory.realm.user(application.manifest.user)
        except PeerError:
            return
        if standing.identity_key != application.manifest.identity_key:
            raise PeerError("identity_changed", "the name belongs to another key")
        raise PeerError("conflict", "the user is enrolled already")

    def _take_in(self, application: Application, now: int) -> bytes:
        with self._authority_kept():
            device = application.device_id
            if not self._directory.realm.certifies:
                row = self._directory.record(application.record(application.requests).encode(), now)
                self._directory.keep_mail_key(device, application.mailbox.encode())
                return enc("enrolled", row.seq, [])
            leaves = self._authority.issue(application.requests, device, now, self._rng)
            row = self._directory.record(application.record(leaves).encode(), now)
        self._store_authority()
        self._directory.keep_mail_key(device, application.mailbox.encode())
        return enc("enrolled", row.seq, list(leaves))

    def certify(self, peer: Peer, frame: Certify, now: int) -> None:
        """New leaves for a device's keys, from RENEWAL before the old ones end; the realm log has them first."""
        ends = self._directory.realm.device(peer.device).not_after
        if ends < now:
            raise PeerError("expired")
        if ends - limits.RENEWAL.value > now:
            raise PeerError("quota", "certificates that are not due yet")
        self.issue(frame.requests, peer.device, now)
        self._gathering.done(peer, frame.rid)

    # --- invites --------------------------------------------------------------------------------------------

    def invite_put(self, peer: Peer, frame: InvitePut, now: int) -> None:
        """A user's own link."""
        row = InviteRow(frame.invite, frame.secret_hash, frame.uses, frame.expires, peer.user)
        self.put_invite(row, now)
        self._gathering.done(peer, frame.rid)

    def put_invite(self, row: InviteRow, now: int) -> None:
        """Keep an invite; the same one again changes nothing."""
        known = self._invite(row.invite)
        if known is not None:
            if known != row:
                raise PeerError("conflict", "the invite's id is taken")
            return
        if row.expires <= now:
            raise PeerError("used_invite", "it has ended already")
        coming = sum(invite.owner == row.owner for invite in self._invites.values())
        if row.owner and self._store.invites_of(row.owner, now) + coming >= limits.INVITES.value:
            raise PeerError("quota", "live invites of a user")
        self._keep_invite(row)

    def _invite(self, invite: bytes) -> InviteRow | None:
        return self._invites.get(invite) or self._store.invite(invite)

    def _keep_invite(self, row: InviteRow) -> None:
        self._invites[row.invite] = row
        self._gathering.write(PutInvite(row))

        def stored(_now: int) -> None:
            if self._invites.get(row.invite) is row:
                del self._invites[row.invite]

        self._gathering.after(stored)

    # --- the operator's -------------------------------------------------------------------------------------

    def issue(self, requests: Sequence[bytes], device: str, now: int) -> tuple[bytes, ...]:
        """New leaves for a device whose keys stand in its user's newest manifest, as a realm record."""
        with self._authority_kept():
            leaves = self._authority.issue(requests, device, now, self._rng)
            self._directory.record(NewCertificates(device_id=device, leaves=leaves).encode(), now)
        self._store_authority()
        return leaves

    def revoke(self, device: str, now: int) -> int:
        """Revoke a device's leaves and append the new list; how many leaves."""
        with self._authority_kept():
            count = self._authority.revoke(device, now)
            self._directory.record(NewCrl(crl=self._authority.crl(now)).encode(), now)
        self._store_authority()
        return count

    def crl(self, now: int) -> bytes:
        """A revocation list (DER) as of now; its number is never given again."""
        crl = self._authority.crl(now)
        self._store_authority()
        return crl

    @property
    def authority(self) -> Authority:
        """The authority, to look at."""
        return self._authority

    def _authority_kept(self) -> _Kept:
        return _Kept(self._authority.encode(), self._put_back)

    def _put_back(self, state: bytes) -> None:
        self._authority = Authority.decode(state)

    def _store_authority(self) -> None:
        self._gathering.write(PutMeta(AUTHORITY, self._authority.encode()))


class _Kept:
    """Puts the authority's state back when what follows fails."""

    __slots__ = ("_put_back", "_state")

    def __init__(self, state: bytes, put_back: Callable[[bytes], None]) -> None:
        self._state = state
        self._put_back = put_back

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._put_back(self._state)


def _forget(replies: dict[tuple[bytes, bytes], bytes], key: tuple[bytes, bytes]) -> None:
    replies.pop(key, None)
