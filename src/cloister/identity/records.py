"""The records of the realm log: what the relay appends and every client replicates and checks.

Source: docs/spec/identity.md ("Realm log"). Each is deterministic CBOR, an array that begins with its kind:

    genesis       [ "genesis", 1, realm, mode, root, intermediate, relay identity key(32) ]
    enrol         [ "enrol", manifest 1, leaves, enrolment tag(32)|null, invite id(16)|null, requests hash(32) ]
    manifest      [ "manifest", manifest ]
    certificates  [ "certificates", device id, leaves ]
    crl           [ "crl", revocation list ]

Invariants
- `decode_record(record.encode()) == record`; sizes are bounded; nothing else decodes.
- A record is form only: `realm.RealmState` judges it. Manifests and certificates stand inside as bytes.
- Leaves are one (Ed25519) or three (with both RSA keys) DER certificates; root and intermediate stand
  in the genesis record once.
Left out: current mailbox keys; they change weekly and stand beside the log (`mailbox.MailboxKey`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError
from cloister.identity.certificate import DEVICE_USAGES, MAX_CERTIFICATE, MAX_CRL
from cloister.identity.credential import MAX_DEVICE_ID, parse_device_id, realm_name
from cloister.identity.manifest import MAX_SIZE

MAX_RECORD: Final = MAX_CRL + 64
"""Bytes of the largest record."""
_MAX_REALM: Final = 64
_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Genesis:
    """The first record: the realm's name, authority (DER certificates) and the relay's identity key."""

    realm: str
    mode: str
    root: bytes
    intermediate: bytes
    relay_key: bytes

    def encode(self) -> bytes:
        """The record's bytes."""
        return enc("genesis", _VERSION, self.realm, self.mode, self.root, self.intermediate, self.relay_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrol:
    """A new user with its first device.

    `tag` (32) and `invite_id` (16) are there when an invite was used; `requests_hash` is the SHA-256 that
    the tag covers (`enrolment.requests_hash`).
    """

    manifest: bytes
    leaves: tuple[bytes, ...]
    tag: bytes | None
    invite_id: bytes | None
    requests_hash: bytes

    def encode(self) -> bytes:
        """The record's bytes."""
        return enc("enrol", self.manifest, self.leaves, self.tag, self.invite_id, self.requests_hash)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewManifest:
    """A user's next manifest."""

    manifest: bytes

    def encode(self) -> bytes:
        """The record's bytes."""
        return enc("manifest", self.manifest)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCertificates:
    """The first or renewed leaves of a device that stands in its user's newest manifest."""

    device_id: str
    leaves: tuple[bytes, ...]

    def encode(self) -> bytes:
        """The record's bytes."""
        return enc("certificates", self.device_id, self.leaves)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCrl:
    """The authority's next revocation list (DER)."""

    crl: bytes

    def encode(self) -> bytes:
        """The record's bytes."""
        return enc("crl", self.crl)


Record = Genesis | Enrol | NewManifest | NewCertificates | NewCrl


def _genesis(fields: Fields) -> Genesis:
    if fields.uint("version", 8) != _VERSION:  # REALM-03
        raise PeerError("unsupported", "a realm of a later version")
    return Genesis(
        realm=realm_name(fields.text("realm", _MAX_REALM)),
        mode=fields.text("mode", 16),
        root=fields.octets("root", most=MAX_CERTIFICATE),
        intermediate=fields.octets("intermediate", most=MAX_CERTIFICATE),
        relay_key=fields.octets("relay key", 32),
    )


def _enrol(fields: Fields) -> Enrol:
    return Enrol(
        manifest=fields.octets("manifest", most=MAX_SIZE),
        leaves=_leaves(fields),
        tag=fields.octets_or_none("tag", 32),
        invite_id=fields.octets_or_none("invite id", 16),
        requests_hash=fields.octets("requests hash", 32),
    )


def _new_manifest(fields: Fields) -> NewManifest:
    return NewManifest(manifest=fields.octets("manifest", most=MAX_SIZE))


def _new_certificates(fields: Fields) -> NewCertificates:
    device_id = fields.text("device id", MAX_DEVICE_ID)
    parse_device_id(device_id)
    return NewCertificates(device_id=device_id, leaves=_leaves(fields))


def _new_crl(fields: Fields) -> NewCrl:
    return NewCrl(crl=fields.octets("crl", most=MAX_CRL))


def _leaves(fields: Fields) -> tuple[bytes, ...]:
    items = fields.array("leaves", most=len(DEVICE_USAGES))
    if len(items) not in (1, len(DEVICE_USAGES)):  # REALM-01
        raise PeerError("bad_encoding", "a device has one certificate or three")
    inner = Fields(items, "leaves")
    return tuple([inner.octets("leaf", most=MAX_CERTIFICATE) for _ in items])


_READERS: Final[Mapping[str, Callable[[Fields], Record]]] = {
    "genesis": _genesis,
    "enrol": _enrol,
    "manifest": _new_manifest,
    "certificates": _new_certificates,
    "crl": _new_crl,
}


def decode_record(payload: bytes) -> Record:
    """The record in `payload`; PeerError bad_encoding or bad_name, `unsupported` for an unknown kind."""
    if len(payload) > MAX_RECORD:
        raise PeerError("bad_encoding", "a realm record is too large")
    fields = Fields.decode(payload, "realm record")
    reader = _READERS.get(fields.text("kind", 16))
    if reader is None:  # REALM-02
        raise PeerError("unsupported", "a realm record of an unknown kind")
    record = reader(fields)
    fields.end()
    return record
