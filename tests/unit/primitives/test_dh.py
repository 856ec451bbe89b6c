"""X25519 and its refusals. Known answers stand in tests/vectors."""

from __future__ import annotations

import pytest

from cloister.errors import PeerError
from cloister.primitives import dh
from cloister.primitives.dh import DhKey
from support.people import seeded

LOW_ORDER = [
    bytes(32),
    b"\1" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    (2**255 - 20).to_bytes(32, "little"),
    (2**255 - 19).to_bytes(32, "little"),
    (2**255 - 18).to_bytes(32, "little"),
]


def test_both_sides_agree() -> None:
    one, other = DhKey.generate(seeded(1)), DhKey.generate(seeded(2))
    assert one.exchange(other.public) == other.exchange(one.public)
    assert DhKey(one.private_bytes()).public == one.public


@pytest.mark.parametrize("public", LOW_ORDER)
def test_points_of_small_order_are_refused(public: bytes) -> None:
    with pytest.raises(PeerError) as caught:
        DhKey.generate(seeded(1)).exchange(public)
    assert caught.value.code == "zero_key"


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(PeerError) as caught:
        DhKey.generate(seeded(1)).exchange(bytes(size))
    assert caught.value.code == "bad_encoding"


def test_a_library_that_lets_the_zero_key_pass_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    class Careless:
        @staticmethod
        def exchange(_public: object) -> bytes:
            return bytes(32)

    key = DhKey.generate(seeded(1))
    monkeypatch.setattr(key, "_key", Careless)
    with pytest.raises(PeerError) as caught:
        key.exchange(DhKey.generate(seeded(2)).public)
    assert caught.value.code == "zero_key"
    assert dh.KEY_SIZE == 32
