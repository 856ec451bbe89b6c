"""The word list's rule and what it promises.

Checks: WORD-01, WORD-02, WORD-03.
"""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.errors import PeerError
from cloister.identity.words import WORDS, from_words, to_words

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def test_there_are_2048_words_of_five_letters() -> None:
    assert len(set(WORDS)) == 2048
    assert {len(word) for word in WORDS} == {5}


def test_the_list_never_changes() -> None:
    assert (WORDS[0], WORDS[1], WORDS[1024], WORDS[2047]) == ("babab", "babid", "mabam", "zutus")
    assert sha256(" ".join(WORDS).encode()).hexdigest() == (
        "24327d9f703872a00b4c3d0ecf680c26d6d62259ac57f7407ae66c39d860435f"
    )


def test_no_two_words_differ_in_one_letter() -> None:
    known = set(WORDS)
    for word in WORDS:
        near = (word[:at] + letter + word[at + 1 :] for at in range(5) for letter in LETTERS)
        assert [other for other in near if other in known] == [word] * 5


@given(st.binary(min_size=1, max_size=40))
def test_words_read_back(data: bytes) -> None:
    words = to_words(data)
    assert from_words(" ".join(words), len(data)) == data
    assert from_words("  " + "\n".join(words).upper() + "\t", len(data)) == data


@pytest.mark.parametrize(("size", "count"), [(16, 12), (24, 18), (32, 24), (11, 9)])
def test_the_checksum_has_at_least_one_bit(size: int, count: int) -> None:
    assert len(to_words(bytes(size))) == count
    assert count * 11 > 8 * size


def test_a_wrong_number_of_words_is_refused() -> None:
    words = to_words(bytes(16))
    for text in ("", " ".join(words[:-1]), " ".join([*words, words[0]])):
        with pytest.raises(PeerError, match="12 words are needed") as caught:
            from_words(text, 16)
        assert caught.value.code == "bad_recovery_code"


def test_a_mistyped_letter_is_found_in_its_word() -> None:
    words = list(to_words(bytes(range(16))))
    for at in range(12):
        for letter in LETTERS:
            typed = words[at][:2] + letter + words[at][3:]
            if typed == words[at]:
                continue
            with pytest.raises(PeerError, match=f"word {at + 1} is not in the list") as caught:
                from_words(" ".join([*words[:at], typed, *words[at + 1 :]]), 16)
            assert caught.value.code == "bad_recovery_code"


def test_most_wrong_words_are_found_by_the_checksum() -> None:
    words = list(to_words(bytes(range(16))))
    codes = []
    for word in WORDS:
        try:
            from_words(" ".join([word, *words[1:]]), 16)
        except PeerError as error:
            codes.append(error.code)
    assert len(codes) > 2048 * 0.9
    assert set(codes) == {"bad_recovery_code"}


def test_swapped_words_are_found() -> None:
    words = list(to_words(bytes(range(16))))
    words[0], words[1] = words[1], words[0]
    with pytest.raises(PeerError, match="do not fit together"):
        from_words(" ".join(words), 16)
