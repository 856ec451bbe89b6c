"""From an agreed secret to protected messages: key schedule, records, and the envelope around them.

Source: docs/spec/record.md; A.0 of the protocols ("Secret -> keys", "Record"), fixes K3 and K4.

    PRK = HKDF-Extract(salt=th, K)    ck_i, confirm, exporter, resume, key_check = Expand(PRK, ...)
    record   = [hdr=[th, sender, seq, kind, entry_id, signed head], ct, tag, sig]
    envelope = AES-256-GCM(HKDF(exporter "envelope", entry_id), nonce 0, record, AD=enc(room, kind))

Order of checks: epoch known and envelope opens -> th known -> sender in roster -> inner and outer agree -> number not
in the window -> MAC or AEAD -> signature -> the caller delivers and moves the chain. A bad message moves nothing.

Invariants
- K and PRK are never stored; nothing that is stored leads back to a chain key of an earlier step.
- A message key seals one message, an envelope key one entry (its id is drawn at random).
- The log shows no sender; inside, the signature says who spoke, for K is known to all members.
- The cipher belongs to the suite: AES-256-GCM here, AES-256-CTR with HMAC for `shares` and `transport`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError, UsageError
from cloister.primitives.aead import NONCE_SIZE, TAG_SIZE, ZERO_NONCE, Aead, aes_ctr
from cloister.primitives.kdf import extract
from cloister.primitives.labelled import Signer, Verifier, derive, mac, sign, verify, verify_mac
from cloister.protocols.checks import check, named
from cloister.protocols.forms import HASH, ID, SIGNATURE_MOST, head_items, read_head
from cloister.protocols.interface import EntryId, SignedHead
from cloister.protocols.ratchet import Advance, MessageKey, RecvChain, SendChain, advance

CONTENT_MOST: Final = 64 * 1024 - 1280
"""Bytes of content in one record; with header, signature and envelope it stays below 64 KiB."""
ACCESS_LABEL: Final = "cloister relay access"


class Cipher(Protocol):
    """How a suite protects a message: its bytes under one message key, what is signed, where keys come from."""

    def seal(self, key: MessageKey, seq: int, plaintext: bytes, ad: bytes) -> tuple[bytes, bytes]:
        """Ciphertext and tag."""
        ...

    def open(self, key: MessageKey, seq: int, ciphertext: bytes, tag: bytes, ad: bytes) -> bytes:
        """The plaintext, or PeerError("bad_tag")."""
        ...

    def signed(self, header: Header, ciphertext: bytes, tag: bytes) -> tuple[object, ...]:
        """What the sender signs."""
        ...

    def sign(self, key: Signer, label: str, *items: object) -> bytes:
        """The proof of who sealed the message, at most 1,024 bytes."""
        ...

    def verify(self, key: Verifier, signature: bytes, label: str, *items: object) -> None:
        """PeerError("bad_sig") unless the owner of the key sealed the message."""
        ...

    def step(self, chain: SendChain) -> tuple[MessageKey, SendChain]:
        """The next message's keys, and the own chain after it."""
        ...

    def advance(self, chain: RecvChain, seq: int, kept: bytes | None) -> Advance:
        """What message `seq` needs and does to its sender's chain; PeerError replay or gap."""
        ...


class Chained:
    """What all suites share of a record's protection: what is signed, and the chains that give the keys.

    One method a rule, so that a lab's original can take back one.
    """

    def signed(self, header: Header, ciphertext: bytes, tag: bytes) -> tuple[object, ...]:
        """What the sender signs: header, ciphertext and tag (fix F3.6)."""
        return header.items(), ciphertext, tag

    def sign(self, key: Signer, label: str, *items: object) -> bytes:
        """Its sender signs a message: K is known to all members, a MAC cannot say who spoke (fix F2.7)."""
        return sign(key, label, *items)

    def verify(self, key: Verifier, signature: bytes, label: str, *items: object) -> None:
        """PeerError("bad_sig") unless it is the sender's signature."""
        verify(key, signature, label, *items)

    def step(self, chain: SendChain) -> tuple[MessageKey, SendChain]:
        """The next message's keys, and the own chain after it."""
        return chain.step()

    def advance(self, chain: RecvChain, seq: int, kept: bytes | None) -> Advance:
        """What message `seq` needs and does to its sender's chain; PeerError replay or gap."""
        return advance(chain, seq, kept)


class Gcm(Chained):
    """AES-256-GCM; the nonce is the message's number as 12 bytes, the tag has 16."""

    def seal(self, key: MessageKey, seq: int, plaintext: bytes, ad: bytes) -> tuple[bytes, bytes]:
        """Ciphertext and tag."""
        sealed = Aead.aes_gcm(key.cipher).seal(seq.to_bytes(NONCE_SIZE, "big"), plaintext, ad)
        return sealed[:-TAG_SIZE], sealed[-TAG_SIZE:]

    def open(self, key: MessageKey, seq: int, ciphertext: bytes, tag: bytes, ad: bytes) -> bytes:
        """The plaintext, or PeerError("bad_tag")."""
        if len(tag) != TAG_SIZE:
            raise PeerError("bad_tag")
        return Aead.aes_gcm(key.cipher).open(seq.to_bytes(NONCE_SIZE, "big"), ciphertext + tag, ad)


class CtrHmac(Chained):
    """AES-256-CTR, then HMAC-SHA-256 over header and ciphertext (encrypt-then-MAC).

    The first counter block is the message's number as 8 bytes and 8 zero bytes; the tag has all its 32 bytes.
    """

    def seal(self, key: MessageKey, seq: int, plaintext: bytes, ad: bytes) -> tuple[bytes, bytes]:
        """Ciphertext and tag."""
        ciphertext = aes_ctr(key.cipher, _counter_block(seq), plaintext)
        return ciphertext, mac(key.mac, "record mac", ad, ciphertext)

    def open(self, key: MessageKey, seq: int, ciphertext: bytes, tag: bytes, ad: bytes) -> bytes:
        """The plaintext, or PeerError("bad_tag") before anything is decrypted."""
        check_mac(key, ciphertext, tag, ad)
        return aes_ctr(key.cipher, _counter_block(seq), ciphertext)


def _counter_block(seq: int) -> bytes:
    return seq.to_bytes(8, "big") + bytes(8)


@check("REC-10")
def check_mac(key: MessageKey, ciphertext: bytes, tag: bytes, ad: bytes) -> None:
    """PeerError("bad_tag") unless who sealed the ciphertext under this header held the message key."""
    with named("REC-10"):
        verify_mac(tag, key.mac, "record mac", ad, ciphertext)


CTR_HMAC: Final = CtrHmac()
"""The cipher of suites `shares` and `transport`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Everything that follows from a secret of `n` members: the chain keys in roster order and the named secrets."""

    th: bytes
    chains: tuple[bytes, ...] = field(repr=False)
    confirm: bytes = field(repr=False)
    exporter: bytes = field(repr=False)
    resume: bytes = field(repr=False)
    key_check: str

    def encode(self) -> bytes:
        """The stored form, while the epoch has not begun."""
        return enc(self.th, list(self.chains), self.confirm, self.exporter, self.resume, self.key_check)

    @classmethod
    def decode(cls, data: bytes) -> Schedule:
        """What `encode` gave."""
        fields = Fields.decode(data, "schedule")
        th, chains = fields.octets("th", HASH), fields.array("chains", 256)
        keys = Fields(chains, "chains")
        schedule = cls(
            th=th,
            chains=tuple(keys.octets("chain", HASH) for _ in chains),
            confirm=fields.octets("confirm", HASH),
            exporter=fields.octets("exporter", HASH),
            resume=fields.octets("resume", HASH),
            key_check=fields.text("key check", 32),
        )
        fields.end()
        return schedule


def schedule(suite: str, th: bytes, key: bytes, n: int) -> Schedule:
    """The keys of an epoch of `n` members from its 32-byte secret."""
    prk = extract(th, key)
    shown = derive(prk, f"{suite} key check", length=5).hex()
    return Schedule(
        th=th,
        chains=tuple(derive(prk, f"{suite} chain", i) for i in range(n)),
        confirm=derive(prk, f"{suite} confirm"),
        exporter=derive(prk, f"{suite} exporter"),
        resume=derive(prk, f"{suite} resume"),
        key_check=f"{shown[:5]}-{shown[5:]}",
    )


def export(suite: str, exporter: bytes, label: str, context: bytes, length: int) -> bytes:
    """The exporter: `length` bytes for a label and context, from the epoch's exporter secret."""
    return derive(exporter, f"{suite} export", label, context, length=length)


def access_token(suite: str, exporter: bytes, room: bytes) -> bytes:
    """The 32-byte token that opens the epoch's log."""
    return export(suite, exporter, ACCESS_LABEL, room, 32)


# --- records -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a record is bound to, and how it is protected: one epoch of one room."""

    suite: str
    room: bytes
    th: bytes
    members: int
    exporter: bytes = field(repr=False)
    cipher: Cipher


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The header inside a record; `sender` is a place in the roster."""

    th: bytes
    sender: int
    seq: int
    kind: str
    entry_id: EntryId
    head: SignedHead | None

    def items(self) -> list[object]:
        """The array that is authenticated and signed."""
        return [self.th, self.sender, self.seq, self.kind, self.entry_id, head_items(self.head)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A record out of its envelope, in its shape and not yet believed."""

    header: Header
    ciphertext: bytes
    tag: bytes
    signature: bytes


def _envelope(scope: Scope, entry_id: EntryId) -> Aead:
    return Aead.aes_gcm(export(scope.suite, scope.exporter, "envelope", entry_id, 32))


def seal(
    scope: Scope,
    sender: int,
    chain: SendChain,
    key: Signer,
    content: bytes,
    *,
    kind: str,
    entry_id: EntryId,
    head: SignedHead | None,
) -> tuple[bytes, SendChain]:
    """The sealed entry, and the chain that must be stored before it is sent. UsageError when it is too long."""
    if len(content) > CONTENT_MOST:
        raise UsageError("usage", f"a message has at most {CONTENT_MOST} bytes")
    keys, following = scope.cipher.step(chain)
    header = Header(th=scope.th, sender=sender, seq=chain.seq, kind=kind, entry_id=entry_id, head=head)
    ciphertext, tag = scope.cipher.seal(keys, chain.seq, content, enc(header.items()))
    signature = scope.cipher.sign(key, f"{scope.suite} record", *scope.cipher.signed(header, ciphertext, tag))
    record = enc(header.items(), ciphertext, tag, signature)
    return seal_envelope(scope, record, kind, entry_id), following


def unwrap(scope: Scope, payload: bytes, *, kind: str, entry_id: EntryId) -> Sealed:
    """The record inside an entry's payload, with every check that needs no chain."""
    fields = Fields.decode(open_envelope(scope, payload, kind, entry_id), "record")
    header = _header(fields.fields("header"))
    sealed = Sealed(
        header=header,
        ciphertext=fields.octets("ciphertext", most=CONTENT_MOST),
        tag=fields.octets("tag", most=32),
        signature=fields.octets("signature", most=SIGNATURE_MOST),
    )
    fields.end()
    check_th(scope, header)
    check_sender(scope, header)
    check_routed(header, kind, entry_id)
    return sealed


def _header(fields: Fields) -> Header:
    header = Header(
        th=fields.octets("th", HASH),
        sender=fields.uint("sender", 16),
        seq=fields.uint("seq"),
        kind=fields.text("kind", 32),
        entry_id=fields.octets("entry id", ID),
        head=read_head(fields, "head"),
    )
    fields.end()
    return header


def seal_envelope(scope: Scope, inner: bytes, kind: str, entry_id: EntryId) -> bytes:
    """What a member says to the epoch's members, so that the log shows no sender."""
    return _envelope(scope, entry_id).seal(ZERO_NONCE, inner, enc(scope.room, kind))


def open_envelope(scope: Scope, payload: bytes, kind: str, entry_id: EntryId) -> bytes:
    """What `seal_envelope` was given; PeerError("bad_tag") unless a member of the epoch sealed them for this entry."""
    return _envelope(scope, entry_id).open(ZERO_NONCE, payload, enc(scope.room, kind))


@check("REC-01")
def check_th(scope: Scope, header: Header) -> None:
    """PeerError("wrong_context") unless the record names the epoch it was found in."""
    if header.th != scope.th:
        raise PeerError("wrong_context", check="REC-01")


@check("REC-02")
def check_sender(scope: Scope, header: Header) -> None:
    """PeerError("unknown_sender") unless the sender has a place in the roster."""
    if header.sender >= scope.members:
        raise PeerError("unknown_sender", check="REC-02")


@check("REC-06")
def check_routed(header: Header, kind: str, entry_id: EntryId) -> None:
    """PeerError("misrouted") unless the sealed part repeats the entry's kind and id."""
    if (header.kind, header.entry_id) != (kind, entry_id):
        raise PeerError("misrouted", check="REC-06")


@check("REC-05")
def check_signature(scope: Scope, sealed: Sealed, key: Verifier) -> None:
    """PeerError("bad_sig") unless the named sender signed header, ciphertext and tag."""
    signed = scope.cipher.signed(sealed.header, sealed.ciphertext, sealed.tag)
    with named("REC-05"):
        scope.cipher.verify(key, sealed.signature, f"{scope.suite} record", *signed)


def open_sealed(
    scope: Scope, sealed: Sealed, chain: RecvChain, kept: Callable[[int], bytes | None], key: Verifier
) -> tuple[bytes, Advance]:
    """The content, and what it does to the sender's chain. PeerError replay, gap, bad_tag or bad_sig."""
    header = sealed.header
    moved = scope.cipher.advance(chain, header.seq, kept(header.seq))
    content = scope.cipher.open(moved.keys, header.seq, sealed.ciphertext, sealed.tag, enc(header.items()))
    check_signature(scope, sealed, key)
    return content, moved
