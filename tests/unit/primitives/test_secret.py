"""Secrets do not print, compare carelessly, or get written down."""

from __future__ import annotations

import copy
import pickle

import pytest

from cloister.primitives.secret import Secret


class RoomKey(Secret):
    size = 4


class ChainKey(Secret):
    size = 4


def test_no_form_of_printing_shows_the_value() -> None:
    key = RoomKey(b"abcd")
    for shown in (repr(key), str(key), f"{key}", f"{[key]}", "%s" % key):  # noqa: UP031
        assert "RoomKey" in shown
        assert "abcd" not in shown
        assert "61626364" not in shown
    assert key.reveal() == b"abcd"


def test_equality_is_by_value_within_one_type() -> None:
    assert RoomKey(b"abcd") == RoomKey(b"abcd")
    assert RoomKey(b"abcd") != RoomKey(b"abce")
    assert RoomKey(b"abcd") != ChainKey(b"abcd")
    assert RoomKey(b"abcd") != b"abcd"


def test_a_secret_cannot_be_a_key_or_be_copied_out() -> None:
    with pytest.raises(TypeError):
        hash(RoomKey(b"abcd"))
    for act in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not serialised"):
            act(RoomKey(b"abcd"))


@pytest.mark.parametrize("size", [0, 3, 5])
def test_a_secret_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="takes 4 bytes"):
        RoomKey(bytes(size))
    assert Secret(bytes(size)).reveal() == bytes(size)
