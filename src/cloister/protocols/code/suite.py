"""Suite `code`: a session code, exactly two people without accounts, Diffie-Hellman in group 14, AES-256-GCM records.

Source: docs/spec/classic/code.md, document 004. Sessions stand in `session`, the agreement in
`pairing`, the steps that fixes changed in `steps`, what people see and type in `forms`.

What a driver does beside the interface's rules
- The creator's `create` asks for the code (Ask "code"): the driver gets an id from the relay and answers with the code.
  A joiner's `join` takes what the relay said when it paired the two, and asks for the code as well.
- Envelopes of the rendezvous have its channel and the kinds `paired` (the relay's word, with the mode), `handshake`
  (D1 to D4), `left` (the other went away before D4) and `over` (the code has ended).
- `view.room` is a stand-in until EpochChanged(PENDING, access token): from then on it is the room to present.
- Where no secret was typed, Ask "sas" gives the string; `answer("sas", b"\\1")` says that it is the same.
- `change([Rekey()])` meets again with the same other, for a day; `change([Leave()])` ends the session for both.

Invariants
- Two members, no names: nobody is verified, and a surface must not show anybody as verified.
- One chain for each direction says who spoke; no record is signed, so content stays deniable.
- After the end nothing is held that opens a record or meets again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Never

from cloister.errors import PeerError, UsageError
from cloister.primitives import Rng
from cloister.protocols.code import pairing as pairings
from cloister.protocols.code.forms import Code as SessionCode
from cloister.protocols.code.items import ROOM, SHELVES, Pairing, Phase
from cloister.protocols.code.session import CodeSession
from cloister.protocols.code.steps import ANSWERER, NAME, OPENER, Steps
from cloister.protocols.interface import (
    Caps,
    ChannelKind,
    Effects,
    Envelope,
    Me,
    PreKey,
    RoomId,
    RoomPolicy,
    SenderAuth,
)
from cloister.protocols.items import stock_of

CAPS: Final = Caps(
    suite=NAME,
    max_members=2,
    contributory=True,
    async_join=False,
    external_join=False,
    rounds_online=4,
    identity="none",
    user_gate="code",
    forward_secrecy=True,
    post_compromise=False,
    post_quantum=False,
    sender_auth=SenderAuth.AEAD,
    phrases={
        "entity authentication": "none of identity; who has the code, or who read the same string",
        "message origin": "AEAD, one key per direction (deniable)",
        "forward secrecy": "for each session, and for each message within it",
        "post-compromise security": "with a new code",
        "contributory": "yes, both",
        "size": "2",
        "join while offline": "no",
        "relay trust": "none for content where the code was whole or the strings were compared",
        "replay": "context, and a window over message numbers",
        "key confirmation": "D3 and D4",
        "post-quantum": "no",
        "limits": "a code of 40 bits, three guesses, all online",
    },
)


class Code:
    """The suite; `steps` other than the fixed ones come from the lab and the tests."""

    def __init__(self, suite_steps: Steps | None = None) -> None:
        self.steps = suite_steps or Steps()

    @property
    def caps(self) -> Caps:
        """What it gives."""
        return CAPS

    def prekeys(self, me: Me, n: int, now: int, rng: Rng) -> Sequence[PreKey]:
        """None: the two meet."""
        return ()

    def create(self, me: Me, room: RoomId, policy: RoomPolicy, now: int, rng: Rng) -> tuple[CodeSession, Effects]:
        """A session that waits for its code, then for the other; `room` stands in until both hold the key."""
        session = CodeSession(self.steps, {})
        pairing = Pairing(phase=Phase.EXPECT_CODE, role=OPENER, sid="", begun=now)
        return session, session.begin(0, pairing, room, policy.title, now, rng)

    def join(
        self, me: Me, invitation: Envelope, prekey: PreKey | None, now: int, rng: Rng
    ) -> tuple[CodeSession, Effects]:
        """Enter by what the relay said when it paired the two; PeerError for anything else."""
        if (invitation.channel.kind, invitation.kind) != (ChannelKind.RENDEZVOUS, "paired"):
            raise PeerError("no_session", "a session is entered by its code")
        mode = pairings.told_mode(invitation.payload)
        try:
            sid = SessionCode.parse(invitation.channel.id.decode()).id
        except (UnicodeDecodeError, UsageError):
            raise PeerError("bad_encoding", "not a session's id") from None
        session = CodeSession(self.steps, {})
        pairing = Pairing(phase=Phase.EXPECT_CODE, role=ANSWERER, sid=sid, mode=mode, begun=now)
        return session, session.begin(1, pairing, rng(16), "session", now, rng)

    def rejoin(self, me: Me, group_info: bytes, now: int, rng: Rng) -> Never:
        """Not in this suite: the same two meet again with `change([Rekey()])`, others need a new code."""
        raise UsageError("unsupported", "sessions have no external join")

    def restore(self, me: Me, items: Mapping[bytes, bytes]) -> CodeSession:
        """The session as its items have it; UnavailableError("damaged")."""
        stock = stock_of(items, SHELVES)
        if b"" not in stock[ROOM.name]:
            raise UsageError("no_room", "no session in these items")
        return CodeSession(self.steps, stock)
