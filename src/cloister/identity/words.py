"""2,048 speakable words, made by a rule: eleven bits as five letters that alternate and check themselves.

Source: docs/spec/identity.md ("Words"). A word is consonant, vowel, consonant, vowel, check consonant:

    bits     10..7   6..5    4..2    1..0
    letter   FIRST   VOWELS  SECOND  VOWELS   then FIRST[(sum of the four positions) mod 16]

Invariants
- No two words differ in a single letter, so one mistyped letter is always found, and in which word.
- `from_words(to_words(data))` gives `data` back; the bits left over carry a checksum of SHA-256(data).
- Reading ignores case and surplus white space and nothing else.
"""

from __future__ import annotations

from typing import Final

from cloister.errors import PeerError
from cloister.primitives.kdf import sha256

_FIRST: Final = "bdfghjklmnprstvz"
_SECOND: Final = "bdklmnrt"
_VOWELS: Final = "aiou"
_BITS: Final = 11


def _word(value: int) -> str:
    places = (value >> 7, value >> 5 & 3, value >> 2 & 7, value & 3)
    letters = (_FIRST[places[0]], _VOWELS[places[1]], _SECOND[places[2]], _VOWELS[places[3]])
    return "".join(letters) + _FIRST[sum(places) % len(_FIRST)]


WORDS: Final = tuple(_word(value) for value in range(2**_BITS))
"""The whole list; a word's position is its value."""

_VALUES: Final = {word: value for value, word in enumerate(WORDS)}


def _checksum(data: bytes, bits: int) -> int:
    return int.from_bytes(sha256(data), "big") >> (256 - bits)


def to_words(data: bytes) -> tuple[str, ...]:
    """The words of `data` and of a checksum that fills the last one; 16 bytes give 12 words and 4 bits."""
    count = 8 * len(data) // _BITS + 1
    spare = _BITS * count - 8 * len(data)
    value = int.from_bytes(data, "big") << spare | _checksum(data, spare)
    return tuple(WORDS[value >> _BITS * place & 2**_BITS - 1] for place in reversed(range(count)))


def from_words(text: str, size: int) -> bytes:
    """The `size` bytes that `text` spells; PeerError("bad_recovery_code") that names the first wrong word."""
    words = text.lower().split()
    count = 8 * size // _BITS + 1
    if len(words) != count:  # WORD-01
        raise PeerError("bad_recovery_code", f"{count} words are needed, {len(words)} were given")
    value = 0
    for place, word in enumerate(words, 1):
        if word not in _VALUES:  # WORD-02
            raise PeerError("bad_recovery_code", f"word {place} is not in the list")
        value = value << _BITS | _VALUES[word]
    spare = _BITS * count - 8 * size
    data = (value >> spare).to_bytes(size, "big")
    if value & 2**spare - 1 != _checksum(data, spare):  # WORD-03
        raise PeerError("bad_recovery_code", "the words do not fit together")
    return data
