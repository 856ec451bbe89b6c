"""The ledger of nonces: finds a planted reuse, forgives what never left, leaves the product as it was."""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cloister.primitives.aead import Aead
from cloister.testing.ledger import Ledger

KEY, NONCE = bytes(32), bytes(12)


def seal(text: bytes, nonce: bytes = NONCE) -> None:
    Aead.aes_gcm(KEY).seal(nonce, text, b"")


def test_a_nonce_used_for_two_messages_is_found() -> None:
    with Ledger() as ledger:
        seal(b"one")
        ledger.committed()
        Aead.aes_gcm(KEY).seal(NONCE, b"two", b"")
        ledger.committed()
    assert len(ledger.reused) == 1
    assert ledger.seals == 2


def test_what_was_dropped_with_its_transaction_does_not_count() -> None:
    with Ledger() as ledger:
        seal(b"one")
        ledger.dropped()
        seal(b"two")
        ledger.committed()
    assert ledger.reused == []


def test_the_same_message_again_and_other_nonces_are_fine() -> None:
    with Ledger() as ledger:
        for text, nonce in ((b"one", NONCE), (b"one", NONCE), (b"two", b"\x01" * 12)):
            seal(text, nonce)
            ledger.committed()
        Aead.chacha20_poly1305(KEY[:-1] + b"\x01").seal(NONCE, b"three", b"")
        ledger.committed()
    assert ledger.reused == []


def test_a_constructor_that_was_taken_before_is_watched_too() -> None:
    """Cipher suites hold the constructor, not the class."""
    make = Aead.aes_gcm
    with Ledger() as ledger:
        for text in (b"one", b"two"):
            make(KEY).seal(NONCE, text, b"")
            ledger.committed()
    assert len(ledger.reused) == 1


def test_what_is_sealed_opens_and_the_product_is_left_as_it_was() -> None:
    with Ledger():
        sealed = Aead.aes_gcm(KEY).seal(NONCE, b"text", b"aad")
        assert Aead.aes_gcm(KEY).open(NONCE, sealed, b"aad") == b"text"
    assert isinstance(Aead.aes_gcm(KEY)._cipher, AESGCM)
