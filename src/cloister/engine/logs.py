"""Following a log: what was verified, what others have seen of it, and the proof when the two do not fit.

Source: docs/spec/log.md. One `FollowedLog` per room, run and for the realm log.

Invariants
- Only entries that hash to a signed head are handed on; each is handed on once, in order.
- A verified entry is stored with its hash before it counts, so every restart goes on where the last one stood.
- A relay that drops, repeats, reorders or forks is named by a code and the log is not read further:
  `gap`, `replay`, `bad_chain`, `bad_head`, `fork`, `withheld`. The old entries stay readable.
- A head that another member has seen (gossip) or that an ack carried is a claim: it must match the entry at its seq,
  now or once that entry arrives, within CLAIM_PATIENCE.

States: IDLE (to be presented) -> ASKED (a page is awaited) -> FOLLOWING (pushes come) ; BROKEN.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import msgspec

from cloister.engine.store import Store
from cloister.engine.unit import Unit
from cloister.errors import PeerError
from cloister.primitives.signature import VerifyKey
from cloister.wire import limits
from cloister.wire.frames import Entry, Head, HeadKey, Stub
from cloister.wire.log import Chain, ForkProof, HeadKeys, stub_of

CLAIM_PATIENCE: Final = 2 * limits.MINUTE
"""How long (ms, while online) the relay may take to show an entry that another member has seen."""
MAX_CLAIMS: Final = 64
KEEP: Final = 30 * limits.DAY
"""How long raw entries and heads are kept (ms)."""

_encoder = msgspec.msgpack.Encoder()
_entry = msgspec.msgpack.Decoder(Entry | Stub)
_head = msgspec.msgpack.Decoder(Head)


class LogState(Enum):
    """Where the reading of a log stands on this connection."""

    IDLE = "to be presented"
    ASKED = "a page is awaited"
    FOLLOWING = "pushes come"
    BROKEN = "the relay was caught"


@dataclass(frozen=True, slots=True)
class Claim:
    """A signed head that somebody showed; `peer` is empty for the relay's own ack."""

    head: Head
    peer: str
    until: int


@dataclass(slots=True)
class FollowedLog:
    """One log as this device has verified it."""

    chain: Chain
    head: Head | None = None
    state: LogState = LogState.IDLE
    retry_at: int = 0
    tries: int = 0
    claims: dict[int, Claim] = field(default_factory=dict)

    @property
    def id(self) -> bytes:
        """The log's id, 16 bytes."""
        return self.chain.log

    @classmethod
    def load(cls, store: Store, realm: str, log: bytes) -> FollowedLog:
        """The log as the store has it."""
        for key, value in store.scan("entry", log, newest=True):
            chain = Chain(realm, log, 0, int.from_bytes(key[16:], "big"), value[:32])
            heads = store.scan("head", log, newest=True)
            head = next((_head.decode(row) for _key, row in heads), None)
            return cls(chain, head)
        return cls(Chain(realm, log))

    def _place(self, seq: int) -> bytes:
        """The key of the rows of an entry's place."""
        return self.id + seq.to_bytes(8, "big")

    # --- what the relay shows ---

    def check(
        self, unit: Unit, entries: Sequence[Entry | Stub], head: Head, keys: HeadKeys, *, pushed: bool
    ) -> list[Chain]:
        """Verify a page or push: the chain after each entry. PeerError names what is wrong; nothing is taken yet."""
        self._signed(unit, head, keys)
        if pushed and entries and entries[0].seq <= self.chain.seq:
            raise PeerError("replay", f"entry {entries[0].seq} was pushed again")
        if not entries:
            self._compare(head)
            return []
        chains = self.chain.run(entries)
        if head.seq != entries[-1].seq or head.incarnation != self.chain.incarnation:
            raise PeerError("bad_head", "the head is not that of the last entry")
        if not hmac.compare_digest(chains[-1].hash, head.hash):
            raise PeerError("bad_chain", f"entries {entries[0].seq} to {head.seq} do not hash to the signed head")
        self._repeated(unit, entries)
        return chains

    def take(self, unit: Unit, entries: Sequence[Entry | Stub], chains: Sequence[Chain], head: Head) -> None:
        """What was verified becomes part of the log."""
        for entry, chain in zip(entries, chains, strict=True):
            self._store(unit, entry, chain)
        if chains:
            self.chain, self.head = chains[-1], head
            unit.put("head", self._place(head.seq), _encoder.encode(head))
        elif head.seq == self.chain.seq and self.head is None:
            self.head = head

    def _compare(self, head: Head) -> None:
        """An empty page: the relay's newest head must not be behind what it signed before."""
        if head.seq < self.chain.seq:
            raise PeerError("bad_chain", f"the relay's log ends at {head.seq}, it had {self.chain.seq} entries")
        if head.seq == self.chain.seq:
            if head.seq and not hmac.compare_digest(head.hash, self.chain.hash):
                raise PeerError("fork", f"at entry {head.seq}")

    def _repeated(self, unit: Unit, entries: Sequence[Entry | Stub]) -> None:
        """A relay that stores one entry twice shows it: the same entry id at another seq."""
        seen: set[bytes] = set()
        for entry in entries:
            if entry.entry_id in seen or unit.get("entryid", self.id + entry.entry_id) is not None:
                raise PeerError("replay", f"entry {entry.seq} repeats an earlier one")
            seen.add(entry.entry_id)

    def _store(self, unit: Unit, entry: Entry | Stub, chain: Chain) -> None:
        unit.put("entry", self._place(entry.seq), chain.hash + _encoder.encode(entry))
        unit.put("entryid", self.id + entry.entry_id, entry.seq.to_bytes(8, "big"))

    # --- what others have seen ---

    def claim(self, unit: Unit, head: Head, peer: str, keys: HeadKeys) -> None:
        """Compare a signed head with the log; PeerError("fork") when the relay signed both.

        PeerError("bad_head") means that its bringer is at fault: the relay never signed it.
        """
        self._signed(unit, head, keys)
        if head.seq > self.chain.seq:
            if len(self.claims) < MAX_CLAIMS:
                self.claims.setdefault(head.seq, Claim(head, peer, unit.now + CLAIM_PATIENCE))
            return
        known = self.hash_at(unit, head.seq)
        if known is not None and not hmac.compare_digest(known, head.hash):
            raise PeerError("fork", f"at entry {head.seq}")

    def _signed(self, unit: Unit, head: Head, keys: HeadKeys) -> None:
        """PeerError("bad_head") unless the relay has signed the head; one that verified before is only compared."""
        claim = self.claims.get(head.seq)
        if claim is not None and claim.head == head:
            return
        if unit.get("head", self._place(head.seq)) != _encoder.encode(head):
            keys.verify(self.id, head)

    def settle(self, unit: Unit) -> Claim | None:
        """Claims that the log has reached are compared; the first that differs, if any."""
        for seq in sorted(self.claims):
            if seq > self.chain.seq:
                return None
            claim = self.claims.pop(seq)
            known = self.hash_at(unit, seq)
            if known is not None and not hmac.compare_digest(known, claim.head.hash):
                return claim
        return None

    def overdue(self, now: int) -> Claim | None:
        """A claim that the relay has not made good in time."""
        for seq in sorted(self.claims):
            if self.claims[seq].until < now:
                return self.claims.pop(seq)
        return None

    def hash_at(self, unit: Unit, seq: int) -> bytes | None:
        """The verified hash at `seq`, as far as it is kept."""
        row = unit.get("entry", self._place(seq))
        return None if row is None else row[:32]

    def prove_fork(self, unit: Unit, theirs: Head, head_keys: Sequence[HeadKey]) -> ForkProof | None:
        """Our signed history against a signed head that contradicts it, as a portable proof."""
        start = self.hash_at(unit, theirs.seq)
        if start is None or self.head is None or self.head.seq < theirs.seq:
            return None
        stubs = []
        for seq in range(theirs.seq + 1, self.head.seq + 1):
            row = unit.get("entry", self._place(seq))
            if row is None:
                return None
            entry = _entry.decode(row[32:])
            stubs.append(stub_of(entry) if isinstance(entry, Entry) else entry)
        return ForkProof(
            realm=self.chain.realm,
            log=self.id,
            head_keys=self._signers(head_keys, (self.head, theirs)),
            common=theirs.seq,
            ours=self.head,
            our_prev=start,
            our_stubs=tuple(stubs),
            theirs=theirs,
            their_prev=theirs.hash,
            their_stubs=(),
        )

    def _signers(self, statements: Sequence[HeadKey], heads: Sequence[Head]) -> tuple[HeadKey, ...]:
        """The head keys that signed these heads: a relay with many keys would make a proof too long to be read."""
        used = []
        for statement in statements:
            keys = HeadKeys(self.chain.realm, (VerifyKey("ed25519", statement.key),))
            for head in heads:
                with suppress(PeerError):
                    keys.verify(self.id, head)
                    used.append(statement)
                    break
        return tuple(used)


def purge(unit: Unit, log: FollowedLog) -> None:
    """Forget entries, heads and entry ids older than KEEP; the newest entry stays, the log goes on from it."""
    for key, row in unit.store.scan("entry", log.id):
        entry = _entry.decode(row[32:])
        if entry.ts_ms > unit.now - KEEP or entry.seq >= log.chain.seq:
            return
        unit.delete("entry", key)
        unit.delete("head", key)
        unit.delete("entryid", log.id + entry.entry_id)


def forget(unit: Unit, log: bytes) -> None:
    """Nobody reads this log any more: every row of it goes."""
    for table in ("entry", "head", "entryid"):
        unit.drop_all(table, log)


def stored_rows(store: Store, log: bytes) -> list[tuple[bytes, Entry | Stub]]:
    """Every kept entry of a log, in order, with the log's hash there."""
    return [(row[:32], _entry.decode(row[32:])) for _key, row in store.scan("entry", log)]
