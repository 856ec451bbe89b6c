"""The room's policy on the wire, and who may do what.

Source: docs/spec/suites.md ("Policy"). The policy is part of every epoch's context, so all members hold the same one;
each receiver checks each change against the policy *of the epoch that the change ends*.

Wire form: [1, title, owners, add, remove, rekey, policy], the rights as texts of `Who`.

Invariants: owners are sorted, distinct and at least one, at most 32; a title has at most 128 bytes; whatever decodes
encodes to the same bytes.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError
from cloister.primitives.kdf import sha256
from cloister.protocols.checks import check
from cloister.protocols.forms import texts
from cloister.protocols.interface import RoomPolicy, Who

VERSION: Final = 1
TITLE_MOST: Final = 128
OWNERS_MOST: Final = 32
USER_MOST: Final = 64


class Right(Enum):
    """What a policy rules on; the value is the policy's field."""

    ADD = "may_add"
    REMOVE = "may_remove"
    REKEY = "may_rekey"
    SET_POLICY = "may_set_policy"


def items(policy: RoomPolicy) -> list[object]:
    """The array that travels and is stored."""
    rights = (policy.may_add, policy.may_remove, policy.may_rekey, policy.may_set_policy)
    return [VERSION, policy.title, list(policy.owners), *(str(who) for who in rights)]


def digest(policy: RoomPolicy) -> bytes:
    """SHA-256 of the wire form, 32 bytes: what a context binds."""
    return sha256(enc(*items(policy)))


def read(fields: Fields) -> RoomPolicy:
    """The policy that an array holds; PeerError("bad_encoding"), or `unsupported` for a later version."""
    if fields.uint("version", 16) != VERSION:
        raise PeerError("unsupported", "a room policy of a later version")
    title = fields.text("title", TITLE_MOST)
    owners = list(texts(fields, "owners", OWNERS_MOST, USER_MOST))
    rights = [_who(fields.text(right.value, 16)) for right in Right]
    fields.end()
    if not owners or owners != sorted(set(owners)):
        raise PeerError("bad_encoding", "owners are sorted, distinct and at least one")
    return RoomPolicy(
        title=title,
        owners=tuple(owners),
        may_add=rights[0],
        may_remove=rights[1],
        may_rekey=rights[2],
        may_set_policy=rights[3],
    )


def _who(text: str) -> Who:
    try:
        return Who(text)
    except ValueError as error:
        raise PeerError("bad_encoding", "an unknown right") from error


def permits(policy: RoomPolicy, user: str, right: Right) -> bool:
    """Whether `user`, who is a member, has the right."""
    who: Who = getattr(policy, right.value)
    return who is Who.MEMBERS or (who is Who.OWNERS and user in policy.owners)


@check("POL-01")
def check_permitted(policy: RoomPolicy, user: str, right: Right) -> None:
    """PeerError("not_allowed") unless the policy gives `user` the right."""
    if not permits(policy, user, right):
        raise PeerError("not_allowed", f"{right.value} is not for everybody here", check="POL-01")
