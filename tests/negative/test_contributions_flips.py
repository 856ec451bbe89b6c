"""Suites `nonces` and `shares`: no bit of a run's message can be altered, inside the run channel's seal or outside it.

At n=3 every bit of the messages to one receiver (`make system`; a seeded sample in `make test`), at n=8 2,000 seeded
ones. Each flip is refused with a code of the list below, and the state is as it was.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from cloister.protocols.interface import Envelope, Fault, Session
from support.insider import KINDS, SUITES, Bench, bench
from support.suite_net import NOW, dump, seeded

both = pytest.mark.parametrize("suite", SUITES)
CODES = {"bad_sig", "bad_encoding", "unknown_sender", "unsupported"}
"""What a flip in the plain message may be refused with: the signature covers all that the form lets through."""


def _flipped(data: bytes, bit: int) -> bytes:
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


def _refused(session: Session, before: dict[bytes, bytes], envelope: Envelope) -> Fault:
    """One fault that is not fatal, and nothing else: neither effects nor a changed state."""
    effects = session.receive(envelope, NOW, seeded("flip"))
    assert len(effects) == 1, effects
    (fault,) = effects
    assert isinstance(fault, Fault)
    assert not fault.fatal
    assert fault.peer is None, "nobody is blamed for what he did not sign"
    assert dump(session) == before
    return fault


def _flip_all(case: Bench, sender: int, kind: str, bits: list[int]) -> Counter[str]:
    found: Counter[str] = Counter()
    session = case.session(kind)
    before, plain = dump(session), case.plain(sender, kind)
    for bit in bits:
        altered = case.sealed(_flipped(plain, bit), case.messages[sender, kind])
        fault = _refused(session, before, altered)
        assert fault.code in CODES, (kind, bit, fault)
        found[fault.code] += 1
    return found


def _bits(case: Bench, sender: int, kind: str) -> int:
    return 8 * len(case.plain(sender, kind))


@both
@pytest.mark.parametrize("kind", KINDS)
def test_n3_a_sample_of_flipped_bits(suite: str, kind: str) -> None:
    case = bench(suite=suite)
    for sender in (0, 2):
        bits = random.Random(kind).sample(range(_bits(case, sender, kind)), 150)
        found = _flip_all(case, sender, kind, bits)
        assert found["bad_sig"] > 100, "the check that refuses is the signature's (CON-02)"


@pytest.mark.slow
@both
@pytest.mark.parametrize("kind", KINDS)
def test_n3_every_flipped_bit(suite: str, kind: str) -> None:
    case = bench(suite=suite)
    for sender in (0, 2):
        found = _flip_all(case, sender, kind, list(range(_bits(case, sender, kind))))
        assert found["bad_sig"] > 0.9 * sum(found.values())


@pytest.mark.slow
@both
def test_n8_2000_flipped_bits(suite: str) -> None:
    case, dice = bench(8, suite=suite), random.Random(8)
    drawn: dict[tuple[int, str], list[int]] = {}
    for _ in range(2000):
        sender, kind = dice.choice([i for i in range(8) if i != case.victim]), dice.choice(KINDS)
        drawn.setdefault((sender, kind), []).append(dice.randrange(_bits(case, sender, kind)))
    total: Counter[str] = Counter()
    for (sender, kind), bits in drawn.items():
        total += _flip_all(case, sender, kind, bits)
    assert sum(total.values()) == 2000


@both
@pytest.mark.parametrize("kind", KINDS)
def test_flips_outside_the_seal(suite: str, kind: str) -> None:
    case, dice = bench(suite=suite), random.Random(kind)
    session = case.session(kind)
    before, entry = dump(session), case.messages[2, kind]
    for _ in range(60):
        bit = dice.randrange(8 * len(entry.payload))
        fault = _refused(session, before, replace(entry, payload=_flipped(entry.payload, bit)))
        assert fault.code == "bad_tag"
    for bit in range(128):
        fault = _refused(session, before, replace(entry, entry_id=_flipped(entry.entry_id, bit)))
        assert fault.code == "bad_tag"


@both
@pytest.mark.parametrize("kind", KINDS)
def test_truncated_and_extended_messages(suite: str, kind: str) -> None:
    case = bench(suite=suite)
    session = case.session(kind)
    before, plain = dump(session), case.plain(2, kind)
    for altered in (b"", plain[:-1], plain + b"\0", plain[1:], b"\x80", b"\xff" * 40):
        fault = _refused(session, before, case.sealed(altered, case.messages[2, kind]))
        assert fault.code == "bad_encoding"


@both
def test_a_control_the_unaltered_messages_are_taken(suite: str) -> None:
    case = bench(suite=suite)
    for kind in KINDS:
        session = case.session(kind)
        before = dump(session)
        again = case.sealed(case.plain(2, kind), case.messages[2, kind])
        assert not [effect for effect in session.receive(again, NOW, seeded(1)) if isinstance(effect, Fault)]
        assert dump(session) != before
        assert case.form.decode(case.plain(2, kind)).sender == 2
