"""Enrolment: how a newcomer asks to be taken in, and what the relay, the inviter and the newcomer check.

Source: `register` of document 003 with fix F4.1 (docs/spec/identity.md, "Enrolment").

    register = [ "register", user, manifest 1, requests, invite | null, mailbox key, ts, signature ]
    invite   = [ id(16), HKDF(secret, "relay")(32), tag(32) ]
    signature = Sign_IK("pair register", SHA-256(L1), SHA-256(L2), everything before)
    tag      = MAC( HKDF(secret, "peer"), "enrolment tag", realm, user, identity key, manifest 1, requests hash )
    requests hash = SHA-256( enc(requests) )

Checks of the relay, in order: form; manifest (by itself, first, this user); one request for each key of its
row, for that key, bearing the device's name and signed by the key (proof of possession); mailbox key signed
by the device; clock; the identity key's signature, bound to this relay and connection by L1 and L2. Whether
the invite is good is the relay's own business (`invite.stored_proof`).

The inviter checks the tag in the realm log; nobody else can. The newcomer checks that the realm log says of
it exactly what it asked for (`check_enrolled`).
Left out: `pending` answers (mode `split`), enrolment without certificates (mode `none`), idempotency:
`Application.encode` is kept by the client, so that the same bytes can be asked again after a crash.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError
from cloister.identity.certificate import (
    DEVICE_USAGES,
    MAX_CERTIFICATE,
    CertificateRequest,
    build_requests,
    read_request,
)
from cloister.identity.credential import parse_device_id, user_name
from cloister.identity.invite import ID_SIZE, Token
from cloister.identity.keys import DeviceKeys, UserKeys, key_hash
from cloister.identity.mailbox import MailboxKey
from cloister.identity.manifest import MAX_SIZE, Manifest, Row
from cloister.identity.realm import DeviceRecord, RealmState
from cloister.identity.records import Enrol
from cloister.primitives.kdf import sha256
from cloister.primitives.labelled import mac, sign, verify, verify_mac
from cloister.primitives.signature import VerifyKey

MAX_SKEW_MS: Final = 120_000
"""How far the two clocks may differ: two minutes."""
MAX_REGISTER: Final = 16 * 1024
_LABEL: Final = "pair register"


def requests_hash(requests: Sequence[bytes]) -> bytes:
    """SHA-256 over a device's certificate requests (DER, in the order of DEVICE_USAGES); 32 bytes."""
    return sha256(enc(*requests))


def enrolment_tag(token: Token, realm: str, user: str, identity_key: bytes, manifest: bytes, requests: bytes) -> bytes:
    """The tag (32 bytes) that only holders of the link can make; `requests` is the requests hash."""
    return mac(token.peer_key(), "enrolment tag", realm, user, identity_key, manifest, requests)


def check_tag(token: Token, realm: str, record: Enrol) -> None:
    """PeerError("bad_enrolment") unless who enrolled by `record` held the link of `token`."""
    manifest = Manifest.decode(record.manifest, realm)
    if record.invite_id != token.id or record.tag is None:  # ENROL-01
        raise PeerError("bad_enrolment", "not enrolled with this link")
    made_of = (realm, manifest.user, manifest.identity_key.raw, record.manifest, record.requests_hash)
    verify_mac(record.tag, token.peer_key(), "enrolment tag", *made_of, code="bad_enrolment")  # ENROL-02


@dataclass(frozen=True, slots=True, kw_only=True)
class InviteProof:
    """What the relay gets to see of an invite: id (16), HKDF(secret, "relay") (32) and the tag (32)."""

    id: bytes
    relay_proof: bytes
    tag: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """What a newcomer asks for; stays the same over retries, while `register` is signed per connection."""

    realm: str
    manifest: Manifest
    requests: tuple[bytes, ...]
    invite: InviteProof | None
    mailbox: MailboxKey

    @classmethod
    def make(cls, user: UserKeys, device: DeviceKeys, device_id: str, token: Token | None, now: int) -> Application:
        """Manifest 1, the requests, the mailbox key statement and, with a token, the tag."""
        realm, name, _ = parse_device_id(device_id)
        manifest = Manifest.first(user, name, Row.of(device_id, device.hashes()), now)
        requests = build_requests(device, device_id)
        return cls(
            realm=realm,
            manifest=manifest,
            requests=requests,
            invite=_proof(token, realm, manifest, requests) if token else None,
            mailbox=MailboxKey.make(device_id, device, now),
        )

    @property
    def device_id(self) -> str:
        """The device that is to be enrolled."""
        return self.manifest.rows[0].device_id

    @property
    def requests_hash(self) -> bytes:
        """See the function of the same name."""
        return requests_hash(self.requests)

    def _items(self) -> tuple[object, ...]:
        proof = self.invite
        invite = None if proof is None else (proof.id, proof.relay_proof, proof.tag)
        return self.manifest.user, self.manifest.encoded, self.requests, invite, self.mailbox.encode()

    def encode(self) -> bytes:
        """For the client's store, until it is enrolled."""
        return enc(*self._items())

    @classmethod
    def decode(cls, data: bytes, realm: str) -> Application:
        """Read what `encode` gave; PeerError as `check_register`, but for clock and signature."""
        fields = Fields.decode(data, "application")
        application = _application(fields, realm)
        fields.end()
        return application

    def register(self, user: UserKeys, l1_hash: bytes, l2_hash: bytes, now: int) -> bytes:
        """The message for a connection whose login messages L1 and L2 have these SHA-256."""
        items = ("register", *self._items(), now)
        return enc(*items, sign(user.identity, _LABEL, l1_hash, l2_hash, *items))

    def record(self, leaves: Sequence[bytes]) -> Enrol:
        """The realm log record that takes the newcomer in with these certificates."""
        return Enrol(
            manifest=self.manifest.encoded,
            leaves=tuple(leaves),
            tag=self.invite.tag if self.invite else None,
            invite_id=self.invite.id if self.invite else None,
            requests_hash=self.requests_hash,
        )


def check_register(data: bytes, realm: str, l1_hash: bytes, l2_hash: bytes, now: int) -> Application:
    """The relay's whole check of a `register` message (at most 16 KiB).

    PeerError: bad_encoding, bad_name, bad_manifest, bad_sig, bad_cert, wrong_usage, wrong_name,
    bad_enrolment (requests that do not fit the manifest), misrouted, clock_skew.
    """
    if len(data) > MAX_REGISTER:
        raise PeerError("bad_encoding", "register: too large")
    fields = Fields.decode(data, "register")
    fields.kind("register")
    application = _application(fields, realm)
    ts = fields.uint("ts")
    signature = fields.octets("signature", 64)
    fields.end()
    if abs(now - ts) > MAX_SKEW_MS:  # ENROL-03
        raise PeerError("clock_skew")
    items = ("register", *application._items(), ts)  # noqa: SLF001 - the same module
    verify(application.manifest.identity_key, signature, _LABEL, l1_hash, l2_hash, *items)  # ENROL-04
    return application


def _application(fields: Fields, realm: str) -> Application:
    user = user_name(fields.text("user", 32))
    manifest = Manifest.decode(fields.octets("manifest", most=MAX_SIZE), realm)
    requests = _requests(fields)
    invite = _invite(fields.any("invite"))
    mailbox = MailboxKey.decode(fields.octets("mailbox key", most=512))
    manifest.check_first()  # ENROL-05
    if manifest.user != user:  # ENROL-06
        raise PeerError("bad_enrolment", "the manifest is another user's")
    row = manifest.rows[0]
    _check_requests(requests, row)
    mailbox.check(row.device_id, _device_key(requests[0]))  # ENROL-09
    return Application(
        realm=realm,
        manifest=manifest,
        requests=tuple(request.der for request in requests),
        invite=invite,
        mailbox=mailbox,
    )


def _check_requests(requests: Sequence[CertificateRequest], row: Row) -> None:
    if any(request.subject != row.device_id for request in requests):  # ENROL-07
        raise PeerError("wrong_name", "a request names another device than the manifest")
    if tuple(key_hash(request.spki) for request in requests) != row.hashes:  # ENROL-08
        raise PeerError("bad_enrolment", "a request is for another key than the manifest's")


def _device_key(request: CertificateRequest) -> VerifyKey:
    return VerifyKey("ed25519", request.spki[-32:])


def _requests(fields: Fields) -> list[CertificateRequest]:
    items = fields.array("requests", most=len(DEVICE_USAGES))
    if len(items) not in (1, len(DEVICE_USAGES)):  # ENROL-10
        raise PeerError("bad_enrolment", "a device asks for one certificate or for three")
    inner = Fields(items, "requests")
    ders = [inner.octets("request", most=MAX_CERTIFICATE) for _ in items]
    return [read_request(der, usage) for der, usage in zip(ders, DEVICE_USAGES, strict=False)]


def _invite(value: object) -> InviteProof | None:
    if value is None:
        return None
    fields = Fields(value, "invite")
    proof = InviteProof(
        id=fields.octets("id", ID_SIZE), relay_proof=fields.octets("proof", 32), tag=fields.octets("tag", 32)
    )
    fields.end()
    return proof


def _proof(token: Token, realm: str, manifest: Manifest, requests: Sequence[bytes]) -> InviteProof:
    tag = enrolment_tag(
        token,
        realm,
        manifest.user,
        manifest.identity_key.raw,
        manifest.encoded,
        requests_hash(requests),
    )
    return InviteProof(id=token.id, relay_proof=token.relay_proof(), tag=tag)


def check_enrolled(application: Application, state: RealmState) -> DeviceRecord:
    """The newcomer's check of what came back: the realm says of it exactly what it asked for.

    Keys need no comparison of their own: the fold has checked the leaves against the manifest, and the
    manifest is the application's. PeerError: unknown_sender, bad_enrolment, revoked, expired.
    """
    user = state.user(application.manifest.user)
    if user.enrolled != application.record(user.enrolled.leaves):  # ENROL-11
        raise PeerError("bad_enrolment", "the realm enrolled something else under this name")
    return state.device(application.device_id)
