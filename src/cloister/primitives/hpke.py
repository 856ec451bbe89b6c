"""Hybrid public key encryption: the four modes of RFC 9180, secret export and DeriveKeyPair.

Source: RFC 9180; draft-ietf-hpke-hpke and draft-ietf-hpke-pq for single-stage KDFs (SHAKE). The library's
own HPKE is faster by nothing and lacks export and DeriveKeyPair, so it serves as the oracle in the tests.

Invariants
- `Info` is hashed once and used for many recipients: a Welcome to 1,000 members hashes its text once.
- A `Context` counts its messages; a nonce is used once, and its end (2^96 - 1) cannot be reached.
- `open` gives the plaintext or raises PeerError("bad_tag").

Left out: TurboSHAKE, which Python's hashlib does not have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cloister.errors import UsageError
from cloister.primitives import Rng
from cloister.primitives.aead import Aead
from cloister.primitives.kdf import expand, extract
from cloister.primitives.kem import (
    VERSION,
    DhKem,
    Kem,
    PrivateKey,
    PublicKey,
    labeled_derive,
)

BASE, PSK, AUTH, AUTH_PSK = range(4)


@dataclass(frozen=True, slots=True)
class Kdf:
    """A KDF by its code point: HKDF over SHA-2 (two stages) or a SHAKE (one). Sizes in bytes."""

    kdf_id: int
    name: str
    size: int

    @property
    def single_stage(self) -> bool:
        """Whether extraction and expansion are one call."""
        return self.kdf_id >= 0x0010


HKDF_SHA256: Final = Kdf(0x0001, "sha256", 32)
HKDF_SHA384: Final = Kdf(0x0002, "sha384", 48)
HKDF_SHA512: Final = Kdf(0x0003, "sha512", 64)
SHAKE128: Final = Kdf(0x0010, "shake128", 32)
SHAKE256: Final = Kdf(0x0011, "shake256", 64)


@dataclass(frozen=True, slots=True)
class AeadAlgorithm:
    """An AEAD by its code point; `make` is None for export only. Sizes in bytes."""

    aead_id: int
    key_size: int
    nonce_size: int
    make: Callable[[bytes], Aead] | None


AES_128_GCM: Final = AeadAlgorithm(0x0001, 16, 12, Aead.aes_gcm)
AES_256_GCM: Final = AeadAlgorithm(0x0002, 32, 12, Aead.aes_gcm)
CHACHA20_POLY1305: Final = AeadAlgorithm(0x0003, 32, 12, Aead.chacha20_poly1305)
EXPORT_ONLY: Final = AeadAlgorithm(0xFFFF, 0, 0, None)


@dataclass(frozen=True, slots=True)
class Psk:
    """A pre-shared key and its identifier; `key` is secret, at least 32 bytes."""

    key: bytes
    key_id: bytes

    def __repr__(self) -> str:
        return "<Psk>"


class Info:
    """The application's info in the form that the key schedule takes; make it once for many recipients."""

    __slots__ = ("context", "mode", "psk")

    def __init__(self, mode: int, context: bytes, psk: bytes) -> None:
        self.mode = mode
        self.context = context
        self.psk = psk


class Context:
    """What one encapsulation agreed on: seals or opens in order, and exports secrets."""

    __slots__ = ("_aead", "_count", "_nonce", "_secret", "_suite")

    def __init__(self, suite: Hpke, aead: Aead | None, nonce: bytes, secret: bytes) -> None:
        self._suite = suite
        self._aead = aead
        self._nonce = nonce
        self._secret = secret
        self._count = 0

    def seal(self, plaintext: bytes, aad: bytes = b"") -> bytes:
        """Ciphertext of the next message: len(plaintext) + 16 bytes."""
        aead, nonce = self._next()
        sealed = aead.seal(nonce, plaintext, aad)
        self._count += 1
        return sealed

    def open(self, ciphertext: bytes, aad: bytes = b"") -> bytes:
        """The next message's plaintext; PeerError("bad_tag") moves nothing."""
        aead, nonce = self._next()
        plaintext = aead.open(nonce, ciphertext, aad)
        self._count += 1
        return plaintext

    def export(self, context: bytes, length: int) -> bytes:
        """A secret of `length` bytes that both sides share."""
        return self._suite.expand(self._secret, b"sec", context, length)

    def _next(self) -> tuple[Aead, bytes]:
        if self._aead is None:
            raise UsageError("usage", "this HPKE suite only exports")
        number = int.from_bytes(self._nonce, "big") ^ self._count
        return self._aead, number.to_bytes(len(self._nonce), "big")


class Hpke:
    """One suite: KEM, KDF and AEAD."""

    __slots__ = ("_no_psk_hash", "_suite_id", "aead", "kdf", "kem")

    def __init__(self, kem: Kem, kdf: Kdf, aead: AeadAlgorithm) -> None:
        self.kem = kem
        self.kdf = kdf
        self.aead = aead
        self._suite_id = b"HPKE" + b"".join(
            number.to_bytes(2, "big") for number in (kem.kem_id, kdf.kdf_id, aead.aead_id)
        )
        self._no_psk_hash = b"" if kdf.single_stage else self._extract(b"", b"psk_id_hash", b"")

    def info(self, info: bytes, psk: Psk | None = None, *, auth: bool = False) -> Info:
        """`info`, and the pre-shared key of the PSK modes, hashed for use with any number of recipients."""
        mode = (PSK if psk else BASE) + (AUTH if auth else 0)
        key_id, key = (psk.key_id, psk.key) if psk else (b"", b"")
        if self.kdf.single_stage:
            return Info(mode, bytes((mode,)) + _prefixed(key_id) + _prefixed(info), key)
        key_id_hash = self._extract(b"", b"psk_id_hash", key_id) if psk else self._no_psk_hash
        return Info(mode, bytes((mode,)) + key_id_hash + self._extract(b"", b"info_hash", info), key)

    def sender(
        self, public: PublicKey, info: Info, rng: Rng, sender: PrivateKey | None = None
    ) -> tuple[bytes, Context]:
        """A fresh encapsulation to `public` and the context it sets up; `sender` signs in auth modes."""
        if sender is None:
            shared, enc = self.kem.encap(public, rng)
        else:
            shared, enc = self._dh().auth_encap(public, sender, rng)
        return enc, self._schedule(shared, info)

    def receiver(self, private: PrivateKey, enc: bytes, info: Info, sender: PublicKey | None = None) -> Context:
        """The context that `enc` sets up; PeerError for an encapsulation that is none."""
        if sender is None:
            shared = self.kem.decap(private, enc)
        else:
            shared = self._dh().auth_decap(private, enc, sender)
        return self._schedule(shared, info)

    def seal(self, public: PublicKey, info: Info, plaintext: bytes, rng: Rng) -> tuple[bytes, bytes]:
        """One message in base mode: (encapsulation, ciphertext)."""
        enc, context = self.sender(public, info, rng)
        return enc, context.seal(plaintext)

    def open(self, private: PrivateKey, info: Info, enc: bytes, ciphertext: bytes) -> bytes:
        """The one message; PeerError("bad_tag") when anything was altered."""
        return self.receiver(private, enc, info).open(ciphertext)

    def expand(self, secret: bytes, label: bytes, context: bytes, length: int) -> bytes:
        """LabeledExpand, or LabeledDerive of a single-stage KDF."""
        if self.kdf.single_stage:
            return labeled_derive(self._suite_id, secret, label, context, length, self.kdf.name)
        labeled = length.to_bytes(2, "big") + VERSION + self._suite_id + label + context
        return expand(secret, labeled, length, self.kdf.name)

    def _extract(self, salt: bytes, label: bytes, ikm: bytes) -> bytes:
        return extract(salt, VERSION + self._suite_id + label + ikm, self.kdf.name)

    def _dh(self) -> DhKem:
        if not isinstance(self.kem, DhKem):
            raise UsageError("usage", "this KEM has no authenticated mode")
        return self.kem

    def _schedule(self, shared: bytes, info: Info) -> Context:
        size, nonce_size = self.aead.key_size, self.aead.nonce_size
        if self.kdf.single_stage:
            total = size + nonce_size + self.kdf.size
            secret = self.expand(_prefixed(info.psk) + _prefixed(shared), b"secret", info.context, total)
            key, nonce, exporter = (
                secret[:size],
                secret[size : size + nonce_size],
                secret[size + nonce_size :],
            )
        else:
            secret = self._extract(shared, b"secret", info.psk)
            exporter = self.expand(secret, b"exp", info.context, self.kdf.size)
            key = self.expand(secret, b"key", info.context, size) if size else b""
            nonce = self.expand(secret, b"base_nonce", info.context, nonce_size) if size else b""
        aead = self.aead.make(key) if self.aead.make else None
        return Context(self, aead, nonce, exporter)


def _prefixed(data: bytes) -> bytes:
    if len(data) > 0xFFFF:
        raise UsageError("usage", "an input of a single-stage KDF has more than 65,535 bytes")
    return len(data).to_bytes(2, "big") + data
