"""Signatures: Ed25519 and Ed448 (RFC 8032), ECDSA over P-256, P-384 and P-521 (FIPS 186-5, DER form).

Invariants
- A key is parsed once and kept as an object (parsing per call doubles the cost).
- `verify` returns None or raises PeerError("bad_sig"); there is no boolean to forget.
- An empty signature is a wrong signature.
Ed25519 stands in `ed25519`, the others are OpenSSL's; RSA-PSS stands in `rsa`.
"""

from __future__ import annotations

from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448

from cloister.errors import PeerError, UsageError
from cloister.primitives import Rng, ed25519

_CURVES: Final[dict[str, tuple[ec.EllipticCurve, hashes.HashAlgorithm]]] = {
    "p256": (ec.SECP256R1(), hashes.SHA256()),
    "p384": (ec.SECP384R1(), hashes.SHA384()),
    "p521": (ec.SECP521R1(), hashes.SHA512()),
}
_ECDSA: Final = {scheme: ec.ECDSA(algorithm) for scheme, (_, algorithm) in _CURVES.items()}
"""What the library wants beside the message, by scheme; looking the type of a key up costs more than this dict."""
SCHEMES: Final = ("ed25519", "ed448", *_CURVES)

_Private = ed25519.PrivateKey | ed448.Ed448PrivateKey | ec.EllipticCurvePrivateKey
_Public = ed25519.PublicKey | ed448.Ed448PublicKey | ec.EllipticCurvePublicKey


class VerifyKey:
    """A public key of one scheme. `raw` is 32, 57 or an uncompressed point of 65, 97 or 133 bytes."""

    __slots__ = ("_ecdsa", "_key", "raw", "scheme")

    def __init__(self, scheme: str, raw: bytes) -> None:
        self.scheme = scheme
        self.raw = raw
        self._ecdsa = _ECDSA.get(scheme)
        try:
            self._key: Any = _load_public(scheme, raw)
        except ValueError as error:
            raise PeerError("bad_encoding", "not a public key of this scheme") from error

    def verify(self, signature: bytes, message: bytes) -> None:
        """PeerError("bad_sig") unless `signature` is this key's over `message`."""
        try:
            if self._ecdsa is None:
                self._key.verify(signature, message)
            else:
                self._key.verify(signature, message, self._ecdsa)
        except InvalidSignature as error:
            raise PeerError("bad_sig") from error

    def spki(self) -> bytes:
        """The DER SubjectPublicKeyInfo."""
        key: _Public = self._key
        if isinstance(key, ed25519.PublicKey):
            return key.spki()
        return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VerifyKey) and (self.scheme, self.raw) == (other.scheme, other.raw)

    def __hash__(self) -> int:
        return hash((self.scheme, self.raw))

    def __repr__(self) -> str:
        return f"<VerifyKey {self.scheme}>"


class SigningKey:
    """A private key of one scheme; `public` is its VerifyKey."""

    __slots__ = ("_ecdsa", "_key", "public", "scheme")

    def __init__(self, scheme: str, private: bytes) -> None:
        self.scheme = scheme
        self._ecdsa = _ECDSA.get(scheme)
        self._key: Any = _load_private(scheme, private)
        self.public = VerifyKey(scheme, _raw_public(self._key.public_key()))

    @classmethod
    def generate(cls, scheme: str, rng: Rng) -> SigningKey:
        """A fresh key; the bytes come from `rng` (EC scalars by rejection of values outside the order)."""
        if scheme == "ed25519":
            return cls(scheme, rng(32))
        if scheme == "ed448":
            return cls(scheme, rng(57))
        size = (_CURVES[scheme][0].key_size + 7) // 8
        while True:
            candidate = bytearray(rng(size))
            if scheme == "p521":
                candidate[0] &= 1
            try:
                return cls(scheme, bytes(candidate))
            except UsageError:
                continue

    def sign(self, message: bytes) -> bytes:
        """Ed25519 64 bytes, Ed448 114, ECDSA DER of about 72, 104 or 139."""
        signature: bytes
        if self._ecdsa is None:
            signature = self._key.sign(message)
        else:
            signature = self._key.sign(message, self._ecdsa)
        return signature

    def private_bytes(self) -> bytes:
        """The secret seed or scalar, for an encrypted store."""
        key: _Private = self._key
        if isinstance(key, ed25519.PrivateKey):
            return key.seed()
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key.private_numbers().private_value.to_bytes((key.key_size + 7) // 8, "big")
        return key.private_bytes_raw()

    def __repr__(self) -> str:
        return f"<SigningKey {self.scheme}>"


def _load_public(scheme: str, raw: bytes) -> _Public:
    if scheme == "ed25519":
        return ed25519.PublicKey(raw)
    if scheme == "ed448":
        return ed448.Ed448PublicKey.from_public_bytes(raw)
    if raw[:1] != b"\x04":
        raise ValueError("only uncompressed points")
    return ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[scheme][0], raw)


def _load_private(scheme: str, private: bytes) -> _Private:
    try:
        if scheme == "ed25519":
            return ed25519.PrivateKey(private)
        if scheme == "ed448":
            return ed448.Ed448PrivateKey.from_private_bytes(private)
        return ec.derive_private_key(int.from_bytes(private, "big"), _CURVES[scheme][0])
    except ValueError as error:
        raise UsageError("usage", "not a private key of this scheme") from error


def _raw_public(key: _Public) -> bytes:
    if isinstance(key, ed25519.PublicKey):
        return key.raw()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    return key.public_bytes_raw()
