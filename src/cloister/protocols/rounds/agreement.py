"""What the suites with rounds (`nonces`, `shares`) share: a run's state, one call's working set, the agreement's face.

Source: docs/spec/suites.md ("Runs").

States of a run (docs/spec/classic/contributions.md has the table): EXPECT_HELLOS -> EXPECT_SHARES -> EXPECT_CONFIRMS ->
EXPECT_COMMIT; a fatal fault or the deadline ends it, and the room stays in the epoch it has.

Invariants
- A run that is ended is gone, but for a note of its id until its deadline (`replay`).
- Own messages are made once and stored with the state they lead to, before they are sent.
- Who has sent its confirm keeps the run until the parent epoch has another successor, or 30 days.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError
from cloister.primitives import Rng
from cloister.protocols.context import Keyed, Party, party_of
from cloister.protocols.forms import HASH, ID
from cloister.protocols.interface import Channel, ChannelKind, DeviceId, EntryKind, Fault, Me, Post
from cloister.protocols.items import Draft, Shelf
from cloister.protocols.record import Cipher, Schedule
from cloister.protocols.rounds import run as runs
from cloister.protocols.rounds.run import Proposal


class Phase(StrEnum):
    """What a run waits for."""

    EXPECT_HELLOS = "expect hellos"
    EXPECT_SHARES = "expect shares"
    EXPECT_CONFIRMS = "expect confirms"
    EXPECT_COMMIT = "expect commit"


class RunBroken(PeerError):
    """A member broke a rule of a run; `fatal` where the run cannot go on. `evidence` is what it signed.

    `peer` is None where the members' messages break the rule only together.
    """

    def __init__(
        self, code: str, peer: DeviceId | None, *, fatal: bool, evidence: bytes = b"", check: str = "", detail: str = ""
    ) -> None:
        super().__init__(code, detail, check=check)
        self.peer = peer
        self.fatal = fatal
        self.evidence = evidence


def fault_of(error: PeerError) -> Fault:
    """What a session tells of a refusal."""
    if isinstance(error, RunBroken):
        return Fault(
            code=error.code,
            peer=error.peer,
            fatal=error.fatal,
            evidence=error.evidence,
            detail=error.detail,
            check=error.check,
        )
    return Fault(code=error.code, detail=error.detail, check=error.check)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One attempt to agree, as this device sees it. Times in ms, 0 where it has not happened.

    `opened_at` when it was opened or its proposal read; `confirmed_at` when the own confirm was made; `ready_at` when
    all confirms stood; `head` (32 bytes) the hash of the log entry by which they stood; `last_seq` the newest entry
    read; `posted` whether this device has posted the commit; `lapsed` whether its deadline passed after the own
    confirm: it is kept, for it may still be committed, and counts as open no more.
    """

    proposal: Proposal
    opened_at: int
    phase: Phase = Phase.EXPECT_HELLOS
    confirmed_at: int = 0
    ready_at: int = 0
    head: bytes = b""
    last_seq: int = 0
    posted: bool = False
    lapsed: bool = False

    @property
    def id(self) -> bytes:
        """The run's id, 16 bytes."""
        return self.proposal.context.run_id

    def encode(self) -> bytes:
        """The stored form."""
        times = [self.opened_at, self.confirmed_at, self.ready_at]
        return enc(self.proposal.encode(), str(self.phase), times, self.head, self.last_seq, [self.posted, self.lapsed])

    @classmethod
    def decode(cls, data: bytes) -> Run:
        """What `encode` gave."""
        fields = Fields.decode(data, "run")
        proposal, phase = Proposal.decode(fields.octets("proposal")), fields.text("phase")
        times, head, last_seq = fields.fields("times"), fields.octets("head", most=HASH), fields.uint("last seq")
        flags = fields.fields("flags")
        run = cls(
            proposal=proposal,
            phase=Phase(phase),
            opened_at=times.uint("opened"),
            confirmed_at=times.uint("confirmed"),
            ready_at=times.uint("ready"),
            head=head,
            last_seq=last_seq,
            posted=flags.flag("posted"),
            lapsed=flags.flag("lapsed"),
        )
        fields.end()
        return run


RUN: Shelf[Run] = Shelf(b"run", Run.encode, Run.decode)
AGREED: Shelf[Schedule] = Shelf(b"agreed", Schedule.encode, Schedule.decode)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEntry:
    """A message out of a run's log; `seq` and `hash` are its place there, `at` (ms) when the relay took it."""

    message: bytes
    entry_id: bytes
    seq: int
    hash: bytes
    at: int = 0


@dataclass(frozen=True, slots=True)
class Turn(Keyed):
    """What one call works with: this device, the draft of its items, the time (ms) and the dice."""

    me: Me
    agreement: Agreement
    room: bytes
    draft: Draft
    now: int
    rng: Rng
    parties: dict[bytes, Party]
    """Parties by run id: parsed from the directory once, a pure cache."""

    def party(self, run: Run) -> Party:
        """The run's context and certified keys."""
        found = self.parties.get(run.id)
        if found is None:
            found = self.parties[run.id] = party_of(run.proposal.context, self.me.directory())
        return found

    def index(self, run: Run) -> int:
        """This device's place in the run's roster."""
        return run.proposal.context.roster.index(self.me.device)

    def post(self, run: Run, message: bytes) -> None:
        """Say something in the run."""
        entry_id = self.rng(ID)
        sealed = runs.seal(self.agreement.suite, run.proposal.secret, run.id, entry_id, message)
        channel = Channel(ChannelKind.RUN, run.id)
        self.draft.emit(Post(channel=channel, kind=EntryKind.HANDSHAKE, entry_id=entry_id, payload=sealed))


class Agreement(Protocol):
    """How a suite agrees on a secret within a run; stateless, its items lie in the turn's draft."""

    @property
    def suite(self) -> str:
        """The suite's name."""
        ...

    @property
    def variant(self) -> str:
        """The variant this device consents to."""
        ...

    @property
    def most(self) -> int:
        """The largest roster."""
        ...

    @property
    def cipher(self) -> Cipher:
        """How records are protected."""
        ...

    @property
    def shelves(self) -> Mapping[bytes, Shelf[Any]]:
        """The suite's own shelves."""
        ...

    def begin(self, turn: Turn, run: Run) -> None:
        """Enter a run: store it and post the own hello."""
        ...

    def take(self, turn: Turn, run: Run, entry: RunEntry) -> None:
        """Judge a message; PeerError or RunBroken, else the draft holds what follows (schedule under AGREED)."""
        ...

    def missing(self, draft: Draft, run: Run) -> tuple[DeviceId, ...]:
        """Whose message the run waits for."""
        ...

    def confirmed(self, draft: Draft, run: Run) -> tuple[DeviceId, ...]:
        """Who has proved to hold the run's key."""
        ...

    def answered(self, draft: Draft, run: Run, device: DeviceId, seq: int, before: int) -> bool:
        """Whether, by entry `seq` of the run's log or `before` (ms), the device had said all that was awaited of it."""
        ...

    def forget(self, draft: Draft, run_id: bytes) -> None:
        """Drop every item of a run but the run and its schedule."""
        ...
