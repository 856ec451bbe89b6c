"""The one place of the clients where unpredictable bytes and the time of day come from the system."""

from __future__ import annotations

import secrets
import time


def rng(size: int) -> bytes:
    """`size` unpredictable bytes."""
    return secrets.token_bytes(size)


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def jitter(low: float, high: float) -> float:
    """A number between the two, unpredictable enough that clients do not come back all at once."""
    return low + (high - low) * (secrets.randbelow(1 << 20) / (1 << 20))
