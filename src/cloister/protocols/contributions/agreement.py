"""How `nonces` and `shares` agree on a key: each member commits to a contribution, gives it, confirms. M1 to M3.

Source: docs/spec/classic/contributions.md; forms, steps and checks stand in `steps`, what a suite does of
its own in its Steps and in the three hooks of `Contributions` (`owed`, `answers`, `judge`), the room in `rounds`.

States of a run and what each takes (the page has the same table, a test compares them):

    EXPECT_HELLOS    hello -> judged     shares, confirm -> kept for later
    EXPECT_SHARES    shares -> judged    confirm -> kept for later    hello -> compared with the first
    EXPECT_CONFIRMS  confirm -> judged   hello, shares -> compared with the first
    EXPECT_COMMIT    all -> compared with the first

Invariants
- Shares are posted only after all hellos, the confirm only after all shares have opened: nobody chooses last.
- One entry per sender and kind counts, the first; another one that is signed is a `conflict`.
- What comes too early is kept, one of each kind for each member, and judged when its turn has come; shares only as
  signed by their sender. Honest members never speak early: a run's log has one order.
- The run is agreed when all confirms, the own one too, stand in its log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar

from cloister.errors import PeerError
from cloister.primitives.dh import DhKey
from cloister.protocols.context import Party
from cloister.protocols.contributions import steps as steps_of
from cloister.protocols.contributions.items import EARLY, MINE, NOTHING, PEER, Mine, Peer, Said
from cloister.protocols.contributions.steps import KINDS, MEMBERS, Confirm, Hello, Message, Shares, Steps
from cloister.protocols.interface import DeviceId
from cloister.protocols.items import Draft, Shelf
from cloister.protocols.record import Cipher, Schedule
from cloister.protocols.rounds.agreement import AGREED, RUN, Phase, Run, RunBroken, RunEntry, Turn, fault_of

_Steps = TypeVar("_Steps", bound=Steps)


@dataclass(frozen=True, slots=True)
class _Hearing:
    """One message being judged: the call, the run and its party, this device's place, the message and its entry."""

    turn: Turn
    run: Run
    party: Party
    me: int
    message: Message
    entry: RunEntry

    @property
    def kind(self) -> str:
        """The message's kind."""
        return KINDS[type(self.message)]

    @property
    def peer(self) -> Peer:
        """What the sender has said before."""
        return _peer(self.turn.draft, self.run, self.message.sender)

    def store(self, peer: Peer) -> None:
        """Set what the sender has said."""
        self.turn.draft.put(PEER, self.run.id + bytes([self.message.sender]), peer)

    def place(self) -> Said:
        """The message as one that counts."""
        return Said(steps_of.digest(self.message), self.entry.seq, self.entry.hash, self.entry.at)


def _peer(draft: Draft, run: Run, index: int) -> Peer:
    return draft.get(PEER, run.id + bytes([index])) or Peer()


def _peers(draft: Draft, run: Run) -> list[Peer]:
    return [_peer(draft, run, index) for index in range(len(run.proposal.context.roster))]


def _mine(draft: Draft, run: Run) -> Mine:
    mine = draft.get(MINE, run.id)
    if mine is None:
        raise PeerError("not_ready", "this run's secrets are gone")
    return mine


def _with(peer: Peer, kind: str, said: Said) -> Peer:
    """The peer with another message of this kind."""
    if kind == "hello":
        return replace(peer, hello=said)
    return replace(peer, shares=said) if kind == "shares" else replace(peer, confirm=said)


@contextmanager
def _blame(hearing: _Hearing, *, fatal: bool = True) -> Iterator[None]:
    """What fails here was signed by the sender: a RunBroken that names it, with the message as evidence."""
    try:
        yield
    except PeerError as error:
        sender = hearing.party.roster[hearing.message.sender]
        evidence = hearing.entry.message
        raise RunBroken(error.code, sender, fatal=fatal, evidence=evidence, check=error.check) from error


class Contributions(Generic[_Steps]):
    """The agreement of a suite in which every member contributes; `steps` are the fixes' steps.

    A suite gives its steps, and overrides the hooks where its confirm says more than that the key is held.
    """

    most = MEMBERS
    shelves: Mapping[bytes, Shelf[Any]] = {shelf.name: shelf for shelf in (MINE, PEER, EARLY)}

    def __init__(self, steps: _Steps) -> None:
        self.steps = steps
        self.form = steps.form

    @property
    def suite(self) -> str:
        """The suite's name."""
        return self.form.suite

    @property
    def variant(self) -> str:
        """The variant this device consents to."""
        return self.steps.variant

    @property
    def cipher(self) -> Cipher:
        """How records are protected."""
        return self.steps.cipher

    # --- what a suite may add to its confirm ----------------------------------------------------------------

    def owed(self, i: int, contributions: Sequence[bytes]) -> bytes:
        """The digest of what member i's confirm must answer (at most 32 bytes); nothing here."""
        del i, contributions
        return b""

    def answers(self, agreed: Schedule, me: int, contributions: Sequence[bytes]) -> bytes | None:
        """What the own confirm says besides; nothing here."""
        del agreed, me, contributions
        return None

    def judge(self, agreed: Schedule, confirm: Confirm, owed: bytes, n: int) -> None:
        """PeerError unless a confirm says what is owed."""

    # --- what the room asks -------------------------------------------------------------------------------

    def begin(self, turn: Turn, run: Run) -> None:
        """Enter a run: draw contribution, opening and X25519 key, store them, post the hello."""
        party, me = turn.party(run), turn.index(run)
        mine = Mine(
            contribution=turn.rng(steps_of.CONTRIBUTION),
            opening=turn.rng(steps_of.OPENING),
            ephemeral=DhKey.generate(turn.rng),
        )
        hello = Hello(
            sender=me,
            commitment=self.steps.commitment(party.ctx, me, mine.contribution, mine.opening),
            ephemeral=mine.ephemeral.public,
        )
        signed = replace(hello, signature=self.form.sign(turn.signing_key(), party.ctx, hello))
        peer = Peer(
            commitment=hello.commitment,
            ephemeral=hello.ephemeral,
            contribution=mine.contribution,
            hello=Said(steps_of.digest(hello)),
        )
        turn.draft.put(RUN, run.id, run)
        turn.draft.put(MINE, run.id, mine)
        turn.draft.put(PEER, run.id + bytes([me]), peer)
        turn.post(run, steps_of.encode(signed))

    def take(self, turn: Turn, run: Run, entry: RunEntry) -> None:
        """Judge a message of the run; the draft holds what follows from it."""
        run = replace(run, last_seq=max(run.last_seq, entry.seq))
        turn.draft.put(RUN, run.id, run)
        self._hear(turn, run, entry)
        self._advance(turn, run.id)

    def missing(self, draft: Draft, run: Run) -> tuple[DeviceId, ...]:
        """Whose message the run waits for; nobody's once it is agreed."""
        kind = _AWAITED.get(run.phase)
        if kind is None:
            return ()
        return tuple(
            device
            for index, device in enumerate(run.proposal.context.roster)
            if not _peer(draft, run, index).said(kind).digest
        )

    def confirmed(self, draft: Draft, run: Run) -> tuple[DeviceId, ...]:
        """Whose confirm stands in the run's log and has verified."""
        roster = run.proposal.context.roster
        return tuple(device for index, device in enumerate(roster) if _peer(draft, run, index).confirm.seq)

    def answered(self, draft: Draft, run: Run, device: DeviceId, seq: int, before: int) -> bool:
        """Whether, by entry `seq` or `before` (ms), the device had said all that was awaited of it."""
        peers = _peers(draft, run)
        peer = peers[run.proposal.context.roster.index(device)]
        for kind in KINDS.values():
            if not peer.said(kind).by(seq, before):
                return False
            if not all(other.said(kind).by(seq, before) for other in peers):
                break
        return True

    def forget(self, draft: Draft, run_id: bytes) -> None:
        """Drop contributions, ephemeral key and all that was said."""
        for shelf in (MINE, PEER, EARLY):
            draft.drop_all(shelf, run_id)

    # --- judging ------------------------------------------------------------------------------------------

    def _hear(self, turn: Turn, run: Run, entry: RunEntry) -> None:
        party = turn.party(run)
        message = self.form.decode(entry.message)
        steps_of.check_member(message, party.size)
        hearing = _Hearing(turn, run, party, turn.index(run), message, entry)
        if message.sender == hearing.me:
            self._echo(hearing)
        else:
            TRANSITIONS[run.phase, hearing.kind](self, hearing)

    def _echo(self, hearing: _Hearing) -> None:
        """One's own message stands in the log: note its place."""
        known = hearing.peer.said(hearing.kind)
        if known.digest != steps_of.digest(hearing.message):
            self._signature(hearing)
            raise PeerError("conflict", "a copy of this device takes part in the run")
        if not known.seq:
            hearing.store(_with(hearing.peer, hearing.kind, hearing.place()))

    def keep(self, hearing: _Hearing) -> None:
        """Too early: keep it, one of each kind for each member. What a confirm signs is not known yet."""
        if not isinstance(hearing.message, Confirm):
            self._signature(hearing)
        for _, entry in hearing.turn.draft.all(EARLY, hearing.run.id):
            held = self.form.decode(entry.message)
            if held.sender == hearing.message.sender and type(held) is type(hearing.message):
                raise PeerError("quota", "two early messages of one kind and member")
        hearing.turn.draft.put(EARLY, hearing.run.id + hearing.entry.entry_id, hearing.entry)

    def compare(self, hearing: _Hearing) -> None:
        """A message whose time is over: a repetition is nothing, another one is the member's fault."""
        self._signature(hearing)
        self._once(hearing)

    def hello(self, hearing: _Hearing) -> None:
        """M1 of another member."""
        message = hearing.message
        if not isinstance(message, Hello):
            raise PeerError("bad_encoding")
        self._signature(hearing)
        if self._once(hearing):
            return
        others = [peer.commitment for peer in _peers(hearing.turn.draft, hearing.run) if peer.commitment]
        own = _mine(hearing.turn.draft, hearing.run).ephemeral
        with _blame(hearing):
            self.steps.distinct(message.commitment, others)
            steps_of.check_ephemeral(own, message.ephemeral)
        hearing.store(Peer(commitment=message.commitment, ephemeral=message.ephemeral, hello=hearing.place()))

    def shares(self, hearing: _Hearing) -> None:
        """M2 of another member: find mine, open it, compare it with the commitment."""
        message = hearing.message
        if not isinstance(message, Shares):
            raise PeerError("bad_encoding")
        self._signature(hearing)
        if self._once(hearing):
            return
        i, me, peer = message.sender, hearing.me, hearing.peer
        expected = tuple(j for j in range(hearing.party.size) if j != i)
        with _blame(hearing):
            steps_of.check_complete(tuple(j for j, _ in message.wrapped), expected)
            own = _mine(hearing.turn.draft, hearing.run).ephemeral
            wrapped = self.steps.unwrap(hearing.party.ctx, i, me, own, dict(message.wrapped)[me])
            payload = self.steps.decrypt(hearing.party, hearing.turn.decrypt_key(), i, me, wrapped)
            steps_of.check_opening(self.steps, hearing.party.ctx, i, payload, peer.commitment)
        contribution = payload[: steps_of.CONTRIBUTION]
        hearing.store(replace(peer, contribution=contribution, shares=hearing.place()))

    def confirm(self, hearing: _Hearing) -> None:
        """M3 of another member: it holds the key, and answers what it owes. All members judge it alike."""
        message = hearing.message
        if not isinstance(message, Confirm):
            raise PeerError("bad_encoding")
        self._signature(hearing)
        if self._once(hearing):
            return
        agreed = hearing.turn.draft.get(AGREED, hearing.run.id)
        if agreed is None:
            raise PeerError("not_confirmed")
        with _blame(hearing):
            steps_of.check_confirm_mac(self.form, agreed.confirm, agreed.th, message)
            self.judge(agreed, message, hearing.peer.owed, hearing.party.size)
        hearing.store(replace(hearing.peer, confirm=hearing.place()))

    def _signature(self, hearing: _Hearing) -> None:
        """The named member signed it; a confirm signs th, the others ctx."""
        bound = hearing.party.ctx
        if isinstance(hearing.message, Confirm):
            agreed = hearing.turn.draft.get(AGREED, hearing.run.id)
            bound = agreed.th if agreed else bound
        steps_of.check_signed(self.form, hearing.party.verify_key(hearing.message.sender), bound, hearing.message)

    def _once(self, hearing: _Hearing) -> bool:
        """Whether the member has said just this before; RunBroken(conflict) if it has said something else."""
        known = hearing.peer.said(hearing.kind)
        with _blame(hearing, fatal=False):
            steps_of.check_once(known.digest, hearing.message)
        return bool(known.digest)

    # --- going on -----------------------------------------------------------------------------------------

    def _advance(self, turn: Turn, run_id: bytes) -> None:
        """Go on as far as what was said allows; what was kept is judged when its turn has come."""
        while (run := turn.draft.get(RUN, run_id)) is not None:
            following = _NEXT[run.phase](self, turn, run)
            if following is None:
                return
            turn.draft.put(RUN, run_id, following)
            self._hear_early(turn, following)

    def _hear_early(self, turn: Turn, run: Run) -> None:
        """Judge what was kept and is now due; junk is reported and forgotten."""
        kept = sorted(turn.draft.all(EARLY, run.id), key=lambda item: item[1].seq)
        for suffix, entry in kept:
            if KINDS[type(self.form.decode(entry.message))] != _AWAITED.get(run.phase):
                continue
            turn.draft.drop(EARLY, suffix)
            try:
                self._hear(turn, run, entry)
            except PeerError as error:
                fault = fault_of(error)
                if fault.fatal:
                    raise
                turn.draft.emit(fault)

    def _after_hellos(self, turn: Turn, run: Run) -> Run | None:
        if self.missing(turn.draft, run):
            return None
        party, me = turn.party(run), turn.index(run)
        mine = _mine(turn.draft, run)
        payload, wrapped = mine.contribution + mine.opening, []
        for j in range(party.size):
            if j != me:
                theirs, ephemeral = _peer(turn.draft, run, j).ephemeral, DhKey.generate(turn.rng)
                ciphertext = self.steps.encrypt(party, me, j, payload)
                wrapped.append((j, self.steps.wrap(party.ctx, me, j, ephemeral, theirs, ciphertext)))
        self._say(turn, run, party.ctx, Shares(sender=me, wrapped=tuple(wrapped)))
        return replace(run, phase=Phase.EXPECT_SHARES)

    def _after_shares(self, turn: Turn, run: Run) -> Run | None:
        if self.missing(turn.draft, run):
            return None
        party, me = turn.party(run), turn.index(run)
        peers = _peers(turn.draft, run)
        contributions = tuple(peer.contribution for peer in peers)
        th = self.form.transcript(party, [(peer.commitment, peer.ephemeral) for peer in peers])
        try:
            key = self.steps.combine(th, contributions)
        except PeerError as error:  # a rule that they break together: nobody's alone, and the run cannot go on
            raise RunBroken(error.code, None, fatal=True, check=error.check, detail=error.detail) from error
        agreed = self.steps.at_rest(key, self.steps.split(th, key, party.size))
        turn.draft.put(AGREED, run.id, agreed)
        answers = self.answers(agreed, me, contributions)
        tag = self.form.confirm_mac(agreed.confirm, th, me, answers)
        turn.draft.drop(MINE, run.id)
        for i, peer in enumerate(peers):  # contributions have served: what is left is what the answers must be
            after = replace(peer, contribution=b"", owed=self.owed(i, contributions))
            turn.draft.put(PEER, run.id + bytes([i]), after)
        self._say(turn, run, th, Confirm(sender=me, answers=answers, mac=tag))
        return replace(run, phase=Phase.EXPECT_CONFIRMS, confirmed_at=turn.now)

    def _after_confirms(self, turn: Turn, run: Run) -> Run | None:
        peers = _peers(turn.draft, run)
        standing = [peer.confirm for peer in peers if peer.confirm.seq]
        if len(standing) < self.steps.confirms_needed(len(peers)):
            return None
        head = max(standing, key=lambda said: said.seq, default=NOTHING).hash
        turn.draft.drop_all(EARLY, run.id)
        return replace(run, phase=Phase.EXPECT_COMMIT, ready_at=turn.now, head=head)

    def _say(self, turn: Turn, run: Run, bound: bytes, message: Message) -> None:
        """Sign a message, note that it counts, post it."""
        signed = replace(message, signature=self.form.sign(turn.signing_key(), bound, message))
        peer, said = _peer(turn.draft, run, message.sender), Said(steps_of.digest(message))
        turn.draft.put(PEER, run.id + bytes([message.sender]), _with(peer, KINDS[type(message)], said))
        turn.post(run, steps_of.encode(signed))

    def _rest(self, turn: Turn, run: Run) -> Run | None:
        """Agreed: nothing follows but the commit."""
        return None


TRANSITIONS: Final[Mapping[tuple[Phase, str], Callable[[Contributions[Any], _Hearing], None]]] = {
    (Phase.EXPECT_HELLOS, "hello"): Contributions.hello,
    (Phase.EXPECT_HELLOS, "shares"): Contributions.keep,
    (Phase.EXPECT_HELLOS, "confirm"): Contributions.keep,
    (Phase.EXPECT_SHARES, "hello"): Contributions.compare,
    (Phase.EXPECT_SHARES, "shares"): Contributions.shares,
    (Phase.EXPECT_SHARES, "confirm"): Contributions.keep,
    (Phase.EXPECT_CONFIRMS, "hello"): Contributions.compare,
    (Phase.EXPECT_CONFIRMS, "shares"): Contributions.compare,
    (Phase.EXPECT_CONFIRMS, "confirm"): Contributions.confirm,
    (Phase.EXPECT_COMMIT, "hello"): Contributions.compare,
    (Phase.EXPECT_COMMIT, "shares"): Contributions.compare,
    (Phase.EXPECT_COMMIT, "confirm"): Contributions.compare,
}
"""(state, message kind) -> what judges it; the table of docs/spec/classic/contributions.md."""

_AWAITED: Final = {
    Phase.EXPECT_HELLOS: "hello",
    Phase.EXPECT_SHARES: "shares",
    Phase.EXPECT_CONFIRMS: "confirm",
}
_NEXT: Final = {
    Phase.EXPECT_HELLOS: Contributions._after_hellos,  # noqa: SLF001 - this module's own
    Phase.EXPECT_SHARES: Contributions._after_shares,  # noqa: SLF001
    Phase.EXPECT_CONFIRMS: Contributions._after_confirms,  # noqa: SLF001
    Phase.EXPECT_COMMIT: Contributions._rest,  # noqa: SLF001
}
