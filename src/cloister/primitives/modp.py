"""The 2048-bit MODP group 14 of RFC 3526 section 3: safe prime p, generator 2 of prime order q = (p-1)/2.

`generator` makes a base that nobody who does not know its seed can tell from any other: the square of a hash, so that
it has order q too. The form is that of CPace and SPEKE for safe primes, and no named suite of CPace.

Invariants: received elements are checked 1 < Y < p-1, results are never 1 or p-1 (`bad_element`).
Left out: other groups; constant-time exponentiation (CPython's `pow` is not: docs/spec/threat-model.md).
"""

from __future__ import annotations

import hashlib
from typing import Final

from cloister.errors import PeerError
from cloister.primitives import Rng

P: Final = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
    "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F"
    "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B"
    "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510"
    "15728E5A8AACAA68FFFFFFFFFFFFFFFF",
    16,
)
Q: Final = (P - 1) // 2
G: Final = 2
"""The group's own generator: p = 7 mod 8, so 2 is a square and has order q."""
SIZE: Final = 256
"""Bytes of an element, big-endian."""
EXPONENT_SIZE: Final = 64
"""Bytes of a private exponent: 512 random bits with the top bit set."""
_HASHED: Final = 288
"""Bytes hashed for a generator: 32 more than an element, so that the remainder mod p is as good as uniform."""


def exponent(rng: Rng) -> int:
    """A private exponent of exactly 512 bits."""
    return int.from_bytes(rng(EXPONENT_SIZE), "big") | 1 << (8 * EXPONENT_SIZE - 1)


def power(base: int, secret: int) -> bytes:
    """base**secret mod p as 256 bytes; PeerError("bad_element") when the result is 1 or p-1."""
    value = pow(base, secret, P)
    if value in (1, P - 1):
        raise PeerError("bad_element")
    return value.to_bytes(SIZE, "big")


def element(data: bytes) -> int:
    """A received element; PeerError("bad_element") unless it has 256 bytes and 1 < Y < p-1."""
    value = int.from_bytes(data, "big")
    if len(data) != SIZE or not 1 < value < P - 1:
        raise PeerError("bad_element")
    return value


def generator(seed: bytes) -> int:
    """(SHAKE256(seed, 288 B) mod p)^2 mod p: of prime order q."""
    hashed = int.from_bytes(hashlib.shake_256(seed).digest(_HASHED), "big")
    return pow(hashed % P, 2, P)
