"""Session codes and the string that people compare: one normal form, no bit lost, nothing mistaken."""

from __future__ import annotations

import pytest

from cloister.errors import UsageError
from cloister.protocols.code.forms import PICTURES, Code, digits, new_secret, pictures


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "A3F2B",
        "A3F2B17",
        "G3F2B1",
        "A3F2B1-7Q4K-M9X",
        "A3F2B1-7Q4K-M9XPP",
        "A3F2B1-7Q4K-M9XU",
        "A3F2B1-7Q4K-M9X!",
        "ÄÄÄÄÄÄ",
    ],
)
def test_what_is_no_code_is_refused(typed: str) -> None:
    with pytest.raises(UsageError) as refused:
        Code.parse(typed)
    assert refused.value.code == "usage"


@pytest.mark.parametrize(
    "typed", ["A3F2B1-7Q4K-M9XP", "a3f2b1 7q4k m9xp", "A3F2BI7Q4KM9XP", "a3f2bl-7q4k-m9xp", "A3-F2-B1-7Q4KM9XP"]
)
def test_a_code_has_one_normal_form(typed: str) -> None:
    assert Code.parse(typed) == Code("A3F2B1", "7Q4KM9XP")
    assert str(Code.parse(typed)) == "A3F2B1-7Q4K-M9XP"


def test_an_id_alone_is_a_code_without_a_secret() -> None:
    assert Code.parse("a3f2b1") == Code("A3F2B1")
    assert str(Code("A3F2B1")) == "A3F2B1"


def test_a_secret_holds_forty_bits() -> None:
    assert new_secret(lambda size: bytes(size)) == "00000000"
    assert new_secret(lambda size: b"\xff" * size) == "ZZZZZZZZ"
    seen = {new_secret(lambda size, bit=bit: (1 << bit).to_bytes(size, "big")) for bit in range(40)}
    assert len(seen) == 40
    assert all(Code.parse("A3F2B1" + secret).secret == secret for secret in seen)


def test_the_string_is_twelve_digits_and_six_pictures_of_sixty_four() -> None:
    assert digits(bytes(5)) == "0000 0000 0000"
    assert digits(b"\xff" * 5) == "0995 1162 7775"
    assert pictures(bytes(5)) == (PICTURES[0],) * 6
    assert pictures(b"\xff" * 5) == (PICTURES[63],) * 6
    assert len(set(PICTURES)) == 64
    assert len({picture.split()[0] for picture in PICTURES}) == len({picture.split()[1] for picture in PICTURES}) == 64


def test_each_of_the_first_36_bits_changes_a_picture_and_each_of_40_the_digits() -> None:
    shown = {pictures((1 << bit).to_bytes(5, "big")) for bit in range(4, 40)}
    assert len(shown | {pictures(bytes(5))}) == 37
    assert len({digits((1 << bit).to_bytes(5, "big")) for bit in range(40)} | {digits(bytes(5))}) == 41
