"""RSA-3072: PSS and OAEP, two keys that do not do each other's work."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from cloister.errors import PeerError, UsageError
from cloister.primitives.rsa import (
    OAEP_MAX,
    SIZE,
    RsaDecryptKey,
    RsaEncryptKey,
    RsaSigningKey,
    RsaVerifyKey,
)
from cloister.primitives.signature import SigningKey
from support.keypool import rsa_decrypt_key, rsa_signing_key
from support.people import seeded


def spki(key: rsa.RSAPublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def test_a_signature_verifies_and_every_alteration_is_refused() -> None:
    key = rsa_signing_key(0)
    public = RsaVerifyKey(key.spki)
    signature = key.sign(b"message")
    assert len(signature) == SIZE
    public.verify(signature, b"message")
    altered = [
        *((signature[:at] + bytes([signature[at] ^ 1]) + signature[at + 1 :], b"message") for at in range(0, SIZE, 7)),
        (signature, b"Message"),
        (signature[:-1], b"message"),
        (signature + b"\0", b"message"),
        (b"", b"message"),
    ]
    for spoiled, message in altered:
        with pytest.raises(PeerError) as caught:
            public.verify(spoiled, message)
        assert caught.value.code == "bad_sig"
    with pytest.raises(PeerError):
        RsaVerifyKey(rsa_signing_key(1).spki).verify(signature, b"message")


def test_other_paddings_and_salts_are_refused() -> None:
    key = serialization.load_der_private_key(rsa_signing_key(0).private_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    public = RsaVerifyKey(rsa_signing_key(0).spki)
    for scheme in (
        padding.PKCS1v15(),
        padding.PSS(padding.MGF1(SHA256()), 0),
        padding.PSS(padding.MGF1(SHA256()), 20),
    ):
        with pytest.raises(PeerError) as caught:
            public.verify(key.sign(b"message", scheme, SHA256()), b"message")
        assert caught.value.code == "bad_sig"


def test_a_payload_opens_under_its_label_and_every_alteration_is_the_same_refusal() -> None:
    key = rsa_decrypt_key(0)
    public = RsaEncryptKey(key.spki)
    payload = bytes(range(64))
    sealed = public.encrypt(payload, b"label")
    assert len(sealed) == SIZE
    assert key.decrypt(sealed, b"label") == payload
    assert public.encrypt(payload, b"label") != sealed
    altered = [
        *((sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], b"label") for at in range(0, SIZE, 31)),
        (sealed, b"Label"),
        (sealed, b""),
        (sealed[:-1], b"label"),
        (sealed + b"\0", b"label"),
        (b"", b"label"),
        (b"\xff" * SIZE, b"label"),
        (RsaEncryptKey(rsa_decrypt_key(1).spki).encrypt(payload, b"label"), b"label"),
    ]
    for spoiled, label in altered:
        with pytest.raises(PeerError) as caught:
            key.decrypt(spoiled, label)
        assert caught.value.code == "bad_share"
        assert caught.value.detail == ""


def test_the_largest_payload_fits() -> None:
    key = rsa_decrypt_key(0)
    sealed = RsaEncryptKey(key.spki).encrypt(bytes(OAEP_MAX), b"")
    assert key.decrypt(sealed, b"") == bytes(OAEP_MAX)
    with pytest.raises(ValueError, match=r"failed|too long"):
        RsaEncryptKey(key.spki).encrypt(bytes(OAEP_MAX + 1), b"")


@pytest.mark.parametrize("kind", [RsaVerifyKey, RsaEncryptKey])
def test_public_keys_of_another_kind_or_strength_are_refused(kind: type) -> None:
    weak = rsa.RSAPublicNumbers(65537, 2**2047 + 1).public_key()
    other = SigningKey.generate("ed25519", seeded(1)).public.spki()
    for data in (b"", b"\x30\x00", spki(weak), other, rsa_signing_key(0).spki[:-1]):
        with pytest.raises(PeerError) as caught:
            kind(data)
        assert caught.value.code == "bad_encoding"


def test_an_exponent_other_than_65537_is_refused() -> None:
    modulus = 2**3071 + 1
    RsaVerifyKey(spki(rsa.RSAPublicNumbers(65537, modulus).public_key()))
    with pytest.raises(PeerError) as caught:
        RsaVerifyKey(spki(rsa.RSAPublicNumbers(3, modulus).public_key()))
    assert caught.value.code == "bad_encoding"


@pytest.mark.parametrize("kind", [RsaSigningKey, RsaDecryptKey])
def test_private_keys_of_another_kind_or_strength_are_usage_errors(kind: type[RsaSigningKey]) -> None:
    weak = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    other = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for data in (b"", b"junk", weak, other):
        with pytest.raises(UsageError) as caught:
            kind.from_bytes(data)
        assert caught.value.code == "usage"


def test_keys_read_back_and_do_not_print() -> None:
    signing, decrypting = rsa_signing_key(0), rsa_decrypt_key(0)
    assert RsaSigningKey.from_bytes(signing.private_bytes()).spki == signing.spki
    assert RsaDecryptKey.from_bytes(decrypting.private_bytes()).spki == decrypting.spki
    assert (repr(signing), repr(decrypting)) == ("<RsaSigningKey>", "<RsaDecryptKey>")


def test_one_key_never_does_both() -> None:
    assert not hasattr(RsaSigningKey, "decrypt")
    assert not hasattr(RsaDecryptKey, "sign")
    assert RsaSigningKey.generate().spki != RsaDecryptKey.generate().spki
