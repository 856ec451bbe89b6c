"""Every (key, nonce) that sealed something which may have left a process: none may be used for two messages.

    with Ledger() as ledger:
        ...                      # run a simulation; call `committed` and `dropped` where its stores do
    ledger.reused                # [] or what was sealed twice

Source: docs/architecture.md ("Life of a message"): what is sealed is stored with the new ratchet before it is sent,
so a seal whose transaction did not happen was never sent and does not count.

Invariants: watches AES-GCM and ChaCha20-Poly1305 of `primitives.aead`, the only AEADs of the product; the same bytes
sealed again under the same key and nonce are the same message.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Final

from cloister.primitives import aead
from cloister.primitives.kdf import sha256

CIPHERS: Final = ("AESGCM", "ChaCha20Poly1305")
"""The library's ciphers by the names under which `primitives.aead` makes every key of the product."""


class Ledger:
    """The seals of everything that runs inside the context."""

    def __init__(self) -> None:
        self.reused: list[str] = []
        self.seals = 0
        self._used: dict[tuple[bytes, bytes], bytes] = {}
        self._pending: list[tuple[bytes, bytes, bytes]] = []
        self._originals: dict[str, Any] = {}

    def committed(self) -> None:
        """The transaction stands: what was sealed for it may leave."""
        for key, nonce, ciphertext in self._pending:
            self.seals += 1
            known = self._used.setdefault((key, nonce), ciphertext)
            if known != ciphertext:
                self.reused.append(f"key {key.hex()[:16]} nonce {nonce.hex()}")
        self._pending.clear()

    def dropped(self) -> None:
        """The process ended before its transaction: what it sealed never left."""
        self._pending.clear()

    def note(self, key: bytes, nonce: bytes, ciphertext: bytes) -> None:
        """Something was sealed."""
        self._pending.append((sha256(key), nonce, sha256(ciphertext)))

    def __enter__(self) -> Ledger:
        for name in CIPHERS:
            self._originals[name] = getattr(aead, name)
            setattr(aead, name, partial(_Watched, self, self._originals[name]))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for name, original in self._originals.items():
            setattr(aead, name, original)


class _Watched:
    """A cipher of the library under one key, that tells what it encrypts."""

    __slots__ = ("_inner", "_key", "_ledger")

    def __init__(self, ledger: Ledger, make: Callable[[bytes], Any], key: bytes) -> None:
        self._ledger = ledger
        self._key = key
        self._inner = make(key)

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """As the library's, and told."""
        ciphertext: bytes = self._inner.encrypt(nonce, data, associated_data)
        self._ledger.note(self._key, nonce, ciphertext)
        return ciphertext

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """As the library's."""
        plaintext: bytes = self._inner.decrypt(nonce, data, associated_data)
        return plaintext
