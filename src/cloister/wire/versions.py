"""Protocol versions: the client offers a list, the relay picks; both ends sign the choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cloister.errors import UnavailableError

SUPPORTED: Final = (1,)
"""Newest last."""


def choose(offered: Sequence[int]) -> int:
    """The newest version that both know; UnavailableError("version") when there is none."""
    common = set(offered) & set(SUPPORTED)
    if not common:
        raise UnavailableError("version", f"this side speaks {SUPPORTED[-1]}")
    return max(common)
