"""The steps of suite `nonces` that a fix changed and `shares` has not, each one function; and its answers.

Source: docs/spec/classic/nonces.md, document 000; what both suites have stands in `contributions.steps`.

    M3 confirm ["confirm", i, A_i, mac, sig]   A_i = AES-GCM(Expand(kc, "answers", i), [[j, N_j - 1] ...], AD=th)

Invariants
- Answers are sealed, for each of them reveals a nonce; what is kept of them is a digest.
- All members judge all answers: who judged only the one to itself would be left behind by the others.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Final

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError
from cloister.primitives.aead import ZERO_NONCE, Aead
from cloister.primitives.kdf import hkdf
from cloister.primitives.labelled import derive, hash_of, labelled
from cloister.protocols.checks import check
from cloister.protocols.contributions import steps as contribution_steps
from cloister.protocols.contributions.steps import CONTRIBUTION, MEMBERS, Form, rows
from cloister.protocols.record import Cipher, Gcm

FORM: Final = Form(suite="nonces", answered=True)
NONCE: Final = CONTRIBUTION
_MODULUS: Final[int] = 1 << 8 * NONCE


class Steps(contribution_steps.Steps):
    """What the fixes made of document 000, one method per fix; no state."""

    form = FORM
    cipher: Cipher = Gcm()

    def answer(self, nonce: bytes) -> bytes:
        """F1.2: one form of answer, N - 1 modulo 2^256."""
        return ((int.from_bytes(nonce, "big") - 1) % _MODULUS).to_bytes(NONCE, "big")

    def answers_to(self, i: int, n: int) -> tuple[int, ...]:
        """F1.3: everybody answers everybody, so each member has proof that each other is alive."""
        return tuple(j for j in range(n) if j != i)

    def combine(self, th: bytes, contributions: tuple[bytes, ...]) -> bytes:
        """F1.4: the key is HKDF of the nonces in roster order, 32 bytes each, with salt th and a label."""
        return hkdf(th, b"".join(contributions), labelled("nonces K"))


# --- answers ------------------------------------------------------------------------------------------------


def _answers_aead(kc: bytes, i: int) -> Aead:
    return Aead.aes_gcm(derive(kc, "nonces answers", i))


def seal_answers(kc: bytes, th: bytes, i: int, answers: Sequence[tuple[int, bytes]]) -> bytes:
    """A_i: member i's answers, readable by those who hold the key."""
    return _answers_aead(kc, i).seal(ZERO_NONCE, enc([[j, answer] for j, answer in answers]), th)


def open_answers(kc: bytes, th: bytes, i: int, sealed: bytes) -> tuple[tuple[int, bytes], ...]:
    """The answers of member i; PeerError("bad_answer")."""
    try:
        fields = Fields.decode(_answers_aead(kc, i).open(ZERO_NONCE, sealed, th), "answers")
        found = rows(fields.array("answers", MEMBERS), NONCE)
        fields.end()
        return found
    except PeerError as error:
        raise PeerError("bad_answer", "answers that do not open") from error


def answers_digest(answers: Sequence[tuple[int, bytes]]) -> bytes:
    """What is kept of the answers that a member owes, 32 bytes: each of them has a nonce's entropy."""
    return hash_of("nonces owed", [[j, answer] for j, answer in answers])


@check("NON-01")
def check_answers(answers: Sequence[tuple[int, bytes]], owed: bytes) -> None:
    """PeerError("bad_answer") unless each answer, to me and to the others, is the nonce less one, in constant time.

    Who judged only the answer to itself would refuse a confirm that the others take, and be left behind by them.
    """
    if not hmac.compare_digest(answers_digest(answers), owed):
        raise PeerError("bad_answer", check="NON-01")
