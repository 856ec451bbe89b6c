"""RSA key pairs are slow to make: a pool, made once per test run and never committed.

The pool lives in a folder of the run (shared by parallel workers), so keys are real and fresh for every run.
"""

from __future__ import annotations

import fcntl
import os
from functools import cache
from pathlib import Path

from cloister.primitives.rsa import RsaDecryptKey, RsaSigningKey

POOL = "CLOISTER_KEYPOOL"
"""The environment variable that names the run's folder; `make mutants` shares one among its many short runs."""


def _pair(kind: str, index: int) -> bytes:
    folder = Path(os.environ[POOL])
    path = folder / f"{kind}-{index}"
    with (folder / f"{kind}-{index}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            made = (RsaSigningKey if kind == "sign" else RsaDecryptKey).generate().private_bytes()
            path.touch(mode=0o600)
            path.write_bytes(made)
        return path.read_bytes()


@cache
def rsa_signing_key(index: int) -> RsaSigningKey:
    """The pool's signing key number `index`."""
    return RsaSigningKey.from_bytes(_pair("sign", index))


@cache
def rsa_decrypt_key(index: int) -> RsaDecryptKey:
    """The pool's decryption key number `index`."""
    return RsaDecryptKey.from_bytes(_pair("decrypt", index))
