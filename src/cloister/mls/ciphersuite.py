"""Cipher suites: the primitives of one MLS group and the labelled functions over them.

Source: RFC 9420 sections 5.1, 5.2, 8 (ExpandWithLabel, DeriveSecret) and 17.1; suite 0xF001 is "X-Wing,
HKDF-SHA256, AES-128-GCM, Ed25519" of draft-ietf-mls-pq-ciphersuites-06 at a private code point: experimental,
its number and perhaps its definition will change.

Invariants
- Every signature, encryption and derivation carries the label "MLS 1.0 ..." of its use.
- `verify_with_label` returns None or raises PeerError("bad_sig"); there is no boolean to forget.
- Public keys are parsed once (`signature_key`, `hpke_public`) and kept by whoever needs them again.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache
from typing import Final

from cloister.codec.tls import opaque
from cloister.errors import PeerError, UsageError
from cloister.primitives import Rng, hpke, kem
from cloister.primitives.aead import Aead
from cloister.primitives.kdf import expand, extract
from cloister.primitives.signature import SigningKey, VerifyKey

PREFIX: Final = b"MLS 1.0 "
MLS10: Final = 1
"""The one protocol version."""


_HASHES: Final = {"sha256": hashlib.sha256, "sha384": hashlib.sha384, "sha512": hashlib.sha512}


@lru_cache(maxsize=512)
def _kdf_label(label: bytes, length: int) -> bytes:
    return length.to_bytes(2, "big") + opaque(PREFIX + label)


class CipherSuite:
    """One suite; sizes (`nh`, `key_size`, `nonce_size`) are in bytes."""

    __slots__ = (
        "_hash",
        "_key_label",
        "_nonce_label",
        "_secret_label",
        "aead_algorithm",
        "experimental",
        "hash_name",
        "hpke",
        "key_size",
        "name",
        "nh",
        "nonce_size",
        "scheme",
        "suite_id",
        "zero",
    )

    def __init__(
        self,
        suite_id: int,
        name: str,
        kem_of: kem.Kem,
        kdf: hpke.Kdf,
        aead: hpke.AeadAlgorithm,
        scheme: str,
        *,
        experimental: bool = False,
    ) -> None:
        self.suite_id = suite_id
        self.name = name
        self.hpke = hpke.Hpke(kem_of, kdf, aead)
        self.hash_name = kdf.name
        self._hash = _HASHES[kdf.name]
        self.nh = kdf.size
        self.zero = bytes(kdf.size)
        self.aead_algorithm = aead
        self.key_size = aead.key_size
        self.nonce_size = aead.nonce_size
        self.scheme = scheme
        self.experimental = experimental
        self._key_label = _kdf_label(b"key", self.key_size)
        self._nonce_label = _kdf_label(b"nonce", self.nonce_size)
        self._secret_label = _kdf_label(b"secret", self.nh)

    def __repr__(self) -> str:
        return f"<CipherSuite {self.suite_id:#06x} {self.name}>"

    def hash(self, data: bytes) -> bytes:
        """Hash(data): `nh` bytes."""
        return self._hash(data).digest()

    def mac(self, key: bytes, data: bytes) -> bytes:
        """MAC(key, data): HMAC, `nh` bytes."""
        return hmac.digest(key, data, self.hash_name)

    def extract(self, salt: bytes, ikm: bytes) -> bytes:
        """KDF.Extract: `nh` bytes."""
        return extract(salt, ikm, self.hash_name)

    def expand_with_label(self, secret: bytes, label: bytes, context: bytes, length: int) -> bytes:
        """ExpandWithLabel of section 8: `length` bytes."""
        return expand(secret, _kdf_label(label, length) + opaque(context), length, self.hash_name)

    def derive_secret(self, secret: bytes, label: bytes) -> bytes:
        """DeriveSecret of section 8: `nh` bytes."""
        return expand(secret, _kdf_label(label, self.nh) + b"\0", self.nh, self.hash_name)

    def ratchet_step(self, secret: bytes, generation: int) -> tuple[bytes, bytes, bytes]:
        """DeriveTreeSecret for "key", "nonce" and "secret" at once: what every message costs."""
        name, digest = self.hash_name, hmac.digest
        info = b"\x04" + generation.to_bytes(4, "big") + b"\x01"
        return (
            digest(secret, self._key_label + info, name)[: self.key_size],
            digest(secret, self._nonce_label + info, name)[: self.nonce_size],
            digest(secret, self._secret_label + info, name),
        )

    def key_and_nonce(self, secret: bytes, context: bytes) -> tuple[bytes, bytes]:
        """ExpandWithLabel for "key" and "nonce" with one context."""
        info = opaque(context) + b"\x01"
        return (
            hmac.digest(secret, self._key_label + info, self.hash_name)[: self.key_size],
            hmac.digest(secret, self._nonce_label + info, self.hash_name)[: self.nonce_size],
        )

    def ref_hash(self, label: bytes, value: bytes) -> bytes:
        """RefHash of section 5.2: `nh` bytes; the label is taken as it is."""
        return self.hash(opaque(label) + opaque(value))

    def sign_with_label(self, key: SigningKey, label: bytes, content: bytes) -> bytes:
        """SignWithLabel of section 5.1.2."""
        return key.sign(opaque(PREFIX + label) + opaque(content))

    def verify_with_label(self, key: VerifyKey, label: bytes, content: bytes, signature: bytes) -> None:
        """VerifyWithLabel of section 5.1.2: PeerError("bad_sig") for any other signature."""
        key.verify(signature, opaque(PREFIX + label) + opaque(content))

    def encrypt_with_label(
        self, public: kem.PublicKey, info: hpke.Info, plaintext: bytes, rng: Rng
    ) -> tuple[bytes, bytes]:
        """EncryptWithLabel of section 5.1.3; `info` comes from `encrypt_context`."""
        return self.hpke.seal(public, info, plaintext, rng)

    def decrypt_with_label(self, private: kem.PrivateKey, info: hpke.Info, enc: bytes, ciphertext: bytes) -> bytes:
        """DecryptWithLabel of section 5.1.3; PeerError when it does not open."""
        return self.hpke.open(private, info, enc, ciphertext)

    def encrypt_context(self, label: bytes, context: bytes) -> hpke.Info:
        """The EncryptContext of one label and context, hashed once for any number of recipients."""
        return self.hpke.info(opaque(PREFIX + label) + opaque(context))

    def aead(self, key: bytes) -> Aead:
        """The AEAD under `key`."""
        if self.aead_algorithm.make is None:
            raise UsageError("usage", "no MLS suite is export-only")
        return self.aead_algorithm.make(key)

    def signature_key(self, raw: bytes) -> VerifyKey:
        """Parse a SignaturePublicKey; PeerError("bad_encoding")."""
        return VerifyKey(self.scheme, raw)

    def hpke_public(self, raw: bytes) -> kem.PublicKey:
        """Parse an HPKEPublicKey; PeerError("bad_encoding")."""
        return self.hpke.kem.public_key(raw)

    def hpke_private(self, raw: bytes) -> kem.PrivateKey:
        """Parse one of our own HPKE private keys."""
        return self.hpke.kem.private_key(raw)

    def derive_key_pair(self, secret: bytes) -> kem.PrivateKey:
        """KEM.DeriveKeyPair."""
        return self.hpke.kem.derive_key_pair(secret)


_ROWS: Final = (
    CipherSuite(1, "X25519 AES-128-GCM SHA-256 Ed25519", kem.X25519, hpke.HKDF_SHA256, hpke.AES_128_GCM, "ed25519"),
    CipherSuite(2, "P-256 AES-128-GCM SHA-256", kem.P256, hpke.HKDF_SHA256, hpke.AES_128_GCM, "p256"),
    CipherSuite(
        3,
        "X25519 ChaCha20-Poly1305 SHA-256 Ed25519",
        kem.X25519,
        hpke.HKDF_SHA256,
        hpke.CHACHA20_POLY1305,
        "ed25519",
    ),
    CipherSuite(4, "X448 AES-256-GCM SHA-512 Ed448", kem.X448, hpke.HKDF_SHA512, hpke.AES_256_GCM, "ed448"),
    CipherSuite(5, "P-521 AES-256-GCM SHA-512", kem.P521, hpke.HKDF_SHA512, hpke.AES_256_GCM, "p521"),
    CipherSuite(6, "X448 ChaCha20-Poly1305 SHA-512 Ed448", kem.X448, hpke.HKDF_SHA512, hpke.CHACHA20_POLY1305, "ed448"),
    CipherSuite(7, "P-384 AES-256-GCM SHA-384", kem.P384, hpke.HKDF_SHA384, hpke.AES_256_GCM, "p384"),
    CipherSuite(
        0xF001,
        "X-Wing AES-128-GCM SHA-256 Ed25519 (experimental)",
        kem.X_WING,
        hpke.HKDF_SHA256,
        hpke.AES_128_GCM,
        "ed25519",
        experimental=True,
    ),
)

SUITES: Final = {row.suite_id: row for row in _ROWS}
"""Every suite by its code point."""


def suite_of(suite_id: int) -> CipherSuite:
    """The suite that a peer named; PeerError("unsupported") for one that is not ours."""
    suite = SUITES.get(suite_id)
    if suite is None:
        raise PeerError("unsupported", f"cipher suite {suite_id:#06x}")
    return suite
