"""A password-locked box: scrypt over AES-256-GCM, as bytes.

Source: document 002 with fix F3.5 (docs/spec/identity.md, "Vault"); RFC 7914, SP 800-38D.

    vault  = [ "vault", 1, salt(16), N, r, p, nonce(12), ct ]
    ct     = AES-256-GCM( scrypt(password, salt, N, r, p), nonce, payload, AD = enc of the seven items before )

Invariants
- N is a power of two from 2^15 to 2^20 (2^17 by default), r = 8, p = 1; anything else is refused as
  `bad_vault` before any memory is taken (at most 1 GiB, 128 MiB by default).
- A wrong password and altered bytes are one error, `wrong_password`, at one cost.
- The password is text in Unicode NFC: the same keys pressed on another system open the box.
- Salt and nonce are fresh at every seal.
Left out: files, modes, counting attempts, the OS keyring.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Final

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError, UsageError
from cloister.primitives import Rng
from cloister.primitives.aead import NONCE_SIZE, Aead
from cloister.primitives.kdf import scrypt

DEFAULT_N: Final = 2**17
FLOOR_N: Final = 2**15
CEILING_N: Final = 2**20
MAX_SIZE: Final = 2**24
"""Bytes of the largest vault that is read: 16 MiB."""
_R: Final = 8
_P: Final = 1
_SALT_SIZE: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    salt: bytes
    n: int
    nonce: bytes

    def items(self) -> tuple[object, ...]:
        return "vault", 1, self.salt, self.n, _R, _P, self.nonce

    def aead(self, password: str) -> Aead:
        text = unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
        return Aead.aes_gcm(scrypt(text, self.salt, self.n, _R, _P))


def _fits(n: int) -> bool:
    return FLOOR_N <= n <= CEILING_N and n & (n - 1) == 0


def seal(payload: bytes, password: str, rng: Rng, *, n: int = DEFAULT_N) -> bytes:
    """Lock `payload` with `password`; `n` is scrypt's cost N. UsageError for an empty password or another N."""
    if not password:
        raise UsageError("usage", "a vault needs a password")
    if not _fits(n):
        raise UsageError("usage", "scrypt's N is a power of two from 2^15 to 2^20")
    header = _Header(salt=rng(_SALT_SIZE), n=n, nonce=rng(NONCE_SIZE))
    ct = header.aead(password).seal(header.nonce, payload, enc(*header.items()))
    return enc(*header.items(), ct)


def open_vault(data: bytes, password: str) -> bytes:
    """The payload. PeerError: `wrong_password` for that or altered bytes, `bad_vault` for another form."""
    header, ct = _read(data)
    try:
        return header.aead(password).open(header.nonce, ct, enc(*header.items()))
    except PeerError as error:
        raise PeerError("wrong_password") from error


def rewrap(data: bytes, old: str, new: str, rng: Rng, *, n: int = DEFAULT_N) -> bytes:
    """The same payload under a new password (or cost), salt and nonce; errors as `open_vault` and `seal`."""
    return seal(open_vault(data, old), new, rng, n=n)


def _read(data: bytes) -> tuple[_Header, bytes]:
    if len(data) > MAX_SIZE:
        raise PeerError("bad_vault", "too large")
    try:
        fields = Fields.decode(data, "vault")
        fields.kind("vault")
        version = fields.uint("version")
        salt = fields.octets("salt", _SALT_SIZE)
        n, r, p = fields.uint("N"), fields.uint("r"), fields.uint("p")
        nonce = fields.octets("nonce", NONCE_SIZE)
        ct = fields.octets("ct")
        fields.end()
    except PeerError as error:
        raise PeerError("bad_vault", "not a vault") from error
    if version != 1:  # VAULT-01
        raise PeerError("bad_vault", "a vault of a later version")
    if not _fits(n) or (r, p) != (_R, _P):  # VAULT-02
        raise PeerError("bad_vault", "scrypt parameters outside their bounds")
    return _Header(salt=salt, n=n, nonce=nonce), ct
