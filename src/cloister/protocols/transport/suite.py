"""Suite `transport`: the inviter makes the key and transports it, encrypted and signed, to every member (document 002).

Source: docs/spec/classic/transport.md. ISO/IEC 11770-3 key transport mechanism 2, in one pass: members need not be
online. Records are AES-256-CTR with HMAC-SHA-256, signed; numbers and windows of all senders are in the store.

    messages     steps (forms, the steps that fixes changed), checks
    a room       session (what a device does), inviting, reading, items

Invariants
- Stateless: a room's state is its session's, which is nothing but its items.
- `Transport()` makes plain rooms and `Transport(strict=True)` strict ones, in which nobody seals before all members
  have acknowledged the key; either follows rooms of both kinds, for the variant stands in the invitation.
- Left out: prekeys and external joins; a device that is out is invited again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, Never

from cloister.errors import PeerError, UsageError
from cloister.identity.credential import parse_device_id
from cloister.primitives import Rng
from cloister.protocols.interface import (
    Caps,
    Effects,
    Envelope,
    Me,
    PreKey,
    RoomId,
    RoomPolicy,
    SenderAuth,
    Session,
)
from cloister.protocols.transport.reading import progress, take_invite
from cloister.protocols.transport.session import TransportSession
from cloister.protocols.transport.steps import MEMBERS, NAME, STRICT, Invite, Steps

CAPS: Final = Caps(
    suite=NAME,
    max_members=MEMBERS,
    contributory=False,
    async_join=True,
    external_join=False,
    rounds_online=0,
    identity="x509",
    user_gate=None,
    forward_secrecy=False,
    post_compromise=False,
    post_quantum=False,
    sender_auth=SenderAuth.SIGNATURE,
    phrases={
        "entity authentication": "inviter to member by the invitation, member to inviter by its acknowledgement",
        "message origin": "RSA-PSS signature and HMAC",
        "forward secrecy": "for each message within an epoch; a stolen RSA key opens every invitation it was sent",
        "post-compromise security": "at a rekey, if the RSA keys were not stolen",
        "contributory": "no: the inviter chooses the key",
        "size": f"2 to {MEMBERS} devices, cost grows in proportion",
        "join while offline": "yes: invitations wait in the mailbox",
        "relay trust": "none for content; liveness; order is checked by the log's chain",
        "replay": "context, the epoch as sequence number, and a window over message numbers in the store",
        "key confirmation": "acknowledgements, shown as they come",
        "post-quantum": "no",
        "limits": "the inviter is a single point, and holds every key",
    },
)
STRICT_CAPS: Final = replace(
    CAPS,
    suite=f"{NAME}-{STRICT}",
    phrases={**CAPS.phrases, "key confirmation": "acknowledgements of all before anything is sent"},
)


class Transport:
    """The suite; `steps` other than the fixed ones come from the lab and the tests."""

    def __init__(self, steps: Steps | None = None, *, strict: bool = False) -> None:
        self.steps = steps or Steps()
        self.variant = STRICT if strict else self.steps.variants[0]

    @property
    def caps(self) -> Caps:
        """What it gives."""
        return STRICT_CAPS if self.variant == STRICT else CAPS

    def prekeys(self, me: Me, n: int, now: int, rng: Rng) -> Sequence[PreKey]:
        """None: a member's certified RSA key is what an invitation is made for."""
        return ()

    def create(self, me: Me, room: RoomId, policy: RoomPolicy, now: int, rng: Rng) -> tuple[Session, Effects]:
        """A room with this device alone: it stands at the relay with its first invitations."""
        session, turn = TransportSession.fresh(self.steps, self.variant, me, room, policy, now, rng)
        progress(turn)
        return session, session.finish(turn)

    def join(self, me: Me, invitation: Envelope, prekey: PreKey | None, now: int, rng: Rng) -> tuple[Session, Effects]:
        """Enter by an invitation (I1) from the mailbox; PeerError where it is not acceptable, Behind when too early."""
        if invitation.kind != "invite":
            raise PeerError("no_session", "only an invitation leads into a room of this suite")
        token = Invite.decode(invitation.payload).token
        # The title and the rights come with I0; until then the room is its inviter's.
        policy = RoomPolicy(title="invitation", owners=(parse_device_id(token.terms.inviter)[1],))
        room = token.terms.room
        session, turn = TransportSession.fresh(self.steps, self.variant, me, room, policy, now, rng)
        take_invite(turn, invitation)
        return session, session.finish(turn)

    def rejoin(self, me: Me, group_info: bytes, now: int, rng: Rng) -> Never:
        """Not in this suite: a device that is out is invited again."""
        raise UsageError("unsupported", "rooms of this suite have no external join")

    def restore(self, me: Me, items: Mapping[bytes, bytes]) -> Session:
        """The session as its items have it; UnavailableError("damaged")."""
        return TransportSession.restored(self.steps, self.variant, me, items)
