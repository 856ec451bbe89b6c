"""What a room allows, and to whom: values that every suite binds into its epochs' contexts.

Source: docs/spec/suites.md ("Policy"). The wire form and the check of rights are in `policy`; callers take both names
from `interface`.

Invariant: immutable; all members of an epoch hold the same one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Who(StrEnum):
    """Whom a rule of the room's policy allows."""

    MEMBERS = "members"
    OWNERS = "owners"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomPolicy:
    """What a room allows, bound into every epoch's context.

    `owners` are user names, sorted; the creator is the first owner. `title` is at most 128 bytes; the relay
    never sees it. The wire form is `[version, title, owners, add, remove, rekey, policy]`.
    """

    title: str
    owners: tuple[str, ...]
    may_add: Who = Who.MEMBERS
    may_remove: Who = Who.OWNERS
    may_rekey: Who = Who.MEMBERS
    may_set_policy: Who = Who.OWNERS
