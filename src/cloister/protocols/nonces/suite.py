"""Suite `nonces`: certificates, nonces exchanged by all, K = HKDF of all nonces, AES-256-GCM records (document 000).

Source: docs/spec/classic/nonces.md. The run's machine stands in `contributions`, the steps that fixes changed and the
checks in `contributions.steps` and `steps`, the life of a room (epochs, members, commits) in `rounds`.

Invariants
- Stateless: a room's state is its session's, which is nothing but its items.
- The confirm carries the answers to all nonces, sealed; all members judge all of them.
- The study variant of the document (no forward secrecy) is not here: `lab.originals.nonces` overrides a step.
- Left out: prekeys and external joins, which a suite with rounds has no use for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cloister.errors import PeerError
from cloister.protocols.contributions import steps as contribution_steps
from cloister.protocols.contributions.agreement import Contributions
from cloister.protocols.contributions.steps import Confirm, caps_of
from cloister.protocols.nonces import steps as nonces_steps
from cloister.protocols.nonces.steps import FORM, Steps, answers_digest, open_answers, seal_answers
from cloister.protocols.record import Schedule
from cloister.protocols.rounds.suite import RoundsSuite

CAPS: Final = caps_of(FORM.suite)


class NonceAgreement(Contributions[Steps]):
    """The agreement of suite `nonces`: contributions are nonces, and a confirm answers all of them."""

    def _answers_of(self, i: int, nonces: Sequence[bytes]) -> list[tuple[int, bytes]]:
        return [(j, self.steps.answer(nonces[j])) for j in self.steps.answers_to(i, len(nonces))]

    def owed(self, i: int, contributions: Sequence[bytes]) -> bytes:
        """The digest of the answers of member i, 32 bytes."""
        return answers_digest(self._answers_of(i, contributions))

    def answers(self, agreed: Schedule, me: int, contributions: Sequence[bytes]) -> bytes:
        """The own answers, sealed."""
        return seal_answers(agreed.confirm, agreed.th, me, self._answers_of(me, contributions))

    def judge(self, agreed: Schedule, confirm: Confirm, owed: bytes, n: int) -> None:
        """PeerError misrouted or bad_answer unless the confirm answers all nonces."""
        if confirm.answers is None:
            raise PeerError("bad_answer")
        answers = open_answers(agreed.confirm, agreed.th, confirm.sender, confirm.answers)
        expected = self.steps.answers_to(confirm.sender, n)
        contribution_steps.check_complete(tuple(j for j, _ in answers), expected)
        nonces_steps.check_answers(answers, owed)


class Nonces(RoundsSuite):
    """The suite; `steps` other than the fixed ones come from the lab and the tests."""

    agreement: NonceAgreement

    def __init__(self, steps: Steps | None = None) -> None:
        super().__init__(CAPS, NonceAgreement(steps or Steps()))
