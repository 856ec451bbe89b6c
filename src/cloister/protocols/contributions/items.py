"""What a run of `nonces` or `shares` keeps of its members, beside the run itself.

Source: docs/spec/suites.md ("Persistence": `mine`, `peer`, `early`).

Invariants
- `mine` goes when the own confirm is made, and each member's contribution with it: nothing kept leads back to the key.
- Of a message that counts, the digest is kept and its place, by which all members judge who answered in time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cloister.codec.cbor import Fields, enc
from cloister.primitives.dh import KEY_SIZE, DhKey
from cloister.protocols.contributions.steps import CONTRIBUTION, KINDS, OPENING
from cloister.protocols.forms import HASH, ID
from cloister.protocols.items import Shelf
from cloister.protocols.rounds.agreement import RunEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Mine:
    """This device's secrets of a run: contribution and opening (32 bytes each) and the X25519 key."""

    contribution: bytes = field(repr=False)
    opening: bytes = field(repr=False)
    ephemeral: DhKey = field(repr=False)

    def encode(self) -> bytes:
        """The stored form."""
        return enc(self.contribution, self.opening, self.ephemeral.private_bytes())

    @classmethod
    def decode(cls, data: bytes) -> Mine:
        """What `encode` gave."""
        fields = Fields.decode(data, "mine")
        mine = cls(
            contribution=fields.octets("contribution", CONTRIBUTION),
            opening=fields.octets("opening", OPENING),
            ephemeral=DhKey(fields.octets("ephemeral", KEY_SIZE)),
        )
        fields.end()
        return mine


@dataclass(frozen=True, slots=True)
class Said:
    """A message that counts: its content's digest, and its place (0 until it has one) and time in the run's log."""

    digest: bytes = b""
    seq: int = 0
    hash: bytes = b""
    at: int = 0

    def items(self) -> list[object]:
        """The stored form."""
        return [self.digest, self.seq, self.hash, self.at]

    def by(self, seq: int, before: int) -> bool:
        """Whether it stood in the log by entry `seq`, or before that time (ms)."""
        return bool(self.seq) and (self.seq <= seq or self.at <= before)


NOTHING: Final = Said()


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """What a member of the run has said so far; `contribution` is empty until its share has opened.

    `owed` is the digest of what its confirm must answer, from when the contributions are known (empty: nothing).
    """

    commitment: bytes = b""
    ephemeral: bytes = b""
    contribution: bytes = field(default=b"", repr=False)
    owed: bytes = b""
    hello: Said = NOTHING
    shares: Said = NOTHING
    confirm: Said = NOTHING

    def said(self, kind: str) -> Said:
        """The message of this kind."""
        return {"hello": self.hello, "shares": self.shares, "confirm": self.confirm}[kind]

    def encode(self) -> bytes:
        """The stored form."""
        said = [message.items() for message in (self.hello, self.shares, self.confirm)]
        return enc(self.commitment, self.ephemeral, self.contribution, self.owed, said)

    @classmethod
    def decode(cls, data: bytes) -> Peer:
        """What `encode` gave."""
        fields = Fields.decode(data, "peer")
        commitment, ephemeral = fields.octets("commitment", most=HASH), fields.octets("ephemeral", most=HASH)
        contribution, owed = fields.octets("contribution", most=HASH), fields.octets("owed", most=HASH)
        inner = fields.fields("said")
        hello, shares, confirm = (_said(inner.fields(kind)) for kind in KINDS.values())
        fields.end()
        return cls(
            commitment=commitment,
            ephemeral=ephemeral,
            contribution=contribution,
            owed=owed,
            hello=hello,
            shares=shares,
            confirm=confirm,
        )


def _said(fields: Fields) -> Said:
    digest, seq, entry_hash = fields.octets("digest", most=HASH), fields.uint("seq"), fields.octets("hash", most=HASH)
    return Said(digest, seq, entry_hash, fields.uint("at"))


def _encode_entry(entry: RunEntry) -> bytes:
    return enc(entry.message, entry.entry_id, entry.seq, entry.hash, entry.at)


def _decode_entry(data: bytes) -> RunEntry:
    fields = Fields.decode(data, "entry")
    return RunEntry(
        message=fields.octets("message"),
        entry_id=fields.octets("entry id", ID),
        seq=fields.uint("seq"),
        hash=fields.octets("hash", most=HASH),
        at=fields.uint("at"),
    )


MINE: Shelf[Mine] = Shelf(b"mine", Mine.encode, Mine.decode)
PEER: Shelf[Peer] = Shelf(b"peer", Peer.encode, Peer.decode)
EARLY: Shelf[RunEntry] = Shelf(b"early", _encode_entry, _decode_entry)
