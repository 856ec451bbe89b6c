"""The agreement of suite `code`: D1 to D4, through the rendezvous at first and through the room's log later.

Source: docs/spec/classic/code.md ("States"), document 004.

    C   EXPECT_PEER -paired-> D1, EXPECT_DH -D2-> D3, EXPECT_DONE -D4-> EXPECT_ROOM
    J   EXPECT_COMMIT -D1-> D2, EXPECT_OPEN -D3-> D4, EXPECT_ROOM

EXPECT_ROOM: both hold the key; the opener posts the room's next entry at once, the answerer PATIENCE later.

Invariants
- One table maps (phase, message) to its step; a missing pair is `wrong_context` and changes nothing.
- A check that fails ends this try: the creator waits for the next one, a joiner is out, a standing room goes on.
- The creator counts every run that it opens, finished or not: whoever sees D3 has had one guess (F5.6).
- When the two meet again, the first D1 in the log counts; the other side's own is dropped, so that both agree which.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError
from cloister.primitives import Rng, modp
from cloister.primitives.kdf import sha256
from cloister.primitives.labelled import mac, verify_mac
from cloister.protocols import record as records
from cloister.protocols.checks import check, named
from cloister.protocols.code import steps
from cloister.protocols.code.items import (
    EPOCH,
    PAIRING,
    RESUME,
    ROOM,
    EpochItem,
    Pairing,
    Phase,
    room_of,
    scope_of,
    token_hash_of,
    token_of,
    view_of,
)
from cloister.protocols.code.steps import (
    AGAIN,
    ANSWERER,
    FULL,
    NAME,
    OPENER,
    SAS,
    Committed,
    Finished,
    Message,
    Opened,
    Public,
    Steps,
)
from cloister.protocols.forms import HASH
from cloister.protocols.interface import (
    NO_EPOCH,
    Channel,
    ChannelKind,
    Commit,
    EntryKind,
    Envelope,
    Post,
    Wake,
)
from cloister.protocols.items import Draft
from cloister.protocols.record import Schedule

CODE_LIFE: Final = 10 * 60 * 1000
"""How long (ms) a code waits for somebody."""
PATIENCE: Final = 10_000
"""How long (ms) the answerer waits for the opener's entry."""
RUN_TIME: Final = 60_000
"""How long (ms) an opened run has the log for itself."""
FATAL: Final = frozenset({"bad_element", "commit_mismatch", "wrong_code_or_mitm"})
"""Verdicts that end the try they happened in."""


@dataclass(slots=True)
class Turn:
    """One call of a session."""

    steps: Steps
    draft: Draft
    now: int
    rng: Rng


def progress(turn: Turn, *, token: bytes | None = None, began_by: int = 0) -> None:
    """Tell that the session's state moved."""
    turn.draft.tell(view_of(turn.draft), token=token, began_by=began_by)


# --- checks --------------------------------------------------------------------------------------------------------


@check("COD-04")
def check_mode(pairing: Pairing, mode: str) -> None:
    """PeerError("wrong_code_or_mitm") when the relay tells another mode than the code was made or typed for."""
    if mode != (FULL if pairing.secret else SAS):
        raise PeerError(
            "wrong_code_or_mitm", "a whole code is never compared by hand, an id alone always", check="COD-04"
        )


@check("COD-05")
def check_guesses(taken: int, most: int) -> None:
    """PeerError("quota") when as many runs were opened for the code as may be."""
    if taken >= most:
        raise PeerError("quota", "the code is burnt: too many tries", check="COD-05")


@check("COD-06")
def check_phase(phase: Phase, kind: str, known: bool) -> None:
    """PeerError("wrong_context") for what this phase does not await."""
    if not known:
        raise PeerError("wrong_context", f"{kind} while {phase.value} is awaited", check="COD-06")


@check("COD-07")
def check_life(now: int, until: int) -> None:
    """PeerError("timeout") when the two may no longer meet again by what the last agreement left to them."""
    if now > until:
        raise PeerError("timeout", "the two may meet again for a day", check="COD-07")


@check("COD-13")
def check_compared(epoch: EpochItem) -> None:
    """PeerError("wrong_context") when the two would meet again who have not compared: the new key is never compared."""
    if not epoch.compared:
        raise PeerError("wrong_context", "the strings were not compared", check="COD-13")


# --- beginning -----------------------------------------------------------------------------------------------------


def begin_again(turn: Turn) -> None:
    """Open the next agreement in the room's log."""
    _open(turn, _fresh_again(turn, OPENER))


def _fresh_again(turn: Turn, role: str) -> Pairing:
    epoch = _epoch(turn)
    sid = sha256(enc("code again", room_of(turn.draft).room, epoch.number, epoch.th)).hex()
    return Pairing(phase=Phase.EXPECT_COMMIT, role=role, sid=sid, mode=AGAIN, begun=turn.now)


def _open(turn: Turn, pairing: Pairing) -> None:
    """D1."""
    exponent, opening = modp.exponent(turn.rng), turn.rng(steps.OPENING)
    commitment = turn.steps.commitment(pairing.sid, _public(turn, pairing, exponent), opening)
    opened = replace(pairing, phase=Phase.EXPECT_DH, exponent=_bytes(exponent), opening=opening, commitment=commitment)
    turn.draft.put(PAIRING, b"", opened)
    _say(turn, opened, Committed(commitment))


def _public(turn: Turn, pairing: Pairing, exponent: int) -> bytes:
    """g^x, 256 bytes."""
    return modp.power(turn.steps.generator(pairing.sid, pairing.secret), exponent)


def _bytes(exponent: int) -> bytes:
    return exponent.to_bytes(modp.EXPONENT_SIZE, "big")


def _epoch(turn: Turn) -> EpochItem:
    epoch = turn.draft.get(EPOCH)
    if epoch is None:
        raise PeerError("wrong_context", "no epoch stands")
    return epoch


# --- the rendezvous ------------------------------------------------------------------------------------------------


def paired(turn: Turn, payload: bytes) -> None:
    """Somebody has come with the code's id: open a run, which counts as a guess."""
    pairing, room = _pairing(turn), room_of(turn.draft)
    check_phase(pairing.phase, "paired", pairing.phase is Phase.EXPECT_PEER)
    check_mode(pairing, told_mode(payload))
    check_life(turn.now, pairing.begun + CODE_LIFE)
    check_guesses(room.guesses, turn.steps.guesses())
    turn.draft.put(ROOM, b"", replace(room, guesses=room.guesses + 1))
    _open(turn, pairing)
    progress(turn)


def told_mode(payload: bytes) -> str:
    """The mode of a code, as the relay tells both sides when they are paired."""
    fields = Fields.decode(payload, "paired")
    fields.kind("paired")
    mode = fields.text("mode", 8)
    fields.end()
    return mode


def awaits_key(turn: Turn) -> bool:
    """Whether the first key is not agreed yet. Later the secret has gone: `left` and `over` count no more."""
    pairing = turn.draft.get(PAIRING)
    return turn.draft.get(EPOCH) is None and pairing is not None and pairing.phase is not Phase.EXPECT_ROOM


def end_try(turn: Turn) -> bool:
    """This try is over. Whether the session goes on: a creator waits for the next one, a standing room stands."""
    pairing, room = turn.draft.get(PAIRING), room_of(turn.draft)
    if turn.draft.get(EPOCH) is not None:
        turn.draft.drop(PAIRING)
        return True
    if pairing is None or pairing.role != OPENER or room.guesses >= turn.steps.guesses():
        return False
    again = Pairing(
        phase=Phase.EXPECT_PEER,
        role=OPENER,
        sid=pairing.sid,
        secret=pairing.secret,
        mode=pairing.mode,
        begun=pairing.begun,
    )
    turn.draft.put(PAIRING, b"", again)
    return True


def _pairing(turn: Turn) -> Pairing:
    pairing = turn.draft.get(PAIRING)
    if pairing is None:
        raise PeerError("wrong_context", "no agreement is under way", check="COD-06")
    return pairing


# --- D1 to D4 ------------------------------------------------------------------------------------------------------


def passed(turn: Turn, data: bytes) -> None:
    """A message through the rendezvous: of the first agreement alone, later ones travel in the room's log."""
    pairing = _pairing(turn)
    check_phase(pairing.phase, "a message through the rendezvous", pairing.mode != AGAIN)
    message(turn, data)


def message(turn: Turn, data: bytes) -> None:
    """A message of the agreement under way."""
    pairing = _pairing(turn)
    said = steps.decode(data)
    step = TRANSITIONS.get((pairing.phase, type(said)))
    check_phase(pairing.phase, type(said).__name__, step is not None)
    if step is not None:
        step(turn, pairing, said)
        if turn.draft.get(EPOCH) is None:
            progress(turn, token=_token(turn))


def _committed(turn: Turn, pairing: Pairing, said: Committed) -> None:
    """D1 came: D2."""
    exponent = modp.exponent(turn.rng)
    answered = replace(pairing, phase=Phase.EXPECT_OPEN, exponent=_bytes(exponent), commitment=said.commitment)
    turn.draft.put(PAIRING, b"", answered)
    _say(turn, answered, Public(_public(turn, pairing, exponent)))


def _public_came(turn: Turn, pairing: Pairing, said: Public) -> None:
    """D2 came: the key, and D3."""
    exponent = int.from_bytes(pairing.exponent, "big")
    mine = _public(turn, pairing, exponent)
    agreed = _agree(turn, pairing, said.element, mine, said.element)
    turn.draft.put(PAIRING, b"", replace(pairing, phase=Phase.EXPECT_DONE, exponent=b"", agreed=agreed))
    _say(turn, pairing, Opened(mine, pairing.opening, steps.confirmation(turn.steps, agreed, OPENER)))


def _opened(turn: Turn, pairing: Pairing, said: Opened) -> None:
    """D3 came: it must open D1 and prove the key; D4."""
    steps.check_opening(turn.steps, pairing.sid, pairing.commitment, said)
    mine = _public(turn, pairing, int.from_bytes(pairing.exponent, "big"))
    agreed = _agree(turn, pairing, said.element, said.element, mine)
    steps.check_confirmation(turn.steps, agreed, OPENER, said.mac)
    _agreed(turn, pairing, agreed)
    _say(turn, pairing, Finished(steps.confirmation(turn.steps, agreed, ANSWERER)))
    turn.draft.emit(Wake(at=turn.now + PATIENCE))


def _finished(turn: Turn, pairing: Pairing, said: Finished) -> None:
    """D4 came: the other side holds the key."""
    if pairing.agreed is None:
        raise PeerError("wrong_context", "D4 before D3", check="COD-06")
    steps.check_confirmation(turn.steps, pairing.agreed, ANSWERER, said.mac)
    _agreed(turn, pairing, pairing.agreed)
    post_entry(turn)


def _agree(turn: Turn, pairing: Pairing, theirs: bytes, opener: bytes, answerer: bytes) -> Schedule:
    """Z and the keys of both."""
    steps.check_element(turn.steps, theirs)
    z = turn.steps.shared(turn.steps.element(theirs), int.from_bytes(pairing.exponent, "big"))
    th = steps.transcript(pairing.sid, opener, answerer, pairing.mode)
    resume = turn.draft.get(RESUME)
    return steps.keys(turn.steps, th, z, resume.secret if resume and pairing.mode == AGAIN else b"")


def _agreed(turn: Turn, pairing: Pairing, agreed: Schedule) -> None:
    """Both hold the key: the exponent goes, the room's entry is awaited."""
    turn.draft.put(
        PAIRING,
        b"",
        replace(pairing, phase=Phase.EXPECT_ROOM, exponent=b"", secret="", agreed=agreed, begun=turn.now),
    )
    room = room_of(turn.draft)
    if pairing.mode != AGAIN:
        turn.draft.put(ROOM, b"", replace(room, room=room_id(agreed)))


def room_id(agreed: Schedule) -> bytes:
    """The room's id, 16 bytes: only the two know it before it stands at the relay."""
    return records.export(NAME, agreed.exporter, "room", b"", 16)


def _token(turn: Turn) -> bytes | None:
    """The token of the agreed key whose entry is awaited."""
    pairing = turn.draft.get(PAIRING)
    if pairing is None or pairing.agreed is None or pairing.phase is not Phase.EXPECT_ROOM:
        return None
    return token_of(pairing.agreed.exporter, room_of(turn.draft).room)


# --- the room's next entry -----------------------------------------------------------------------------------------


def post_entry(turn: Turn) -> None:
    """Post the entry that begins the agreed epoch: the room's create, or the commit of a later one."""
    pairing, room, epoch = _pairing(turn), room_of(turn.draft), turn.draft.get(EPOCH)
    agreed = pairing.agreed
    if agreed is None:
        return
    token = token_of(agreed.exporter, room.room)
    turn.draft.emit(
        Commit(
            room=room.room,
            expects=NO_EPOCH if epoch is None else token_hash_of(epoch, room.room),
            entry_id=turn.rng(16),
            payload=enc("begin", agreed.th, _begin_mac(agreed)),
            next_token_hash=sha256(token),
        )
    )


def _begin_mac(agreed: Schedule) -> bytes:
    return mac(agreed.confirm, "code begin", agreed.th)


@check("COD-08")
def check_begin(agreed: Schedule, room: bytes, envelope: Envelope) -> None:
    """PeerError unless one of the two made the entry (confirm_mismatch), for this key's token (wrong_context)."""
    fields = Fields.decode(envelope.payload, "begin")
    fields.kind("begin")
    th, tag = fields.octets("th", HASH), fields.octets("mac", HASH)
    fields.end()
    if th != agreed.th or envelope.next_token_hash != sha256(token_of(agreed.exporter, room)):
        raise PeerError("wrong_context", "another key's entry", check="COD-08")
    with named("COD-08"):
        verify_mac(tag, agreed.confirm, "code begin", agreed.th, code="confirm_mismatch")


# --- through the room's log ----------------------------------------------------------------------------------------


def _say(turn: Turn, pairing: Pairing, said: Message) -> None:
    """Send a message of the agreement where it travels."""
    data = steps.encode(said)
    if pairing.mode == AGAIN:
        post_sealed(turn, "again", pairing.commitment, data)
    else:
        channel = Channel(ChannelKind.RENDEZVOUS, pairing.sid.encode())
        turn.draft.emit(Post(channel=channel, kind=EntryKind.HANDSHAKE, entry_id=turn.rng(16), payload=data))


def post_sealed(turn: Turn, kind: str, *items: object) -> None:
    """A handshake entry of the room: [kind, place, items...] in the epoch's envelope (docs/spec/record.md)."""
    epoch, room, entry_id = _epoch(turn), room_of(turn.draft), turn.rng(16)
    inner = enc(kind, room.place, *items)
    payload = records.seal_envelope(scope_of(epoch, room.room), inner, EntryKind.HANDSHAKE, entry_id)
    channel = Channel(ChannelKind.ROOM, room.room)
    turn.draft.emit(Post(channel=channel, kind=EntryKind.HANDSHAKE, entry_id=entry_id, payload=payload))


def open_sealed(turn: Turn, envelope: Envelope) -> tuple[str, int, Fields]:
    """The kind, the sender's place and the other items; PeerError("bad_tag")."""
    epoch, room = _epoch(turn), room_of(turn.draft)
    scope = scope_of(epoch, room.room)
    opened = records.open_envelope(scope, envelope.payload, EntryKind.HANDSHAKE, envelope.entry_id)
    fields = Fields.decode(opened, "handshake")
    return fields.text("kind", 16), fields.uint("place", 1), fields


def again(turn: Turn, place: int, fields: Fields, ts_ms: int) -> None:
    """D1 to D4 out of the room's log; `run` is D1's commitment, which all four bear."""
    run, data = fields.octets("run", HASH), fields.octets("message", most=modp.SIZE * 2)
    fields.end()
    check_compared(_epoch(turn))
    mine = place == room_of(turn.draft).place
    pairing = turn.draft.get(PAIRING)
    if isinstance(steps.decode(data), Committed):
        _first(turn, pairing, mine=mine, run=run, data=data, ts_ms=ts_ms)
    elif not mine and pairing is not None and pairing.commitment == run and pairing.mode == AGAIN:
        message(turn, data)


def _first(turn: Turn, pairing: Pairing | None, *, mine: bool, run: bytes, data: bytes, ts_ms: int) -> None:
    """A D1: the first in the log counts, until it has had a minute; an opener's next one takes its last one's place."""
    if mine:
        if pairing is not None and pairing.role == OPENER and pairing.commitment == run:
            turn.draft.put(PAIRING, b"", replace(pairing, begun=ts_ms, counted=True))
        elif pairing is not None and pairing.role == ANSWERER and ts_ms > pairing.begun + RUN_TIME:
            begin_again(turn)  # the own run counts by the log, but its exponent went when the other's was answered
        return
    if pairing is not None and (pairing.phase is Phase.EXPECT_ROOM or _stands(pairing, ts_ms)):
        return
    resume = turn.draft.get(RESUME)
    check_life(turn.now, resume.until if resume else 0)
    turn.draft.put(PAIRING, b"", replace(_fresh_again(turn, ANSWERER), begun=ts_ms))
    message(turn, data)


def _stands(pairing: Pairing, ts_ms: int) -> bool:
    """Whether one's own run came first and has time left."""
    return pairing.role == OPENER and pairing.counted and ts_ms <= pairing.begun + RUN_TIME


Step = Callable[[Turn, Pairing, Message], None]

TRANSITIONS: Final[dict[tuple[Phase, type[Message]], Step]] = {
    (Phase.EXPECT_COMMIT, Committed): _committed,  # type: ignore[dict-item]
    (Phase.EXPECT_DH, Public): _public_came,  # type: ignore[dict-item]
    (Phase.EXPECT_OPEN, Opened): _opened,  # type: ignore[dict-item]
    (Phase.EXPECT_DONE, Finished): _finished,  # type: ignore[dict-item]
}
"""Who takes which message in which phase; the type of the message is the key's second half."""
