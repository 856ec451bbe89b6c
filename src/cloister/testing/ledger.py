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

from types import TracebackType
from typing import Any

from cloister.primitives.aead import Aead
from cloister.primitives.kdf import sha256


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
        for name in ("aes_gcm", "chacha20_poly1305"):
            self._originals[name] = Aead.__dict__[name]
            setattr(Aead, name, _watching(self, getattr(Aead, name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for name, original in self._originals.items():
            setattr(Aead, name, original)


def _watching(ledger: Ledger, make: Any) -> Any:
    """A constructor of AEAD keys that tells the ledger what they seal."""

    def made(key: bytes) -> Aead:
        return _Watched(ledger, key, make(key))

    return made


class _Watched(Aead):
    """An AEAD key that tells what it seals."""

    __slots__ = ("_inner", "_key", "_ledger")

    def __init__(self, ledger: Ledger, key: bytes, inner: Aead) -> None:
        self._ledger = ledger
        self._key = key
        self._inner = inner

    def seal(self, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
        ciphertext = self._inner.seal(nonce, plaintext, aad)
        self._ledger.note(self._key, nonce, ciphertext)
        return ciphertext

    def open(self, nonce: bytes, ciphertext: bytes, aad: bytes) -> bytes:
        return self._inner.open(nonce, ciphertext, aad)
