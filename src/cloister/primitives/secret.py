"""A value that must not be printed, compared carelessly or written down by accident.

Source: docs/architecture.md ("Secrets"). Each kind of secret is a subclass, so that types tell a room key
from a chain key and a mix-up is a type error.

Invariants
- `repr` and `str` show the type only; formatting never reveals the value.
- Equality is constant-time and only between the same type; a secret cannot be hashed or copied by pickling.
- Left out: wiping. Python cannot guarantee it (docs/spec/threat-model.md says so).
"""

from __future__ import annotations

import hmac
from typing import Never


class Secret:
    """Holds secret bytes; `reveal()` is the one way out."""

    __slots__ = ("_value",)
    size: int | None = None
    """Length in bytes that a subclass demands, or None."""

    def __init__(self, value: bytes) -> None:
        if self.size is not None and len(value) != self.size:
            raise ValueError(f"{type(self).__name__} takes {self.size} bytes")
        self._value = bytes(value)

    def reveal(self) -> bytes:
        """The bytes, for a primitive or an encrypted store."""
        return self._value

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> Never:
        raise TypeError("a secret is not serialised by accident")
