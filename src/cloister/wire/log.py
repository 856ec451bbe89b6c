"""The hash chain of a log, its signed heads, and the proof that a relay signed two different logs.

Source: docs/spec/log.md. Rooms, runs and the realm have logs of this one form; relay, engine and audit use this code.

    h = H("log", realm, log, incarnation, seq, prev, kind, flags, epoch, token_hash, entry_id,
          SHA-256(payload), attachments_hash, ts_ms)
    attachments_hash = SHA-256(enc(next_token_hash | null, SHA-256(group info) | null, sorted SHA-256 of each item))
    head signature = Sign(head key, "head", realm, log, incarnation, seq, h)

Invariants
- `seq` counts from 1 without a gap; `prev` of entry 1 is 32 zero bytes.
- A head counts only under a head key that the relay's identity key certified ("head key", realm, key, not_before).
- `Chain` moves only over entries that join what it holds and end under a head with the right hash.
- A fork proof is two signed heads of one (log, incarnation) and, for each, the entries that lead back to a
  common seq where their hashes differ. `ForkProof.verify` needs this module and the relay's identity key only.

Checks: LOG-01 head key certified, LOG-02 head signed, LOG-03 next entry, LOG-04 incarnation, LOG-05 hash at the head,
LOG-06 head not behind the entries; of a proof: LOG-07 entries lead to the heads, LOG-08 one incarnation, LOG-09 they
differ.

What `Chain.extend` finds (error codes): `gap` an entry is missing or repeated; `bad_chain` the entries do not hash
to the signed head; `bad_head` the head is not signed by this relay; `fork` the same seq was signed with another hash.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError
from cloister.primitives.kdf import sha256
from cloister.primitives.labelled import Signer, labelled, sign, verify
from cloister.primitives.signature import VerifyKey
from cloister.wire.frames import Entry, Head, HeadKey, Stub

START: Final = bytes(32)
"""`prev` of the first entry."""
NO_ATTACHMENTS: Final = sha256(enc(None, None, []))
"""The attachments hash of an entry that has none."""


def attachments_hash(next_token_hash: bytes | None, group_info_hash: bytes | None, items: Iterable[bytes]) -> bytes:
    """The hash that covers what a commit carries beside its payload; `items` are SHA-256 values."""
    hashes = sorted(items)
    if next_token_hash is None and group_info_hash is None and not hashes:
        return NO_ATTACHMENTS
    return sha256(enc(next_token_hash, group_info_hash, hashes))


def stub_of(entry: Entry) -> Stub:
    """What remains of an entry for a reader who may not open it."""
    return Stub(
        seq=entry.seq,
        kind=entry.kind,
        flags=entry.flags,
        epoch=entry.epoch,
        token_hash=entry.token_hash,
        entry_id=entry.entry_id,
        payload_hash=sha256(entry.payload),
        attachments_hash=attachments_hash(entry.next_token_hash, entry.group_info_hash, entry.item_hashes),
        ts_ms=entry.ts_ms,
    )


def entry_hash(realm: str, log: bytes, incarnation: int, prev: bytes, entry: Entry | Stub) -> bytes:
    """The hash of an entry that follows the one with hash `prev`; 32 bytes."""
    stub = stub_of(entry) if isinstance(entry, Entry) else entry
    return link_hash(
        chain_prefix(realm, log, incarnation),
        prev,
        stub.seq,
        stub.kind,
        stub.flags,
        stub.epoch,
        stub.token_hash,
        stub.entry_id,
        stub.payload_hash,
        stub.attachments_hash,
        stub.ts_ms,
    )


@lru_cache(maxsize=1024)
def chain_prefix(realm: str, log: bytes, incarnation: int) -> bytes:
    """What the hashed strings of one log have in common: label, array, realm, log, incarnation."""
    whole = labelled("log", realm, log, incarnation, *[0] * _LINK_ITEMS)
    return whole[: len(whole) - _LINK_ITEMS]


_LINK_ITEMS: Final = 10
_SHORT: Final = [bytes([value]) for value in range(24)]
_SHORT_TEXT: Final = [b"%c" % (0x60 + size) if size < 24 else b"\x78%c" % size for size in range(256)]


def _uint(value: int) -> bytes:
    """The deterministic CBOR of an unsigned integer."""
    if value < 24:
        return _SHORT[value]
    if value < 0x100:
        return b"\x18" + value.to_bytes(1, "big")
    if value < 0x10000:
        return b"\x19" + value.to_bytes(2, "big")
    if value < 0x100000000:
        return b"\x1a" + value.to_bytes(4, "big")
    return b"\x1b" + value.to_bytes(8, "big")


def link_hash(
    prefix: bytes,
    prev: bytes,
    seq: int,
    kind: str,
    flags: int,
    epoch: int,
    token_hash: bytes,
    entry_id: bytes,
    payload_hash: bytes,
    attachments_hash: bytes,
    ts_ms: int,
) -> bytes:
    """`entry_hash` without the general encoder, at a fifth of its cost: relay and catch-up hash every entry.

    `prefix` is `chain_prefix`; a test compares both ways over random entries.
    """
    return hashlib.sha256(
        b"%b%bX %b%b%bX %bX %b%b"
        % (
            prefix,
            _uint(seq),
            prev,
            _link_middle(kind, flags, epoch, token_hash),
            entry_id,
            payload_hash,
            attachments_hash,
            _uint(ts_ms),
        )
    ).digest()


@lru_cache(maxsize=4096)
def _link_middle(kind: str, flags: int, epoch: int, token_hash: bytes) -> bytes:
    """What the hashed strings of one epoch's entries of a kind have in common after `prev`."""
    name = kind.encode()
    return b"%b%b%b%bX %bP" % (_SHORT_TEXT[len(name)], name, _uint(flags), _uint(epoch), token_hash)


def sign_head(key: Signer, realm: str, log: bytes, incarnation: int, seq: int, digest: bytes) -> Head:
    """The relay's signature over a position of a log."""
    signature = key.sign(_head_prefix(realm, log, incarnation) + _uint(seq) + b"X " + digest)
    return Head(incarnation=incarnation, seq=seq, hash=digest, signature=signature)


@lru_cache(maxsize=1024)
def _head_prefix(realm: str, log: bytes, incarnation: int) -> bytes:
    """What the signed strings of one log's heads have in common (`labelled`, without the last two items)."""
    return labelled("head", realm, log, incarnation, 0, 0)[:-2]


def certify_head_key(identity: Signer, realm: str, key: bytes, not_before: int) -> HeadKey:
    """The relay identity key's statement that `key` signs heads from `not_before` (ms) on."""
    return HeadKey(key=key, not_before=not_before, signature=sign(identity, "head key", realm, key, not_before))


@dataclass(frozen=True, slots=True)
class HeadKeys:
    """The head keys that a realm's relay identity key has certified."""

    realm: str
    keys: tuple[VerifyKey, ...]

    @classmethod
    def certified(cls, realm: str, identity: VerifyKey, statements: Iterable[HeadKey]) -> HeadKeys:
        """Check each statement; PeerError("bad_head") for one that the identity key did not sign."""
        keys = []
        for statement in statements:
            try:
                verify(identity, statement.signature, "head key", realm, statement.key, statement.not_before)
            except PeerError as error:
                raise PeerError("bad_head", "the head key is not certified") from error  # LOG-01
            keys.append(VerifyKey("ed25519", statement.key))
        return cls(realm, tuple(keys))

    def verify(self, log: bytes, head: Head) -> None:
        """PeerError("bad_head") unless one of the keys signed this head of this log."""
        for key in reversed(self.keys):
            try:
                verify(key, head.signature, "head", self.realm, log, head.incarnation, head.seq, head.hash)
            except PeerError:
                continue
            return
        raise PeerError("bad_head")  # LOG-02


@dataclass(frozen=True, slots=True)
class Chain:
    """How far a log has been verified: the newest entry's position and hash."""

    realm: str
    log: bytes
    incarnation: int = 0
    seq: int = 0
    hash: bytes = START

    def step(self, entry: Entry | Stub) -> Chain:
        """The chain one entry on; PeerError("gap") unless it is the next one."""
        if entry.seq != self.seq + 1:
            raise PeerError("gap", f"entry {entry.seq} after {self.seq}")  # LOG-03
        digest = entry_hash(self.realm, self.log, self.incarnation, self.hash, entry)
        return Chain(self.realm, self.log, self.incarnation, entry.seq, digest)

    def run(self, entries: Sequence[Entry | Stub]) -> list[Chain]:
        """The chain after each of the entries."""
        chains: list[Chain] = []
        chain = self
        for entry in entries:
            chain = chain.step(entry)
            chains.append(chain)
        return chains

    def extend(self, entries: Sequence[Entry | Stub], head: Head, keys: HeadKeys) -> Chain:
        """The chain at the end of `entries`, which must be what the relay signed as `head`.

        A head beyond the last entry is allowed (more will follow), one before it is not.
        """
        keys.verify(self.log, head)
        if head.incarnation != self.incarnation:
            raise PeerError("bad_head", "another incarnation")  # LOG-04
        chains = self.run(entries)
        newest = chains[-1] if chains else self
        for chain in (self, *chains):
            if chain.seq == head.seq:
                if not hmac.compare_digest(chain.hash, head.hash):
                    raise PeerError("bad_chain" if chain.seq > self.seq else "fork", f"at entry {chain.seq}")  # LOG-05
                return newest
        if head.seq < newest.seq:
            raise PeerError("bad_head", "the head is older than the entries")  # LOG-06
        return newest


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkProof:
    """Two histories of one log that the relay both signed; portable, verifiable by anybody.

    `ours` and `theirs` are signed heads; the stubs of each lead from entry `common + 1` to that head's seq and
    start from `prev`, the hash at `common` on that side.
    """

    realm: str
    log: bytes
    head_keys: tuple[HeadKey, ...]
    common: int
    ours: Head
    our_prev: bytes
    our_stubs: tuple[Stub, ...]
    theirs: Head
    their_prev: bytes
    their_stubs: tuple[Stub, ...]

    def verify(self, identity: VerifyKey) -> int:
        """The first seq at which the two signed histories differ; PeerError("bad_chain") if they do not.

        `identity` is the relay's identity key. Each side's stubs must hash to its signed head.
        """
        keys = HeadKeys.certified(self.realm, identity, self.head_keys)
        sides = []
        for head, prev, stubs in (
            (self.ours, self.our_prev, self.our_stubs),
            (self.theirs, self.their_prev, self.their_stubs),
        ):
            keys.verify(self.log, head)
            start = Chain(self.realm, self.log, head.incarnation, self.common, prev)
            chain = start.run(stubs)
            end = chain[-1] if chain else start
            if end.seq != head.seq or not hmac.compare_digest(end.hash, head.hash):
                raise PeerError("bad_chain", "the entries do not lead to the signed head")  # LOG-07
            sides.append([start.hash, *(step.hash for step in chain)])
        if self.ours.incarnation != self.theirs.incarnation:
            raise PeerError("bad_chain", "two incarnations are not a fork")  # LOG-08
        for distance, (mine, yours) in enumerate(zip(*sides, strict=False)):
            if not hmac.compare_digest(mine, yours):
                return self.common + distance
        raise PeerError("bad_chain", "the two histories agree")  # LOG-09

    def encode(self) -> bytes:
        """Deterministic CBOR, for a file or a message."""
        return enc(
            "fork proof",
            1,
            self.realm,
            self.log,
            [_head_key_items(key) for key in self.head_keys],
            self.common,
            [_head_items(self.ours), self.our_prev, [_stub_items(stub) for stub in self.our_stubs]],
            [_head_items(self.theirs), self.their_prev, [_stub_items(stub) for stub in self.their_stubs]],
        )

    @classmethod
    def decode(cls, data: bytes) -> ForkProof:
        """Read what `encode` wrote; PeerError("bad_encoding") otherwise."""
        fields = Fields.decode(data, "fork proof")
        fields.kind("fork proof")
        if fields.uint("version") != 1:
            raise PeerError("bad_encoding", "fork proof: unknown version")
        realm, log = fields.text("realm", 64), fields.octets("log", 16)
        keys = tuple(_read_head_key(Fields(item, "head key")) for item in fields.array("head keys", 16))
        common = fields.uint("common", 63)
        sides = []
        for name in ("ours", "theirs"):
            side = fields.fields(name)
            head = _read_head(side.fields("head"))
            prev = side.octets("prev", 32)
            stubs = tuple(_read_stub(Fields(item, "stub")) for item in side.array("stubs"))
            side.end()
            sides.append((head, prev, stubs))
        fields.end()
        (ours, our_prev, our_stubs), (theirs, their_prev, their_stubs) = sides
        return cls(
            realm=realm,
            log=log,
            head_keys=keys,
            common=common,
            ours=ours,
            our_prev=our_prev,
            our_stubs=our_stubs,
            theirs=theirs,
            their_prev=their_prev,
            their_stubs=their_stubs,
        )


def _head_items(head: Head) -> list[object]:
    return [head.incarnation, head.seq, head.hash, head.signature]


def _read_head(fields: Fields) -> Head:
    head = Head(
        incarnation=fields.uint("incarnation", 63),
        seq=fields.uint("seq", 63),
        hash=fields.octets("hash", 32),
        signature=fields.octets("signature", most=512),
    )
    fields.end()
    return head


def _head_key_items(key: HeadKey) -> list[object]:
    return [key.key, key.not_before, key.signature]


def _read_head_key(fields: Fields) -> HeadKey:
    key = HeadKey(
        key=fields.octets("key", 32),
        not_before=fields.uint("not_before", 63),
        signature=fields.octets("signature", most=512),
    )
    fields.end()
    return key


def _stub_items(stub: Stub) -> list[object]:
    return [
        stub.seq,
        stub.kind,
        stub.flags,
        stub.epoch,
        stub.token_hash,
        stub.entry_id,
        stub.payload_hash,
        stub.attachments_hash,
        stub.ts_ms,
    ]


def _read_stub(fields: Fields) -> Stub:
    stub = Stub(
        seq=fields.uint("seq", 63),
        kind=fields.text("kind", 16),
        flags=fields.uint("flags", 63),
        epoch=fields.uint("epoch", 63),
        token_hash=fields.octets("token_hash", 32),
        entry_id=fields.octets("entry_id", 16),
        payload_hash=fields.octets("payload_hash", 32),
        attachments_hash=fields.octets("attachments_hash", 32),
        ts_ms=fields.uint("ts_ms", 63),
    )
    fields.end()
    return stub
