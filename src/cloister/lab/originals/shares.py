"""Document 001 without the fixes F2.1 to F2.9: each class takes one fix of suite `shares` back.

Source: docs/spec/classic/shares.md, document 001. `lab.attacks.shares` aims an attack at each.

- SignedNonce (F2.1)   a login is a nonce and a timestamp, signed: who records one logs in with it again.
- NoCommitment (F2.2)  nothing binds a share: who speaks last chooses the key, down to the last bit.
- Copyable (F2.3)      a share may be another's, and shares may cancel out.
- RawXor (F2.4)        the XOR of the shares is the AES and the HMAC key of all members.
- Unsigned (F2.7)      a message bears an HMAC under the shared key and no signature: any member speaks for any other.
- NoConfirm (F2.8)     the key counts at once: members with different keys do not notice.
- NoWrap (F2.9)        an RSA key stolen later opens every run.
- RollsBack (Restore)  a copy that is put back writes on with its old keys and numbers: a two-time pad.
- Document             all steps, the protocol as published (its order of messages apart).

F2.5 (`certs.pkl`) and F2.6 (`Final session key Kabc = ...`) are a file and a line of output: tests show both.
A subject of an attack is the suite object with its `door`, where a device logs in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from cloister.errors import PeerError
from cloister.lab.originals import taken_back
from cloister.primitives import Rng
from cloister.primitives.dh import DhKey
from cloister.primitives.labelled import Signer, Verifier, hash_of, sign, verify
from cloister.primitives.signature import SigningKey, VerifyKey
from cloister.protocols.interface import READ_ONLY_ITEM, Me, Session
from cloister.protocols.record import Cipher, CtrHmac, Schedule
from cloister.protocols.shares.suite import Shares, Steps, xor
from cloister.wire import limits, login
from cloister.wire.frames import Challenge, Hello, Login


class Door:
    """The relay's door as the product has it (`wire.login`): what the relay says, what a device answers, who comes in.

    `tls` (32 bytes) stands for the connection: each of them has the same certificate.
    """

    tls = bytes(32)

    def __init__(self, relay: SigningKey, device: VerifyKey) -> None:
        self.relay, self.device = relay, device

    def challenge(self, first: Hello, now: int, rng: Rng) -> Challenge:
        """L2."""
        return login.challenge(first, "relay", self.relay, self.relay.public.raw, [], self.tls, now, rng)

    def answer(self, first: Hello, second: Challenge, key: SigningKey, now: int) -> Login:
        """L3, by the device."""
        return login.login(first, second, key, [], self.tls, now)

    def admit(self, first: Hello, second: Challenge, third: Login, now: int) -> None:
        """PeerError unless the device is let in."""
        login.check_login(first, second, third, self.device, self.tls, now)


class SignedNonce(Door):
    """Without F2.1: the client's own nonce and time, signed; the relay adds nothing that is new each time."""

    def answer(self, first: Hello, second: Challenge, key: SigningKey, now: int) -> Login:
        """The signature is over the client's nonce and timestamp."""
        return Login(chain=[], ts_ms=now, signature=sign(key, "document 001 login", first.nonce, now))

    def admit(self, first: Hello, second: Challenge, third: Login, now: int) -> None:
        """The timestamp is recent and the signature is good."""
        if abs(now - third.ts_ms) > limits.CLOCK.value:
            raise PeerError("stale_timestamp")
        verify(self.device, third.signature, "document 001 login", first.nonce, third.ts_ms)


class NoCommitment(Steps):
    """Without F2.2: what stands in the place of a commitment says nothing about the share."""

    variant = "original F2.2"

    def commitment(self, ctx: bytes, i: int, contribution: bytes, opening: bytes) -> bytes:
        """A constant for each who commits."""
        return hash_of("document 001", ctx, self.committer(i))


class Copyable(Steps):
    """Without F2.3: nothing says whose a share is, and nobody looks whether they cancel out."""

    variant = "original F2.3"

    def committer(self, i: int) -> object:
        """Nobody."""
        return None

    def distinct(self, commitment: bytes, others: list[bytes]) -> None:
        """Whatever it is."""

    def refuse_cancelled(self, combined: bytes) -> None:
        """Whatever it is."""


class RawXor(Steps):
    """Without F2.4: the XOR itself is the key, for every member's messages."""

    variant = "original F2.4"

    def combine(self, th: bytes, contributions: tuple[bytes, ...]) -> bytes:
        """The XOR, if it is let through."""
        combined = xor(contributions)
        self.refuse_cancelled(combined)
        return combined

    def split(self, th: bytes, key: bytes, n: int) -> Schedule:
        """One key for all senders."""
        return replace(super().split(th, key, n), chains=(key,) * n)


class _NoSignature(CtrHmac):
    """AES and HMAC, and nobody signs."""

    def sign(self, key: Signer, label: str, *items: object) -> bytes:
        """Nothing."""
        return b""

    def verify(self, key: Verifier, signature: bytes, label: str, *items: object) -> None:
        """Whatever it is."""


class Unsigned(Steps):
    """Without F2.7: who holds the shared key is whoever he says."""

    variant = "original F2.7"
    cipher: Cipher = _NoSignature()


class NoConfirm(Steps):
    """Without F2.8: nobody waits for anybody's confirmation."""

    variant = "original F2.8"

    def confirms_needed(self, n: int) -> int:
        """None."""
        return 0


class NoWrap(Steps):
    """Without F2.9: variant fs=0, the RSA ciphertext as it is."""

    variant = "fs=0"

    def wrap(self, ctx: bytes, i: int, j: int, ephemeral: DhKey, peer: bytes, ciphertext: bytes) -> bytes:
        """The RSA ciphertext alone."""
        return ciphertext

    def unwrap(self, ctx: bytes, i: int, j: int, own: DhKey, wrapped: bytes) -> bytes:
        """The RSA ciphertext alone."""
        return wrapped


class Document(NoCommitment, Copyable, RawXor, Unsigned, NoConfirm, NoWrap):
    """Document 001 as it stands."""

    variant = "document 001"


class Subject(Shares):
    """What an attack is aimed at: the suite, and the door (`door` is the class) where devices log in."""

    door: type[Door] = Door


class RollsBack(Subject):
    """Without the rule of restores: a copy that is put back writes on where it was."""

    def restore(self, me: Me, items: Mapping[bytes, bytes]) -> Session:
        """The session, whatever mark it bears."""
        return super().restore(me, {key: value for key, value in items.items() if key != READ_ONLY_ITEM})


FIXES: Final[Mapping[str, type]] = {
    "F2.1": SignedNonce,
    "F2.2": NoCommitment,
    "F2.3": Copyable,
    "F2.4": RawXor,
    "F2.7": Unsigned,
    "F2.8": NoConfirm,
    "F2.9": NoWrap,
    "Restore": RollsBack,
}
_STEPS: Final = {fix: override for fix, override in FIXES.items() if issubclass(override, Steps)}


def product() -> Subject:
    """The suite and the login as people use them."""
    return Subject()


def original(put_back: frozenset[str] = frozenset()) -> Subject:
    """Document 001, but for the fixes that are put back."""
    suite = Subject if "Restore" in put_back else RollsBack
    made = suite(taken_back(Steps, _STEPS, put_back - {"F2.1", "Restore"}, variant=Document.variant))
    if "F2.1" not in put_back:
        made.door = SignedNonce
    return made
