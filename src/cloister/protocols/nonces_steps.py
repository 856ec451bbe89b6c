"""The steps of suite `nonces` that a fix changed, each one function; and the checks and forms of its messages.

Source: docs/spec/classic/nonces.md, document 000. The suite calls these methods and nothing else where a fix matters,
so `lab.originals.nonces` shows what the document did by overriding exactly one of them.

    M1 hello   ["hello", i, c_i, E_i, sig]          c_i = H("nonces commit", ctx, i, N_i, r_i)   E_i X25519, per run
    M2 shares  ["shares", i, [[j, W_j] ...], sig]   W_j = e || AES-GCM(wrap key, OAEP_j(N_i || r_i))
    M3 confirm ["confirm", i, A_i, mac, sig]        A_i = AES-GCM(Expand(kc, "answers", i), [[j, N_j - 1] ...], AD=th)

`i` and `j` are places in the sorted roster, which ctx binds. `kc` is `confirm` of the key schedule.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError
from cloister.primitives.aead import ZERO_NONCE, Aead
from cloister.primitives.dh import KEY_SIZE, DhKey
from cloister.primitives.kdf import hkdf, sha256
from cloister.primitives.labelled import Verifier, derive, hash_of, labelled, mac, sign, verify, verify_mac
from cloister.primitives.rsa import RsaDecryptKey, RsaSigningKey
from cloister.protocols.checks import check, named
from cloister.protocols.context import Party
from cloister.protocols.forms import HASH, SIGNATURE_MOST
from cloister.protocols.record import Schedule

NONCE: Final = 32
OPENING: Final = 32
WRAP_MOST: Final = 1024
MEMBERS: Final = 32
"""The suite's hard limit."""
_MODULUS: Final = 2 ** (8 * NONCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """M1: a commitment to the nonce, and an X25519 key for this run."""

    sender: int
    commitment: bytes
    ephemeral: bytes
    signature: bytes = b""

    def body(self) -> tuple[object, ...]:
        """What is signed after ctx."""
        return self.sender, self.commitment, self.ephemeral


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """M2: the sender's nonce for every other member, one entry for all."""

    sender: int
    wrapped: tuple[tuple[int, bytes], ...]
    signature: bytes = b""

    def body(self) -> tuple[object, ...]:
        """What is signed after ctx."""
        return self.sender, [[j, wrapped] for j, wrapped in self.wrapped]


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirm:
    """M3: the sealed answers, and the proof that the sender holds the key."""

    sender: int
    answers: bytes
    mac: bytes
    signature: bytes = b""

    def body(self) -> tuple[object, ...]:
        """What is signed after th: the MAC too, or a member could break another's MAC and have it blamed."""
        return self.sender, self.answers, self.mac


Message = Hello | Shares | Confirm
KINDS: Final[dict[type[Message], str]] = {Hello: "hello", Shares: "shares", Confirm: "confirm"}


def encode(message: Message) -> bytes:
    """The bytes that are sealed into the run's log."""
    return enc(KINDS[type(message)], *message.body(), message.signature)


def decode(data: bytes) -> Message:
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
            wrapped=_rows(fields.array("shares", MEMBERS), WRAP_MOST),
            signature=fields.octets("signature", most=SIGNATURE_MOST),
        )
    elif kind == "confirm":
        message = Confirm(
            sender=sender,
            answers=fields.octets("answers", most=MEMBERS * 48),
            mac=fields.octets("mac", HASH),
            signature=fields.octets("signature", most=SIGNATURE_MOST),
        )
    else:
        raise PeerError("unsupported", "an unknown handshake message")
    fields.end()
    return message


def _rows(items: list[object], most: int) -> tuple[tuple[int, bytes], ...]:
    """[[place, bytes] ...]; PeerError("bad_encoding")."""
    rows = []
    for item in items:
        row = Fields(item, "row")
        rows.append((row.uint("place", 16), row.octets("bytes", most=most)))
        row.end()
    return tuple(rows)


class Steps:
    """What the fixes made of document 000, one method per fix; no state.

    `encrypt` and `decrypt`, and `wrap` and `unwrap`, are the two directions of one step.
    """

    variant = "fs=1"

    def encrypt(self, party: Party, i: int, j: int, payload: bytes) -> bytes:
        """F1.1: a nonce never travels in clear, each peer gets it under OAEP with a label of this run and pair."""
        return party.encrypt_key(j).encrypt(payload, hash_of("nonces oaep", party.ctx, i, j))

    def decrypt(self, party: Party, key: RsaDecryptKey, i: int, j: int, ciphertext: bytes) -> bytes:
        """F1.1, at the receiver: PeerError("bad_share")."""
        return key.decrypt(ciphertext, hash_of("nonces oaep", party.ctx, i, j))

    def answer(self, nonce: bytes) -> bytes:
        """F1.2: one form of answer, N - 1 modulo 2^256."""
        return ((int.from_bytes(nonce, "big") - 1) % _MODULUS).to_bytes(NONCE, "big")

    def answers_to(self, i: int, n: int) -> tuple[int, ...]:
        """F1.3: everybody answers everybody, so each member has proof that each other is alive."""
        return tuple(j for j in range(n) if j != i)

    def combine(self, th: bytes, nonces: tuple[bytes, ...]) -> bytes:
        """F1.4: the key is HKDF of the nonces in roster order, 32 bytes each, with salt th and a label."""
        return hkdf(th, b"".join(nonces), labelled("nonces K"))

    def commitment(self, ctx: bytes, i: int, nonce: bytes, opening: bytes) -> bytes:
        """F1.5: what binds a member to its nonce before it has seen another's."""
        return hash_of("nonces commit", ctx, i, nonce, opening)

    def confirms_needed(self, n: int) -> int:
        """F1.6: the key counts once all n members have confirmed it."""
        return n

    def wrap(self, ctx: bytes, i: int, j: int, ephemeral: DhKey, peer: bytes, ciphertext: bytes) -> bytes:
        """F1.7: the ciphertext under a key of this run alone, so that an RSA key stolen later opens nothing."""
        key = _wrap_key(ctx, ephemeral.exchange(peer), ephemeral.public, peer, i, j)
        return ephemeral.public + Aead.aes_gcm(key).seal(ZERO_NONCE, ciphertext, enc(ctx, i, j))

    def unwrap(self, ctx: bytes, i: int, j: int, own: DhKey, wrapped: bytes) -> bytes:
        """F1.7, at the receiver: PeerError bad_share or zero_key."""
        public, sealed = wrapped[:KEY_SIZE], wrapped[KEY_SIZE:]
        if len(public) != KEY_SIZE:
            raise PeerError("bad_share")
        key = _wrap_key(ctx, own.exchange(public), public, own.public, i, j)
        try:
            return Aead.aes_gcm(key).open(ZERO_NONCE, sealed, enc(ctx, i, j))
        except PeerError as error:
            raise PeerError("bad_share") from error

    def at_rest(self, key: bytes, schedule: Schedule) -> Schedule:
        """F1.8: what is stored of the agreed key: what follows from it, never the key itself."""
        del key
        return schedule


def _wrap_key(ctx: bytes, shared: bytes, public: bytes, peer: bytes, i: int, j: int) -> bytes:
    return hkdf(ctx, shared, enc("nonces wrap", public, peer, i, j))


# --- transcript, key, answers ------------------------------------------------------------------------------


def transcript(party: Party, hellos: list[tuple[bytes, bytes]]) -> bytes:
    """th: the hash of ctx and all (c_j, E_j) in roster order, 32 bytes."""
    return hash_of("nonces th", party.ctx, [[j, c, e] for j, (c, e) in enumerate(hellos)])


def _answers_aead(kc: bytes, i: int) -> Aead:
    return Aead.aes_gcm(derive(kc, "nonces answers", i))


def seal_answers(kc: bytes, th: bytes, i: int, answers: list[tuple[int, bytes]]) -> bytes:
    """A_i: member i's answers, readable by those who hold the key."""
    return _answers_aead(kc, i).seal(ZERO_NONCE, enc([[j, answer] for j, answer in answers]), th)


def open_answers(kc: bytes, th: bytes, i: int, sealed: bytes) -> tuple[tuple[int, bytes], ...]:
    """The answers of member i; PeerError("bad_answer")."""
    try:
        fields = Fields.decode(_answers_aead(kc, i).open(ZERO_NONCE, sealed, th), "answers")
        rows = _rows(fields.array("answers", MEMBERS), NONCE)
        fields.end()
        return rows
    except PeerError as error:
        raise PeerError("bad_answer", "answers that do not open") from error


def confirm_mac(kc: bytes, th: bytes, i: int, answers: bytes) -> bytes:
    """The proof that member i holds the key, 32 bytes."""
    return mac(kc, "nonces confirm", th, i, answers)


def digest(message: Message) -> bytes:
    """What tells a repetition from a second, other message: the content without its signature."""
    return sha256(enc(KINDS[type(message)], *message.body()))


# --- signatures and checks ---------------------------------------------------------------------------------


def sign_message(key: RsaSigningKey, bound: bytes, message: Message) -> bytes:
    """The signature over `bound` (ctx; for a confirm th) and the body."""
    return sign(key, f"nonces {KINDS[type(message)]}", bound, *message.body())


@check("NON-01")
def check_member(message: Message, n: int) -> None:
    """PeerError("unknown_sender") unless the sender has a place in the run's roster."""
    if message.sender >= n:
        raise PeerError("unknown_sender", check="NON-01")


@check("NON-02")
def check_signed(key: Verifier, bound: bytes, message: Message) -> None:
    """PeerError("bad_sig") unless the named member signed the message, in this run and role."""
    with named("NON-02"):
        verify(key, message.signature, f"nonces {KINDS[type(message)]}", bound, *message.body())


@check("NON-03")
def check_once(known: bytes, message: Message) -> None:
    """PeerError("conflict") when the member has said something else of this kind before."""
    if known and not hmac.compare_digest(known, digest(message)):
        raise PeerError("conflict", "a member said two different things", check="NON-03")


@check("NON-04")
def check_distinct(commitment: bytes, others: list[bytes]) -> None:
    """PeerError("commit_copied") when another member has committed to the same value."""
    if commitment in others:
        raise PeerError("commit_copied", check="NON-04")


@check("NON-05")
def check_ephemeral(own: DhKey, ephemeral: bytes) -> None:
    """PeerError("zero_key") for an X25519 key of small order, which would make every wrap key known."""
    with named("NON-05"):
        own.exchange(ephemeral)


@check("NON-06")
def check_complete(places: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """PeerError("misrouted") unless every other member is served, once and in order."""
    if places != expected:
        raise PeerError("misrouted", "not for every other member once", check="NON-06")


@check("NON-07")
def check_opening(steps: Steps, ctx: bytes, i: int, payload: bytes, commitment: bytes) -> None:
    """PeerError("commit_mismatch") unless N || r is what member i committed to."""
    if len(payload) != NONCE + OPENING:
        raise PeerError("commit_mismatch", check="NON-07")
    opened = steps.commitment(ctx, i, payload[:NONCE], payload[NONCE:])
    if not hmac.compare_digest(opened, commitment):
        raise PeerError("commit_mismatch", check="NON-07")


@check("NON-08")
def check_confirm_mac(kc: bytes, th: bytes, message: Confirm) -> None:
    """PeerError("confirm_mismatch") unless the member holds the same key."""
    with named("NON-08"):
        verify_mac(message.mac, kc, "nonces confirm", th, message.sender, message.answers, code="confirm_mismatch")


def answers_digest(answers: Sequence[tuple[int, bytes]]) -> bytes:
    """What is kept of the answers that a member owes, 32 bytes: each of them has a nonce's entropy."""
    return hash_of("nonces owed", [[j, answer] for j, answer in answers])


@check("NON-09")
def check_answers(answers: Sequence[tuple[int, bytes]], expected: bytes) -> None:
    """PeerError("bad_answer") unless each answer, to me and to the others, is the nonce less one, in constant time.

    Who judged only the answer to itself would refuse a confirm that the others take, and be left behind by them.
    """
    if not hmac.compare_digest(answers_digest(answers), expected):
        raise PeerError("bad_answer", check="NON-09")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mine:
    """This device's secrets of a run: N_i and r_i (32 bytes each) and the X25519 key."""

    nonce: bytes = field(repr=False)
    opening: bytes = field(repr=False)
    ephemeral: bytes = field(repr=False)

    def encode(self) -> bytes:
        """The stored form."""
        return enc(self.nonce, self.opening, self.ephemeral)

    @classmethod
    def decode(cls, data: bytes) -> Mine:
        """What `encode` gave."""
        fields = Fields.decode(data, "mine")
        mine = cls(
            nonce=fields.octets("nonce", NONCE),
            opening=fields.octets("opening", OPENING),
            ephemeral=fields.octets("ephemeral", KEY_SIZE),
        )
        fields.end()
        return mine
