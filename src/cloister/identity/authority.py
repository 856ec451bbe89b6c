"""The realm's authority in mode `embedded`: root, intermediate, what it issued and what it revoked.

Source: docs/spec/identity.md ("Authority"). One object, its state in memory; `encode` gives it as bytes for
a vault or a file of mode 0600, which others write before they answer.

Invariants
- A serial number is positive and has 126 random bits.
- A device id is bound to the keys it was first certified for until it is revoked: `issue` answers other
  keys with `conflict` and a revoked name with `revoked`, for ever.
- A refused call leaves the state as it was.
- A leaf that was renewed is forgotten once it has ended, so the state does not grow with time.
Left out: the modes `split`, `external` and `none`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError, UsageError
from cloister.identity.certificate import (
    DAY_MS,
    DEVICE_USAGES,
    LEAF_DAYS,
    MAX_CERTIFICATE,
    Authorities,
    CertificateRequest,
    Usage,
    VerifiedCertificate,
    build_request,
    read_request,
    subject_of,
)
from cloister.identity.credential import realm_name, relay_id
from cloister.identity.issuing import issue_crl, issue_intermediate, issue_leaf, issue_root
from cloister.identity.keys import key_hash
from cloister.primitives import Rng
from cloister.primitives.signature import SigningKey

MODE = "embedded"
OPEN = "none"
"""The mode of a realm whose authority certifies the relay and nobody else: keys are trusted on first use."""
_SERIAL_SIZE = 16
_LIFE_MS = (LEAF_DAYS + 1) * DAY_MS
"""After this age (ms) a leaf has ended for certain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """One row of the list: a leaf that was issued. Times in ms; `revoked` is 0 while it stands."""

    serial: int
    subject: str
    usage: Usage
    spki_hash: bytes
    issued: int
    revoked: int = 0


class Authority:
    """Issues and revokes; holds both private keys of the realm's authority."""

    __slots__ = ("_crl_number", "_intermediate_key", "_issued", "_root_key", "authorities", "realm")

    def __init__(
        self,
        realm: str,
        authorities: Authorities,
        root_key: SigningKey,
        intermediate_key: SigningKey,
        issued: Sequence[Issued] = (),
        crl_number: int = 0,
    ) -> None:
        self.realm = realm
        self.authorities = authorities
        self._root_key = root_key
        self._intermediate_key = intermediate_key
        self._issued: dict[str, tuple[Issued, ...]] = {}
        for row in issued:
            self._issued[row.subject] = (*self.show(row.subject), row)
        self._crl_number = crl_number

    @classmethod
    def create(cls, realm: str, now: int, rng: Rng) -> Authority:
        """A new authority for `realm`: fresh P-256 keys, certificates for ten years from `now` (ms)."""
        root_key = SigningKey.generate("p256", rng)
        intermediate_key = SigningKey.generate("p256", rng)
        root = issue_root(realm_name(realm), root_key, _serial(rng), now)
        intermediate = issue_intermediate(realm, intermediate_key, root_key, _serial(rng), now)
        return cls(realm, Authorities(root, intermediate), root_key, intermediate_key)

    def __repr__(self) -> str:
        return f"<Authority {self.realm}>"

    def issue(self, requests: Sequence[bytes], device_id: str, now: int, rng: Rng) -> tuple[bytes, ...]:
        """Leaves (DER) for a device's one or three requests, in the order of DEVICE_USAGES.

        PeerError: bad_cert, wrong_usage or wrong_name for a request that does not fit; `revoked` and
        `conflict` for a device id that is shut out or bound to other keys.
        """
        if len(requests) not in (1, len(DEVICE_USAGES)):  # AUTH-01
            raise PeerError("bad_cert", "a device asks for one certificate or for three")
        read = [read_request(der, usage) for der, usage in zip(requests, DEVICE_USAGES, strict=False)]
        for request in read:
            if request.subject != device_id:  # AUTH-02
                raise PeerError("wrong_name", "a request names another device")
            self._bound(request)
        return tuple([self._leaf(request, now, rng) for request in read])

    def issue_relay(self, key: SigningKey, now: int, rng: Rng) -> bytes:
        """The leaf (DER) of the relay's identity key (Ed25519)."""
        request = read_request(build_request(key, relay_id(self.realm), Usage.RELAY), Usage.RELAY)
        return self._leaf(request, now, rng)

    def revoke(self, device_id: str, now: int) -> int:
        """Revoke every leaf of a device; how many. UsageError("no_user") when it never had one."""
        rows = self.show(device_id)
        if not rows:
            raise UsageError("no_user", "no certificate was issued to this device")
        self._issued[device_id] = tuple(row if row.revoked else replace(row, revoked=now) for row in rows)
        return sum(not row.revoked for row in rows)

    def crl(self, now: int) -> bytes:
        """A new revocation list (DER), numbered one higher than the last.

        What was revoked longer ago than a leaf lives is left out: the realm log has it, and no leaf is left.
        """
        revoked = [(row.serial, row.revoked) for row in self.list() if row.revoked > now - _LIFE_MS]
        number = self._crl_number + 1
        crl = issue_crl(self.authorities.intermediate, self._intermediate_key, number, revoked, now)
        self._crl_number = number
        return crl

    def list(self) -> tuple[Issued, ...]:
        """What was issued, by subject: every leaf that may live, the last of each use, and the revoked."""
        return tuple(row for rows in self._issued.values() for row in rows)

    def show(self, subject: str) -> tuple[Issued, ...]:
        """The rows of one subject, oldest first."""
        return self._issued.get(subject, ())

    def verify(self, der: bytes, now: int) -> VerifiedCertificate:
        """A leaf (DER), checked for the name and usage that it bears; PeerError with the code of what is wrong."""
        subject = subject_of(der)
        revoked = {row.serial for row in self.list() if row.revoked}
        for usage in (Usage.RELAY,) if subject == relay_id(self.realm) else DEVICE_USAGES:
            try:
                return self.authorities.verify(der, now, subject, usage, revoked)
            except PeerError as error:
                if error.code != "wrong_usage":
                    raise
        raise PeerError("wrong_usage")

    def _bound(self, request: CertificateRequest) -> None:
        for row in self.show(request.subject):
            if row.revoked:  # AUTH-03
                raise PeerError("revoked", "this device was shut out; enrol it under another name")
            if row.usage is request.usage and row.spki_hash != key_hash(request.spki):  # AUTH-04
                raise PeerError("conflict", "this device has other keys")

    def _leaf(self, request: CertificateRequest, now: int, rng: Rng) -> bytes:
        serial = _serial(rng)
        leaf = issue_leaf(request, self.authorities.intermediate, self._intermediate_key, serial, now)
        row = Issued(
            serial=serial,
            subject=request.subject,
            usage=request.usage,
            spki_hash=key_hash(request.spki),
            issued=now,
        )
        kept = [
            old
            for old in self.show(request.subject)
            if old.revoked or old.usage is not request.usage or old.issued > now - _LIFE_MS
        ]
        self._issued[request.subject] = (*kept, row)
        return leaf

    def encode(self) -> bytes:
        """Secret bytes: keys, certificates and the list."""
        rows = [
            (
                row.serial.to_bytes(_SERIAL_SIZE, "big"),
                row.subject,
                row.usage.value,
                row.spki_hash,
                row.issued,
                row.revoked,
            )
            for row in self.list()
        ]
        return enc(
            "authority",
            1,
            self.realm,
            self.authorities.root,
            self.authorities.intermediate,
            self._root_key.private_bytes(),
            self._intermediate_key.private_bytes(),
            self._crl_number,
            rows,
        )

    @classmethod
    def decode(cls, data: bytes) -> Authority:
        """Read what `encode` gave; PeerError("bad_encoding") or the certificates' codes otherwise."""
        fields = Fields.decode(data, "authority")
        fields.kind("authority")
        if fields.uint("version", 8) != 1:
            raise PeerError("unsupported", "an authority of a later version")
        realm = realm_name(fields.text("realm"))
        root = fields.octets("root", most=MAX_CERTIFICATE)
        intermediate = fields.octets("intermediate", most=MAX_CERTIFICATE)
        root_key = _key(fields.octets("root key", 32))
        intermediate_key = _key(fields.octets("intermediate key", 32))
        crl_number = fields.uint("crl number")
        issued = [_row(Fields(row, "issued")) for row in fields.array("issued", most=2**24)]
        fields.end()
        return cls(realm, Authorities(root, intermediate), root_key, intermediate_key, issued, crl_number)


def _serial(rng: Rng) -> int:
    return int.from_bytes(rng(_SERIAL_SIZE), "big") >> 1 | 1


def _key(private: bytes) -> SigningKey:
    try:
        return SigningKey("p256", private)
    except UsageError as error:
        raise PeerError("bad_encoding", "authority: not a key") from error


def _row(fields: Fields) -> Issued:
    serial = int.from_bytes(fields.octets("serial", _SERIAL_SIZE), "big")
    subject = fields.text("subject")
    usage = fields.text("usage")
    if usage not in {known.value for known in Usage}:  # AUTH-05
        raise PeerError("bad_encoding", "authority: usage")
    row = Issued(
        serial=serial,
        subject=subject,
        usage=Usage(usage),
        spki_hash=fields.octets("key", 32),
        issued=fields.uint("issued"),
        revoked=fields.uint("revoked"),
    )
    fields.end()
    return row
