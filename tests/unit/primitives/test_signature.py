"""Signatures of five schemes. Known answers stand in tests/vectors."""

from __future__ import annotations

import pytest

from cloister.errors import PeerError, UsageError
from cloister.primitives.signature import SCHEMES, SigningKey, VerifyKey
from support.people import seeded

KEYS = {scheme: SigningKey.generate(scheme, seeded(scheme)) for scheme in SCHEMES}
SIZES = {"ed25519": 32, "ed448": 57, "p256": 65, "p384": 97, "p521": 133}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_signature_verifies_and_every_alteration_is_refused(scheme: str) -> None:
    key = KEYS[scheme]
    signature = key.sign(b"message")
    key.public.verify(signature, b"message")
    other = SigningKey.generate(scheme, seeded("other")).public
    altered = [
        *(
            (key.public, signature[:at] + bytes([signature[at] ^ 1]) + signature[at + 1 :], b"message")
            for at in range(len(signature))
        ),
        (key.public, signature, b"Message"),
        (key.public, signature, b""),
        (key.public, b"", b"message"),
        (key.public, signature[:-1], b"message"),
        (key.public, signature + b"\0", b"message"),
        (key.public, bytes(len(signature)), b"message"),
        (other, signature, b"message"),
    ]
    for public, spoiled, message in altered:
        with pytest.raises(PeerError) as caught:
            public.verify(spoiled, message)
        assert caught.value.code == "bad_sig"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_keys_read_back(scheme: str) -> None:
    key = KEYS[scheme]
    again = SigningKey(scheme, key.private_bytes())
    assert again.public == key.public
    assert hash(again.public) == hash(key.public)
    public = VerifyKey(scheme, key.public.raw)
    assert len(public.raw) == SIZES[scheme]
    public.verify(again.sign(b"m"), b"m")
    assert public.spki() == key.public.spki()
    assert public.spki().endswith(public.raw)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_generation_repeats_with_the_same_randomness(scheme: str) -> None:
    assert SigningKey.generate(scheme, seeded(scheme)).public == KEYS[scheme].public


@pytest.mark.parametrize("scheme", ["p256", "p384", "p521"])
def test_scalars_outside_the_order_are_drawn_again(scheme: str) -> None:
    draws = [b"\0", b"\xff", b"\1"]

    def rng(size: int) -> bytes:
        return draws.pop(0) * size

    assert SigningKey.generate(scheme, rng).public.raw[0] == 4
    assert draws == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_public_key_of_another_form_is_refused(scheme: str) -> None:
    raw = KEYS[scheme].public.raw
    spoiled = [b"", raw[:-1], raw + b"\0"]
    if scheme.startswith("p"):
        compressed = bytes([2 + raw[-1] % 2]) + raw[1 : 1 + len(raw) // 2]
        off_curve = raw[:-1] + bytes([raw[-1] ^ 1])
        spoiled += [compressed, off_curve, b"\0", b"\5" + raw[1:], b"\4" + bytes(len(raw) - 1)]
    for data in spoiled:
        with pytest.raises(PeerError) as caught:
            VerifyKey(scheme, data)
        assert caught.value.code == "bad_encoding"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_private_key_of_another_form_is_a_usage_error(scheme: str) -> None:
    for data in (b"", b"\xff" * 80):
        with pytest.raises(UsageError) as caught:
            SigningKey(scheme, data)
        assert caught.value.code == "usage"


def test_keys_compare_by_scheme_and_value_and_do_not_print() -> None:
    assert KEYS["p256"].public != KEYS["ed25519"].public
    assert KEYS["p256"].public != KEYS["p256"].public.raw
    assert repr(KEYS["p256"]) == "<SigningKey p256>"
    assert repr(KEYS["p256"].public) == "<VerifyKey p256>"
