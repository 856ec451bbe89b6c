"""Exit codes of every command.

Source: docs/spec/errors.md (generated from these tables and from errors.REGISTRY). Scripts rely on the numbers: they
are added to, never changed. Which error ends in which code stands in its row of the registry.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Exit(IntEnum):
    """How a command ends."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    UNTRUSTED = 4
    LOCKED = 5
    NOT_FOUND = 6
    TIMED_OUT = 8
    REFUSED = 9
    INTEGRITY = 10
    INTERRUPTED = 130


MEANINGS: Final = {
    Exit.DONE: "done",
    Exit.FAILED: "failed; the message says why",
    Exit.USAGE: "the command cannot be carried out as given",
    Exit.UNREACHABLE: "the relay or the network cannot be reached; a retry may help",
    Exit.UNTRUSTED: "an untrusted or changed identity; nothing was sent",
    Exit.LOCKED: "locked, wrong password, or the device is revoked",
    Exit.NOT_FOUND: "no such room, user, message or profile",
    Exit.TIMED_OUT: "timed out waiting",
    Exit.REFUSED: "refused by a limit or a policy",
    Exit.INTEGRITY: "bad signature, replay, broken chain or bad certificate; nothing was taken over",
    Exit.INTERRUPTED: "interrupted",
}
