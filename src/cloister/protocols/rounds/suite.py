"""The suites that agree in rounds, but for what is their own: how a room is made, entered and restored.

Source: docs/spec/suites.md. A suite gives its caps and its agreement; its sessions are `session.RoundsSession`.

Invariants
- Stateless: a room's state is its session's, which is nothing but its items.
- Left out: prekeys and external joins, which a suite with rounds has no use for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Never

from cloister.errors import PeerError, UsageError
from cloister.primitives import Rng
from cloister.protocols.interface import Caps, Effects, Envelope, Me, PreKey, RoomId, RoomPolicy, Session
from cloister.protocols.rounds.agreement import Agreement
from cloister.protocols.rounds.entering import receive_proposal
from cloister.protocols.rounds.epochs import RoomState
from cloister.protocols.rounds.run import Proposal
from cloister.protocols.rounds.session import RoundsSession
from cloister.protocols.rounds.view import progress


class RoundsSuite:
    """A suite whose members agree in rounds."""

    def __init__(self, caps: Caps, agreement: Agreement) -> None:
        self._caps = caps
        self.agreement = agreement

    @property
    def caps(self) -> Caps:
        """What it gives."""
        return self._caps

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
        """Not in these suites: a device that is out is added by a new run."""
        raise UsageError("unsupported", "rooms of this suite have no external join")

    def restore(self, me: Me, items: Mapping[bytes, bytes]) -> Session:
        """The session as its items have it; UnavailableError("damaged")."""
        return RoundsSession.restored(self.agreement, me, items)
