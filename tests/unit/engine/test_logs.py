"""A followed log: what names a dishonest relay, and what does not."""

from __future__ import annotations

import itertools

import pytest

from cloister.engine.logs import CLAIM_PATIENCE, KEEP, FollowedLog, LogState, purge, stored_rows
from cloister.engine.store import Put
from cloister.engine.unit import Unit
from cloister.errors import PeerError
from cloister.primitives.signature import SigningKey
from cloister.testing.store import MemoryStore
from cloister.wire.frames import Entry, Head
from cloister.wire.log import Chain, ForkProof, HeadKeys, certify_head_key, entry_hash, sign_head, stub_of

REALM = "example"
LOG = b"L" * 16
IDENTITY = SigningKey("ed25519", b"i" * 32)
HEAD = SigningKey("ed25519", b"h" * 32)
STATEMENT = certify_head_key(IDENTITY, REALM, HEAD.public.raw, 0)
KEYS = HeadKeys.certified(REALM, IDENTITY.public, [STATEMENT])
_ids = itertools.count(1)


def entries(count: int, *, first: int = 1, text: str = "entry", ts: int = 1000) -> list[Entry]:
    return [
        Entry(
            seq=seq,
            kind="application",
            flags=0,
            epoch=1,
            token_hash=b"t" * 32,
            entry_id=next(_ids).to_bytes(16, "big"),
            payload=f"{text} {seq}".encode(),
            ts_ms=ts,
        )
        for seq in range(first, first + count)
    ]


def head_of(log: list[Entry], upto: int) -> Head:
    """What an honest relay signs for the log's first `upto` entries."""
    digest = bytes(32)
    for entry in log[:upto]:
        digest = entry_hash(REALM, LOG, 0, digest, entry)
    return sign_head(HEAD, REALM, LOG, 0, upto, digest)


class Reader:
    """A followed log over a store, one unit for each call."""

    def __init__(self) -> None:
        self.store = MemoryStore().open()
        self.log = FollowedLog(Chain(REALM, LOG))
        self.now = 1000

    def unit(self) -> Unit:
        return Unit(self.store, self.now, bytes, lambda: 0)

    def push(self, shown: list[Entry], head: Head) -> list[Entry]:
        return self._accept(shown, head, pushed=True)

    def page(self, shown: list[Entry], head: Head) -> list[Entry]:
        return self._accept(shown, head, pushed=False)

    def _accept(self, shown: list[Entry], head: Head, *, pushed: bool) -> list[Entry]:
        unit = self.unit()
        self.log.take(unit, shown, self.log.check(unit, shown, head, KEYS, pushed=pushed), head)
        self.store.apply(unit.writes)
        return shown


@pytest.fixture
def reader() -> Reader:
    return Reader()


def refused(reader: Reader, shown: list[Entry], head: Head, *, pushed: bool = True) -> str:
    """The code of a refusal that left everything as it was."""
    before = (reader.log.chain, reader.log.head, list(reader.store.scan("entry")))
    with pytest.raises(PeerError) as caught:
        reader._accept(shown, head, pushed=pushed)
    assert (reader.log.chain, reader.log.head, list(reader.store.scan("entry"))) == before
    return caught.value.code


def test_a_dropped_entry_in_a_page_is_a_gap(reader: Reader) -> None:
    log = entries(3)
    assert refused(reader, [log[0], log[2]], head_of(log, 3), pushed=False) == "gap"


def test_a_dropped_entry_with_seqs_closed_up_is_a_bad_chain(reader: Reader) -> None:
    log = entries(3)
    lied = [log[0], Entry(**{**_fields(log[2]), "seq": 2})]
    head = head_of([log[0], log[1]], 2)
    assert refused(reader, lied, head) == "bad_chain"


def test_an_entry_pushed_twice_is_a_replay(reader: Reader) -> None:
    log = entries(2)
    reader.push(log, head_of(log, 2))
    assert refused(reader, [log[1]], head_of(log, 2)) == "replay"


def test_an_entry_stored_twice_is_a_replay(reader: Reader) -> None:
    log = entries(2)
    again = [*log, Entry(**{**_fields(log[0]), "seq": 3})]
    reader.push(log, head_of(log, 2))
    assert refused(reader, again[2:], head_of(again, 3)) == "replay"


def test_reordered_entries_are_named(reader: Reader) -> None:
    log = entries(2)
    swapped = [Entry(**{**_fields(log[1]), "seq": 1}), Entry(**{**_fields(log[0]), "seq": 2})]
    assert refused(reader, swapped, head_of(log, 2)) == "bad_chain"
    assert refused(reader, [log[1], log[0]], head_of(log, 2)) == "gap"


def test_a_head_that_nobody_certified_is_refused(reader: Reader) -> None:
    log = entries(1)
    stranger = sign_head(SigningKey("ed25519", b"x" * 32), REALM, LOG, 0, 1, head_of(log, 1).hash)
    assert refused(reader, log, stranger) == "bad_head"


def test_another_signature_over_a_known_head_is_verified(reader: Reader) -> None:
    log = entries(3)
    reader.push(log[:2], head_of(log, 2))
    reader.log.claim(reader.unit(), head_of(log, 3), "bob", KEYS)
    for seq in (2, 3):
        forged = sign_head(SigningKey("ed25519", b"x" * 32), REALM, LOG, 0, seq, head_of(log, seq).hash)
        with pytest.raises(PeerError, match="bad_head"):
            reader.log.claim(reader.unit(), forged, "mallory", KEYS)
    assert refused(reader, log[2:], forged) == "bad_head"


def test_a_head_for_another_place_is_refused(reader: Reader) -> None:
    log = entries(2)
    assert refused(reader, log[:1], head_of(log, 2)) == "bad_head"


def test_a_log_that_became_shorter_is_a_bad_chain(reader: Reader) -> None:
    log = entries(2)
    reader.push(log, head_of(log, 2))
    assert refused(reader, [], head_of(log, 1), pushed=False) == "bad_chain"


def test_an_empty_page_over_another_history_is_a_fork(reader: Reader) -> None:
    log, other = entries(2), entries(2, text="other")
    reader.push(log, head_of(log, 2))
    assert refused(reader, [], head_of(other, 2), pushed=False) == "fork"


def test_honest_pages_and_pushes_move_the_log_and_survive_a_restart(reader: Reader) -> None:
    log = entries(4)
    assert reader.page(log[:2], head_of(log, 2)) == log[:2]
    assert reader.push(log[2:], head_of(log, 4)) == log[2:]
    assert reader.page([], head_of(log, 4)) == []
    again = FollowedLog.load(reader.store, REALM, LOG)
    assert (again.chain, again.head) == (reader.log.chain, head_of(log, 4))
    assert again.state is LogState.IDLE
    assert [entry for _, entry in stored_rows(reader.store, LOG)] == log


def test_a_head_that_verified_is_only_compared_when_it_is_shown_again(reader: Reader) -> None:
    log, nobody = entries(2), HeadKeys(REALM, ())
    reader.log.claim(reader.unit(), head_of(log, 2), "", KEYS)
    reader.log.check(reader.unit(), log, head_of(log, 2), nobody, pushed=True)  # the ack's head comes with a push
    reader.push(log, head_of(log, 2))
    assert reader.log.settle(reader.unit()) is None
    reader.log.claim(reader.unit(), head_of(log, 2), "bob", nobody)  # and with a member's message
    with pytest.raises(PeerError, match="bad_head"):
        reader.log.claim(reader.unit(), head_of(log, 1), "bob", nobody)


def test_stubs_keep_the_chain_whole(reader: Reader) -> None:
    log = entries(3)
    shown = [stub_of(log[0]), stub_of(log[1]), log[2]]
    assert reader.page(shown, head_of(log, 3)) == shown  # type: ignore[arg-type]


def test_a_claim_beside_the_log_is_a_fork_that_can_be_proven(reader: Reader) -> None:
    log, other = entries(5), entries(3, text="other")
    reader.push(log, head_of(log, 5))
    theirs = head_of(other, 3)
    with pytest.raises(PeerError, match="fork"):
        reader.log.claim(reader.unit(), theirs, "peer", KEYS)
    proof = reader.log.prove_fork(reader.unit(), theirs, [STATEMENT])
    assert proof is not None
    assert ForkProof.decode(proof.encode()).verify(IDENTITY.public) == 3


def test_a_claim_ahead_of_the_log_is_compared_when_the_log_has_come(reader: Reader) -> None:
    log, other = entries(3), entries(3, text="other")
    reader.log.claim(reader.unit(), head_of(log, 2), "bob", KEYS)
    reader.log.claim(reader.unit(), head_of(other, 3), "carol", KEYS)
    assert reader.log.settle(reader.unit()) is None
    reader.push(log, head_of(log, 3))
    claim = reader.log.settle(reader.unit())
    assert claim is not None
    assert claim.peer == "carol"
    assert reader.log.settle(reader.unit()) is None


def test_a_claim_with_a_forged_head_is_its_bringers_fault(reader: Reader) -> None:
    log = entries(1)
    forged = sign_head(SigningKey("ed25519", b"x" * 32), REALM, LOG, 0, 1, head_of(log, 1).hash)
    with pytest.raises(PeerError, match="bad_head"):
        reader.log.claim(reader.unit(), forged, "mallory", KEYS)


def test_a_relay_that_never_shows_what_a_member_has_seen_is_withholding(reader: Reader) -> None:
    reader.log.claim(reader.unit(), head_of(entries(2), 2), "bob", KEYS)
    assert reader.log.overdue(reader.now + CLAIM_PATIENCE) is None
    claim = reader.log.overdue(reader.now + CLAIM_PATIENCE + 1)
    assert claim is not None
    assert claim.peer == "bob"
    assert reader.log.overdue(reader.now + 2 * CLAIM_PATIENCE) is None


def test_no_proof_is_made_up_where_the_log_does_not_reach(reader: Reader) -> None:
    log = entries(2)
    reader.push(log, head_of(log, 2))
    other = entries(9, text="other")
    assert reader.log.prove_fork(reader.unit(), head_of(other, 9), [STATEMENT]) is None


def test_old_entries_are_forgotten_and_the_newest_stays(reader: Reader) -> None:
    log = [*entries(3, ts=1000), *entries(1, first=4, ts=1000)]
    reader.push(log, head_of(log, 4))
    reader.now = 1000 + KEEP + 1
    unit = reader.unit()
    purge(unit, reader.log)
    reader.store.apply(unit.writes)
    assert [entry.seq for _, entry in stored_rows(reader.store, LOG)] == [4]
    assert FollowedLog.load(reader.store, REALM, LOG).chain == reader.log.chain
    assert reader.log.prove_fork(reader.unit(), head_of(entries(2, text="other"), 2), [STATEMENT]) is None


def test_a_unit_reads_its_own_writes(reader: Reader) -> None:
    unit = reader.unit()
    reader.store.apply([Put("meta", b"a", b"1")])
    assert unit.get("meta", b"a") == b"1"
    unit.put("meta", b"a", b"2")
    assert unit.get("meta", b"a") == b"2"
    unit.delete("meta", b"a")
    assert unit.get("meta", b"a") is None


def _fields(entry: Entry) -> dict[str, object]:
    return {name: getattr(entry, name) for name in entry.__struct_fields__}
