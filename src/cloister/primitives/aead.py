"""Authenticated encryption: AES-GCM (SP 800-38D) and ChaCha20-Poly1305 (RFC 8439), and AES-256-CTR.

Invariants
- `Aead` keeps the cipher object: making it per message costs more than the encryption.
- `open` gives the plaintext or raises PeerError("bad_tag"); it never returns unauthenticated bytes.
- Nonces are the caller's; 12 bytes.
- AES-CTR is bare: its caller verifies a MAC over the ciphertext first (suites `shares` and `transport`).
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from cloister.errors import PeerError

NONCE_SIZE: Final = 12
TAG_SIZE: Final = 16
ZERO_NONCE: Final = bytes(NONCE_SIZE)
"""For keys that seal exactly one message."""


class Aead:
    """One AEAD key, ready for many messages."""

    __slots__ = ("_cipher",)

    def __init__(self, cipher: AESGCM | ChaCha20Poly1305) -> None:
        self._cipher = cipher

    @classmethod
    def aes_gcm(cls, key: bytes) -> Aead:
        """AES-GCM with a key of 16 or 32 bytes."""
        return cls(AESGCM(key))

    @classmethod
    def chacha20_poly1305(cls, key: bytes) -> Aead:
        """ChaCha20-Poly1305 with a key of 32 bytes."""
        return cls(ChaCha20Poly1305(key))

    def seal(self, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
        """Ciphertext and tag: len(plaintext) + 16 bytes."""
        return self._cipher.encrypt(nonce, plaintext, aad)

    def open(self, nonce: bytes, ciphertext: bytes, aad: bytes) -> bytes:
        """The plaintext; PeerError("bad_tag") when anything was altered."""
        try:
            return self._cipher.decrypt(nonce, ciphertext, aad)
        except InvalidTag as error:
            raise PeerError("bad_tag") from error


def aes_ctr(key: bytes, counter_block: bytes, data: bytes) -> bytes:
    """AES-256-CTR in either direction; `counter_block` is the first block, 16 bytes."""
    context = Cipher(algorithms.AES256(key), modes.CTR(counter_block)).encryptor()
    return context.update(data) + context.finalize()
