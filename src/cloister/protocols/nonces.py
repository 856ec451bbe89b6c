"""Suite `nonces`: certificates, nonces exchanged by all, K = HKDF of all nonces, AES-256-GCM records (document 000).

Source: docs/spec/classic/nonces.md. The run's machine stands in `nonces_run`, the steps that fixes changed and the
checks in `nonces_steps`, the life of a room (epochs, members, commits) in `rounds`.

Invariants
- Stateless: a room's state is its session's, which is nothing but its items.
- The study variant of the document (no forward secrecy) is not here: `lab.originals.nonces` overrides a step.
- Left out: prekeys and external joins, which a suite with rounds has no use for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Never

from cloister.errors import PeerError, UsageError
from cloister.primitives import Rng
from cloister.protocols.entering import receive_proposal
from cloister.protocols.epochs import RoomState
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
from cloister.protocols.nonces_run import NAME, NonceAgreement
from cloister.protocols.nonces_steps import MEMBERS, Steps
from cloister.protocols.rounds import RoundsSession
from cloister.protocols.run import Proposal
from cloister.protocols.view import progress

CAPS: Final = Caps(
    suite=NAME,
    max_members=MEMBERS,
    contributory=True,
    async_join=False,
    external_join=False,
    rounds_online=4,
    identity="x509",
    user_gate=None,
    forward_secrecy=True,
    post_compromise=True,
    post_quantum=False,
    sender_auth=SenderAuth.SIGNATURE,
    phrases={
        "entity authentication": "mutual, RSA certificates, all pairs",
        "message origin": "RSA-PSS signature",
        "forward secrecy": "for each run, and for each message within it",
        "post-compromise security": "at the next run, if the signing key was not stolen",
        "contributory": "yes, all members, unbiased except by visible abort",
        "size": "2 to 32 devices, cost grows with the square",
        "join while offline": "no: several visits, not at the same time",
        "relay trust": "none for content; liveness; order is checked by the log's chain",
        "replay": "context, and a window over message numbers",
        "key confirmation": "all members, explicit",
        "post-quantum": "no",
        "limits": "an absent member is waited for, then parked",
    },
)


class Nonces:
    """The suite; `steps` other than the fixed ones come from the lab and the tests."""

    def __init__(self, steps: Steps | None = None) -> None:
        self.agreement = NonceAgreement(steps)

    @property
    def caps(self) -> Caps:
        """What it gives."""
        return CAPS

    def prekeys(self, me: Me, n: int, now: int, rng: Rng) -> Sequence[PreKey]:
        """None: members meet in a run."""
        return ()

    def create(self, me: Me, room: RoomId, policy: RoomPolicy, now: int, rng: Rng) -> tuple[Session, Effects]:
        """A room with this device alone: it stands at the relay once the first run is committed."""
        session, turn = RoundsSession.fresh(self.agreement, me, room, RoomState(policy=policy), now, rng)
        progress(turn)
        return session, session.finish(turn)

    def join(self, me: Me, invitation: Envelope, prekey: PreKey | None, now: int, rng: Rng) -> tuple[Session, Effects]:
        """Enter by a proposal (M0) from the mailbox; PeerError for what is not acceptable, Behind when it is early."""
        if invitation.kind != "propose":
            raise PeerError("no_session", "only a proposal leads into a room of this suite")
        context = Proposal.decode(invitation.payload).context
        state = RoomState(policy=context.policy, tried=True)
        session, turn = RoundsSession.fresh(self.agreement, me, context.room, state, now, rng)
        receive_proposal(turn, invitation)
        progress(turn)
        return session, session.finish(turn)

    def rejoin(self, me: Me, group_info: bytes, now: int, rng: Rng) -> Never:
        """Not in this suite: a device that is out is added by a new run."""
        raise UsageError("unsupported", "rooms of this suite have no external join")

    def restore(self, me: Me, items: Mapping[bytes, bytes]) -> Session:
        """The session as its items have it; UnavailableError("damaged")."""
        return RoundsSession.restored(self.agreement, me, items)
