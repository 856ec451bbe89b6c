"""X-Wing against the vectors of its draft (decapsulation: the library draws encapsulation randomness)."""

from __future__ import annotations

import random

from cloister.primitives.kem import X_WING
from support.need import json_vectors


def test_xwing_vectors() -> None:
    for vector in json_vectors("xwing/test-vectors.json"):
        private = X_WING.private_key(bytes.fromhex(vector["sk"]))
        assert vector["seed"] == vector["sk"]
        assert private.public == bytes.fromhex(vector["pk"])
        assert X_WING.decap(private, bytes.fromhex(vector["ct"])) == bytes.fromhex(vector["ss"])


def test_xwing_agrees_with_itself_and_rejects_implicitly() -> None:
    rng = random.Random(5).randbytes
    private = X_WING.derive_key_pair(rng(32))
    shared, enc = X_WING.encap(X_WING.public_key(private.public), rng)
    assert X_WING.decap(private, enc) == shared
    assert X_WING.decap(private, bytes((enc[0] ^ 1,)) + enc[1:]) != shared
