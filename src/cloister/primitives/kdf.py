"""Key derivation: HKDF (RFC 5869) over SHA-2, scrypt (RFC 7914), and the hashes themselves.

Invariants: outputs are exactly as long as asked; salts and infos are bytes, never text.
"""

from __future__ import annotations

import hashlib
import hmac

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

_HASHES = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
_SIZES = {"sha256": 32, "sha384": 48, "sha512": 64}


def sha256(data: bytes) -> bytes:
    """SHA-256, 32 bytes."""
    return hashlib.sha256(data).digest()


def hmac_sha256(key: bytes, data: bytes) -> bytes:
    """HMAC-SHA-256, 32 bytes."""
    return hmac.digest(key, data, "sha256")


def extract(salt: bytes, ikm: bytes, algorithm: str = "sha256") -> bytes:
    """HKDF-Extract: a pseudorandom key of the hash's size."""
    return hmac.digest(salt, ikm, algorithm)


def expand(prk: bytes, info: bytes, length: int = 32, algorithm: str = "sha256") -> bytes:
    """HKDF-Expand: `length` bytes, at most 255 hashes."""
    if length <= _SIZES[algorithm]:  # one block, the usual case: two thirds of the general way's time
        return hmac.digest(prk, info + b"\x01", algorithm)[:length]
    return HKDFExpand(algorithm=_HASHES[algorithm], length=length, info=info).derive(prk)


def hkdf(salt: bytes, ikm: bytes, info: bytes, length: int = 32) -> bytes:
    """HKDF-SHA-256: extract, then expand to `length` bytes."""
    return expand(extract(salt, ikm), info, length)


def scrypt(password: bytes, salt: bytes, n: int, r: int, p: int, length: int = 32) -> bytes:
    """scrypt: `length` bytes; needs 128*n*r bytes of memory."""
    return hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, dklen=length, maxmem=128 * r * (n + p + 2))
