"""The run channel: proposals, orders of removal, and the sealing of what the members of a run say to each other.

Source: docs/spec/suites.md ("Runs"); A.0 of the protocols ("Run channel", "Membership change").

    M0 = ["propose", change, ctx fields, run_secret, head, sig]
    sig = Sign_P("SUITE propose", ctx, change, SHA-256(run_secret), head)
    order = ["order", suite, room, epoch, th, author, removed, log_size, Sign_author("SUITE order", all before)]
    entry of the run log = AES-256-GCM(HKDF(run_secret, "seal", entry_id), nonce 0, message, AD=enc(run_id))
    its access token = HKDF(run_secret, "access")

Invariants
- M0 goes to every device of the new roster and to nobody else: the relay sees no roster, who is left out no secret.
- `change` is everything that differs from the parent epoch: devices added, orders carried out, devices parked (with
  the run that they did not answer), and the policy stands in the ctx fields. The proposer signs it, and each order
  bears its author's own signature, so any member may carry out another's removal.
- An order names the epoch (number and th) it was given in; it stands until the device is out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError
from cloister.primitives import Rng
from cloister.primitives.aead import ZERO_NONCE, Aead
from cloister.primitives.kdf import sha256
from cloister.primitives.labelled import Signer, Verifier, derive, sign, verify
from cloister.protocols.checks import check, named
from cloister.protocols.context import MEMBERS_MOST, Context, Party
from cloister.protocols.forms import HASH, ID, SIGNATURE_MOST, head_items, octet_strings, read_head, texts
from cloister.protocols.interface import DeviceId, Roster, SignedHead

SECOND: Final = 1000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

RUN_LIFE: Final = DAY
CLOCK_SKEW: Final = 2 * MINUTE
"""How far two clocks may differ before a deadline is refused."""
ORDER_MOST: Final = 8192
ORDERS_MOST: Final = 32
PROPOSAL_MOST: Final = 60 * 1024
ENTRY_MOST: Final = 64 * 1024

NO_TH: Final = bytes(HASH)
"""`prev_th` of a room's first run."""


# --- the channel -------------------------------------------------------------------------------------------


def access_token(suite: str, run_secret: bytes) -> bytes:
    """The 32-byte token of a run's log."""
    return derive(run_secret, f"{suite} run access")


def _aead(suite: str, run_secret: bytes, entry_id: bytes) -> Aead:
    return Aead.aes_gcm(derive(run_secret, f"{suite} run seal", entry_id))


def seal(suite: str, run_secret: bytes, run_id: bytes, entry_id: bytes, message: bytes) -> bytes:
    """A message as an entry of the run's log; each entry id, drawn at random, has a key of its own."""
    return _aead(suite, run_secret, entry_id).seal(ZERO_NONCE, message, enc(run_id))


def unseal(suite: str, run_secret: bytes, run_id: bytes, entry_id: bytes, payload: bytes) -> bytes:
    """The message in an entry; PeerError("bad_tag") unless a holder of the run's secret sealed it for this place."""
    return _aead(suite, run_secret, entry_id).open(ZERO_NONCE, payload, enc(run_id))


# --- orders of removal -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A signed Remove: `removed` are devices, `epoch` and `th` name the epoch in which it was given."""

    suite: str
    room: bytes
    epoch: int
    th: bytes
    author: DeviceId
    removed: Roster
    log_size: int
    signature: bytes = b""

    def items(self) -> list[object]:
        """What is signed."""
        return [self.suite, self.room, self.epoch, self.th, self.author, list(self.removed), self.log_size]

    def signed(self, key: Signer) -> Order:
        """With the author's signature."""
        return replace(self, signature=sign(key, f"{self.suite} order", *self.items()))

    def encode(self) -> bytes:
        """The bytes that travel and are stored."""
        return enc("order", *self.items(), self.signature)

    @property
    def id(self) -> bytes:
        """Names the order whatever its signature's randomness; 32 bytes."""
        return sha256(enc(*self.items()))

    @classmethod
    def decode(cls, data: bytes) -> Order:
        """What `encode` gave; PeerError("bad_encoding")."""
        fields = Fields.decode(data, "order")
        fields.kind("order")
        order = cls(
            suite=fields.text("suite", 16),
            room=fields.octets("room", ID),
            epoch=fields.uint("epoch"),
            th=fields.octets("th", HASH),
            author=fields.text("author", 128),
            removed=texts(fields, "removed", MEMBERS_MOST),
            log_size=fields.uint("log size"),
            signature=fields.octets("signature", most=SIGNATURE_MOST),
        )
        fields.end()
        if not order.removed or list(order.removed) != sorted(set(order.removed)):
            raise PeerError("bad_encoding", "an order names somebody, sorted, nobody twice")
        return order


@check("RUN-01")
def check_order_signature(order: Order, key: Verifier) -> None:
    """PeerError("bad_sig") unless the named author signed the order."""
    with named("RUN-01"):
        verify(key, order.signature, f"{order.suite} order", *order.items())


# --- proposals ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Parking:
    """Who is left out for not answering: `run_id` is the run they let pass, judged at its entry `seq`."""

    devices: Roster
    run_id: bytes
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunChange:
    """What a run changes beside the policy: devices added, orders carried out (their bytes), devices parked."""

    added: Roster = ()
    orders: tuple[bytes, ...] = ()
    parking: Parking | None = None

    def items(self) -> list[object]:
        """The array that travels."""
        parking = self.parking
        parked = None if parking is None else [list(parking.devices), parking.run_id, parking.seq]
        return [list(self.added), list(self.orders), parked]

    @classmethod
    def read(cls, fields: Fields) -> RunChange:
        """What `items` gave."""
        added = texts(fields, "added", MEMBERS_MOST)
        orders = octet_strings(fields, "orders", ORDERS_MOST, ORDER_MOST)
        item = fields.any("parking")
        fields.end()
        parking = None
        if item is not None:
            inner = Fields(item, "parking")
            parking = Parking(
                devices=texts(inner, "devices", MEMBERS_MOST), run_id=inner.octets("run", ID), seq=inner.uint("seq")
            )
            inner.end()
        return cls(added=added, orders=orders, parking=parking)

    @property
    def parked(self) -> Roster:
        """The devices left out."""
        return () if self.parking is None else self.parking.devices


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """M0: what is proposed, the run's secret (32 bytes), and the proposer's newest head of the room's log."""

    context: Context
    change: RunChange
    secret: bytes = field(repr=False)
    head: SignedHead | None = None
    signature: bytes = b""

    def signed_items(self, ctx: bytes) -> tuple[object, ...]:
        """What the proposer signs."""
        return ctx, self.change.items(), sha256(self.secret), head_items(self.head)

    def signed(self, ctx: bytes, key: Signer) -> Proposal:
        """With the proposer's signature."""
        return replace(self, signature=sign(key, f"{self.context.suite} propose", *self.signed_items(ctx)))

    def encode(self) -> bytes:
        """The bytes that travel, sealed per device, and are stored."""
        return enc(
            "propose", self.change.items(), self.context.items(), self.secret, head_items(self.head), self.signature
        )

    @classmethod
    def decode(cls, data: bytes) -> Proposal:
        """What `encode` gave; PeerError bad_encoding or unsupported."""
        if len(data) > PROPOSAL_MOST:
            raise PeerError("bad_encoding", "a proposal is too long")
        fields = Fields.decode(data, "proposal")
        fields.kind("propose")
        change = RunChange.read(fields.fields("change"))
        proposal = cls(
            change=change,
            context=Context.read(fields.fields("context")),
            secret=fields.octets("secret", HASH),
            head=read_head(fields, "head"),
            signature=fields.octets("signature", most=SIGNATURE_MOST),
        )
        fields.end()
        return proposal

    def orders(self) -> tuple[Order, ...]:
        """The orders that the run carries out; PeerError("bad_encoding")."""
        return tuple(Order.decode(order) for order in self.change.orders)

    def opened(self) -> int:
        """When its proposer opened it, by the proposer's clock (ms)."""
        return self.context.deadline - RUN_LIFE


@check("RUN-02")
def check_proposal_signature(proposal: Proposal, party: Party) -> None:
    """PeerError("bad_sig") unless the proposer, a member of the new roster, signed all of M0."""
    with named("RUN-02"):
        key = party.verify_key(party.index(proposal.context.proposer))
        verify(key, proposal.signature, f"{proposal.context.suite} propose", *proposal.signed_items(party.ctx))


@check("RUN-03")
def check_outer(proposal: Proposal, sender: DeviceId | None) -> None:
    """PeerError("inner_outer") unless the mailbox item was sent by the proposer."""
    if proposal.context.proposer != sender:
        raise PeerError("inner_outer", check="RUN-03")


@check("RUN-04")
def check_suite(context: Context, suite: str) -> None:
    """PeerError("wrong_context") for a proposal of another suite."""
    if context.suite != suite:
        raise PeerError("wrong_context", "another suite", check="RUN-04")


@check("RUN-05")
def check_variant(context: Context, variant: str) -> None:
    """PeerError("not_allowed") unless this device consented to the variant."""
    if context.variant != variant:
        raise PeerError("not_allowed", "a variant that nobody here consented to", check="RUN-05")


@check("RUN-06")
def check_deadline(context: Context, now: int) -> None:
    """PeerError("stale_timestamp") unless the deadline lies ahead, and not more than 24 hours."""
    if not now < context.deadline <= now + RUN_LIFE + CLOCK_SKEW:
        raise PeerError("stale_timestamp", check="RUN-06")


@check("RUN-07")
def check_size(context: Context, most: int) -> None:
    """PeerError("quota") unless the roster has 2 to `most` members."""
    if not 2 <= len(context.roster) <= most:
        raise PeerError("quota", f"this suite takes 2 to {most} members", check="RUN-07")


@check("RUN-08")
def check_addressed(context: Context, device: DeviceId) -> None:
    """PeerError("misrouted") unless this device is in the new roster."""
    if device not in context.roster:
        raise PeerError("misrouted", "a run without this device", check="RUN-08")


def fresh_ids(rng: Rng) -> tuple[bytes, bytes]:
    """(run_id, run_secret): 16 and 32 bytes."""
    return rng(ID), rng(HASH)
