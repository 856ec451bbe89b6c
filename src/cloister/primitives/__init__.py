"""Thin wrappers over pyca/cryptography and PyNaCl; beside `identity` the only place that imports them. No I/O.

Randomness is an argument wherever the library allows it (RSA, ECDSA and ML-KEM draw their own).
"""

from collections.abc import Callable

Rng = Callable[[int], bytes]
"""`rng(n)` gives n unpredictable bytes; tests pass a seeded one."""
