"""A proof of a fork that a member brings: what does not prove one here is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cloister.engine.evidence import judge
from cloister.errors import PeerError
from cloister.primitives.signature import SigningKey
from cloister.wire.frames import Head
from cloister.wire.log import ForkProof, certify_head_key, sign_head

REALM, ROOM = "home.example", b"r" * 16
IDENTITY = SigningKey("ed25519", b"i" * 32)
HEAD_KEY = SigningKey("ed25519", b"h" * 32)


def head(digest: bytes, key: SigningKey = HEAD_KEY) -> Head:
    return sign_head(key, REALM, ROOM, 0, 7, digest)


def proof(ours: Head, theirs: Head) -> ForkProof:
    return ForkProof(
        realm=REALM,
        log=ROOM,
        head_keys=(certify_head_key(IDENTITY, REALM, HEAD_KEY.public.raw, 0),),
        common=7,
        ours=ours,
        our_prev=ours.hash,
        our_stubs=(),
        theirs=theirs,
        their_prev=theirs.hash,
        their_stubs=(),
    )


FORK = proof(head(b"a" * 32), head(b"b" * 32))


def code_of(body: bytes, room: bytes = ROOM, realm: str = REALM, identity: SigningKey = IDENTITY) -> str:
    with pytest.raises(PeerError) as refused:
        judge(body, realm, room, identity.public)
    return refused.value.code


def test_what_is_no_proof_is_refused() -> None:
    assert code_of(b"") == "bad_encoding"
    assert code_of(FORK.encode()[:-1]) == "bad_encoding"


def test_a_proof_about_another_log_is_refused() -> None:
    assert code_of(FORK.encode(), room=b"x" * 16) == "misrouted"
    assert code_of(FORK.encode(), realm="other.example") == "misrouted"


def test_a_proof_against_another_relay_is_refused() -> None:
    assert code_of(FORK.encode(), identity=SigningKey("ed25519", b"x" * 32)) == "bad_head"


def test_a_head_that_a_member_has_signed_itself_is_refused() -> None:
    forged = proof(head(b"a" * 32), head(b"b" * 32, SigningKey("ed25519", b"m" * 32)))
    assert code_of(forged.encode()) == "bad_head"


def test_two_histories_that_agree_are_no_fork() -> None:
    same = head(b"a" * 32)
    assert code_of(proof(same, same).encode()) == "bad_chain"


def test_entries_that_do_not_lead_to_the_head_are_refused() -> None:
    assert code_of(replace(FORK, our_prev=b"c" * 32).encode()) == "bad_chain"


def test_a_proof_counts_whoever_brings_it() -> None:
    assert judge(FORK.encode(), REALM, ROOM, IDENTITY.public) == FORK
