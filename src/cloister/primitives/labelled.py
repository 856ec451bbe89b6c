"""Domain separation: every hash, signature and MAC of ours is over "cloister/1 " || label || 0 || enc(x).

Source: docs/spec/encoding.md. No label is shared between two uses, and a label names its suite
("nonces hello"), so that no signed structure of one place is accepted in another.
"""

from __future__ import annotations

import hmac
from typing import Protocol

from cloister.codec.cbor import enc
from cloister.errors import PeerError
from cloister.primitives.kdf import expand, hmac_sha256, sha256

PREFIX = b"cloister/1 "


class Signer(Protocol):
    """Whatever signs bytes: Ed25519, ECDSA or RSA-PSS keys."""

    def sign(self, message: bytes) -> bytes:
        """The signature."""
        ...


class Verifier(Protocol):
    """Whatever verifies: raises PeerError("bad_sig")."""

    def verify(self, signature: bytes, message: bytes) -> None:
        """None, or PeerError("bad_sig")."""
        ...


def labelled(label: str, *items: object) -> bytes:
    """The string that is hashed, signed or authenticated."""
    return PREFIX + label.encode() + b"\0" + enc(*items)


def hash_of(label: str, *items: object) -> bytes:
    """H(label, x...): SHA-256, 32 bytes."""
    return sha256(labelled(label, *items))


def sign(key: Signer, label: str, *items: object) -> bytes:
    """Sign(key, label, x...)."""
    return key.sign(labelled(label, *items))


def verify(key: Verifier, signature: bytes, label: str, *items: object) -> None:
    """PeerError("bad_sig") unless `signature` is Sign(key, label, x...)."""
    key.verify(signature, labelled(label, *items))


def mac(key: bytes, label: str, *items: object) -> bytes:
    """MAC(key, label, x...): HMAC-SHA-256, 32 bytes."""
    return hmac_sha256(key, labelled(label, *items))


def verify_mac(tag: bytes, key: bytes, label: str, *items: object, code: str = "bad_tag") -> None:
    """PeerError(code) unless `tag` is MAC(key, label, x...), compared in constant time."""
    if not hmac.compare_digest(tag, mac(key, label, *items)):
        raise PeerError(code)


def derive(secret: bytes, label: str, *items: object, length: int = 32) -> bytes:
    """HKDF-Expand(secret, the labelled string): `length` bytes; `secret` is a pseudorandom key."""
    return expand(secret, labelled(label, *items), length)
