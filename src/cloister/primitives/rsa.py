"""RSA-3072: PSS signatures (SHA-256, salt 32) and OAEP encryption (SHA-256, MGF1-SHA-256, label). RFC 8017.

Invariants
- Keys of fewer than 3072 bits or an exponent other than 65537 are refused at parsing.
- Signing and encryption keys are different types: one key never does both (fix K1 of docs/spec).
- `decrypt` answers every failure with the same PeerError("bad_share").
The library draws its own randomness for key pairs, PSS salts and OAEP seeds.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from cloister.errors import PeerError, UsageError

BITS: Final = 3072
SIZE: Final = BITS // 8
"""Bytes of a signature or ciphertext."""
OAEP_MAX: Final = SIZE - 2 * 32 - 2
"""Largest payload of one OAEP ciphertext: 318 bytes."""

_PSS: Final = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
_SHA256: Final = hashes.SHA256()


def _oaep(label: bytes) -> padding.OAEP:
    return padding.OAEP(mgf=padding.MGF1(algorithm=_SHA256), algorithm=_SHA256, label=label)


def _load_public(spki: bytes) -> rsa.RSAPublicKey:
    try:
        key = serialization.load_der_public_key(spki)
    except Exception as error:  # ValueError, UnsupportedAlgorithm and the backend's own
        raise PeerError("bad_encoding", "not a public key") from error
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size != BITS or key.public_numbers().e != 65537:
        raise PeerError("bad_encoding", "not an RSA-3072 key with exponent 65537")
    return key


class _RsaPrivate:
    __slots__ = ("_key", "spki")

    def __init__(self, key: rsa.RSAPrivateKey) -> None:
        if key.key_size != BITS:
            raise UsageError("usage", "RSA keys here have 3072 bits")
        self._key = key
        self.spki = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def private_bytes(self) -> bytes:
        """Unencrypted PKCS#8 DER, for an encrypted store."""
        return self._key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def _generate() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, BITS)


def _from_bytes(pkcs8: bytes) -> rsa.RSAPrivateKey:
    try:
        # the store that holds it is authenticated: a full check of the primes costs 50 ms and finds nothing
        key = serialization.load_der_private_key(pkcs8, None, unsafe_skip_rsa_key_validation=True)
    except ValueError as error:
        raise UsageError("usage", "not an RSA private key") from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise UsageError("usage", "not an RSA private key")
    return key


class RsaSigningKey(_RsaPrivate):
    """Signs; never decrypts."""

    @classmethod
    def generate(cls) -> RsaSigningKey:
        """A fresh pair (about 0.2 s)."""
        return cls(_generate())

    @classmethod
    def from_bytes(cls, pkcs8: bytes) -> RsaSigningKey:
        """Read what `private_bytes` gave."""
        return cls(_from_bytes(pkcs8))

    def sign(self, message: bytes) -> bytes:
        """A PSS signature of 384 bytes."""
        return self._key.sign(message, _PSS, _SHA256)


class RsaDecryptKey(_RsaPrivate):
    """Decrypts; never signs."""

    @classmethod
    def generate(cls) -> RsaDecryptKey:
        """A fresh pair (about 0.2 s)."""
        return cls(_generate())

    @classmethod
    def from_bytes(cls, pkcs8: bytes) -> RsaDecryptKey:
        """Read what `private_bytes` gave."""
        return cls(_from_bytes(pkcs8))

    def decrypt(self, ciphertext: bytes, label: bytes) -> bytes:
        """The OAEP payload; PeerError("bad_share") for every kind of failure."""
        try:
            return self._key.decrypt(ciphertext, _oaep(label))
        except ValueError as error:
            raise PeerError("bad_share") from error


class RsaVerifyKey:
    """Verifies PSS signatures."""

    __slots__ = ("_key", "spki")

    def __init__(self, spki: bytes) -> None:
        self._key = _load_public(spki)
        self.spki = spki

    def verify(self, signature: bytes, message: bytes) -> None:
        """PeerError("bad_sig") unless it is this key's signature over `message`."""
        try:
            self._key.verify(signature, message, _PSS, _SHA256)
        except InvalidSignature as error:
            raise PeerError("bad_sig") from error


class RsaEncryptKey:
    """Encrypts with OAEP."""

    __slots__ = ("_key", "spki")

    def __init__(self, spki: bytes) -> None:
        self._key = _load_public(spki)
        self.spki = spki

    def encrypt(self, payload: bytes, label: bytes) -> bytes:
        """A ciphertext of 384 bytes for a payload of at most OAEP_MAX bytes."""
        return self._key.encrypt(payload, _oaep(label))
