"""The safety number of two users: what they compare to know that nobody sits between them.

Source: docs/spec/identity.md ("Safety number"). Over both names and identity keys, in sorted order, so both
see the same; it survives new devices and changes only with an identity key.

Invariants
- 60 digits are twelve numbers of five, each from 64 bits of HKDF: 199 bits, so making two keys that show
  the same number to two victims takes about 2^99 attempts.
- The words are another face of the same strength: eighteen of 2,048, 192 bits and a checksum of 6.
"""

from __future__ import annotations

from typing import Final

from cloister.identity.words import to_words
from cloister.primitives.kdf import extract
from cloister.primitives.labelled import derive, labelled

GROUPS: Final = 12
"""Groups of five digits."""

Party = tuple[str, bytes]
"""(user name, identity key of 32 bytes)."""


def _secret(realm: str, one: Party, other: Party) -> bytes:
    return extract(b"", labelled("safety number", realm, sorted([one, other])))


def safety_number(realm: str, one: Party, other: Party) -> str:
    """60 digits in twelve groups of five, separated by spaces; the same whoever is named first."""
    stream = derive(_secret(realm, one, other), "safety number digits", length=8 * GROUPS)
    groups = [int.from_bytes(stream[at : at + 8], "big") % 100_000 for at in range(0, len(stream), 8)]
    return " ".join(f"{group:05}" for group in groups)


def safety_words(realm: str, one: Party, other: Party) -> tuple[str, ...]:
    """The same comparison as eighteen words."""
    return to_words(derive(_secret(realm, one, other), "safety number words", length=24))
