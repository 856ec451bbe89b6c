"""Key derivation. Known answers stand in tests/vectors."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from cloister.primitives.kdf import expand, extract, hkdf, hmac_sha256, scrypt, sha256


def test_hashes_are_the_standard_librarys() -> None:
    assert sha256(b"x") == hashlib.sha256(b"x").digest()
    assert hmac_sha256(b"k", b"x") == hmac.digest(b"k", b"x", "sha256")


@pytest.mark.parametrize(("algorithm", "size"), [("sha256", 32), ("sha384", 48), ("sha512", 64)])
def test_hkdf_follows_rfc_5869_for_each_hash(algorithm: str, size: int) -> None:
    prk = extract(b"salt", b"ikm", algorithm)
    assert prk == hmac.digest(b"salt", b"ikm", algorithm)
    first = hmac.digest(prk, b"info\1", algorithm)
    second = hmac.digest(prk, first + b"info\2", algorithm)
    assert expand(prk, b"info", 2 * size, algorithm) == first + second
    assert expand(prk, b"info", size - 1, algorithm) == first[:-1]


def test_an_output_longer_than_255_hashes_is_refused() -> None:
    assert len(expand(bytes(32), b"", 255 * 32)) == 255 * 32
    with pytest.raises(ValueError, match="larger than 8160"):
        expand(bytes(32), b"", 255 * 32 + 1)


def test_hkdf_is_extract_then_expand() -> None:
    assert hkdf(b"s", b"i", b"n", 40) == expand(extract(b"s", b"i"), b"n", 40)


def test_scrypt_takes_the_memory_that_its_parameters_need() -> None:
    # the exact bound: one byte less is refused by the library
    assert len(scrypt(b"p", b"s" * 16, 2**15, 8, 1)) == 32
    assert scrypt(b"p", b"s", 2**10, 8, 2, 64) == hashlib.scrypt(b"p", salt=b"s", n=2**10, r=8, p=2, dklen=64)


@pytest.mark.slow
def test_scrypt_runs_at_the_vaults_ceiling() -> None:
    assert len(scrypt(b"p", b"s" * 16, 2**20, 8, 1)) == 32
