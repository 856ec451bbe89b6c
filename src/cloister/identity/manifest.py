"""The manifest: a person's signed list of devices. A key counts only if it stands in the newest one.

Source: docs/spec/identity.md ("Manifest").

    manifest = [ body, identity key(32), Sign_IK("manifest", body) ]          at most 4 KiB
    body     = [ user, version, prev_hash(32), next_key(32), rows, ts ]
    row      = [ device id, SPKI hash Ed25519, SPKI hash RSA-sign | null, SPKI hash RSA-encrypt | null ]

Invariants
- Version 1 has prev_hash of zeros and one row; a successor has the next version and the hash of the whole
  predecessor (body, key and signature).
- The same identity key may change everything but `next_key`: who stole it cannot move the pin.
- The pinned next key may follow *any* manifest of the old key, not only the newest, and pins a new one:
  whatever the old key signs, the next key beats it. Any other key is `identity_changed`.
- Rows are sorted by device id, without repetition, and name devices of this user in this realm.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError, UsageError
from cloister.identity.credential import MAX_DEVICE_ID, parse_device_id, user_name
from cloister.identity.keys import HASH_SIZE, KeyHashes, UserKeys, key_hash
from cloister.primitives.kdf import sha256
from cloister.primitives.labelled import sign, verify
from cloister.primitives.signature import VerifyKey

MAX_SIZE: Final = 4096
"""Bytes of the largest manifest: about sixteen devices."""
FIRST_PREV: Final = bytes(HASH_SIZE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One device: its id and the SPKI hashes (32 bytes) of its keys; both RSA keys or none."""

    device_id: str
    ed25519: bytes
    rsa_sign: bytes | None = None
    rsa_encrypt: bytes | None = None

    @classmethod
    def of(cls, device_id: str, hashes: KeyHashes) -> Row:
        """The row of a device with these hashes (`DeviceKeys.hashes`)."""
        return cls(device_id=device_id, ed25519=hashes[0], rsa_sign=hashes[1], rsa_encrypt=hashes[2])

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """The hashes that are there, in the order of a device's certificates: one or three."""
        if self.rsa_sign is None or self.rsa_encrypt is None:
            return (self.ed25519,)
        return self.ed25519, self.rsa_sign, self.rsa_encrypt

    def items(self) -> tuple[str, bytes, bytes | None, bytes | None]:
        """The row as it is encoded."""
        return self.device_id, self.ed25519, self.rsa_sign, self.rsa_encrypt


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A manifest whose signature by `identity_key` has been checked; `encoded` are its exact bytes."""

    user: str
    version: int
    prev_hash: bytes
    next_key: bytes
    rows: tuple[Row, ...]
    ts: int
    identity_key: VerifyKey
    encoded: bytes

    @property
    def hash(self) -> bytes:
        """SHA-256 of the encoded manifest, 32 bytes."""
        return sha256(self.encoded)

    @property
    def fingerprint(self) -> bytes:
        """The identity key's SPKI hash, 32 bytes."""
        return key_hash(self.identity_key.spki())

    def row(self, device_id: str) -> Row | None:
        """The row of a device, or None."""
        return next((row for row in self.rows if row.device_id == device_id), None)

    @classmethod
    def first(cls, keys: UserKeys, user: str, row: Row, now: int) -> Manifest:
        """Manifest 1 of a new user with its first device."""
        return _signed(keys, user, 1, FIRST_PREV, [row], now)

    def successor(self, keys: UserKeys, rows: Iterable[Row], now: int) -> Manifest:
        """The next manifest; `keys` are the same, or the next identity key with a new pin."""
        return _signed(keys, self.user, self.version + 1, self.hash, rows, now)

    @classmethod
    def decode(cls, data: bytes, realm: str, *, verified: bool = False) -> Manifest:
        """Read and check a manifest by itself: form, names, order and signature (unless it was `verified` here before).

        PeerError: bad_encoding, bad_name, bad_manifest, bad_sig.
        """
        if len(data) > MAX_SIZE:  # MAN-01
            raise PeerError("bad_manifest", "a manifest is at most 4 KiB")
        outer = Fields.decode(data, "manifest")
        body = outer.fields("body")
        identity_key = VerifyKey("ed25519", outer.octets("identity key", 32))
        signature = outer.octets("signature", 64)
        outer.end()
        manifest = cls(
            user=user_name(body.text("user", 32)),
            version=body.uint("version", 32),
            prev_hash=body.octets("prev_hash", HASH_SIZE),
            next_key=body.octets("next_key", HASH_SIZE),
            rows=tuple(_row(Fields(row, "manifest.row")) for row in body.array("rows")),
            ts=body.uint("ts"),
            identity_key=identity_key,
            encoded=data,
        )
        body.end()
        manifest._check_rows(realm)
        if not verified:
            verify(identity_key, signature, "manifest", *manifest._body())  # MAN-02
        return manifest

    def _body(self) -> tuple[object, ...]:
        rows = [row.items() for row in self.rows]
        return self.user, self.version, self.prev_hash, self.next_key, rows, self.ts

    def _check_rows(self, realm: str) -> None:
        ids = [row.device_id for row in self.rows]
        if ids != sorted(set(ids)):  # MAN-03
            raise PeerError("bad_manifest", "rows are sorted and name each device once")
        if any(parse_device_id(device_id)[:2] != (realm, self.user) for device_id in ids):  # MAN-04
            raise PeerError("bad_manifest", "a row names another's device")

    def check_first(self) -> None:
        """PeerError("bad_manifest") unless this can be a user's first manifest."""
        if self.version != 1 or self.prev_hash != FIRST_PREV or len(self.rows) != 1:  # MAN-07
            raise PeerError("bad_manifest", "a first manifest has version 1 and one device")

    def check_follows(self, newest: Manifest, earlier: Iterable[tuple[int, bytes]] = ()) -> None:
        """Check that this manifest may replace `newest`: PeerError identity_changed or bad_manifest.

        `earlier` are (version, hash) of older manifests of the same identity key: the pinned next key
        may build on any of them.
        """
        if self.user != newest.user:  # MAN-08
            raise PeerError("bad_manifest", "another user's manifest")
        before = [(newest.version, newest.hash)]
        if self.identity_key == newest.identity_key:
            if self.next_key != newest.next_key:  # MAN-09
                raise PeerError("bad_manifest", "only the next key pins another next key")
        elif self.fingerprint == newest.next_key:
            before.extend(earlier)
        else:
            raise PeerError("identity_changed", "a manifest signed by an unknown key")  # MAN-10
        if (self.version - 1, self.prev_hash) not in before:  # MAN-11
            raise PeerError("bad_manifest", "it does not continue the last one")


def _signed(keys: UserKeys, user: str, version: int, prev_hash: bytes, rows: Iterable[Row], ts: int) -> Manifest:
    ordered = sorted(rows, key=lambda row: row.device_id)
    body = (user_name(user), version, prev_hash, keys.next_key, [row.items() for row in ordered], ts)
    encoded = enc(body, keys.public, sign(keys.identity, "manifest", *body))
    if len(encoded) > MAX_SIZE:
        raise UsageError("usage", "too many devices for one manifest of 4 KiB")
    return Manifest(
        user=user,
        version=version,
        prev_hash=prev_hash,
        next_key=keys.next_key,
        rows=tuple(ordered),
        ts=ts,
        identity_key=keys.identity.public,
        encoded=encoded,
    )


def _row(fields: Fields) -> Row:
    row = Row(
        device_id=fields.text("device id", MAX_DEVICE_ID),
        ed25519=fields.octets("ed25519", HASH_SIZE),
        rsa_sign=fields.octets_or_none("rsa sign", HASH_SIZE),
        rsa_encrypt=fields.octets_or_none("rsa encrypt", HASH_SIZE),
    )
    fields.end()
    if (row.rsa_sign is None) != (row.rsa_encrypt is None):  # MAN-05
        raise PeerError("bad_manifest", "a device has two RSA keys or none")
    if row.rsa_sign is not None and row.rsa_sign == row.rsa_encrypt:  # MAN-06
        raise PeerError("bad_manifest", "one RSA key does not both sign and decrypt")
    return row
