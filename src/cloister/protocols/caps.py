"""What a suite gives: values for code, and one phrase for each row of the property table.

Source: docs/spec/suites.md; the table there is generated from the suites' `Caps`. A surface takes its words about a
room's protection from here and nowhere else, so that no suite is shown as more than it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal


class SenderAuth(Enum):
    """How a receiver knows who of the members spoke."""

    SIGNATURE = "signature per message"
    AEAD = "one key per direction"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """What a suite gives, in values for code and in one phrase for each row of the property table."""

    suite: str
    max_members: int
    contributory: bool
    async_join: bool
    external_join: bool
    rounds_online: int
    identity: Literal["x509", "pinned", "none"]
    user_gate: Literal["accept", "code", "sas"] | None
    forward_secrecy: bool
    post_compromise: bool
    post_quantum: bool
    sender_auth: SenderAuth
    phrases: Mapping[str, str]
    """Row title of the property table -> phrase; every suite has the same titles (CAPS_ROWS)."""


CAPS_ROWS = (
    "entity authentication",
    "message origin",
    "forward secrecy",
    "post-compromise security",
    "contributory",
    "size",
    "join while offline",
    "relay trust",
    "replay",
    "key confirmation",
    "post-quantum",
    "limits",
)
