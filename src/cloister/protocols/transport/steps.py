"""The steps of suite `transport` that a fix changed, each one function; and the forms and checks of its messages.

Source: docs/spec/classic/transport.md, document 002. ISO/IEC 11770-3, key transport mechanism 2: the inviter A makes
K and sends it to each member B, encrypted, then signed. The suite calls the methods of `Steps` and nothing else where
a fix matters, so `lab.originals.transport` shows what the document did by overriding exactly one of them.

    I1 invite  ["invite", tok, Sign_A("transport tok", tok)]                      to B's mailbox
    I0 commit  ["commit", run_id, k_c, box, parent | null]                        to the room's log
    I2 ack     ["ack", B, room, mac, Sign_B("transport ack", ctx, B, mac)]        to the room's log, in an envelope
       leave   ["leave", B, room, th, Sign_B("transport leave", room, th, B)]     likewise

    tok = [A, B, ts, run_id, prev_th, deadline, variant, log_size, room, epoch, SHA-256(roster), SHA-256(policy),
           invite_id, k_c, ct, SHA-256(I0)]
    ctx = H("transport ctx", version, room, epoch, run_id, prev_th, A, deadline, log_size, variant, both hashes)
    k_c = H("transport k_c", ctx, A, K)      th = H("transport th", ctx, k_c)
    ct  = OAEP_B(label = H("transport kt", ctx, B); enc(SHA-256(A), room, K))

Invariants
- What A signs in tok fixes everything: the context, the key by k_c, and the very bytes of I0 by its hash.
- `ts` and `deadline` are ms; a roster's hash is over [device, certificates, manifest] of each member (context.Party).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError
from cloister.primitives.aead import ZERO_NONCE, Aead
from cloister.primitives.kdf import extract, sha256
from cloister.primitives.labelled import Signer, derive, hash_of, mac, sign
from cloister.primitives.rsa import RsaDecryptKey, RsaEncryptKey
from cloister.protocols import context as contexts
from cloister.protocols import policy as policies
from cloister.protocols import record as records
from cloister.protocols.context import VERSION, Context, Party
from cloister.protocols.forms import DEVICE_MOST, HASH, ID, SIGNATURE_MOST, head_items, read_head, texts
from cloister.protocols.interface import DeviceId, Directory, Roster, SignedHead
from cloister.protocols.record import CtrHmac, Schedule

NAME: Final = "transport"
MEMBERS: Final = 256
"""The suite's hard limit."""
PLAIN: Final = "plain"
STRICT: Final = "strict"
"""Variant of rooms in which nobody seals before all have acknowledged the key."""
EARLY: Final = 120_000
"""How far (ms) a timestamp may lie ahead of this clock."""
LATE: Final = 30 * 24 * 60 * 60_000
"""How old (ms) an invitation may be: as long as it waits in a mailbox."""
ACK_LIFE: Final = 24 * 60 * 60_000
"""How long (ms) after its making an invitation's acknowledgements are awaited."""
_KEY: Final = 32
_CIPHERTEXT_MOST: Final = 512
_BOX_MOST: Final = 128 * 1024
_PARENT_MOST: Final = 64 * 1024


# --- forms -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The context as tok has it: roster and policy by their hashes, for they travel in I0."""

    room: bytes
    epoch: int
    run_id: bytes
    prev_th: bytes
    inviter: DeviceId
    deadline: int
    log_size: int
    variant: str
    roster_hash: bytes
    policy_hash: bytes

    @property
    def ctx(self) -> bytes:
        """What every signature, label and associated data of this epoch is bound to, 32 bytes."""
        return hash_of(
            "transport ctx",
            VERSION,
            self.room,
            self.epoch,
            self.run_id,
            self.prev_th,
            self.inviter,
            self.deadline,
            self.log_size,
            self.variant,
            self.roster_hash,
            self.policy_hash,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """tok of I1: for one member, made at `ts` (ms); `key_hash` is k_c, `commit_hash` SHA-256 of I0."""

    terms: Terms
    to: DeviceId
    ts: int
    invite_id: bytes
    key_hash: bytes
    ciphertext: bytes
    commit_hash: bytes

    def items(self) -> list[object]:
        """The array that A signs."""
        terms = self.terms
        return [
            terms.inviter,
            self.to,
            self.ts,
            terms.run_id,
            terms.prev_th,
            terms.deadline,
            terms.variant,
            terms.log_size,
            terms.room,
            terms.epoch,
            terms.roster_hash,
            terms.policy_hash,
            self.invite_id,
            self.key_hash,
            self.ciphertext,
            self.commit_hash,
        ]

    @classmethod
    def read(cls, fields: Fields) -> Token:
        """What `items` gave; PeerError("bad_encoding")."""
        inviter, to, ts = fields.text("inviter", DEVICE_MOST), fields.text("to", DEVICE_MOST), fields.uint("ts")
        run_id, prev_th, deadline = fields.octets("run", ID), fields.octets("previous", HASH), fields.uint("deadline")
        variant, log_size = fields.text("variant", 32), fields.uint("log size")
        terms = Terms(
            inviter=inviter,
            run_id=run_id,
            prev_th=prev_th,
            deadline=deadline,
            variant=variant,
            log_size=log_size,
            room=fields.octets("room", ID),
            epoch=fields.uint("epoch"),
            roster_hash=fields.octets("roster", HASH),
            policy_hash=fields.octets("policy", HASH),
        )
        token = cls(
            terms=terms,
            to=to,
            ts=ts,
            invite_id=fields.octets("invite id", ID),
            key_hash=fields.octets("key hash", HASH),
            ciphertext=fields.octets("ciphertext", most=_CIPHERTEXT_MOST),
            commit_hash=fields.octets("commit", HASH),
        )
        fields.end()
        return token


@dataclass(frozen=True, slots=True)
class Invite:
    """I1: the signed tok."""

    token: Token
    signature: bytes = b""

    def signed(self, key: Signer) -> Invite:
        """With A's signature."""
        return replace(self, signature=sign(key, "transport tok", self.token.items()))

    def encode(self) -> bytes:
        """The mailbox item's body."""
        return enc("invite", self.token.items(), self.signature)

    @classmethod
    def decode(cls, data: bytes) -> Invite:
        """What `encode` gave; PeerError("bad_encoding")."""
        fields = Fields.decode(data, "invite")
        fields.kind("invite")
        invite = cls(Token.read(fields.fields("tok")), fields.octets("signature", most=SIGNATURE_MOST))
        fields.end()
        return invite


@dataclass(frozen=True, slots=True)
class CommitEntry:
    """I0: `box` is for the new epoch's members, `parent` (None in a new room) for those of the one that ends."""

    run_id: bytes
    key_hash: bytes
    box: bytes
    parent: bytes | None = None

    def encode(self) -> bytes:
        """The entry's payload."""
        return enc("commit", self.run_id, self.key_hash, self.box, self.parent)

    @classmethod
    def decode(cls, data: bytes) -> CommitEntry:
        """What `encode` gave; PeerError("bad_encoding")."""
        fields = Fields.decode(data, "commit")
        fields.kind("commit")
        run_id, key_hash = fields.octets("run", ID), fields.octets("key hash", HASH)
        box, parent = fields.octets("box", most=_BOX_MOST), fields.any("parent")
        fields.end()
        if parent is not None and (not isinstance(parent, bytes) or len(parent) > _PARENT_MOST):
            raise PeerError("bad_encoding", "the part for the ending epoch")
        return cls(run_id, key_hash, box, parent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """What I0 tells the new members: the whole context, who is newly asked in, and the inviter's newest head."""

    context: Context
    invitees: Roster
    head: SignedHead | None
    signature: bytes = b""

    def rest(self) -> list[object]:
        """Everything but the signature."""
        return [self.context.items(), list(self.invitees), head_items(self.head)]

    def signed_items(self, ctx: bytes, key_hash: bytes) -> tuple[object, ...]:
        """What A signs."""
        return ctx, key_hash, sha256(enc(*self.rest()))

    def encode(self) -> bytes:
        """What is sealed into the box."""
        return enc(*self.rest(), self.signature)

    @classmethod
    def decode(cls, data: bytes) -> Box:
        """What `encode` gave; PeerError bad_encoding or unsupported."""
        fields = Fields.decode(data, "box")
        box = cls(
            context=Context.read(fields.fields("context")),
            invitees=texts(fields, "invitees", MEMBERS),
            head=read_head(fields, "head"),
            signature=fields.octets("signature", most=SIGNATURE_MOST),
        )
        fields.end()
        return box


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What I0 tells the members of the epoch that it ends: who made it, and whom it leaves out."""

    inviter: DeviceId
    removed: Roster
    signature: bytes = b""

    def signed_items(self, prev_th: bytes, entry: CommitEntry) -> tuple[object, ...]:
        """What A signs."""
        return prev_th, entry.run_id, entry.key_hash, sha256(entry.box), self.inviter, list(self.removed)

    def encode(self) -> bytes:
        """What is sealed for them."""
        return enc(self.inviter, list(self.removed), self.signature)

    @classmethod
    def decode(cls, data: bytes) -> Ending:
        """What `encode` gave; PeerError("bad_encoding")."""
        fields = Fields.decode(data, "ending")
        ending = cls(
            inviter=fields.text("inviter", DEVICE_MOST),
            removed=texts(fields, "removed", MEMBERS),
            signature=fields.octets("signature", most=SIGNATURE_MOST),
        )
        fields.end()
        return ending


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """I2: the sender holds the key of this epoch, and has read its I0."""

    sender: DeviceId
    room: bytes
    mac: bytes
    signature: bytes = b""

    def encode(self) -> bytes:
        """What goes into the envelope."""
        return enc("ack", self.sender, self.room, self.mac, self.signature)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """A member asks to be taken out of the epoch whose transcript hash is `th`."""

    sender: DeviceId
    room: bytes
    th: bytes
    signature: bytes = b""

    def encode(self) -> bytes:
        """What goes into the envelope."""
        return enc("leave", self.sender, self.room, self.th, self.signature)


def decode_notice(data: bytes) -> Ack | Leave:
    """I2 or a leave; PeerError bad_encoding, or unsupported for another kind."""
    fields = Fields.decode(data, "notice")
    kind = fields.text("kind", 16)
    if kind not in ("ack", "leave"):
        raise PeerError("unsupported", "an unknown notice")
    sender, room = fields.text("sender", DEVICE_MOST), fields.octets("room", ID)
    value, signature = fields.octets("value", HASH), fields.octets("signature", most=SIGNATURE_MOST)
    fields.end()
    if kind == "ack":
        return Ack(sender=sender, room=room, mac=value, signature=signature)
    return Leave(sender=sender, room=room, th=value, signature=signature)


# --- the steps ---------------------------------------------------------------------------------------------


class Steps(CtrHmac):
    """What the fixes made of document 002, one method (or one pair) per fix; no state.

    The protection of records belongs to them: `signed` is fix F3.6, `seal`, `open` and `chains` are F3.7, `step` and
    `advance` F3.8.
    """

    suite = NAME
    variants: tuple[str, ...] = (PLAIN, STRICT)

    @property
    def cipher(self) -> Steps:
        """How records are protected."""
        return self

    def encrypt(self, key: RsaEncryptKey, ctx: bytes, to: DeviceId, payload: bytes) -> bytes:
        """F3.1: RSA-3072 with OAEP-SHA-256, under a label of this context and recipient."""
        return key.encrypt(payload, hash_of("transport kt", ctx, to))

    def decrypt(self, key: RsaDecryptKey, ctx: bytes, to: DeviceId, ciphertext: bytes) -> bytes:
        """F3.1, at the recipient: PeerError("bad_share")."""
        return key.decrypt(ciphertext, hash_of("transport kt", ctx, to))

    def fresh(self, ts: int, now: int) -> bool:
        """F3.2: the timestamp is bounded on both sides."""
        return -EARLY <= now - ts <= LATE

    def once(self, seen: bool) -> bool:
        """F3.2: an invitation is taken once."""
        return not seen

    def follows(self, epoch: int, held: int) -> bool:
        """F3.2: the epoch is the standard's sequence number: it only grows."""
        return epoch > held

    def key_hash(self, ctx: bytes, inviter: DeviceId, key: bytes) -> bytes:
        """F3.3: what commits the inviter to one key for all, k_c."""
        return hash_of("transport k_c", ctx, inviter, key)

    def common(self, key: bytes, ctx: bytes) -> bytes:
        """F3.3: the room's own secrets follow from the key: who was given another one cannot read I0."""
        del ctx
        return key

    def acks_needed(self, others: int) -> int:
        """F3.3: how many members acknowledge that they hold this key: all others."""
        return others

    def may_invite(self, allowed: bool) -> bool:
        """F3.4: who invites must be allowed to."""
        return allowed

    def inside(self, terms: Terms) -> bytes:
        """F3.4: what is named beside the key: the inviter and the room, which must be those outside."""
        return enc(sha256(terms.inviter.encode()), terms.room)

    def chains(self, agreed: Schedule) -> tuple[bytes, ...]:
        """F3.7: each sender has keys of its own."""
        return agreed.chains

    def refusal(self, error: PeerError) -> PeerError:
        """F3.9: what breaks a rule is refused and told, and ends nothing."""
        return error


def terms_of(context: Context, directory: Directory) -> tuple[Party, Terms]:
    """The members' certified keys, and the context by hashes; errors as `context.party_of`."""
    party = contexts.party_of(context, directory)
    rows = [[record.device_id, record.certificates_hash, record.manifest_hash] for record in party.records]
    terms = Terms(
        room=context.room,
        epoch=context.epoch,
        run_id=context.run_id,
        prev_th=context.prev_th,
        inviter=context.proposer,
        deadline=context.deadline,
        log_size=context.log_size,
        variant=context.variant,
        roster_hash=sha256(enc(*rows)),
        policy_hash=policies.digest(context.policy),
    )
    return Party(context, party.records, terms.ctx), terms


def transcript(ctx: bytes, key_hash: bytes) -> bytes:
    """th: 32 bytes."""
    return hash_of("transport th", ctx, key_hash)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """What a member has once it has opened its ciphertext: in memory only, K is stored nowhere.

    `common` is what the room's own secrets follow from: K, but for an original that lacks fix F3.3.
    """

    th: bytes
    key: bytes = field(repr=False)
    common: bytes = field(repr=False)

    @property
    def box(self) -> Aead:
        """What I0's box is sealed with."""
        return Aead.aes_gcm(derive(extract(self.th, self.common), "transport box"))

    def schedule(self, members: int) -> Schedule:
        """The keys of an epoch of so many members."""
        return replace(records.schedule(NAME, self.th, self.key, members), exporter=self._exporter)

    @property
    def _exporter(self) -> bytes:
        return records.schedule(NAME, self.th, self.common, 0).exporter

    def token(self, room: bytes) -> bytes:
        """The epoch's access token, 32 bytes."""
        return records.access_token(NAME, self._exporter, room)


def keys_of(steps: Steps, terms: Terms, key_hash: bytes, key: bytes) -> Keys:
    """Everything that follows from a key in a context."""
    return Keys(th=transcript(terms.ctx, key_hash), key=key, common=steps.common(key, terms.ctx))


def seal_box(keys: Keys, box: Box, signer: Signer, ctx: bytes, key_hash: bytes) -> bytes:
    """The box of I0, signed by A."""
    signed = replace(box, signature=sign(signer, "transport commit", *box.signed_items(ctx, key_hash)))
    return keys.box.seal(ZERO_NONCE, signed.encode(), ctx)


def ending_key(exporter: bytes, entry: CommitEntry) -> Aead:
    """What the part for the ending epoch is sealed with."""
    return Aead.aes_gcm(records.export(NAME, exporter, "commit", entry.run_id, _KEY))


def seal_ending(exporter: bytes, prev_th: bytes, entry: CommitEntry, ending: Ending, signer: Signer) -> CommitEntry:
    """I0 with the part for the members of the epoch that it ends."""
    signed = replace(ending, signature=sign(signer, "transport ending", *ending.signed_items(prev_th, entry)))
    bound = enc(entry.run_id, entry.key_hash, sha256(entry.box))
    return replace(entry, parent=ending_key(exporter, entry).seal(ZERO_NONCE, signed.encode(), bound))


def seal_key(steps: Steps, key: RsaEncryptKey, terms: Terms, to: DeviceId, group_key: bytes) -> bytes:
    """ct of one recipient, 384 bytes."""
    return steps.encrypt(key, terms.ctx, to, steps.inside(terms) + group_key)


def ack_of(confirm: bytes, ctx: bytes, commit_hash: bytes, sender: DeviceId, room: bytes, signer: Signer) -> Ack:
    """I2, signed by its sender."""
    tag = mac(confirm, "transport ack mac", ctx, commit_hash, sender)
    return Ack(sender=sender, room=room, mac=tag, signature=sign(signer, "transport ack", ctx, sender, tag))


def leave_of(room: bytes, th: bytes, sender: DeviceId, signer: Signer) -> Leave:
    """A leave, signed by its sender."""
    return Leave(sender=sender, room=room, th=th, signature=sign(signer, "transport leave", room, th, sender))
