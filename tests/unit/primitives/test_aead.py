"""AEAD and AES-CTR: round trips and every alteration. Known answers stand in tests/vectors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.errors import PeerError
from cloister.primitives.aead import NONCE_SIZE, TAG_SIZE, ZERO_NONCE, Aead, aes_ctr

AEADS = [Aead.aes_gcm(bytes(16)), Aead.aes_gcm(bytes(32)), Aead.chacha20_poly1305(bytes(32))]


@pytest.mark.parametrize("aead", AEADS)
def test_every_alteration_is_refused(aead: Aead) -> None:
    sealed = aead.seal(ZERO_NONCE, b"text", b"aad")
    assert aead.open(ZERO_NONCE, sealed, b"aad") == b"text"
    altered = [
        *((ZERO_NONCE, sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], b"aad") for at in range(len(sealed))),
        (ZERO_NONCE, sealed[:-1], b"aad"),
        (ZERO_NONCE, sealed + b"\0", b"aad"),
        (ZERO_NONCE, b"", b"aad"),
        (ZERO_NONCE, sealed, b"AAD"),
        (ZERO_NONCE, sealed, b""),
        (b"\1" * NONCE_SIZE, sealed, b"aad"),
    ]
    for nonce, spoiled, aad in altered:
        with pytest.raises(PeerError) as caught:
            aead.open(nonce, spoiled, aad)
        assert caught.value.code == "bad_tag"


@pytest.mark.parametrize("aead", AEADS)
@given(plaintext=st.binary(max_size=100), aad=st.binary(max_size=50), nonce=st.binary(min_size=12, max_size=12))
def test_what_was_sealed_opens(aead: Aead, plaintext: bytes, aad: bytes, nonce: bytes) -> None:
    sealed = aead.seal(nonce, plaintext, aad)
    assert len(sealed) == len(plaintext) + TAG_SIZE
    assert aead.open(nonce, sealed, aad) == plaintext


def test_another_key_does_not_open() -> None:
    sealed = AEADS[1].seal(ZERO_NONCE, b"text", b"")
    with pytest.raises(PeerError):
        Aead.aes_gcm(b"\1" * 32).open(ZERO_NONCE, sealed, b"")


def test_ctr_is_its_own_inverse_and_counts_blocks() -> None:
    key = bytes(32)
    block = bytes(7) + b"\1" + bytes(8)
    text = bytes(range(100))
    sealed = aes_ctr(key, block, text)
    assert aes_ctr(key, block, sealed) == text
    second = bytes(7) + b"\1" + bytes(7) + b"\1"
    assert aes_ctr(key, second, text[16:]) == sealed[16:]
    assert aes_ctr(key, block, b"") == b""
