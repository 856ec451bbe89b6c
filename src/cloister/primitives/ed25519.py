"""Ed25519 (RFC 8032) by libsodium: two thirds of OpenSSL's time for a signature, half of it for a verification.

Source: RFC 8032 sections 5.1 and 8.4, docs/spec/encoding.md ("Domain separation"). A private key is kept expanded, so
no call hashes its seed again. The two classes sign and verify like the `cryptography` package's keys; `signature` uses
them where the scheme is Ed25519.

Invariants
- A signature is 64 bytes; one of any other length is no signature of anything.
- Scalars and points have their one canonical form; keys and commitments of small order verify nothing; there is no
  cofactor in the equation. OpenSSL accepts all of these and keys of small order too.
- 32 bytes are a key until it is used: a key that is no point verifies nothing either.

The library signs and opens a signature and its message in one piece, so each call copies the message.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError

_SPKI: Final = bytes.fromhex("302a300506032b6570032100")
"""The DER SubjectPublicKeyInfo before the key (RFC 8410 section 4)."""
_KEY: Final = 32
_SIGNATURE: Final = 64


class PublicKey:
    """A key of 32 bytes; ValueError for any other length."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        if len(raw) != _KEY:
            raise ValueError("an Ed25519 public key has 32 bytes")
        self._raw = bytes(raw)

    def verify(self, signature: bytes, message: bytes) -> None:
        """InvalidSignature unless `signature` (64 bytes) is this key's over `message`."""
        if len(signature) != _SIGNATURE:
            raise InvalidSignature
        try:
            crypto_sign_open(signature + message, self._raw)
        except BadSignatureError as error:
            raise InvalidSignature from error

    def raw(self) -> bytes:
        """32 bytes."""
        return self._raw

    def spki(self) -> bytes:
        """The DER SubjectPublicKeyInfo."""
        return _SPKI + self._raw


class PrivateKey:
    """A key made of its seed of 32 bytes; ValueError for any other length."""

    __slots__ = ("_expanded", "_raw")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != _KEY:
            raise ValueError("an Ed25519 private key has 32 bytes")
        self._raw, self._expanded = crypto_sign_seed_keypair(bytes(seed))

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        return crypto_sign(message, self._expanded)[:_SIGNATURE]

    def public_key(self) -> PublicKey:
        """The public half."""
        return PublicKey(self._raw)

    def seed(self) -> bytes:
        """The 32 bytes that the key was made of."""
        return self._expanded[:_KEY]
