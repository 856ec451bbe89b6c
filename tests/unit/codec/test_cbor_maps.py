"""Maps of strict CBOR: the key order of RFC 8949 section 4.2.1, not the length-first one of RFC 7049."""

from __future__ import annotations

import pytest

from cloister.codec.cbor import decode, encode
from cloister.errors import PeerError, UsageError


def test_map_keys_stand_in_bytewise_order_whatever_their_length() -> None:
    value = {"a": 1, -1: 0, 256: 0, 1: 2}
    assert encode(value).hex() == "a4" + "0102" + "19010000" + "2000" + "616101"
    assert decode(encode(value), maps=True) == value


@pytest.mark.parametrize(
    "data",
    [
        "a2" + "2000" + "19010000",  # shorter key first: RFC 7049's order
        "a2" + "0200" + "0100",
        "a2" + "0100" + "0100",  # a key twice
        "a1" + "8000",  # an array as a key
        "a1" + "f500",  # true as a key
        "a1" + "f600",
    ],
)
def test_maps_in_another_order_or_with_odd_keys_are_refused(data: str) -> None:
    with pytest.raises(PeerError) as caught:
        decode(bytes.fromhex(data), maps=True)
    assert caught.value.code == "bad_encoding"


def test_a_map_where_none_is_allowed_is_refused() -> None:
    with pytest.raises(PeerError) as caught:
        decode(encode([{1: 2}]))
    assert caught.value.code == "bad_encoding"


def test_odd_keys_cannot_be_encoded() -> None:
    with pytest.raises(UsageError):
        encode({True: 1})
