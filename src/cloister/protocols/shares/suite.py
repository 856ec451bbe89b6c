"""Suite `shares`: every member gives every other a share, K = HKDF of the XOR of all; AES-CTR + HMAC (document 001).

Source: docs/spec/classic/shares.md. The run's machine stands in `contributions`, the steps and checks that `nonces`
has as well in `contributions.steps`; the login of the document is the whole product's (`wire.login`), its certificates
are the realm's (`identity.realm`).

    M1 hello   ["hello", i, c_i, E_i, sig]          M2 shares  ["shares", i, [[j, W_j] ...], sig]
    M3 confirm ["confirm", i, mac, sig]             K = HKDF(salt=th, s_1 xor ... xor s_n, "shares K")

Invariants
- Stateless: a room's state is its session's, which is nothing but its items.
- Shares wait at the relay for whoever is not connected, signed and encrypted, until the run's deadline.
- Left out: the document's order, in which shares come first and nobody has committed (`lab.originals.shares`).
"""

from __future__ import annotations

from typing import Final

from cloister.errors import PeerError
from cloister.primitives.kdf import hkdf
from cloister.primitives.labelled import labelled
from cloister.protocols.checks import check
from cloister.protocols.contributions import steps as contribution_steps
from cloister.protocols.contributions.agreement import Contributions
from cloister.protocols.contributions.steps import CONTRIBUTION, Form, caps_of
from cloister.protocols.record import CTR_HMAC, Cipher
from cloister.protocols.rounds.suite import RoundsSuite

FORM: Final = Form(suite="shares", answered=False)
CAPS: Final = caps_of(
    FORM.suite,
    {
        "join while offline": "no: several visits, not at the same time; shares wait at the relay",
        "replay": "context, a window over message numbers, and a MAC before anything is decrypted",
    },
)


def xor(shares: tuple[bytes, ...]) -> bytes:
    """The XOR of all shares, 32 bytes."""
    total = 0
    for share in shares:
        total ^= int.from_bytes(share, "big")
    return total.to_bytes(CONTRIBUTION, "big")


@check("SHA-01")
def check_not_cancelled(combined: bytes) -> None:
    """PeerError("zero_key") when the shares cancel out: their XOR would be known to everybody."""
    if not any(combined):
        raise PeerError("zero_key", "the shares cancel each other out", check="SHA-01")


class Steps(contribution_steps.Steps):
    """What the fixes made of document 001, one method per fix; no state."""

    form = FORM
    cipher: Cipher = CTR_HMAC

    def combine(self, th: bytes, contributions: tuple[bytes, ...]) -> bytes:
        """F2.4: the XOR of the shares is never a key itself; HKDF of it, with salt th and a label, is."""
        combined = xor(contributions)
        self.refuse_cancelled(combined)
        return hkdf(th, combined, labelled("shares K"))

    def refuse_cancelled(self, combined: bytes) -> None:
        """F2.3: shares that cancel each other out are no key; PeerError("zero_key")."""
        check_not_cancelled(combined)


class ShareAgreement(Contributions[Steps]):
    """The agreement of suite `shares`: contributions are shares, a confirm says that the key is held."""


class Shares(RoundsSuite):
    """The suite; `steps` other than the fixed ones come from the lab and the tests."""

    agreement: ShareAgreement

    def __init__(self, steps: Steps | None = None) -> None:
        super().__init__(CAPS, ShareAgreement(steps or Steps()))
