"""X25519 (RFC 7748) with the all-zero result refused everywhere (`zero_key`)."""

from __future__ import annotations

import hmac
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from cloister.errors import PeerError
from cloister.primitives import Rng

KEY_SIZE: Final = 32


class DhKey:
    """An X25519 private key; `public` is 32 bytes."""

    __slots__ = ("_key", "public")

    def __init__(self, private: bytes) -> None:
        self._key = X25519PrivateKey.from_private_bytes(private)
        self.public = self._key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls, rng: Rng) -> DhKey:
        """A fresh key from 32 bytes of `rng`."""
        return cls(rng(KEY_SIZE))

    def private_bytes(self) -> bytes:
        """The 32 secret bytes, for an encrypted store."""
        return self._key.private_bytes_raw()

    def exchange(self, public: bytes) -> bytes:
        """The 32-byte shared secret; PeerError("zero_key") for a point of small order."""
        if len(public) != KEY_SIZE:
            raise PeerError("bad_encoding", "an X25519 key has 32 bytes")
        try:
            shared = self._key.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError as error:  # the library refuses the zero result itself
            raise PeerError("zero_key") from error
        if hmac.compare_digest(shared, bytes(KEY_SIZE)):
            raise PeerError("zero_key")
        return shared
