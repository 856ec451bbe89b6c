"""Suite `pair`: two devices, Ed25519 identities, signed X25519, one AES-256-GCM key for each direction (document 003).

Source: docs/spec/classic/pair.md. The handshake stands in `handshake`, messages and the end in `session`, the
steps that fixes changed and the checks in `steps`, stored forms and records in `items`.

Invariants
- Stateless: a room's state is its session's, which is nothing but its items.
- A room has exactly two devices; broadcast is an object over many sessions (`engine.broadcast`), not a session.
- A first request asks the person (`caps.user_gate`): who carries the session out answers `Ask("accept")`.
- A prekey (E4.1) is used once; there is none of last resort: without one the peer is asked when it is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Never

from cloister.errors import PeerError, UsageError
from cloister.primitives import Rng
from cloister.primitives.kdf import sha256
from cloister.protocols.interface import (
    Behind,
    Caps,
    Effects,
    Envelope,
    Me,
    Need,
    PreKey,
    RoomId,
    RoomPolicy,
    SenderAuth,
    Session,
)
from cloister.protocols.pair import handshake
from cloister.protocols.pair.items import RoomItem
from cloister.protocols.pair.prekeys import Prekey
from cloister.protocols.pair.session import PairSession
from cloister.protocols.pair.steps import NAME, Identity, Request, Steps
from cloister.protocols.pair.view import progress

PREKEY_LIFE: Final = 30 * 24 * 60 * 60_000
"""How long (ms) a prekey may be used."""
EARLY: Final = 60 * 60_000
"""How much before now (ms) a prekey's time begins: the difference of two clocks, amply."""

CAPS: Final = Caps(
    suite=NAME,
    max_members=2,
    contributory=True,
    async_join=True,
    external_join=False,
    rounds_online=2,
    identity="pinned",
    user_gate="accept",
    forward_secrecy=True,
    post_compromise=True,
    post_quantum=False,
    sender_auth=SenderAuth.AEAD,
    phrases={
        "entity authentication": "mutual, Ed25519 device keys",
        "message origin": "one key for each direction: content deniable, participation signed",
        "forward secrecy": "for each session, and for each message within it",
        "post-compromise security": "at each new session (daily)",
        "contributory": "yes, both",
        "size": "2; broadcast fans out over many",
        "join while offline": "yes, while prekeys last",
        "relay trust": "keys must be verified",
        "replay": "counter",
        "key confirmation": "explicit, by the third message",
        "post-quantum": "no",
        "limits": "n^2 sessions for n people",
    },
)


class Pair:
    """The suite; `steps` other than the fixed ones come from the lab and the tests."""

    def __init__(self, steps: Steps | None = None) -> None:
        self.steps = steps or Steps()

    @property
    def caps(self) -> Caps:
        """What it gives."""
        return CAPS

    def prekeys(self, me: Me, n: int, now: int, rng: Rng) -> Sequence[PreKey]:
        """`n` one-time prekeys for 30 days, none of last resort; PeerError when this device does not count."""
        directory = me.directory()
        owner = Identity.of(directory.device(me.device, directory.size))
        return [self._prekey(me, owner, now, rng) for _ in range(n)]

    def _prekey(self, me: Me, owner: Identity, now: int, rng: Rng) -> PreKey:
        public, private = self.steps.offer(rng)
        begins, ends = now - EARLY, now + PREKEY_LIFE
        prekey = Prekey(owner=owner, kem=self.steps.kem, not_before=begins, not_after=ends, public=public)
        package = prekey.signed(me.keys.device).encode()
        return PreKey(public=package, private=private, ref=sha256(package), expires=ends, not_before=begins)

    def create(self, me: Me, room: RoomId, policy: RoomPolicy, now: int, rng: Rng) -> tuple[Session, Effects]:
        """A room with this device alone: it stands at the relay once the other has agreed."""
        session, turn = PairSession.fresh(self.steps, me, room, RoomItem(policy=policy), now, rng)
        progress(turn)
        return session, session.finish(turn)

    def join(self, me: Me, invitation: Envelope, prekey: PreKey | None, now: int, rng: Rng) -> tuple[Session, Effects]:
        """A chat_request for a new room: Ask("accept") to the person; Behind with Need prekeys or realm."""
        if invitation.kind != "chat_request":
            raise PeerError("no_session", "only a chat request leads into a room of this suite")
        request = Request.decode(invitation.payload)
        if request.prekey is not None and prekey is None:
            raise Behind(Need(what="prekeys", ids=(request.prekey,)))
        used = None
        if request.prekey is not None and prekey is not None:
            used = Prekey.decode(prekey.public).public, prekey.private
        item = RoomItem(policy=request.policy, peer=request.ids[0].device)
        session, turn = PairSession.fresh(self.steps, me, request.room, item, now, rng)
        handshake.asked(turn, invitation, used)
        progress(turn)
        return session, session.finish(turn)

    def rejoin(self, me: Me, group_info: bytes, now: int, rng: Rng) -> Never:
        """Not in this suite: whoever is out begins another room."""
        raise UsageError("unsupported", "rooms of this suite have no external join")

    def restore(self, me: Me, items: Mapping[bytes, bytes]) -> Session:
        """The session as its items have it; UnavailableError("damaged")."""
        return PairSession.restored(self.steps, me, items)
