"""What `nonces` and `shares` say to each other, the steps that fixes changed in both, and the checks of both.

Source: docs/spec/classic/contributions.md, documents 000 and 001. The machine of a run calls these methods and nothing
else where a fix matters, so `lab.originals` shows what a document did by overriding exactly one of them.

    M1 hello   ["hello", i, c_i, E_i, sig]          c_i = H("SUITE commit", ctx, i, s_i, r_i)   E_i X25519, per run
    M2 shares  ["shares", i, [[j, W_j] ...], sig]   W_j = e || AES-GCM(wrap key, OAEP_j(s_i || r_i))
    M3 confirm ["confirm", i, mac, sig]             `nonces` has sealed answers before the mac

`i` and `j` are places in the sorted roster, which ctx binds; s_i is member i's contribution to the key: its nonce in
`nonces`, its share in `shares`. The MAC's key is `confirm` of the key schedule.
"""

from __future__ import annotations

import hmac
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError
from cloister.primitives.aead import ZERO_NONCE, Aead
from cloister.primitives.dh import KEY_SIZE, DhKey
from cloister.primitives.kdf import hkdf, sha256
from cloister.primitives.labelled import Verifier, hash_of, mac, sign, verify, verify_mac
from cloister.primitives.rsa import RsaDecryptKey, RsaSigningKey
from cloister.protocols.checks import check, named
from cloister.protocols.context import Party
from cloister.protocols.forms import HASH, SIGNATURE_MOST
from cloister.protocols.interface import Caps, SenderAuth
from cloister.protocols.record import Cipher, Schedule, schedule

CONTRIBUTION: Final = 32
OPENING: Final = 32
WRAP_MOST: Final = 1024
MEMBERS: Final = 32
"""The hard limit of both suites: their cost grows with the square of the members."""
_PHRASES: Final[Mapping[str, str]] = {
    "entity authentication": "mutual, RSA certificates, all pairs",
    "message origin": "RSA-PSS signature",
    "forward secrecy": "for each run, and for each message within it",
    "post-compromise security": "at the next run, if the signing key was not stolen",
    "contributory": "yes, all members, unbiased except by visible abort",
    "size": f"2 to {MEMBERS} devices, cost grows with the square",
    "join while offline": "no: several visits, not at the same time",
    "relay trust": "none for content; liveness; order is checked by the log's chain",
    "replay": "context, and a window over message numbers",
    "key confirmation": "all members, explicit",
    "post-quantum": "no",
    "limits": "an absent member is waited for, then parked",
}


def caps_of(suite: str, phrases: Mapping[str, str] = MappingProxyType({})) -> Caps:
    """What a suite gives in which every member contributes; `phrases` that it has of its own."""
    return Caps(
        suite=suite,
        max_members=MEMBERS,
        contributory=True,
        async_join=False,
        external_join=False,
        rounds_online=4,
        identity="x509",
        user_gate=None,
        forward_secrecy=True,
        post_compromise=True,
        post_quantum=False,
        sender_auth=SenderAuth.SIGNATURE,
        phrases={**_PHRASES, **phrases},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """M1: a commitment to the contribution, and an X25519 key for this run."""

    sender: int
    commitment: bytes
    ephemeral: bytes
    signature: bytes = b""

    def body(self) -> tuple[object, ...]:
        """What is signed after ctx."""
        return self.sender, self.commitment, self.ephemeral


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """M2: the sender's contribution for every other member, one entry for all."""

    sender: int
    wrapped: tuple[tuple[int, bytes], ...]
    signature: bytes = b""

    def body(self) -> tuple[object, ...]:
        """What is signed after ctx."""
        return self.sender, [[j, wrapped] for j, wrapped in self.wrapped]


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirm:
    """M3: the proof that the sender holds the key; `answers` where the suite has its members say more, else None."""

    sender: int
    answers: bytes | None = None
    mac: bytes
    signature: bytes = b""

    def body(self) -> tuple[object, ...]:
        """What is signed after th: the MAC too, or a member could break another's MAC and have it blamed."""
        if self.answers is None:
            return self.sender, self.mac
        return self.sender, self.answers, self.mac


Message = Hello | Shares | Confirm
KINDS: Final[dict[type[Message], str]] = {Hello: "hello", Shares: "shares", Confirm: "confirm"}


def encode(message: Message) -> bytes:
    """The bytes that are sealed into the run's log."""
    return enc(KINDS[type(message)], *message.body(), message.signature)


def digest(message: Message) -> bytes:
    """What tells a repetition from a second, other message: the content without its signature."""
    return sha256(enc(KINDS[type(message)], *message.body()))


def rows(items: list[object], most: int) -> tuple[tuple[int, bytes], ...]:
    """[[place, bytes] ...]; PeerError("bad_encoding")."""
    found = []
    for item in items:
        row = Fields(item, "row")
        found.append((row.uint("place", 16), row.octets("bytes", most=most)))
        row.end()
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How one suite's messages are read, signed and hashed: `suite` names every label, `answered` the form of M3."""

    suite: str
    answered: bool

    def decode(self, data: bytes) -> Message:
        """What `encode` gave; PeerError bad_encoding, or unsupported for another kind."""
        fields = Fields.decode(data, "message")
        kind = fields.text("kind", 16)
        sender = fields.uint("sender", 16)
        message: Message
        if kind == "hello":
            message = Hello(
                sender=sender,
                commitment=fields.octets("commitment", HASH),
                ephemeral=fields.octets("ephemeral", KEY_SIZE),
                signature=fields.octets("signature", most=SIGNATURE_MOST),
            )
        elif kind == "shares":
            message = Shares(
                sender=sender,
                wrapped=rows(fields.array("shares", MEMBERS), WRAP_MOST),
                signature=fields.octets("signature", most=SIGNATURE_MOST),
            )
        elif kind == "confirm":
            message = Confirm(
                sender=sender,
                answers=fields.octets("answers", most=MEMBERS * 48) if self.answered else None,
                mac=fields.octets("mac", HASH),
                signature=fields.octets("signature", most=SIGNATURE_MOST),
            )
        else:
            raise PeerError("unsupported", "an unknown handshake message")
        fields.end()
        return message

    def sign(self, key: RsaSigningKey, bound: bytes, message: Message) -> bytes:
        """The signature over `bound` (ctx; for a confirm th) and the body."""
        return sign(key, f"{self.suite} {KINDS[type(message)]}", bound, *message.body())

    def transcript(self, party: Party, hellos: list[tuple[bytes, bytes]]) -> bytes:
        """th: the hash of ctx and all (c_j, E_j) in roster order, 32 bytes."""
        return hash_of(f"{self.suite} th", party.ctx, [[j, c, e] for j, (c, e) in enumerate(hellos)])

    def confirm_mac(self, kc: bytes, th: bytes, i: int, answers: bytes | None) -> bytes:
        """The proof that member i holds the key, 32 bytes."""
        return mac(kc, f"{self.suite} confirm", *_confirmed(th, i, answers))


def _confirmed(th: bytes, i: int, answers: bytes | None) -> tuple[object, ...]:
    return (th, i) if answers is None else (th, i, answers)


# --- steps --------------------------------------------------------------------------------------------------


class Steps(ABC):
    """What the fixes made of both documents, one method per fix; no state.

    `encrypt` and `decrypt`, and `wrap` and `unwrap`, are the two directions of one step.
    """

    form: Form
    variant = "fs=1"
    cipher: Cipher
    """F2.7: how records are protected, and that their sender signs them: a MAC under K does not say who spoke."""

    def encrypt(self, party: Party, i: int, j: int, payload: bytes) -> bytes:
        """F1.1: nothing travels in clear, each peer gets it under OAEP with a label of this run and pair."""
        return party.encrypt_key(j).encrypt(payload, self._oaep_label(party, i, j))

    def decrypt(self, party: Party, key: RsaDecryptKey, i: int, j: int, ciphertext: bytes) -> bytes:
        """F1.1, at the receiver: PeerError("bad_share")."""
        return key.decrypt(ciphertext, self._oaep_label(party, i, j))

    def _oaep_label(self, party: Party, i: int, j: int) -> bytes:
        return hash_of(f"{self.form.suite} oaep", party.ctx, i, j)

    def commitment(self, ctx: bytes, i: int, contribution: bytes, opening: bytes) -> bytes:
        """F1.5, F2.2: what binds a member to its contribution before it has seen another's."""
        return hash_of(f"{self.form.suite} commit", ctx, self.committer(i), contribution, opening)

    def committer(self, i: int) -> object:
        """F2.3: who commits stands in the commitment, so that nobody can open another's as his own."""
        return i

    def distinct(self, commitment: bytes, others: list[bytes]) -> None:
        """F2.3: equal commitments are refused; PeerError("commit_copied")."""
        check_distinct(commitment, others)

    @abstractmethod
    def combine(self, th: bytes, contributions: tuple[bytes, ...]) -> bytes:
        """K, 32 bytes, from the contributions in roster order; PeerError for contributions that cancel out."""

    def split(self, th: bytes, key: bytes, n: int) -> Schedule:
        """K3, F2.4: keys of each sender's own, and others to confirm and to export, from K."""
        return schedule(self.form.suite, th, key, n)

    def confirms_needed(self, n: int) -> int:
        """F1.6, F2.8: the key counts once all n members have confirmed it."""
        return n

    def wrap(self, ctx: bytes, i: int, j: int, ephemeral: DhKey, peer: bytes, ciphertext: bytes) -> bytes:
        """F1.7, F2.9: the ciphertext under a key of this run alone: an RSA key stolen later opens nothing."""
        key = self._wrap_key(ctx, ephemeral.exchange(peer), ephemeral.public, peer, i, j)
        return ephemeral.public + Aead.aes_gcm(key).seal(ZERO_NONCE, ciphertext, enc(ctx, i, j))

    def unwrap(self, ctx: bytes, i: int, j: int, own: DhKey, wrapped: bytes) -> bytes:
        """F1.7, F2.9, at the receiver: PeerError bad_share or zero_key."""
        public, sealed = wrapped[:KEY_SIZE], wrapped[KEY_SIZE:]
        if len(public) != KEY_SIZE:
            raise PeerError("bad_share")
        key = self._wrap_key(ctx, own.exchange(public), public, own.public, i, j)
        try:
            return Aead.aes_gcm(key).open(ZERO_NONCE, sealed, enc(ctx, i, j))
        except PeerError as error:
            raise PeerError("bad_share") from error

    def _wrap_key(self, ctx: bytes, shared: bytes, public: bytes, peer: bytes, i: int, j: int) -> bytes:
        return hkdf(ctx, shared, enc(f"{self.form.suite} wrap", public, peer, i, j))

    def at_rest(self, key: bytes, made: Schedule) -> Schedule:
        """F1.8, F2.6: what is kept and shown of the agreed key: what follows from it, never the key itself."""
        del key
        return made


# --- checks -------------------------------------------------------------------------------------------------


@check("CON-01")
def check_member(message: Message, n: int) -> None:
    """PeerError("unknown_sender") unless the sender has a place in the run's roster."""
    if message.sender >= n:
        raise PeerError("unknown_sender", check="CON-01")


@check("CON-02")
def check_signed(form: Form, key: Verifier, bound: bytes, message: Message) -> None:
    """PeerError("bad_sig") unless the named member signed the message, in this run and role."""
    with named("CON-02"):
        verify(key, message.signature, f"{form.suite} {KINDS[type(message)]}", bound, *message.body())


@check("CON-03")
def check_once(known: bytes, message: Message) -> None:
    """PeerError("conflict") when the member has said something else of this kind before."""
    if known and not hmac.compare_digest(known, digest(message)):
        raise PeerError("conflict", "a member said two different things", check="CON-03")


@check("CON-04")
def check_distinct(commitment: bytes, others: list[bytes]) -> None:
    """PeerError("commit_copied") when another member has committed to the same value."""
    if commitment in others:
        raise PeerError("commit_copied", check="CON-04")


@check("CON-05")
def check_ephemeral(own: DhKey, ephemeral: bytes) -> None:
    """PeerError("zero_key") for an X25519 key of small order, which would make every wrap key known."""
    with named("CON-05"):
        own.exchange(ephemeral)


@check("CON-06")
def check_complete(places: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """PeerError("misrouted") unless every other member is served, once and in order."""
    if places != expected:
        raise PeerError("misrouted", "not for every other member once", check="CON-06")


@check("CON-07")
def check_opening(steps: Steps, ctx: bytes, i: int, payload: bytes, commitment: bytes) -> None:
    """PeerError("commit_mismatch") unless the contribution and opening are what member i committed to."""
    if len(payload) != CONTRIBUTION + OPENING:
        raise PeerError("commit_mismatch", check="CON-07")
    opened = steps.commitment(ctx, i, payload[:CONTRIBUTION], payload[CONTRIBUTION:])
    if not hmac.compare_digest(opened, commitment):
        raise PeerError("commit_mismatch", check="CON-07")


@check("CON-08")
def check_confirm_mac(form: Form, kc: bytes, th: bytes, message: Confirm) -> None:
    """PeerError("confirm_mismatch") unless the member holds the same key."""
    with named("CON-08"):
        proved = _confirmed(th, message.sender, message.answers)
        verify_mac(message.mac, kc, f"{form.suite} confirm", *proved, code="confirm_mismatch")
