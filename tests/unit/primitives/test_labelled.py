"""Domain separation: what is made under one label is nothing under another."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.codec.cbor import enc
from cloister.errors import PeerError
from cloister.primitives.labelled import derive, hash_of, labelled, mac, sign, verify, verify_mac
from cloister.primitives.signature import SigningKey
from support.people import seeded

KEY = SigningKey.generate("ed25519", seeded(1))
LABELS = st.text(alphabet="abcdefghijklmnopqrstuvwxyz ", min_size=1, max_size=12)
ITEMS = st.lists(st.binary(max_size=8) | st.integers(0, 300) | st.text(max_size=5), max_size=3)


def test_the_labelled_string_has_its_documented_form() -> None:
    assert labelled("nonces hello", 1, b"x") == b"cloister/1 nonces hello\0" + enc(1, b"x")
    assert hash_of("x", 1) == hashlib.sha256(b"cloister/1 x\0" + enc(1)).digest()
    assert mac(b"k", "x", 1) == hmac.digest(b"k", b"cloister/1 x\0" + enc(1), "sha256")
    assert derive(bytes(32), "x", 1) == hmac.digest(bytes(32), b"cloister/1 x\0" + enc(1) + b"\1", "sha256")
    assert len(derive(bytes(32), "x", length=96)) == 96


@given(LABELS, ITEMS, LABELS, ITEMS)
def test_two_inputs_never_give_one_string(
    label: str, items: list[object], other_label: str, other: list[object]
) -> None:
    same = (label, enc(*items)) == (other_label, enc(*other))
    assert (labelled(label, *items) == labelled(other_label, *other)) == same


def test_a_signature_holds_under_its_label_and_items_only() -> None:
    signature = sign(KEY, "room", 1, b"x")
    verify(KEY.public, signature, "room", 1, b"x")
    for label, items in (("rooms", (1, b"x")), ("room", (1,)), ("room", (1, b"y")), ("room", ([1, b"x"],))):
        with pytest.raises(PeerError) as caught:
            verify(KEY.public, signature, label, *items)
        assert caught.value.code == "bad_sig"


def test_a_mac_holds_under_its_key_label_and_items_only() -> None:
    tag = mac(b"k", "room", 1)
    verify_mac(tag, b"k", "room", 1)
    for spoiled, key, label, item in (
        (tag, b"j", "room", 1),
        (tag, b"k", "rooms", 1),
        (tag, b"k", "room", 2),
        (tag[:-1], b"k", "room", 1),
        (b"", b"k", "room", 1),
    ):
        with pytest.raises(PeerError) as caught:
            verify_mac(spoiled, key, label, item)
        assert caught.value.code == "bad_tag"
    with pytest.raises(PeerError) as caught:
        verify_mac(tag, b"j", "room", 1, code="confirm_mismatch")
    assert caught.value.code == "confirm_mismatch"
