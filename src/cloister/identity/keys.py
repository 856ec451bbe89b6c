"""The keys of a person and of a device, and the recovery code.

Source: docs/spec/identity.md ("Keys"), delivery of the design section 4.

- `UserKeys`: the Ed25519 identity key that signs manifests and stands behind safety numbers, and the hash
  of the *next* identity key, whose private half comes from the recovery code alone.
- `DeviceKeys`: an Ed25519 key (login, signatures, MLS leaf), an X25519 mailbox key and, unless made
  without, two RSA-3072 pairs: one signs, one decrypts (fix K1: no key does both).
- `RecoveryCode`: 128 bits as twelve words, shown once at setup.

Invariants
- Private keys leave only through `encode`, whose bytes belong into an encrypted store.
- `decode(encode(keys))` holds the same keys; damaged bytes are PeerError("bad_encoding").
- A key is named by its SPKI hash: SHA-256 of the DER SubjectPublicKeyInfo, 32 bytes.
Left out: using the code (recovery), files, and the passwords that guard them (`vault`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cloister.codec.cbor import Fields, enc
from cloister.errors import CloisterError, PeerError
from cloister.identity.words import from_words, to_words
from cloister.primitives import Rng
from cloister.primitives.dh import DhKey
from cloister.primitives.kdf import extract, sha256
from cloister.primitives.labelled import derive
from cloister.primitives.rsa import RsaDecryptKey, RsaSigningKey
from cloister.primitives.secret import Secret
from cloister.primitives.signature import SigningKey, VerifyKey

HASH_SIZE: Final = 32
_SEED: Final = 32
_PKCS8_MOST: Final = 4096

KeyHashes = tuple[bytes, bytes | None, bytes | None]
"""SPKI hashes of the Ed25519 key, the RSA signing key and the RSA encryption key."""


def key_hash(spki: bytes) -> bytes:
    """SHA-256 of a DER SubjectPublicKeyInfo: how manifests, pins and links name a key. 32 bytes."""
    return sha256(spki)


def identity_fingerprint(raw: bytes) -> bytes:
    """The SPKI hash of an Ed25519 identity key given as 32 raw bytes; 32 bytes."""
    return key_hash(VerifyKey("ed25519", raw).spki())


class RecoveryCode(Secret):
    """Sixteen secret bytes that a person keeps as twelve words."""

    size = 16

    @classmethod
    def generate(cls, rng: Rng) -> RecoveryCode:
        """A fresh code."""
        return cls(rng(16))

    @classmethod
    def from_words(cls, text: str) -> RecoveryCode:
        """Read twelve words; PeerError("bad_recovery_code") names the first that is wrong."""
        return cls(from_words(text, 16))

    def words(self) -> tuple[str, ...]:
        """The twelve words: 128 bits and a checksum of 4."""
        return to_words(self.reveal())

    def next_identity(self) -> SigningKey:
        """The next identity key: Ed25519 from HKDF(code, "next identity key")."""
        return SigningKey("ed25519", derive(extract(b"", self.reveal()), "recovery next identity key"))

    def next_key(self) -> bytes:
        """What a manifest pins: the SPKI hash of the next identity key."""
        return key_hash(self.next_identity().public.spki())


@dataclass(frozen=True, slots=True, kw_only=True)
class UserKeys:
    """A person's identity key and the pinned hash (32 bytes) of the key that may follow it."""

    identity: SigningKey
    next_key: bytes

    @classmethod
    def generate(cls, rng: Rng) -> tuple[UserKeys, RecoveryCode]:
        """Fresh keys, and the code that is shown once and then forgotten."""
        code = RecoveryCode.generate(rng)
        return cls(identity=SigningKey.generate("ed25519", rng), next_key=code.next_key()), code

    @property
    def public(self) -> bytes:
        """The identity key as 32 raw bytes."""
        return self.identity.public.raw

    @property
    def fingerprint(self) -> bytes:
        """The identity key's SPKI hash, 32 bytes."""
        return key_hash(self.identity.public.spki())

    def encode(self) -> bytes:
        """Secret bytes, for an encrypted store."""
        return enc("user keys", 1, self.identity.private_bytes(), self.next_key)

    @classmethod
    def decode(cls, data: bytes) -> UserKeys:
        """Read what `encode` gave; PeerError("bad_encoding") otherwise."""
        fields = _open(data, "user keys")
        identity = SigningKey("ed25519", fields.octets("identity", _SEED))
        next_key = fields.octets("next key", HASH_SIZE)
        fields.end()
        return cls(identity=identity, next_key=next_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceKeys:
    """A device's keys. The constructor takes ready ones; either both RSA keys are there or none."""

    device: SigningKey
    mailbox: DhKey = field(repr=False)
    rsa_sign: RsaSigningKey | None = None
    rsa_decrypt: RsaDecryptKey | None = None

    def __post_init__(self) -> None:
        if (self.rsa_sign is None) != (self.rsa_decrypt is None):  # KEY-01
            raise PeerError("bad_encoding", "a device has two RSA keys or none")

    @classmethod
    def generate(cls, rng: Rng, *, rsa: bool = True) -> DeviceKeys:
        """Fresh keys; the two RSA pairs take about half a second and the library's own randomness."""
        return cls(
            device=SigningKey.generate("ed25519", rng),
            mailbox=DhKey.generate(rng),
            rsa_sign=RsaSigningKey.generate() if rsa else None,
            rsa_decrypt=RsaDecryptKey.generate() if rsa else None,
        )

    def hashes(self) -> KeyHashes:
        """The three SPKI hashes of the device's row in a manifest."""
        return (
            key_hash(self.device.public.spki()),
            key_hash(self.rsa_sign.spki) if self.rsa_sign else None,
            key_hash(self.rsa_decrypt.spki) if self.rsa_decrypt else None,
        )

    def encode(self) -> bytes:
        """Secret bytes, for an encrypted store."""
        return enc(
            "device keys",
            1,
            self.device.private_bytes(),
            self.mailbox.private_bytes(),
            self.rsa_sign.private_bytes() if self.rsa_sign else None,
            self.rsa_decrypt.private_bytes() if self.rsa_decrypt else None,
        )

    @classmethod
    def decode(cls, data: bytes) -> DeviceKeys:
        """Read what `encode` gave; PeerError("bad_encoding") otherwise."""
        fields = _open(data, "device keys")
        device = SigningKey("ed25519", fields.octets("device", _SEED))
        mailbox = DhKey(fields.octets("mailbox", _SEED))
        rsa_sign = fields.octets_or_none("rsa sign", most=_PKCS8_MOST)
        rsa_decrypt = fields.octets_or_none("rsa decrypt", most=_PKCS8_MOST)
        fields.end()
        try:
            return cls(
                device=device,
                mailbox=mailbox,
                rsa_sign=None if rsa_sign is None else RsaSigningKey.from_bytes(rsa_sign),
                rsa_decrypt=None if rsa_decrypt is None else RsaDecryptKey.from_bytes(rsa_decrypt),
            )
        except CloisterError as error:
            raise PeerError("bad_encoding", "not RSA keys") from error


def _open(data: bytes, kind: str) -> Fields:
    fields = Fields.decode(data, kind)
    fields.kind(kind)
    if fields.uint("version", 8) != 1:  # KEY-02
        raise PeerError("unsupported", f"{kind} of a later version")
    return fields
