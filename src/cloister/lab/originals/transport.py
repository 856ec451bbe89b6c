"""Document 002 without the fixes F3.1 to F3.9: each class takes one fix of suite `transport` back.

Source: docs/spec/classic/transport.md, document 002 and the code that it was published with. What an attack is aimed
at is the suite object itself. F3.5 and F3.10 are fixes of files and formats: tests show them.

- NoLabel (F3.1)        OAEP without a label: a ciphertext opens wherever it is found. (The document's SHA-1 and 1024
                        bits are not taken back: no key of that size can be made or read here.)
- OneSided (F3.2)       `now - ts <= 10` alone: the future never ends, nothing is remembered, no epoch is compared.
- NoCommitment (F3.3)   nothing says that all were given one key, and nobody acknowledges it.
- AnyInvite (F3.4)      whoever invites is followed; beside the key stands no name.
- CiphertextOnly (F3.6) the signature covers SHA-256 of the ciphertext; number, sender and length are anybody's.
- NoMac (F3.7)          one key for all senders, its counter beside the ciphertext, no tag.
- OneDigit (F3.8)       one key for all messages; of the number last seen one digit is kept.
- Exit (F3.9)           an old number ends the process.
- Document              all of them, the protocol as published.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cloister.errors import PeerError
from cloister.lab.originals import taken_back
from cloister.primitives.aead import aes_ctr
from cloister.primitives.kdf import sha256
from cloister.primitives.rsa import RsaDecryptKey, RsaEncryptKey
from cloister.protocols.interface import DeviceId
from cloister.protocols.ratchet import Advance, MessageKey, RecvChain, SendChain, message_key, split
from cloister.protocols.record import Header, Schedule
from cloister.protocols.transport.steps import Steps, Terms
from cloister.protocols.transport.suite import Transport

_COUNTER: Final = 8
_SECONDS: Final = 1000


class NoLabel(Steps):
    """Without F3.1: nothing binds a ciphertext to its invitation."""

    def encrypt(self, key: RsaEncryptKey, ctx: bytes, to: DeviceId, payload: bytes) -> bytes:
        """No label."""
        return key.encrypt(payload, b"")

    def decrypt(self, key: RsaDecryptKey, ctx: bytes, to: DeviceId, ciphertext: bytes) -> bytes:
        """No label."""
        return key.decrypt(ciphertext, b"")


class OneSided(Steps):
    """Without F3.2: the document's own comparison."""

    def fresh(self, ts: int, now: int) -> bool:
        """Not older than ten seconds; however much later."""
        return now - ts <= 10 * _SECONDS

    def once(self, seen: bool) -> bool:
        """As often as it comes."""
        return True

    def follows(self, epoch: int, held: int) -> bool:
        """There are no epochs."""
        return True


class NoCommitment(Steps):
    """Without F3.3: an invitation says nothing about the others'."""

    def key_hash(self, ctx: bytes, inviter: DeviceId, key: bytes) -> bytes:
        """A constant."""
        return bytes(32)

    def common(self, key: bytes, ctx: bytes) -> bytes:
        """The room is the same whatever key one has."""
        return sha256(ctx)

    def acks_needed(self, others: int) -> int:
        """None."""
        return 0


class AnyInvite(Steps):
    """Without F3.4: what can be decrypted is followed."""

    def may_invite(self, allowed: bool) -> bool:
        """Everybody."""
        return True

    def inside(self, terms: Terms) -> bytes:
        """The key alone."""
        return b""


class CiphertextOnly(Steps):
    """Without F3.6: the header is not signed."""

    def signed(self, header: Header, ciphertext: bytes, tag: bytes) -> tuple[object, ...]:
        """SHA-256 of the ciphertext."""
        return (sha256(ciphertext),)


class NoMac(Steps):
    """Without F3.7: the group's one key, in counter mode and nothing else."""

    def chains(self, agreed: Schedule) -> tuple[bytes, ...]:
        """Everybody has the same."""
        return tuple(agreed.chains[0] for _ in agreed.chains)

    def seal(self, key: MessageKey, seq: int, plaintext: bytes, ad: bytes) -> tuple[bytes, bytes]:
        """The counter, the ciphertext, no tag."""
        counter = seq.to_bytes(_COUNTER, "big")
        return counter + aes_ctr(key.cipher, counter + bytes(_COUNTER), plaintext), b""

    def open(self, key: MessageKey, seq: int, ciphertext: bytes, tag: bytes, ad: bytes) -> bytes:
        """Whatever comes of it."""
        return aes_ctr(key.cipher, ciphertext[:_COUNTER] + bytes(_COUNTER), ciphertext[_COUNTER:])


class OneDigit(Steps):
    """Without F3.8: `table[rcvIndex]` is one character of the number that was seen last."""

    def step(self, chain: SendChain) -> tuple[MessageKey, SendChain]:
        """One key for all messages."""
        return split(message_key(chain.key)), SendChain(chain.seq + 1, chain.key)

    def advance(self, chain: RecvChain, seq: int, kept: bytes | None) -> Advance:
        """A number above the digit is new."""
        if chain.seq and seq <= int(str(chain.seq - 1)[0]):
            raise PeerError("replay", "not above the last number's first digit")
        return Advance(split(message_key(chain.key)), RecvChain(seq + 1, chain.key))


class Exit(Steps):
    """Without F3.9: `sys.exit(1)`."""

    def refusal(self, error: PeerError) -> PeerError:
        """An old number ends the process."""
        if error.code == "replay":
            raise SystemExit(1)
        return error


class Document(NoLabel, OneSided, NoCommitment, AnyInvite, CiphertextOnly, NoMac, OneDigit, Exit):
    """Document 002 as it stands."""

    variants = ("document 002",)


FIXES: Final[Mapping[str, type]] = {
    "F3.1": NoLabel,
    "F3.2": OneSided,
    "F3.3": NoCommitment,
    "F3.4": AnyInvite,
    "F3.6": CiphertextOnly,
    "F3.7": NoMac,
    "F3.8": OneDigit,
    "F3.9": Exit,
}


def product() -> Transport:
    """The suite as people use it."""
    return Transport()


def original(put_back: frozenset[str] = frozenset()) -> Transport:
    """Document 002, but for the fixes that are put back."""
    return Transport(taken_back(Steps, FIXES, put_back, variants=Document.variants))
