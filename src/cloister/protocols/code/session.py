"""Sessions of suite `code`: records, comparing, meeting again and ending, over items and the agreement.

Source: docs/spec/classic/code.md, docs/spec/suites.md.

What a session waits for follows from its items (`State`): PENDING no epoch, or the strings are not compared; READY;
FROZEN its end was posted; READ_ONLY restored from a backup; REMOVED over.

Invariants
- Each call works on a draft; a refusal forgets it. A failed check of an agreement ends that try, nothing else.
- Own records and messages come back in the log; they give no effect but their place.
- After the end nothing is held that opens a record or meets again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError, UsageError
from cloister.primitives import Rng
from cloister.primitives.labelled import mac, verify_mac
from cloister.protocols import record as records
from cloister.protocols.checks import check, named
from cloister.protocols.code import pairing as pairings
from cloister.protocols.code import steps
from cloister.protocols.code.forms import Code as SessionCode
from cloister.protocols.code.forms import digits
from cloister.protocols.code.items import (
    EPOCH,
    PAIRING,
    READ_ONLY,
    RECV,
    RESUME,
    ROOM,
    ROSTER,
    SEND,
    SHELVES,
    SKIP,
    EpochItem,
    Pairing,
    Phase,
    Resume,
    RoomItem,
    erase,
    room_of,
    scope_of,
    state_of,
    token_hash_of,
    token_of,
    view_of,
)
from cloister.protocols.code.pairing import FATAL, Turn, progress
from cloister.protocols.code.steps import ANSWERER, NAME, OPENER, Steps
from cloister.protocols.forms import HASH
from cloister.protocols.interface import (
    Ask,
    Change,
    Channel,
    ChannelKind,
    Commit,
    Deliver,
    Effects,
    EntryId,
    EntryKind,
    Envelope,
    Fault,
    Leave,
    NotReady,
    Post,
    Rekey,
    SessionView,
    SignedHead,
    State,
    Wake,
)
from cloister.protocols.items import Draft, Stock
from cloister.protocols.ratchet import RecvChain, SendChain
from cloister.protocols.record import Header, Sealed

RESUME_LIFE: Final = 24 * 60 * 60 * 1000
"""How long (ms) the same two may meet again."""


class _Unsigned:
    """Signs nothing: the chain of a direction says who spoke."""

    def sign(self, message: bytes) -> bytes:
        """No bytes."""
        return b""


# --- checks --------------------------------------------------------------------------------------------------------


@check("COD-09")
def check_epoch(epoch: EpochItem | None, room: bytes, envelope: Envelope) -> EpochItem:
    """The standing epoch; PeerError("stale_epoch") for an entry of another one."""
    if epoch is None or envelope.token_hash != token_hash_of(epoch, room):
        raise PeerError("stale_epoch", check="COD-09")
    return epoch


@check("COD-10")
def check_own(header: Header, sent: int) -> None:
    """PeerError("conflict") when an own entry bears a number that this device has not used: a copy of it writes."""
    if header.seq >= sent:
        raise PeerError("conflict", "a copy of this device writes", check="COD-10")


@check("COD-11")
def check_unsigned(sealed: Sealed) -> None:
    """PeerError("bad_encoding") when bytes stand where other suites sign."""
    if sealed.signature:
        raise PeerError("bad_encoding", "a signature", check="COD-11")


@check("COD-12")
def check_same(suite_steps: Steps, epoch: EpochItem, place: int, tag: bytes) -> None:
    """PeerError("confirm_mismatch") unless the member of this place says that the string is the same."""
    key = steps.confirm_key(suite_steps, epoch.confirm, _role(place))
    with named("COD-12"):
        verify_mac(tag, key, "code same", epoch.th, code="confirm_mismatch")


def _role(place: int) -> str:
    return ANSWERER if place else OPENER


# --- the session ---------------------------------------------------------------------------------------------------


class CodeSession:
    """One session of two people, on one device."""

    def __init__(self, suite_steps: Steps, stock: Stock) -> None:
        self._steps = suite_steps
        self._stock = stock

    def _turn(self, now: int, rng: Rng) -> Turn:
        return Turn(self._steps, Draft(self._stock, SHELVES), now, rng)

    @property
    def view(self) -> SessionView:
        """The state for surfaces."""
        return view_of(Draft(self._stock, SHELVES))

    @property
    def sas(self) -> bytes:
        """The 40 bits that the two people are to compare, or nothing."""
        epoch = Draft(self._stock, SHELVES).get(EPOCH)
        return b"" if epoch is None else epoch.sas

    @property
    def opened(self) -> bool:
        """Whether an agreement is under way."""
        pairing = Draft(self._stock, SHELVES).get(PAIRING)
        return pairing is not None and pairing.phase not in (Phase.EXPECT_CODE, Phase.EXPECT_PEER)

    def begin(self, place: int, pairing: Pairing, room: bytes, title: str, now: int, rng: Rng) -> Effects:
        """The first call: what the session is, and the question for the code."""
        turn = self._turn(now, rng)
        turn.draft.put(ROOM, b"", RoomItem(place=place, room=room, title=title))
        turn.draft.put(PAIRING, b"", pairing)
        turn.draft.emit(Ask(kind="code", text=pairing.sid))
        progress(turn)
        return turn.draft.apply()

    # --- what people ask for ---------------------------------------------------------------------------------

    def change(self, changes: Sequence[Change], now: int, rng: Rng) -> Effects:
        """Rekey: meet again; Leave: end the session. UsageError for all else."""
        turn = self._turn(now, rng)
        match list(changes):
            case [Rekey()]:
                self._meet_again(turn)
            case [Leave()]:
                _end(turn)
            case _:
                raise UsageError("not_allowed", "a session has two members for good")
        return turn.draft.apply()

    def _meet_again(self, turn: Turn) -> None:
        epoch, resume = turn.draft.get(EPOCH), turn.draft.get(RESUME)
        if epoch is None or not epoch.compared or room_of(turn.draft).closing:
            raise NotReady(state_of(turn.draft))
        if resume is None or turn.now > resume.until:
            raise UsageError("timeout", "the two could meet again for a day")
        pairings.begin_again(turn)

    def answer(self, ask: str, value: bytes, now: int, rng: Rng) -> Effects:
        """`code`: the code as typed (the creator: as made); `sas`: \\1 the strings are the same, \\0 they are not."""
        turn = self._turn(now, rng)
        if ask == "code":
            self._take_code(turn, value)
        elif ask == "sas":
            self._compared(turn, same=value == b"\x01")
        return turn.draft.apply()

    def _take_code(self, turn: Turn, value: bytes) -> None:
        try:
            code = SessionCode.parse(value.decode())
        except UnicodeDecodeError:
            raise UsageError("usage", "a code is text") from None
        pairing = turn.draft.get(PAIRING)
        if pairing is None or pairing.phase is not Phase.EXPECT_CODE:
            raise UsageError("not_ready", "no code is asked for now")
        if pairing.sid and code.id != pairing.sid:
            raise UsageError("usage", "the code of another session")
        if pairing.mode == steps.FULL and not code.secret:
            raise UsageError("usage", "this code has a second half: type all of it")
        coded = replace(pairing, sid=code.id, secret=code.secret, begun=turn.now)
        if pairing.role == ANSWERER:
            pairings.check_mode(coded, pairing.mode)
            turn.draft.put(PAIRING, b"", replace(coded, phase=Phase.EXPECT_COMMIT))
        else:
            mode = steps.FULL if code.secret else steps.SAS
            turn.draft.put(PAIRING, b"", replace(coded, phase=Phase.EXPECT_PEER, mode=mode))
        turn.draft.emit(Wake(at=turn.now + pairings.CODE_LIFE + 1))

    def _compared(self, turn: Turn, *, same: bool) -> None:
        epoch, room = turn.draft.get(EPOCH), room_of(turn.draft)
        if epoch is None or epoch.compared or room.closing:
            raise UsageError("not_ready", "nothing is to be compared")
        if not same:
            turn.draft.emit(Fault(code="wrong_code_or_mitm", fatal=True, detail="the strings differ"))
            _end(turn)
            return
        key = steps.confirm_key(self._steps, epoch.confirm, _role(room.place))
        pairings.post_sealed(turn, "same", mac(key, "code same", epoch.th))
        _said(turn, epoch, room.place)

    # --- what comes ------------------------------------------------------------------------------------------

    def receive(self, envelope: Envelope, now: int, rng: Rng) -> Effects:
        """Take an envelope; hostile input gives a `Fault`. A failed check of an agreement ends that try."""
        turn = self._turn(now, rng)
        try:
            if room_of(turn.draft).ended:
                raise PeerError("no_session", "the session is over")
            self._take(turn, envelope)
            return turn.draft.apply()
        except PeerError as error:
            fault = Fault(code=error.code, fatal=error.code in FATAL, detail=error.detail, check=error.check)
        turn = self._turn(now, rng)
        if fault.fatal:
            _fail(turn)
        turn.draft.emit(fault)
        return turn.draft.apply()

    def _take(self, turn: Turn, envelope: Envelope) -> None:
        match envelope.channel.kind, envelope.kind:
            case ChannelKind.RENDEZVOUS, "paired":
                pairings.paired(turn, envelope.payload)
            case ChannelKind.RENDEZVOUS, EntryKind.HANDSHAKE:
                pairings.passed(turn, envelope.payload)
            case ChannelKind.RENDEZVOUS, "left":
                _left(turn)
            case ChannelKind.RENDEZVOUS, "over":
                _over(turn)
            case ChannelKind.ROOM, EntryKind.CREATE:
                self._begun(turn, envelope)
            case ChannelKind.ROOM, EntryKind.COMMIT:
                self._committed(turn, envelope)
            case ChannelKind.ROOM, EntryKind.HANDSHAKE:
                self._handshake(turn, envelope)
            case ChannelKind.ROOM, EntryKind.APPLICATION:
                self._message(turn, envelope)
            case _:
                raise PeerError("unsupported", "nothing that a session awaits")

    def _begun(self, turn: Turn, envelope: Envelope) -> None:
        """The entry that begins the agreed epoch: every key of the last one goes."""
        pairing, room, last = turn.draft.get(PAIRING), room_of(turn.draft), turn.draft.get(EPOCH)
        agreed = pairing.agreed if pairing else None
        waits = pairing is not None and pairing.phase is Phase.EXPECT_ROOM
        first = (last is None) == (envelope.kind == EntryKind.CREATE)
        pairings.check_phase(pairing.phase if pairing else Phase.EXPECT_CODE, envelope.kind, waits and first)
        if pairing is None or agreed is None:
            return
        pairings.check_begin(agreed, room.room, envelope)
        sas = steps.sas_of(agreed.confirm) if self._steps.must_compare(pairing.mode) else b""
        erase(turn.draft)
        turn.draft.drop(READ_ONLY)
        turn.draft.put(
            EPOCH,
            b"",
            EpochItem(
                number=last.number + 1 if last else 1,
                th=agreed.th,
                exporter=agreed.exporter,
                confirm=agreed.confirm,
                key_check=agreed.key_check,
                sas=sas,
            ),
        )
        opens = pairing.role == OPENER
        turn.draft.put(SEND, b"", SendChain(0, agreed.chains[0 if opens else 1]))
        turn.draft.put(RECV, b"", RecvChain(0, agreed.chains[1 if opens else 0]))
        turn.draft.put(RESUME, b"", Resume(agreed.resume, turn.now + RESUME_LIFE))
        progress(turn, token=token_of(agreed.exporter, room.room), began_by=envelope.seq)
        if sas:
            turn.draft.emit(Ask(kind="sas", text=digits(sas)))
        turn.draft.emit(Wake(at=turn.now + RESUME_LIFE + 1))

    def _committed(self, turn: Turn, envelope: Envelope) -> None:
        room = room_of(turn.draft)
        epoch = check_epoch(turn.draft.get(EPOCH), room.room, envelope)
        if envelope.next_token_hash is not None:
            self._begun(turn, envelope)
        elif envelope.entry_id == room.closing:
            _ended(turn)
        else:
            content = self._open(turn, epoch, envelope)
            if content is None or not _says_end(content):
                raise PeerError("bad_encoding", "not an end")
            _ended(turn)

    def _handshake(self, turn: Turn, envelope: Envelope) -> None:
        epoch = check_epoch(turn.draft.get(EPOCH), room_of(turn.draft).room, envelope)
        kind, place, fields = pairings.open_sealed(turn, envelope)
        if kind == "again":
            pairings.again(turn, place, fields, envelope.ts_ms)
        elif kind == "same":
            tag = fields.octets("mac", HASH)
            fields.end()
            check_same(self._steps, epoch, place, tag)
            if epoch.sas and place != room_of(turn.draft).place:  # the other side could say one's own word as well
                _said(turn, epoch, place)
        else:
            raise PeerError("unsupported", "an unknown handshake entry")

    def _message(self, turn: Turn, envelope: Envelope) -> None:
        epoch = check_epoch(turn.draft.get(EPOCH), room_of(turn.draft).room, envelope)
        header = records.unwrap(
            scope_of(epoch, room_of(turn.draft).room), envelope.payload, kind=envelope.kind, entry_id=envelope.entry_id
        ).header
        content = self._open(turn, epoch, envelope)
        if content is None:
            return
        turn.draft.emit(
            Deliver(
                sender=ROSTER[header.sender],
                epoch=epoch.number,
                seq=header.seq,
                entry_id=envelope.entry_id,
                content=content,
                head=header.head,
            )
        )

    def _open(self, turn: Turn, epoch: EpochItem, envelope: Envelope) -> bytes | None:
        """The content of the other's record, which moves its chain; None for an own one that has come back."""
        room, chain = room_of(turn.draft), turn.draft.get(RECV)
        scope = scope_of(epoch, room.room)
        sealed = records.unwrap(scope, envelope.payload, kind=envelope.kind, entry_id=envelope.entry_id)
        check_unsigned(sealed)
        if sealed.header.sender == room.place:
            sending = turn.draft.get(SEND)
            check_own(sealed.header, sending.seq if sending else 2**64)
            return None
        if chain is None:
            raise PeerError("stale_epoch")
        seq = sealed.header.seq
        moved = scope.cipher.advance(chain, seq, turn.draft.get(SKIP, seq.to_bytes(8, "big")))
        content = scope.cipher.open(moved.keys, seq, sealed.ciphertext, sealed.tag, enc(sealed.header.items()))
        turn.draft.put(RECV, b"", moved.chain)
        for number, key in moved.kept:
            turn.draft.put(SKIP, number.to_bytes(8, "big"), key)
        for number in moved.spent:
            turn.draft.drop(SKIP, number.to_bytes(8, "big"))
        return content

    # --- time, sealing, exporting ----------------------------------------------------------------------------

    def wake(self, now: int, rng: Rng) -> Effects:
        """A code's life, the answerer's turn to post the entry, the day within which the two may meet again."""
        turn = self._turn(now, rng)
        pairing, resume, epoch = turn.draft.get(PAIRING), turn.draft.get(RESUME), turn.draft.get(EPOCH)
        if pairing is not None and pairing.phase is Phase.EXPECT_ROOM:
            if now >= pairing.begun + pairings.PATIENCE:
                pairings.post_entry(turn)
            else:
                turn.draft.emit(Wake(at=pairing.begun + pairings.PATIENCE))
        elif pairing is not None and epoch is None and pairing.phase is not Phase.EXPECT_CODE:
            if now > pairing.begun + pairings.CODE_LIFE:
                _over(turn)
            else:
                turn.draft.emit(Wake(at=pairing.begun + pairings.CODE_LIFE + 1))
        if resume is not None:
            if now > resume.until:
                turn.draft.drop(RESUME)
            else:
                turn.draft.emit(Wake(at=resume.until + 1))
        return turn.draft.apply()

    def seal(self, content: bytes, entry_id: EntryId, head: SignedHead | None, now: int, rng: Rng) -> Effects:
        """Protect a message: the new chain and one Post. Raises NotReady."""
        turn = self._turn(now, rng)
        view = self.view
        if view.state is not State.READY:
            raise NotReady(view.state, view.missing)
        payload = _seal(turn, content, EntryKind.APPLICATION, entry_id, head)
        channel = Channel(ChannelKind.ROOM, view.room)
        turn.draft.emit(Post(channel=channel, kind=EntryKind.APPLICATION, entry_id=entry_id, payload=payload))
        return turn.draft.apply()

    def export(self, label: str, context: bytes, length: int, *, pending: bool = False) -> bytes:
        """A secret of the standing (or the agreed) epoch; NotReady where there is none."""
        draft = Draft(self._stock, SHELVES)
        epoch, pairing = draft.get(EPOCH), draft.get(PAIRING)
        agreed = pairing.agreed if pairing and pairing.phase is Phase.EXPECT_ROOM else None
        source = agreed if pending else epoch
        if source is None:
            raise NotReady(state_of(draft))
        return records.export(NAME, source.exporter, label, context, length)


def _seal(turn: Turn, content: bytes, kind: str, entry_id: bytes, head: SignedHead | None) -> bytes:
    """A record of this direction; the chain moves with it. NotReady where there is none."""
    epoch, chain, room = turn.draft.get(EPOCH), turn.draft.get(SEND), room_of(turn.draft)
    if epoch is None or chain is None or turn.draft.get(READ_ONLY) is not None:
        raise NotReady(state_of(turn.draft))
    payload, following = records.seal(
        scope_of(epoch, room.room), room.place, chain, _Unsigned(), content, kind=kind, entry_id=entry_id, head=head
    )
    turn.draft.put(SEND, b"", following)
    return payload


# --- endings -------------------------------------------------------------------------------------------------------


def _said(turn: Turn, epoch: EpochItem, place: int) -> None:
    """One of the two has said that the strings are the same."""
    said = replace(epoch, same=(epoch.same[0] or place == 0, epoch.same[1] or place == 1))
    if said != epoch:
        turn.draft.put(EPOCH, b"", said)
        progress(turn, token=token_of(epoch.exporter, room_of(turn.draft).room) if said.compared else None)


def _end(turn: Turn) -> None:
    """End the session: before the key by forgetting it, later by the entry that closes the room for both."""
    room, epoch = room_of(turn.draft), turn.draft.get(EPOCH)
    if room.ended or room.closing:
        return
    if epoch is None:
        _ended(turn)
        return
    entry_id = turn.rng(16)
    payload = _seal(turn, enc("terminate"), EntryKind.COMMIT, entry_id, None)
    expects = token_hash_of(epoch, room.room)
    turn.draft.emit(Commit(room=room.room, expects=expects, entry_id=entry_id, payload=payload, next_token_hash=None))
    turn.draft.put(ROOM, b"", replace(room, closing=entry_id))
    turn.draft.drop(SEND)
    turn.draft.drop(RESUME)
    turn.draft.drop(PAIRING)
    progress(turn)


def _says_end(content: bytes) -> bool:
    fields = Fields.decode(content, "terminate")
    fields.kind("terminate")
    fields.end()
    return True


def _ended(turn: Turn) -> None:
    """The session is over: nothing is kept but that."""
    erase(turn.draft)
    turn.draft.put(ROOM, b"", replace(room_of(turn.draft), ended=True))
    progress(turn)


def _fail(turn: Turn) -> None:
    """A check of the agreement failed."""
    if pairings.end_try(turn):
        progress(turn)
    else:
        _ended(turn)


def _left(turn: Turn) -> None:
    """The other side went away before D4: the creator waits for the next, having counted; a joiner is out."""
    if pairings.awaits_key(turn):
        turn.draft.emit(Fault(code="wrong_code_or_mitm", detail="the other one left before the code was proved"))
        _fail(turn)


def _over(turn: Turn) -> None:
    """The code has ended: its time is over, or it is burnt."""
    if pairings.awaits_key(turn):
        turn.draft.emit(Fault(code="timeout", fatal=True, detail="the code has ended"))
        _ended(turn)
