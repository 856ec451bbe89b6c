"""The hash chain, its heads and the fork proof: each check with what it refuses.

LOG-01 head key certified, LOG-02 head signed, LOG-03 next entry, LOG-04 incarnation, LOG-05 hash at the head,
LOG-06 head not behind the entries; of a proof: LOG-07 entries lead to the heads, LOG-08 one incarnation,
LOG-09 they differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace as altered

import pytest
from msgspec.structs import replace

from cloister.codec.cbor import enc
from cloister.errors import PeerError
from cloister.primitives.kdf import sha256
from cloister.primitives.labelled import hash_of
from cloister.primitives.signature import SigningKey
from cloister.wire.frames import Entry, Head, Stub
from cloister.wire.log import (
    NO_ATTACHMENTS,
    START,
    Chain,
    ForkProof,
    HeadKeys,
    attachments_hash,
    certify_head_key,
    entry_hash,
    sign_head,
    stub_of,
)

REALM, LOG = "home.example", b"L" * 16
IDENTITY, HEAD, OTHER = (SigningKey("ed25519", letter * 32) for letter in (b"i", b"h", b"o"))
STATEMENT = certify_head_key(IDENTITY, REALM, HEAD.public.raw, 7)
KEYS = HeadKeys.certified(REALM, IDENTITY.public, [STATEMENT])


def entry(seq: int, text: str = "text", **fields: object) -> Entry:
    made = Entry(
        seq=seq,
        kind="application",
        flags=0,
        epoch=1,
        token_hash=b"t" * 32,
        entry_id=seq.to_bytes(16, "big"),
        payload=text.encode(),
        ts_ms=1_790_000_000_000 + seq,
    )
    return replace(made, **fields)


def log(count: int, fork_at: int = 0) -> tuple[list[Entry], list[Chain]]:
    entries = [entry(seq, "other" if seq == fork_at else "text") for seq in range(1, count + 1)]
    return entries, Chain(REALM, LOG).run(entries)


def head(chain: Chain, key: SigningKey = HEAD, incarnation: int = 0) -> Head:
    return sign_head(key, REALM, LOG, incarnation, chain.seq, chain.hash)


def code_of(call: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(PeerError) as refused:
        call(*arguments)
    return refused.value.code


# --- entries ------------------------------------------------------------------------------------------------


def test_an_entry_is_hashed_as_the_specification_writes_it() -> None:
    """The quick path gives what the general encoder gives, at the edges of every size of number and name."""
    for seq, kind, ts_ms in ((1, "a", 0), (23, "k" * 16, 24), (256, "realm", 65_535), (2**32, "commit", 2**40)):
        made = stub_of(entry(seq, kind=kind, ts_ms=ts_ms))
        plain = hash_of(
            "log", REALM, LOG, 3, made.seq, b"p" * 32, made.kind, made.flags, made.epoch, made.token_hash,
            made.entry_id, made.payload_hash, made.attachments_hash, made.ts_ms,
        )  # fmt: skip
        assert entry_hash(REALM, LOG, 3, b"p" * 32, made) == plain


def test_every_field_of_an_entry_is_covered() -> None:
    first = entry(5)
    digest = entry_hash(REALM, LOG, 0, START, first)
    for change in (
        {"seq": 6}, {"kind": "commit"}, {"flags": 1}, {"epoch": 2}, {"token_hash": b"x" * 32}, {"entry_id": b"x" * 16},
        {"payload": b"x"}, {"ts_ms": 1}, {"next_token_hash": b"x" * 32}, {"group_info_hash": b"x" * 32},
        {"item_hashes": [b"x" * 32]},
    ):  # fmt: skip
        assert entry_hash(REALM, LOG, 0, START, replace(first, **change)) != digest
    assert entry_hash("other", LOG, 0, START, first) != digest
    assert entry_hash(REALM, b"x" * 16, 0, START, first) != digest
    assert entry_hash(REALM, LOG, 1, START, first) != digest
    assert entry_hash(REALM, LOG, 0, b"x" * 32, first) != digest


def test_a_stub_hashes_like_its_entry() -> None:
    first = entry(1, next_token_hash=b"n" * 32, item_hashes=[b"b" * 32, b"a" * 32])
    assert entry_hash(REALM, LOG, 0, START, stub_of(first)) == entry_hash(REALM, LOG, 0, START, first)


def test_attachments_are_hashed_without_their_order() -> None:
    assert attachments_hash(None, None, []) == NO_ATTACHMENTS == sha256(enc(None, None, []))
    items = [b"b" * 32, b"a" * 32]
    assert attachments_hash(b"n" * 32, None, items) == attachments_hash(b"n" * 32, None, items[::-1])


# --- heads --------------------------------------------------------------------------------------------------


def test_log_01_a_head_key_that_the_identity_key_did_not_certify_is_refused() -> None:
    for statement in (
        certify_head_key(OTHER, REALM, HEAD.public.raw, 7),
        replace(STATEMENT, key=OTHER.public.raw),
        replace(STATEMENT, not_before=8),
    ):
        assert code_of(HeadKeys.certified, REALM, IDENTITY.public, [STATEMENT, statement]) == "bad_head"
    assert code_of(HeadKeys.certified, "other.example", IDENTITY.public, [STATEMENT]) == "bad_head"


def test_log_02_a_head_that_no_head_key_signed_is_refused() -> None:
    _, chains = log(3)
    signed = head(chains[2])
    KEYS.verify(LOG, signed)
    for forged in (
        head(chains[2], OTHER),
        replace(signed, seq=4),
        replace(signed, hash=b"x" * 32),
        replace(signed, incarnation=1),
    ):
        assert code_of(KEYS.verify, LOG, forged) == "bad_head"
    assert code_of(KEYS.verify, b"x" * 16, signed) == "bad_head"


def test_a_head_of_an_earlier_head_key_still_counts() -> None:
    newer = certify_head_key(IDENTITY, REALM, OTHER.public.raw, 9)
    HeadKeys.certified(REALM, IDENTITY.public, [STATEMENT, newer]).verify(LOG, head(log(1)[1][0]))


# --- following ----------------------------------------------------------------------------------------------


def test_log_03_an_entry_that_is_not_the_next_one_is_refused() -> None:
    entries, chains = log(4)
    for wrong in ([entries[1]], [entries[0], entries[2]], [entries[0], entries[0]]):
        assert code_of(Chain(REALM, LOG).extend, wrong, head(chains[3]), KEYS) == "gap"


def test_log_04_a_head_of_another_incarnation_is_refused() -> None:
    entries, chains = log(2)
    assert code_of(Chain(REALM, LOG).extend, entries, head(chains[1], incarnation=1), KEYS) == "bad_head"


def test_log_05_entries_that_do_not_hash_to_the_head_are_refused() -> None:
    entries, chains = log(3)
    swapped = [entries[0], replace(entries[2], seq=2), replace(entries[1], seq=3)]
    assert code_of(Chain(REALM, LOG).extend, swapped, head(chains[2]), KEYS) == "bad_chain"
    _, others = log(3, fork_at=3)
    assert code_of(chains[2].extend, [], head(others[2]), KEYS) == "fork"


def test_log_06_a_head_older_than_its_entries_is_refused() -> None:
    entries, chains = log(4)
    assert code_of(chains[1].extend, entries[2:], head(chains[0]), KEYS) == "bad_head"


def test_a_chain_grows_over_entries_and_stubs_to_the_signed_head() -> None:
    entries, chains = log(4)
    mixed: list[Entry | Stub] = [entries[0], stub_of(entries[1]), entries[2]]
    assert Chain(REALM, LOG).extend(mixed, head(chains[3]), KEYS) == chains[2]
    assert chains[2].extend(entries[3:], head(chains[3]), KEYS) == chains[3]
    assert chains[3].extend([], head(chains[3]), KEYS) == chains[3]


# --- the proof of a fork ------------------------------------------------------------------------------------


def proof(common: int = 1, ours: int = 4, theirs: int = 3, fork_at: int = 3) -> ForkProof:
    (our_entries, our_chains), (their_entries, their_chains) = log(ours), log(theirs, fork_at)
    return ForkProof(
        realm=REALM,
        log=LOG,
        head_keys=(STATEMENT,),
        common=common,
        ours=head(our_chains[-1]),
        our_prev=our_chains[common - 1].hash,
        our_stubs=tuple(stub_of(each) for each in our_entries[common:]),
        theirs=head(their_chains[-1]),
        their_prev=their_chains[common - 1].hash,
        their_stubs=tuple(stub_of(each) for each in their_entries[common:]),
    )


def test_a_proof_names_the_first_entry_that_differs() -> None:
    assert proof().verify(IDENTITY.public) == 3
    assert proof(common=3).verify(IDENTITY.public) == 3
    assert proof(fork_at=2).verify(IDENTITY.public) == 2
    assert ForkProof.decode(proof().encode()) == proof()


def test_log_07_entries_that_do_not_lead_to_the_signed_heads_prove_nothing() -> None:
    good = proof()
    for forged in (
        altered(good, our_prev=b"x" * 32),
        altered(good, our_stubs=good.our_stubs[:-1]),
        altered(good, their_stubs=()),
        altered(good, their_stubs=(*good.their_stubs[:-1], replace(good.their_stubs[-1], ts_ms=1))),
    ):
        assert code_of(forged.verify, IDENTITY.public) == "bad_chain"


def test_log_08_two_incarnations_are_no_fork() -> None:
    entries, _ = log(2)
    chain = Chain(REALM, LOG, incarnation=1).run(entries)[-1]
    good = proof(common=1, ours=2, theirs=2, fork_at=2)
    forged = altered(
        good,
        theirs=head(chain, incarnation=1),
        their_prev=Chain(REALM, LOG, incarnation=1).run(entries)[0].hash,
        their_stubs=(stub_of(entries[1]),),
    )
    assert code_of(forged.verify, IDENTITY.public) == "bad_chain"


def test_log_09_two_histories_that_agree_are_no_fork() -> None:
    assert code_of(proof(fork_at=9).verify, IDENTITY.public) == "bad_chain"


def test_a_proof_against_another_relay_is_refused() -> None:
    assert code_of(proof().verify, OTHER.public) == "bad_head"
    assert code_of(altered(proof(), log=b"x" * 16).verify, IDENTITY.public) == "bad_head"


def test_only_whole_proofs_of_a_known_form_decode() -> None:
    whole = proof().encode()
    for cut in range(0, len(whole), 37):
        assert code_of(ForkProof.decode, whole[:cut]) == "bad_encoding"
    assert code_of(ForkProof.decode, whole + b"\x00") == "bad_encoding"
    assert code_of(ForkProof.decode, enc("fork proof", 2)) == "bad_encoding"
    assert code_of(ForkProof.decode, enc("another thing", 1)) == "bad_encoding"
