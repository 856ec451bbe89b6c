"""Document 004 without the fixes F5.1 to F5.6: each class takes one fix of suite `code` back.

Source: docs/spec/classic/code.md, document 004. F5.7 (where a relay listens) is a default, and has a test.

- Unauthenticated (F5.1)  the group's generator for everybody, nothing is compared: a relay sits in the middle.
- NoCommitment (F5.2)     nothing binds the opener to its public value: it grinds the string that people compare.
- AnyElement (F5.3)       whatever comes is an element: Z is what the attacker wants.
- OneKey (F5.4)           both directions share one key: message 0 of each is sealed with the same key and nonce.
- NoRoles (F5.5)          nothing names the sender: one's own proof comes back as the other's.
- NoLimit (F5.6)          a code is good for as many tries as anybody makes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cloister.lab.originals import taken_back
from cloister.primitives import modp
from cloister.primitives.labelled import hash_of
from cloister.protocols.code.steps import Steps
from cloister.protocols.code.suite import Code
from cloister.protocols.record import Schedule

_NO_END: Final = 2**32


class Unauthenticated(Steps):
    """Without F5.1: plain Diffie-Hellman, and nobody looks."""

    def generator(self, sid: str, secret: str) -> int:
        """The group's own."""
        return modp.G

    def must_compare(self, mode: str) -> bool:
        """Nobody compares."""
        return False


class NoCommitment(Steps):
    """Without F5.2: what stands in the place of a commitment says nothing of the public value."""

    def commitment(self, sid: str, element: bytes, opening: bytes) -> bytes:
        """The same for every value."""
        return hash_of("code dhc", sid)


class AnyElement(Steps):
    """Without F5.3: nothing is looked at."""

    def element(self, data: bytes) -> int:
        """The number as it came."""
        return int.from_bytes(data, "big")

    def shared(self, element: int, exponent: int) -> bytes:
        """Z, whatever it is."""
        return pow(element, exponent, modp.P).to_bytes(modp.SIZE, "big")


class OneKey(Steps):
    """Without F5.4: one AES key for both, as `client.py` had it."""

    def chains(self, first: Schedule) -> tuple[bytes, bytes]:
        """The same key twice."""
        return first.chains[0], first.chains[0]


class NoRoles(Steps):
    """Without F5.5: both prove the key with the same words."""

    def role(self, role: str) -> str:
        """Nobody's name."""
        return ""


class NoLimit(Steps):
    """Without F5.6: the creator opens run after run."""

    def guesses(self) -> int:
        """As good as no limit."""
        return _NO_END


FIXES: Final[Mapping[str, type]] = {
    "F5.1": Unauthenticated,
    "F5.2": NoCommitment,
    "F5.3": AnyElement,
    "F5.4": OneKey,
    "F5.5": NoRoles,
    "F5.6": NoLimit,
}


def product() -> Code:
    """The suite as people use it."""
    return Code()


def original(put_back: frozenset[str] = frozenset()) -> Code:
    """Document 004, but for the fixes that are put back."""
    return Code(taken_back(Steps, FIXES, put_back))
