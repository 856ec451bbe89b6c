"""The worked example of docs/spec/classic/transport.md: a first epoch's messages, computed by the suite's own code.

Everything is drawn from counting bytes, so the page is the same on every machine. What RSA draws by itself stands in
as fixed bytes: an OAEP ciphertext is 384 times aa, a PSS signature 384 times bb.
"""

from __future__ import annotations

from typing import Final

from cloister.codec.cbor import enc
from cloister.primitives.kdf import sha256
from cloister.primitives.labelled import mac
from cloister.primitives.rsa import SIZE
from cloister.protocols import policy as policies
from cloister.protocols.context import Context
from cloister.protocols.interface import RoomPolicy
from cloister.protocols.rounds.run import NO_TH
from cloister.protocols.transport import steps

_NOW: Final = 1_790_000_000_000
_A, _B = "cloister://home/u/alice/d/phone", "cloister://home/u/bob/d/phone"
_LINE: Final = 64


class StandIn:
    """Stands in for RSA-PSS."""

    def sign(self, message: bytes) -> bytes:
        """384 bytes."""
        return b"\xbb" * SIZE


def counting(first: int, size: int) -> bytes:
    """`size` bytes that count up from `first`."""
    return bytes((first + i) % 256 for i in range(size))


def shown(data: bytes) -> list[str]:
    """Bytes in hexadecimal, 64 a line; what RSA gave as one word."""
    text = data.hex()
    for byte in ("aa", "bb"):
        text = text.replace(byte * SIZE, f"[{byte} x {SIZE}]")
    if len(text) <= 2 * _LINE:
        return [text]
    return [f"({len(data)} bytes)", *(f"    {text[i : i + 2 * _LINE]}" for i in range(0, len(text), 2 * _LINE))]


def _context(room: bytes) -> tuple[Context, steps.Terms]:
    policy = RoomPolicy(title="garden", owners=("alice",))
    context = Context(
        suite=steps.NAME,
        variant=steps.PLAIN,
        room=room,
        epoch=1,
        run_id=counting(0x10, 16),
        prev_th=NO_TH,
        proposer=_A,
        deadline=_NOW + steps.ACK_LIFE,
        log_size=7,
        roster=(_A, _B),
        policy=policy,
    )
    rows = [
        [name, sha256(b"certificates of " + name.encode()), sha256(b"manifest of " + name.encode())]
        for name in (_A, _B)
    ]
    terms = steps.Terms(
        room=room,
        epoch=1,
        run_id=context.run_id,
        prev_th=NO_TH,
        inviter=_A,
        deadline=context.deadline,
        log_size=7,
        variant=context.variant,
        roster_hash=sha256(enc(*rows)),
        policy_hash=policies.digest(policy),
    )
    return context, terms


def example() -> str:
    """The lines of the example."""
    suite, room, key = steps.Steps(), counting(0x00, 16), counting(0x40, 32)
    context, terms = _context(room)
    ctx, key_hash = terms.ctx, steps.Steps().key_hash(terms.ctx, _A, key)
    keys = steps.keys_of(suite, terms, key_hash, key)
    box = steps.Box(context=context, invitees=(_B,), head=None)
    commit = steps.CommitEntry(terms.run_id, key_hash, steps.seal_box(keys, box, StandIn(), ctx, key_hash)).encode()
    token = steps.Token(
        terms=terms,
        to=_B,
        ts=_NOW,
        invite_id=counting(0x20, 16),
        key_hash=key_hash,
        ciphertext=b"\xaa" * SIZE,
        commit_hash=sha256(commit),
    )
    invite = steps.Invite(token).signed(StandIn()).encode()
    agreed = keys.schedule(2)
    tag = mac(agreed.confirm, "transport ack mac", ctx, sha256(commit), _B)
    ack = steps.ack_of(agreed.confirm, ctx, sha256(commit), _B, room, StandIn()).encode()
    rows = [
        ("room", room),
        ("K", key),
        ("SHA-256(roster)", terms.roster_hash),
        ("SHA-256(policy)", terms.policy_hash),
        ("ctx", ctx),
        ("k_c", key_hash),
        ("th", keys.th),
        ("in OAEP", suite.inside(terms) + key),
        ("I0", commit),
        ("SHA-256(I0)", sha256(commit)),
        ("access token", keys.token(room)),
        ("I1", invite),
        ("ck of A", agreed.chains[0]),
        ("ck of B", agreed.chains[1]),
        ("mac of I2", tag),
        ("I2", ack),
    ]
    lines = [f"{'A, B':<16} {_A}, {_B}"]
    for name, value in rows:
        first, *rest = shown(value)
        lines += [f"{name:<16} {first}", *rest]
    return "\n".join(["```", *lines, f"{'key check':<16} {agreed.key_check}", "```", ""])
