"""The proof of a fork, told to the other members: who has caught the relay writes no more in the room, and those who
see the other half would otherwise never learn of it.

Source: docs/spec/log.md ("Forks"). A proof travels as a mailbox item of kind "relay proof": the encoded `ForkProof`.

Invariants
- A proof counts by itself, whoever brings it: two heads of one log that the relay signed and that do not join.
- It is told once, by whoever found it; who was told it passes nothing on.
- What does not prove a fork of a room of this device is its bringer's fault and changes nothing.

Left out: a relay that withholds the mailbox item too. Then the halves stay apart, and only members who compare heads by
other means (`room show`) find out; the threat model says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cloister.engine.outbox import Outbox
from cloister.engine.unit import Unit
from cloister.errors import PeerError
from cloister.primitives.signature import VerifyKey
from cloister.protocols.interface import DeviceId, Direct
from cloister.wire import limits
from cloister.wire.log import ForkProof

OURS: Final = "relay"
"""What stands in a mailbox item's kind where the suite's name stands otherwise."""
PROOF: Final = "proof"
KIND: Final = f"{OURS} {PROOF}"
BODY_MOST: Final = limits.MAIL_ITEM.value // 2
"""Bytes of a proof that fits into an item with room to spare: some 150 entries between the two heads."""


def share(unit: Unit, outbox: Outbox, proof: ForkProof, members: Iterable[DeviceId]) -> None:
    """Tell the members of the room, each by mailbox; a proof too long for an item stays here."""
    body = proof.encode()
    for device in members if len(body) <= BODY_MOST else ():
        outbox.direct(unit, proof.log, OURS, Direct(device=device, kind=PROOF, body=body))


def judge(body: bytes, realm: str, room: bytes, relay_key: VerifyKey) -> ForkProof:
    """The proof, verified; PeerError (bad_encoding, misrouted, bad_head, bad_chain) when it proves nothing here."""
    proof = ForkProof.decode(body)
    if (proof.realm, proof.log) != (realm, room):
        raise PeerError("misrouted", "a proof about another log")
    proof.verify(relay_key)
    return proof
