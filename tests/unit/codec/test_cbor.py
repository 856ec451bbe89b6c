"""Strict CBOR: one value, one encoding. Examples are those of RFC 8949 appendix A."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cloister.codec.cbor import MAX_DEPTH, Fields, decode, enc, encode
from cloister.errors import PeerError, UsageError

INTEGERS = st.integers(-(2**64), 2**64 - 1)
SCALARS = st.none() | st.booleans() | INTEGERS | st.binary(max_size=300) | st.text(max_size=80)
ARRAYS = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=5), max_leaves=12)
KEYS = INTEGERS | st.binary(max_size=30) | st.text(max_size=30)
MAPS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def refused(data: bytes, *, maps: bool = False) -> None:
    with pytest.raises(PeerError) as caught:
        decode(data, maps=maps)
    assert caught.value.code == "bad_encoding"


def same(one: object, other: object) -> bool:
    """Equality that tells True from 1 and knows the order of map keys not to matter."""
    return repr(_sorted(one)) == repr(_sorted(other))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return "map", sorted(((repr(key), _sorted(item)) for key, item in value.items()), key=repr)
    return [_sorted(item) for item in value] if isinstance(value, list) else value


# --- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1800",  # 0 in two bytes
        "1817",
        "190001",
        "1900ff",
        "1a00000001",
        "1a0000ffff",
        "1b0000000000000001",
        "1b00000000ffffffff",
        "3800",
        "390001",
        "5800",  # the empty byte string in two bytes
        "580100",
        "590001ff",
        "7800",
        "790001 61",
        "9800",
        "990001f6",
        "9a00000001f6",
        "9fff",  # indefinite lengths
        "9f01ff",
        "5f4101ff",
        "7f6161ff",
        "bfff",
        "f7",  # undefined
        "e0",
        "f0",
        "f8ff",
        "f820",
        "f814",  # false in two bytes
        "f90000",  # floats
        "f97e00",
        "fa47c35000",
        "fb3ff199999999999a",
        "ff",
        "1c",
        "1f",
        "3e",
        "5c",
        "9c",
        "fc",
        "61ff",  # not UTF-8
        "62c080",
        "63eda080",
        "64f4908080",
        "8080",  # surplus
        "f600",
        "81",  # cut off
        "8201",
        "42ff",
        "6261",
        "19ff",
        "1bffffffffffffff",
    ],
)
def test_what_is_not_the_one_encoding_of_a_value_is_refused(text: str) -> None:
    refused(bytes.fromhex(text))
    refused(bytes.fromhex("81" + text))


@pytest.mark.parametrize("text", ["a0", "a10101", "a1616101", "81a0"])
def test_maps_are_refused_unless_allowed(text: str) -> None:
    refused(bytes.fromhex(text))
    assert encode(decode(bytes.fromhex(text), maps=True)) == bytes.fromhex(text)


@pytest.mark.parametrize(
    "text",
    [
        "a201010102",  # the same key twice
        "a2616101616102",
        "a202010102",  # keys out of order
        "a261610140f6",
        "a20a0118180218",
        "a1f501",  # keys of other types
        "a1f601",
        "a18001",
        "a1a001",
        "a1f9000001",
        "b800",
        "b8010101",
        "a1",
        "a101",
    ],
)
def test_a_map_of_another_form_is_refused(text: str) -> None:
    refused(bytes.fromhex(text), maps=True)


def test_every_tag_is_refused() -> None:
    tags = [*range(1100), *range(1100, 2**16, 61), 1004, 43000, 55799, 2**16, 2**32 - 1, 2**32, 2**64 - 1]
    for tag in tags:
        head = bytearray(encode(tag))
        head[0] |= 0xC0
        for body in (b"\x00", b"\x40", b"\x80") if tag < 1100 else (b"\x80",):
            with pytest.raises(PeerError) as caught:
                decode(bytes(head) + body)
            assert caught.value.code == "bad_encoding"


def test_nesting_is_bounded() -> None:
    deepest: list[Any] = []
    for _ in range(MAX_DEPTH - 1):
        deepest = [deepest]
    assert decode(encode(deepest)) == deepest
    refused(encode([deepest]))
    refused(b"\x81" * 100_000 + b"\x80")
    refused(b"\xa1\x00" * 100_000 + b"\xf6", maps=True)


@pytest.mark.parametrize("head", ["5a", "5b", "7a", "7b", "9a", "9b", "ba", "bb"])
@pytest.mark.parametrize("length", [2**16, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1])
def test_a_length_beyond_the_input_takes_no_memory(head: str, length: int) -> None:
    size = 4 if head.endswith("a") else 8
    data = bytes.fromhex(head) + (length % 2 ** (8 * size)).to_bytes(size, "big") + b"\xf6" * 9
    tracemalloc.start()
    refused(data, maps=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000


def test_many_small_items_cost_at_most_a_few_times_their_size() -> None:
    data = encode([None] * 100_000)
    tracemalloc.start()
    assert len(decode(data)) == 100_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * len(data)


@given(st.binary(max_size=80))
@example(b"\x9b" + b"\xff" * 8)
@settings(max_examples=500)
def test_whatever_decodes_encodes_to_the_very_same_bytes(data: bytes) -> None:
    for maps in (False, True):
        try:
            value = decode(data, maps=maps)
        except PeerError as error:
            assert error.code == "bad_encoding"  # noqa: PT017 - both ends are allowed
        else:
            assert encode(value) == data


@given(MAPS, st.data())
def test_a_corrupted_encoding_is_refused_or_another_value(value: Any, data: st.DataObject) -> None:
    good = encode(value)
    at = data.draw(st.integers(0, len(good) - 1))
    bad = good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :]
    for spoiled in (bad, good[:at], good + bytes([at % 256])):
        try:
            other = decode(spoiled, maps=True)
        except PeerError as error:
            assert error.code == "bad_encoding"  # noqa: PT017 - both ends are allowed
        else:
            assert not same(other, value)


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        2**64,
        -(2**64) - 1,
        object(),
        {1, 2},
        bytearray(b"x"),
        {True: 1},
        {None: 1},
        {1.5: 1},
        "\ud800",
        [b"", [0.0]],
    ],
)
def test_what_strict_cbor_cannot_hold_is_a_usage_error(value: object) -> None:
    with pytest.raises(UsageError) as caught:
        encode(value)
    assert caught.value.code == "usage"


# --- what is accepted -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "00"),
        (1, "01"),
        (10, "0a"),
        (23, "17"),
        (24, "1818"),
        (25, "1819"),
        (100, "1864"),
        (1000, "1903e8"),
        (1000000, "1a000f4240"),
        (1000000000000, "1b000000e8d4a51000"),
        (18446744073709551615, "1bffffffffffffffff"),
        (-18446744073709551616, "3bffffffffffffffff"),
        (-1, "20"),
        (-10, "29"),
        (-100, "3863"),
        (-1000, "3903e7"),
        (False, "f4"),
        (True, "f5"),
        (None, "f6"),
        (b"", "40"),
        (b"\1\2\3\4", "4401020304"),
        ("", "60"),
        ("IETF", "6449455446"),
        ('"\\', "62225c"),
        ("\u00fc", "62c3bc"),
        ("\u6c34", "63e6b0b4"),
        ("\U00010151", "64f0908591"),
        ([], "80"),
        ([1, 2, 3], "83010203"),
        ([1, [2, 3], [4, 5]], "8301820203820405"),
        (list(range(1, 26)), "98190102030405060708090a0b0c0d0e0f101112131415161718181819"),
        ({}, "a0"),
        ({1: 2, 3: 4}, "a201020304"),
        ({"a": 1, "b": [2, 3]}, "a26161016162820203"),
        (["a", {"b": "c"}], "826161a161626163"),
        ({"a": "A", "b": "B", "c": "C", "d": "D", "e": "E"}, "a56161614161626142616361436164614461656145"),
    ],
)
def test_the_examples_of_the_rfc_hold_both_ways(value: object, text: str) -> None:
    assert encode(value) == bytes.fromhex(text)
    assert same(decode(bytes.fromhex(text), maps=True), value)


def test_map_keys_are_in_bytewise_order() -> None:
    # RFC 8949 section 4.2.1
    keys: list[Any] = [10, 100, -1, "z", "aa"]
    value = {key: None for key in reversed(keys)}
    text = "a5" + "".join(f"{encode(key).hex()}f6" for key in keys)
    assert encode(value).hex() == text
    assert list(decode(bytes.fromhex(text), maps=True)) == keys


@given(ARRAYS)
def test_a_value_reads_back(value: Any) -> None:
    assert same(decode(encode(value)), value)


@given(MAPS)
def test_a_value_with_maps_reads_back(value: Any) -> None:
    assert same(decode(encode(value), maps=True), value)


def test_enc_is_the_array_of_its_arguments() -> None:
    assert enc() == b"\x80"
    assert enc(1, (2, b"3"), None) == encode([1, [2, b"3"], None])


# --- fields -----------------------------------------------------------------------------------------------


def field_refused(read: Callable[[Fields], object], *items: object) -> None:
    with pytest.raises(PeerError) as caught:
        read(Fields(list(items), "thing"))
    assert caught.value.code == "bad_encoding"
    assert caught.value.detail.startswith("thing")


def test_fields_read_in_order() -> None:
    items = ["kind", b"abc", None, b"xy", "text", 7, True, [1, 2], [3], None]
    fields = Fields.decode(encode(items), "thing")
    fields.kind("kind")
    assert fields.octets("a", 3) == b"abc"
    assert fields.octets_or_none("b") is None
    assert fields.octets_or_none("c", 2) == b"xy"
    assert fields.text("d", 4) == "text"
    assert fields.uint("e", 3) == 7
    assert fields.flag("f") is True
    assert fields.array("g", 2) == [1, 2]
    assert fields.fields("h").uint("i") == 3
    assert not fields.done
    assert fields.any("j") is None
    assert fields.done
    fields.end()


@pytest.mark.parametrize("value", [None, 1, "array", b"array", {}])
def test_fields_are_read_from_arrays_only(value: object) -> None:
    with pytest.raises(PeerError) as caught:
        Fields(value, "thing")
    assert caught.value.code == "bad_encoding"
    with pytest.raises(PeerError):
        Fields.decode(encode(value) if value != {} else b"\xa0", "thing")


@pytest.mark.parametrize(
    ("read", "items"),
    [
        (lambda f: f.any("x"), []),
        (lambda f: f.kind("x"), []),
        (lambda f: f.kind("x"), ["y"]),
        (lambda f: f.kind("x"), [b"x"]),
        (lambda f: f.octets("x"), ["text"]),
        (lambda f: f.octets("x"), [None]),
        (lambda f: f.octets("x", 2), [b"1"]),
        (lambda f: f.octets("x", 2), [b"123"]),
        (lambda f: f.octets("x", most=2), [b"123"]),
        (lambda f: f.octets_or_none("x"), []),
        (lambda f: f.octets_or_none("x", 2), [b"1"]),
        (lambda f: f.octets_or_none("x"), [False]),
        (lambda f: f.text("x"), [b"bytes"]),
        (lambda f: f.text("x", 3), ["\u00fc\u00fc"]),
        (lambda f: f.uint("x"), [-1]),
        (lambda f: f.uint("x"), [2**64]),
        (lambda f: f.uint("x", 8), [256]),
        (lambda f: f.uint("x"), [True]),
        (lambda f: f.uint("x"), ["1"]),
        (lambda f: f.flag("x"), [1]),
        (lambda f: f.flag("x"), [None]),
        (lambda f: f.array("x"), [b"bytes"]),
        (lambda f: f.array("x", 1), [[1, 2]]),
        (lambda f: f.fields("x"), [5]),
        (lambda f: f.end(), [5]),
    ],
)
def test_a_field_of_another_form_is_refused(read: Callable[[Fields], object], items: list[object]) -> None:
    field_refused(read, *items)


def test_the_largest_values_of_a_field_are_accepted() -> None:
    assert Fields([2**64 - 1], "thing").uint("x") == 2**64 - 1
    assert Fields([255], "thing").uint("x", 8) == 255
    assert Fields([b"12"], "thing").octets("x", most=2) == b"12"
    assert Fields(["\u00fc"], "thing").text("x", 2) == "\u00fc"
    assert Fields([(1, 2)], "thing").array("x", 2) == [1, 2]
