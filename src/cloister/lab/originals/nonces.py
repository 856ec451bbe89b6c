"""Document 000 without the fixes F1.1 to F1.8: each class takes one fix of suite `nonces` back.

Source: docs/spec/classic/nonces.md, document 000. `tests/negative/test_nonces_originals.py` runs the attack that each
fix answers against the original, where it succeeds, and against the suite, where it is refused.

- InClear (F1.1)       a nonce travels as it is: who reads the run computes the key.
- PlusOne (F1.2)       the answer is N + 1, the README's "incremented".
- FewAnswers (F1.3)    A answers nobody, B answers A, C answers nobody: B and C have no proof that A is alive.
- BareHash (F1.4)      K = SHA-256(Na || Nb || Nc): the same nonces give the same key in every context.
- NoCommitment (F1.5)  nothing binds a nonce: who speaks last chooses the key, or gives each member another one.
- NoConfirm (F1.6)     the key counts at once: members with different keys do not notice.
- NoWrap (F1.7)        variant fs=0, the document's own: an RSA key stolen later opens every run.
- KeyAtRest (F1.8)     the agreed key lies in the store (`shared_key.json`): a thief reads what was said before.
- RollsBack (Restore)  a copy that is put back writes on with its old keys and numbers: a two-time pad.
- Document             all steps, the protocol as published.

A subject of an attack is the suite object (`Nonces`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from cloister.lab.originals import taken_back
from cloister.primitives.dh import DhKey
from cloister.primitives.kdf import sha256
from cloister.primitives.rsa import RsaDecryptKey
from cloister.protocols.context import Party
from cloister.protocols.interface import READ_ONLY_ITEM, Me, Session
from cloister.protocols.nonces.steps import NONCE, Steps
from cloister.protocols.nonces.suite import Nonces
from cloister.protocols.record import Schedule


class InClear(Steps):
    """Without F1.1: anybody who reads a share has the nonce."""

    variant = "original F1.1"

    def encrypt(self, party: Party, i: int, j: int, payload: bytes) -> bytes:
        """The nonce as it is."""
        return payload

    def decrypt(self, party: Party, key: RsaDecryptKey, i: int, j: int, ciphertext: bytes) -> bytes:
        """The nonce as it is."""
        return ciphertext


class PlusOne(Steps):
    """Without F1.2: the README's text instead of its formula."""

    variant = "original F1.2"

    def answer(self, nonce: bytes) -> bytes:
        """N + 1."""
        modulus: int = 2 ** (8 * NONCE)
        return ((int.from_bytes(nonce, "big") + 1) % modulus).to_bytes(NONCE, "big")


class FewAnswers(Steps):
    """Without F1.3: the document's order of messages, in which only B answers, and only A."""

    variant = "original F1.3"

    def answers_to(self, i: int, n: int) -> tuple[int, ...]:
        """B answers A."""
        return (0,) if i == 1 else ()


class BareHash(Steps):
    """Without F1.4: no context, no label."""

    variant = "original F1.4"

    def combine(self, th: bytes, nonces: tuple[bytes, ...]) -> bytes:
        """SHA-256 of the nonces, one after the other."""
        return sha256(b"".join(nonces))


class NoCommitment(Steps):
    """Without F1.5: what stands in the place of a commitment says nothing about the nonce."""

    variant = "original F1.5"

    def commitment(self, ctx: bytes, i: int, nonce: bytes, opening: bytes) -> bytes:
        """A constant for each member."""
        return sha256(ctx + i.to_bytes(2, "big"))


class NoConfirm(Steps):
    """Without F1.6: nobody waits for anybody's confirmation."""

    variant = "original F1.6"

    def confirms_needed(self, n: int) -> int:
        """None."""
        return 0


class NoWrap(Steps):
    """Without F1.7: variant fs=0, document-exact, kept for study."""

    variant = "fs=0"

    def wrap(self, ctx: bytes, i: int, j: int, ephemeral: DhKey, peer: bytes, ciphertext: bytes) -> bytes:
        """The RSA ciphertext alone."""
        return ciphertext

    def unwrap(self, ctx: bytes, i: int, j: int, own: DhKey, wrapped: bytes) -> bytes:
        """The RSA ciphertext alone."""
        return wrapped


class KeyAtRest(Steps):
    """Without F1.8: the key itself is stored (in the place of the exporter secret)."""

    variant = "original F1.8"

    def at_rest(self, key: bytes, schedule: Schedule) -> Schedule:
        """The key in clear, where its descendant should lie."""
        return replace(schedule, exporter=key)


class Document(InClear, PlusOne, FewAnswers, BareHash, NoCommitment, NoConfirm, NoWrap, KeyAtRest):
    """Document 000 as it stands."""

    variant = "document 000"


class RollsBack(Nonces):
    """Without the rule of restores: a copy that is put back writes on where it was."""

    def restore(self, me: Me, items: Mapping[bytes, bytes]) -> Session:
        """The session, whatever mark it bears."""
        return super().restore(me, {key: value for key, value in items.items() if key != READ_ONLY_ITEM})


FIXES: Final[Mapping[str, type]] = {
    "F1.1": InClear,
    "F1.2": PlusOne,
    "F1.3": FewAnswers,
    "F1.4": BareHash,
    "F1.5": NoCommitment,
    "F1.6": NoConfirm,
    "F1.7": NoWrap,
    "F1.8": KeyAtRest,
    "Restore": RollsBack,
}
_STEPS: Final = {fix: override for fix, override in FIXES.items() if issubclass(override, Steps)}


def product() -> Nonces:
    """The suite as people use it."""
    return Nonces()


def original(put_back: frozenset[str] = frozenset()) -> Nonces:
    """Document 000, but for the fixes that are put back."""
    suite = Nonces if "Restore" in put_back else RollsBack
    return suite(taken_back(Steps, _STEPS, put_back - {"Restore"}, variant=Document.variant))
