"""The TLS presentation language: what is refused, and that one value has one encoding."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloister.codec import tls
from cloister.errors import PeerError, UsageError


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("", "a value ends too early"),
        ("40", "a value ends too early"),
        ("800000", "a value ends too early"),
        ("c0", "the invalid prefix"),
        ("ffffffffffffffff", "the invalid prefix"),
        ("4001aa", "not in its shortest form"),
        ("403f" + "00" * 63, "not in its shortest form"),
        ("80000001aa", "not in its shortest form"),
        ("80003fff" + "00" * 0x3FFF, "not in its shortest form"),
        ("02aa", "longer than what holds it"),
        ("bfffffff", "longer than what holds it"),
        ("01aabb", "bytes follow"),
    ],
)
def test_a_malformed_vector_is_refused(data: str, why: str) -> None:
    with pytest.raises(PeerError, match=why) as caught:
        tls.decode(tls.Reader.opaque, bytes.fromhex(data))
    assert caught.value.code == "bad_encoding"


def test_integers_that_end_early_are_refused() -> None:
    for read, size in (
        (tls.Reader.u8, 1),
        (tls.Reader.u16, 2),
        (tls.Reader.u32, 4),
        (tls.Reader.u64, 8),
    ):
        with pytest.raises(PeerError, match="ends too early"):
            tls.decode(read, bytes(size - 1))
        assert tls.decode(read, bytes(size - 1) + b"\x07") == 7


def test_an_element_may_not_reach_beyond_its_vector() -> None:
    with pytest.raises(PeerError, match="ends too early"):
        tls.decode(tls.Reader.vector_u16, b"\x03\x00\x01\x00\x02")
    with pytest.raises(PeerError, match="ends too early"):
        tls.decode(tls.Reader.vector_u32, b"\x02\x00\x01\x00\x02")


def test_the_elements_of_all_vectors_together_are_bounded() -> None:
    half = tls.opaque(bytes(tls.MAX_ITEMS // 2))
    read = lambda reader: [reader.vector(tls.Reader.u8) for _ in range(2)]  # noqa: E731
    assert len(tls.decode(read, half * 2)[1]) == tls.MAX_ITEMS // 2
    with pytest.raises(PeerError, match="too many elements"):
        tls.decode(read, half + tls.opaque(bytes(tls.MAX_ITEMS // 2 + 1)))


def test_an_optional_is_absent_or_present() -> None:
    read = lambda reader: reader.optional(tls.Reader.u8)  # noqa: E731
    assert tls.decode(read, b"\0") is None
    assert tls.decode(read, b"\1\5") == 5
    with pytest.raises(PeerError, match="neither absent nor present"):
        tls.decode(read, b"\2\5")


def test_a_vector_too_long_to_name_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        tls.prefix(2**30)


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 16383, 16384, 70000])
def test_lengths_at_the_borders(size: int) -> None:
    encoded = tls.opaque(bytes(size))
    assert len(encoded) - size == (1 if size < 64 else 2 if size < 16384 else 4)
    assert tls.decode(tls.Reader.opaque, encoded) == bytes(size)


class Pair:
    def __init__(self, left: int, right: bytes) -> None:
        self.left, self.right = left, right

    def write(self, writer: tls.Writer) -> None:
        writer.u16(self.left).opaque(self.right)


def test_structures_write_themselves() -> None:
    writer = tls.Writer().vector((Pair(1, b"a"), Pair(2, b""))).optional(None).optional(Pair(3, b"b"))
    writer.u8(4).u32(5).u64(6).vector_u16((7,)).vector_u32((8, 9)).raw(b"end")
    reader = tls.Reader(writer.done())
    assert reader.vector(lambda each: (each.u16(), each.opaque())) == ((1, b"a"), (2, b""))
    assert reader.optional(tls.Reader.u8) is None
    assert reader.optional(lambda each: (each.u16(), each.opaque())) == (3, b"b")
    assert (reader.u8(), reader.u32(), reader.u64()) == (4, 5, 6)
    assert (reader.vector_u16(), reader.vector_u32()) == ((7,), (8, 9))
    assert reader.rest() == b"end"
    reader.finish()
    assert tls.encode(Pair(1, b"")) == b"\0\1\0"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
def test_whatever_decodes_encodes_to_the_same_bytes(data: bytes) -> None:
    try:
        value = tls.decode(tls.Reader.opaque, data)
    except PeerError:
        return
    assert tls.opaque(value) == data
