"""Keys for runs that need many devices: seeded where that is quick, RSA pairs from a pool.

RSA pairs are slow to make (0.2 to 1 s). The environment variable CLOISTER_KEYPOOL names a folder that keeps them for
one run of the tests, shared by parallel workers; without it they are made when they are asked for and live in memory.

Invariants: no key outlives its run, none is in the repository; nobody's real profile takes a key from here.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

from cloister.identity.keys import DeviceKeys
from cloister.primitives import Rng
from cloister.primitives.dh import DhKey
from cloister.primitives.rsa import RsaDecryptKey, RsaSigningKey
from cloister.primitives.signature import SigningKey

POOL: Final = "CLOISTER_KEYPOOL"
"""The environment variable that names the run's folder; `make mutants` shares one among its many short runs."""


def seeded(seed: object) -> Rng:
    """A repeatable source of bytes."""
    return random.Random(repr(seed)).randbytes  # noqa: S311 - a test's dice


def _pair(kind: str, index: int, generate: Callable[[], Any]) -> bytes:
    """The PKCS #8 bytes of pair number `index`, made once in a run."""
    folder = os.environ.get(POOL)
    if folder is None:
        made: bytes = generate().private_bytes()
        return made
    return _pooled(Path(folder), f"{kind}-{index}", generate)


def _pooled(folder: Path, name: str, generate: Callable[[], Any]) -> bytes:
    import fcntl  # only where a pool is shared: not every system has it

    path = folder / name
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            path.touch(mode=0o600)
            path.write_bytes(generate().private_bytes())
        return path.read_bytes()


@cache
def rsa_signing_key(index: int) -> RsaSigningKey:
    """The run's signing key number `index`."""
    return RsaSigningKey.from_bytes(_pair("sign", index, RsaSigningKey.generate))


@cache
def rsa_decrypt_key(index: int) -> RsaDecryptKey:
    """The run's decryption key number `index`."""
    return RsaDecryptKey.from_bytes(_pair("decrypt", index, RsaDecryptKey.generate))


class MemoDecrypt(RsaDecryptKey):
    """Decrypts each ciphertext once: tests give the same messages many times, in other orders."""

    __slots__ = ("_known",)

    def __init__(self, key: Any) -> None:
        super().__init__(key)
        self._known: dict[tuple[bytes, bytes], bytes] = {}

    def decrypt(self, ciphertext: bytes, label: bytes) -> bytes:
        """As the key does; what it has decrypted before is looked up."""
        found = self._known.get((ciphertext, label))
        if found is None:
            found = self._known[ciphertext, label] = super().decrypt(ciphertext, label)
        return found


@cache
def keys_of(index: int, *, rsa: bool = True) -> DeviceKeys:
    """The keys of device number `index`: RSA pairs of the pool, the rest seeded."""
    rng = seeded(("device", index))
    return DeviceKeys(
        device=SigningKey.generate("ed25519", rng),
        mailbox=DhKey.generate(rng),
        rsa_sign=rsa_signing_key(index) if rsa else None,
        rsa_decrypt=MemoDecrypt(rsa_decrypt_key(index)._key) if rsa else None,  # noqa: SLF001 - the same key, remembered
    )
