"""Project Wycheproof against the primitives: known answers, and the attacks that other libraries let through.

Every vector of a file is either run or counted as outside what the primitive offers (nonces of other sizes);
the counts are asserted, so that a new file cannot pass by skipping.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from cloister.errors import PeerError
from cloister.primitives.aead import NONCE_SIZE, Aead
from cloister.primitives.dh import DhKey
from cloister.primitives.kdf import hkdf
from cloister.primitives.rsa import RsaDecryptKey, RsaVerifyKey
from cloister.primitives.signature import VerifyKey
from support.need import json_vectors


def vectors(name: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(group, test) of a file."""
    for group in json_vectors(f"wycheproof/{name}.json.xz")["testGroups"]:
        for test in group["tests"]:
            yield group, test


def octets(test: dict[str, Any], name: str) -> bytes:
    return bytes.fromhex(test[name])


def refuses(code: str, action: Callable[[], object]) -> bool:
    """Whether `action` is refused, and then with `code`."""
    with pytest.raises(PeerError) as caught:
        action()
    return caught.value.code == code


@pytest.mark.parametrize(
    ("name", "make", "expected"),
    [
        ("aes_gcm_test", Aead.aes_gcm, {"valid": 116, "invalid": 81, "other nonce": 119}),
        ("chacha20_poly1305_test", Aead.chacha20_poly1305, {"valid": 256, "invalid": 60, "other nonce": 9}),
    ],
)
def test_aead(name: str, make: Callable[[bytes], Aead], expected: dict[str, int]) -> None:
    seen: Counter[str] = Counter()
    for group, test in vectors(name):
        if group["ivSize"] != 8 * NONCE_SIZE:
            seen["other nonce"] += 1
            continue
        aead = make(octets(test, "key"))
        nonce, aad, sealed = octets(test, "iv"), octets(test, "aad"), octets(test, "ct") + octets(test, "tag")
        seen[test["result"]] += 1
        if test["result"] == "valid":
            assert aead.open(nonce, sealed, aad) == octets(test, "msg")
            assert aead.seal(nonce, octets(test, "msg"), aad) == sealed
        else:
            assert refuses("bad_tag", lambda: aead.open(nonce, sealed, aad)), test  # noqa: B023
    assert seen == Counter(expected)


@pytest.mark.parametrize(
    ("name", "scheme", "expected"),
    [
        ("ed25519_test", "ed25519", {"valid": 88, "invalid": 63}),
        ("ecdsa_secp256r1_sha256_test", "p256", {"valid": 174, "invalid": 310}),
    ],
)
def test_signatures(name: str, scheme: str, expected: dict[str, int]) -> None:
    seen: Counter[str] = Counter()
    for group, test in vectors(name):
        public = group["publicKey"]
        key = VerifyKey(scheme, bytes.fromhex(public.get("pk") or public["uncompressed"]))
        assert key.spki().hex() == group["publicKeyDer"]
        seen[test["result"]] += 1
        if test["result"] == "valid":
            key.verify(octets(test, "sig"), octets(test, "msg"))
        else:
            assert refuses("bad_sig", lambda: key.verify(octets(test, "sig"), octets(test, "msg"))), test  # noqa: B023
    assert seen == Counter(expected)


def test_rsa_pss() -> None:
    seen: Counter[str] = Counter()
    for group, test in vectors("rsa_pss_3072_sha256_mgf1_32_test"):
        key = RsaVerifyKey(bytes.fromhex(group["publicKeyDer"]))
        seen[test["result"]] += 1
        if test["result"] == "valid":
            key.verify(octets(test, "sig"), octets(test, "msg"))
        else:
            assert refuses("bad_sig", lambda: key.verify(octets(test, "sig"), octets(test, "msg"))), test  # noqa: B023
    assert seen == Counter({"valid": 63, "invalid": 45})


def test_rsa_oaep() -> None:
    seen: Counter[str] = Counter()
    keys: dict[str, RsaDecryptKey] = {}
    for group, test in vectors("rsa_oaep_3072_sha256_mgf1sha256_test"):
        text = group["privateKeyPkcs8"]
        key = keys.setdefault(text, RsaDecryptKey.from_bytes(bytes.fromhex(text)))
        seen[test["result"]] += 1
        if test["result"] == "valid":
            assert key.decrypt(octets(test, "ct"), octets(test, "label")) == octets(test, "msg")
        else:
            assert refuses("bad_share", lambda: key.decrypt(octets(test, "ct"), octets(test, "label"))), test  # noqa: B023
    assert seen == Counter({"valid": 18, "invalid": 19})


def test_hkdf() -> None:
    seen: Counter[str] = Counter()
    for _, test in vectors("hkdf_sha256_test"):
        seen[test["result"]] += 1
        derived = b""
        with suppress(ValueError):
            derived = hkdf(octets(test, "salt"), octets(test, "ikm"), octets(test, "info"), test["size"])
        assert derived.hex() == test["okm"]  # too long: nothing is derived
    assert seen == Counter({"valid": 83, "invalid": 3})


def test_x25519() -> None:
    seen: Counter[str] = Counter()
    for _, test in vectors("x25519_test"):
        key, public = DhKey(octets(test, "private")), octets(test, "public")
        if int(test["shared"], 16) == 0:
            seen["zero"] += 1
            assert refuses("zero_key", lambda: key.exchange(public)), test  # noqa: B023
        else:
            seen["agreed"] += 1
            assert key.exchange(public).hex() == test["shared"]
    assert seen == Counter({"agreed": 487, "zero": 31})
