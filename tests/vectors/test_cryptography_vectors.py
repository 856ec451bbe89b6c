"""The vector files of NIST and the RFCs that pyca publishes as `cryptography-vectors`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from cloister.errors import PeerError
from cloister.primitives.aead import Aead, aes_ctr
from cloister.primitives.dh import DhKey
from cloister.primitives.kdf import expand, extract, hkdf, hmac_sha256, scrypt
from cloister.primitives.signature import SigningKey, VerifyKey

ROOT = Path(cryptography_vectors.__file__).parent
SCRYPT_MOST = 2**14
"""The file's example of N = 2^20 takes a gibibyte."""


@cache
def text_of(name: str) -> str:
    return (ROOT / name).read_text()


def records(name: str, first: str) -> Iterator[tuple[str, dict[str, str]]]:
    """(section, fields) of a file of `NAME = value` lines; a record begins with the field `first`."""
    section, fields = "", dict[str, str]()
    for line in map(str.strip, text_of(name).splitlines()):
        if not line or line.startswith("#"):
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if line.startswith("[") or key.upper() == first:
            if fields:
                yield section, fields
            fields = {}
        if line.startswith("["):
            section = section + line if section and key.startswith("[") and equals and not fields else line
        else:
            fields[key.upper()] = value.strip('"')
    yield section, fields


def octets(fields: dict[str, str], name: str) -> bytes:
    return bytes.fromhex(fields[name])


@pytest.mark.parametrize("size", [128, 256])
def test_aes_gcm(size: int) -> None:
    seen: Counter[str] = Counter()
    for _, fields in records(f"ciphers/AES/GCM/gcmDecrypt{size}.rsp", "COUNT"):
        if "KEY" not in fields or len(fields["IV"]) != 24 or len(fields["TAG"]) != 32:
            continue
        aead = Aead.aes_gcm(octets(fields, "KEY"))
        nonce, aad = octets(fields, "IV"), octets(fields, "AAD")
        sealed = octets(fields, "CT") + octets(fields, "TAG")
        if "FAIL" in fields:
            seen["refused"] += 1
            with pytest.raises(PeerError) as caught:
                aead.open(nonce, sealed, aad)
            assert caught.value.code == "bad_tag"
        else:
            seen["opened"] += 1
            assert aead.open(nonce, sealed, aad) == octets(fields, "PT")
            assert aead.seal(nonce, octets(fields, "PT"), aad) == sealed
    assert seen["opened"] + seen["refused"] == 375
    assert min(seen.values()) > 100


def test_aes_ctr() -> None:
    count = 0
    for _, fields in records("ciphers/AES/CTR/aes-256-ctr.txt", "COUNT"):
        if "KEY" in fields:
            count += 1
            sealed = aes_ctr(octets(fields, "KEY"), octets(fields, "IV"), octets(fields, "PLAINTEXT"))
            assert sealed == octets(fields, "CIPHERTEXT")
            assert aes_ctr(octets(fields, "KEY"), octets(fields, "IV"), sealed) == octets(fields, "PLAINTEXT")
    assert count == 3


def test_chacha20_poly1305() -> None:
    count = 0
    for _, fields in records("ciphers/ChaCha20Poly1305/openssl.txt", "COUNT"):
        plaintext = octets(fields, "PLAINTEXT")
        aead = Aead.chacha20_poly1305(octets(fields, "KEY"))
        nonce, aad = octets(fields, "IV"), octets(fields, "AAD")
        if len(nonce) != 12:
            continue
        count += 1
        sealed = octets(fields, "CIPHERTEXT") + octets(fields, "TAG")
        if fields.get("RESULT") == "CIPHERFINAL_ERROR":
            with pytest.raises(PeerError) as caught:
                aead.open(nonce, sealed, aad)
            assert caught.value.code == "bad_tag"
        else:
            assert aead.seal(nonce, plaintext, aad) == sealed
            assert aead.open(nonce, sealed, aad) == plaintext
    assert count >= 5


def test_hmac_sha256() -> None:
    count = 0
    for _, fields in records("HMAC/rfc-4231-sha256.txt", "LEN"):
        count += 1
        assert hmac_sha256(octets(fields, "KEY"), octets(fields, "MSG")) == octets(fields, "MD")
    assert count == 6


def test_hkdf_sha256() -> None:
    count = 0
    for _, fields in records("KDF/rfc-5869-HKDF-SHA256.txt", "COUNT"):
        count += 1
        salt, ikm, info = (octets(fields, name) for name in ("SALT", "IKM", "INFO"))
        assert extract(salt, ikm) == octets(fields, "PRK")
        assert expand(octets(fields, "PRK"), info, int(fields["L"])) == octets(fields, "OKM")
        assert hkdf(salt, ikm, info, int(fields["L"])) == octets(fields, "OKM")
    assert count == 3


def test_scrypt() -> None:
    count = 0
    for _, fields in records("KDF/scrypt.txt", "COUNT"):
        n, r, p = (int(fields[name]) for name in ("N", "R", "P"))
        if n > SCRYPT_MOST:
            continue
        count += 1
        password, salt = fields["PASSWORD"].encode(), fields["SALT"].encode()
        assert scrypt(password, salt, n, r, p, int(fields["LENGTH"])) == octets(fields, "DERIVED_KEY")
    assert count >= 3


def test_x25519() -> None:
    count = 0
    for _, fields in records("asymmetric/X25519/rfc7748.txt", "COUNT"):
        count += 1
        key = DhKey(octets(fields, "INPUT_SCALAR"))
        assert key.exchange(octets(fields, "INPUT_U")) == octets(fields, "OUTPUT_U")
    assert count >= 2


def test_ed25519() -> None:
    lines = text_of("asymmetric/Ed25519/sign.input").splitlines()
    for line in lines[::4]:
        secret, public, message, signed = (bytes.fromhex(part) for part in line.split(":")[:4])
        key = SigningKey("ed25519", secret[:32])
        assert key.public == VerifyKey("ed25519", public)
        assert key.sign(message) == signed[:64]
        key.public.verify(signed[:64], message)
    assert len(lines) == 1024


def test_ed448() -> None:
    count = 0
    for _, fields in records("asymmetric/Ed448/rfc8032.txt", "COUNT"):
        if "CONTEXT" in fields:
            continue
        count += 1
        key = SigningKey("ed448", octets(fields, "SECRET"))
        assert key.public.raw == octets(fields, "PUBLIC")
        assert key.sign(octets(fields, "MESSAGE")) == octets(fields, "SIGNATURE")
        key.public.verify(octets(fields, "SIGNATURE"), octets(fields, "MESSAGE"))
    assert count >= 8


@pytest.mark.parametrize(
    ("section", "scheme", "size"),
    [("P-256,SHA-256", "p256", 32), ("P-384,SHA-384", "p384", 48), ("P-521,SHA-512", "p521", 66)],
)
def test_ecdsa(section: str, scheme: str, size: int) -> None:
    seen: Counter[str] = Counter()
    for where, fields in records("asymmetric/ECDSA/FIPS_186-3/SigVer.rsp", "MSG"):
        if where != f"[{section}]":
            continue
        point = b"\4" + b"".join(int(fields[name], 16).to_bytes(size, "big") for name in ("QX", "QY"))
        signature = encode_dss_signature(int(fields["R"], 16), int(fields["S"], 16))
        verdict = "good"
        try:
            VerifyKey(scheme, point).verify(signature, octets(fields, "MSG"))
        except PeerError as error:
            verdict = error.code
        seen[verdict] += 1
        assert (verdict == "good") == fields["RESULT"].startswith("P"), fields
    assert sum(seen.values()) == 15
    assert seen["good"] >= 3
    assert seen["bad_sig"] >= 3
