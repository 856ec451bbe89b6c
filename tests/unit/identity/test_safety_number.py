"""Safety numbers: the same for both, different for everybody else."""

from __future__ import annotations

from cloister.identity.safety_number import safety_number, safety_words
from cloister.identity.words import from_words

ALICE, BOB, EVE = ("alice", bytes(32)), ("bob", b"\1" * 32), ("alice", b"\2" * 32)
REALM = "home.example"


def test_both_see_the_same_number() -> None:
    number = safety_number(REALM, ALICE, BOB)
    assert number == safety_number(REALM, BOB, ALICE)
    groups = number.split(" ")
    assert len(groups) == 12
    assert all(len(group) == 5 and group.isdecimal() for group in groups)
    assert safety_words(REALM, ALICE, BOB) == safety_words(REALM, BOB, ALICE)


def test_another_key_name_or_realm_gives_another_number() -> None:
    others = [
        safety_number(REALM, EVE, BOB),
        safety_number(REALM, ("alicia", ALICE[1]), BOB),
        safety_number("other.example", ALICE, BOB),
        safety_number(REALM, ("alice", BOB[1]), ("bob", ALICE[1])),
        safety_number(REALM, ALICE, ALICE),
        safety_number(REALM, ALICE, BOB),
    ]
    assert len(set(others)) == len(others)


def test_the_number_never_changes() -> None:
    assert safety_number(REALM, ALICE, BOB) == (
        "19773 02224 97596 94911 26408 88536 19158 10793 08363 19456 71234 69428"
    )


def test_the_words_are_eighteen_with_a_checksum() -> None:
    words = safety_words(REALM, ALICE, BOB)
    assert len(words) == 18
    assert len(from_words(" ".join(words), 24)) == 24
    assert words != safety_words(REALM, EVE, BOB)
