"""The handshake of suite `pair`: request, response, confirm, and the commit that begins a session.

Source: docs/spec/classic/pair.md ("Messages", "A session's life").

    A                                             B
    chat_request (mailbox)               -->      asks the person (a first session), or answers at once (a rekey)
                                         <--      chat_response (mailbox): yes or no, both signed
    create or commit (the room's log)    -->      with chat_confirm as its sealed item

By prekey (E4.1) A needs no answer to begin: the request bears the confirm, and goes with the `create`; B's response
completes the mutual authentication, and until it has come A's view names B as `missing`.

Invariants
- The commit is posted by the requester; whichever the log shows first counts, and ends what else was under way.
- Both ask at once: the request with the lower sid is answered, the other waits until that one has been committed.
- B takes nothing of a session before A's confirm has verified; a commit that came earlier waits for it.
- An ephemeral private key is gone once the keys follow from it; a sid is answered once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from cloister.codec.cbor import Fields
from cloister.errors import PeerError, UsageError
from cloister.identity.credential import parse_device_id
from cloister.primitives.kdf import sha256
from cloister.protocols.forms import DEVICE_MOST, HASH
from cloister.protocols.interface import (
    NO_EPOCH,
    Ask,
    Behind,
    Commit,
    DeviceId,
    Direct,
    Envelope,
    Fault,
    Need,
    RoomPolicy,
)
from cloister.protocols.pair import items, prekeys, steps
from cloister.protocols.pair.items import (
    AGREED,
    ASKED,
    EPOCH,
    OFFER,
    READ_ONLY,
    RECV,
    ROOM,
    SEEN,
    SEND,
    SKIP,
    UNPROVEN,
    WANT,
    Agreed,
    Asked,
    Offer,
    Standing,
    Unproven,
)
from cloister.protocols.pair.prekeys import Prekey
from cloister.protocols.pair.steps import (
    FIRST,
    REQUESTER,
    RESPONDER,
    STORED,
    Confirm,
    Identity,
    Request,
    Response,
)
from cloister.protocols.pair.view import Turn, progress
from cloister.protocols.policy import Right, check_permitted
from cloister.protocols.ratchet import RecvChain, SendChain

RETRY: Final = 30_000
"""Pause (ms) before the peer's prekey is asked for again."""
SEEN_MOST: Final = 64
"""Requests of the peer that are remembered; each lives STORED."""
AGREED_MOST: Final = 4


# --- requesting --------------------------------------------------------------------------------------------


def ask_prekey(turn: Turn) -> None:
    """Ask for the peer's prekey, and again in a while."""
    turn.draft.put(WANT, b"", turn.now + RETRY)
    turn.draft.emit(Need(what="prekeys", ids=(turn.room.peer.encode(),)))


def request(turn: Turn, policy: RoomPolicy, prekey: Prekey | None = None) -> None:
    """Ask the peer for a session; by prekey the keys are there at once, and the room's entry with them."""
    standing, peer = turn.standing, turn.room.peer
    if prekey is None:
        ephemeral, secret = turn.steps.offer(turn.rng)
    else:
        ephemeral, secret = turn.steps.answer(prekey.public, turn.rng)
    made = Request(
        kem=turn.steps.kem,
        room=turn.room_id,
        epoch=standing.number + 1 if standing else 1,
        prev=standing.sid if standing else FIRST,
        sid=turn.rng(16),
        ids=(Identity.of(turn.record(turn.me.device)), Identity.of(turn.record(peer))),
        log_size=turn.me.directory().size,
        policy=policy,
        prekey=None if prekey is None else sha256(prekey.encode()),
        ephemeral=ephemeral,
        ts=turn.now,
    )
    made = steps.sign_request(turn.steps, turn.me.keys.device, made)
    turn.draft.drop(WANT)
    if prekey is None:
        turn.draft.put(OFFER, b"", Offer(request=made, private=secret))
        turn.draft.emit(Direct(device=peer, kind="chat_request", body=made.encode()))
        return
    keys = steps.keys_of(turn.steps, made, prekey.public, secret)
    confirm = steps.make_confirm(turn.me.keys.device, made.sid, keys)
    made = replace(made, confirm=confirm.encode())
    agreed = Agreed(request=made, keys=keys, side=REQUESTER, confirmed=True, proven=False)
    _commit(turn, agreed, ("chat_request", made.encode()))


def try_request(turn: Turn, policy: RoomPolicy) -> None:
    """A request that no person waits for: when a side does not count any more it is put off, and said."""
    try:
        request(turn, policy)
    except PeerError as error:
        turn.draft.emit(Fault(code=error.code, peer=turn.room.peer, detail=error.detail))
        turn.draft.drop(WANT)
        turn.draft.drop(OFFER)
        standing = turn.standing
        if standing is not None:
            turn.draft.put(EPOCH, b"", replace(standing, began=turn.now))


def _commit(turn: Turn, agreed: Agreed, sealed: tuple[str, bytes]) -> None:
    """Post the entry that begins the session, the other's item with it."""
    entry_id, standing, peer = turn.rng(16), turn.standing, turn.room.peer
    turn.draft.put(AGREED, agreed.request.sid, replace(agreed, entry_id=entry_id))
    turn.draft.emit(
        Commit(
            room=turn.room_id,
            expects=sha256(standing.token(turn.room_id)) if standing else NO_EPOCH,
            entry_id=entry_id,
            payload=items.commit_payload(agreed),
            next_token_hash=sha256(agreed.token),
            sealed=((peer, *sealed),),
        )
    )
    if standing is None:
        progress(turn, token=agreed.token)


def prekey_came(turn: Turn, value: bytes) -> None:
    """The peer's prekey, or none: then the peer is asked directly, and answers when it is there."""
    if turn.draft.get(WANT) is None:
        return
    peer = turn.room.peer
    try:
        request(turn, turn.room.policy, _judged_prekey(turn, peer, value))
    except PeerError as error:
        turn.draft.emit(Fault(code=error.code, peer=peer, detail=error.detail, check=error.check))
        try_request(turn, turn.room.policy)


def _judged_prekey(turn: Turn, peer: DeviceId, value: bytes) -> Prekey | None:
    """What a driver answers to Need("prekeys"): [[device, package, reference, not before, not after] ...]."""
    found = None
    outer = Fields.decode(value, "prekeys")
    for item in outer.array("prekeys", 16):
        fields = Fields(item, "prekey")
        device, package = fields.text("device", DEVICE_MOST), fields.octets("package")
        declared = fields.octets("reference", HASH), fields.uint("not before"), fields.uint("not after")
        fields.end()
        if device == peer:
            found = Prekey.decode(package)
            prekeys.check_prekey(found, turn.record(peer), declared, turn.now)
            prekeys.check_prekey_kem(found, turn.steps.kem)
    outer.end()
    return found


def commit_refused(turn: Turn, entry_id: bytes) -> None:
    """The relay has not stored an own commit and will not: another one stands."""
    if entry_id and turn.room.ending == entry_id:
        turn.draft.put(ROOM, b"", replace(turn.room, ending=b""))
    for sid, agreed in list(turn.draft.all(AGREED)):
        if agreed.entry_id == entry_id:
            turn.draft.drop(AGREED, sid)


def forget_agreed(turn: Turn) -> None:
    """Sessions that nobody has begun while their request could wait."""
    for sid, agreed in list(turn.draft.all(AGREED)):
        if agreed.request.ts + STORED <= turn.now:
            turn.draft.drop(AGREED, sid)


# --- being asked -------------------------------------------------------------------------------------------


def asked(turn: Turn, envelope: Envelope, prekey: tuple[bytes, bytes] | None = None) -> None:
    """A chat_request came; `prekey` is (public, private) of the one it names. PeerError, Behind."""
    made = Request.decode(envelope.payload)
    _judge(turn, made, envelope.sender)
    prekeys.check_prekey_used(made, prekey is not None)
    turn.draft.put(SEEN, made.sid, made.ts)
    answer, keys = b"", None
    if prekey is not None:
        answer, private = prekey
        keys = steps.keys_of(turn.steps, made, answer, turn.steps.finish(private, made.ephemeral))
        _check_confirm(turn, made, keys, Confirm.decode(made.confirm or b""))
    waiting = Asked(request=made, answer=answer, keys=keys)
    if turn.standing is not None or turn.draft.get(OFFER) is not None:
        _accept(turn, waiting)
        return
    turn.draft.put(ASKED, b"", waiting)
    turn.draft.emit(Ask(kind="accept", text=made.policy.title))


def _judge(turn: Turn, made: Request, sender: str | None) -> None:
    """Every check of a request."""
    if made.log_size > turn.me.directory().size:
        raise Behind(Need(what="realm", ids=(made.log_size.to_bytes(8, "big"),)))
    requester, responder = made.ids
    steps.check_sent_by(sender, requester.device)
    steps.check_addressed(made, turn.room_id, turn.me.device)
    steps.check_kem(made, turn.steps.kem)
    key = turn.steps.key_of(turn.record(requester.device), requester)
    steps.check_identity(turn.record(responder.device), responder)
    steps.check_request_signed(turn.steps, key, made)
    steps.check_recent(made, turn.now)
    steps.check_fresh(turn.draft.get(SEEN, made.sid))
    standing = turn.standing
    steps.check_continues(made, *((standing.number, standing.sid) if standing else (0, FIRST)))
    steps.check_same_people(made, turn.room.peer, standing.ids if standing else None)
    if standing is not None:
        check_rights(turn, requester.device, made.policy)
    _forget(turn)


def check_rights(turn: Turn, device: DeviceId, policy: RoomPolicy) -> None:
    """PeerError("not_allowed") unless the device's user may make a new session, with this policy."""
    user, standing = parse_device_id(device)[1], turn.room.policy
    check_permitted(standing, user, Right.REKEY)
    if policy != standing:
        check_permitted(standing, user, Right.SET_POLICY)


def _forget(turn: Turn) -> None:
    """Sids that the time window refuses by itself; PeerError("quota") when too many are younger."""
    for sid, ts in list(turn.draft.all(SEEN)):
        if ts < turn.now - STORED:
            turn.draft.drop(SEEN, sid)
    steps.check_few(len(list(turn.draft.all(SEEN))), SEEN_MOST)


def decided(turn: Turn, *, accept: bool) -> None:
    """The person has said yes or no."""
    waiting = turn.draft.get(ASKED)
    if waiting is None:
        raise UsageError("usage", "no request waits for an answer")
    turn.draft.drop(ASKED)
    if accept:
        _accept(turn, waiting)
        return
    refusal = steps.make_refusal(turn.steps, turn.me.keys.device, waiting.request)
    turn.draft.emit(Direct(device=turn.room.peer, kind="chat_response", body=refusal.encode()))
    turn.draft.put(ROOM, b"", replace(turn.room, out="declined"))
    erase(turn)


def _accept(turn: Turn, waiting: Asked) -> None:
    """Agree to a request, unless an own one with a lower sid is under way."""
    offer, made = turn.draft.get(OFFER), waiting.request
    if offer is not None and offer.request.sid < made.sid:
        return
    answer, keys = waiting.answer, waiting.keys
    if keys is None:
        answer, shared = turn.steps.answer(made.ephemeral, turn.rng)
        keys = steps.keys_of(turn.steps, made, answer, shared)
    others = [sid for sid, each in turn.draft.all(AGREED) if each.side == RESPONDER]
    for sid in others[: max(0, len(others) + 1 - AGREED_MOST)]:
        turn.draft.drop(AGREED, sid)
    confirmed = waiting.keys is not None or not turn.steps.confirms()
    agreed = Agreed(request=made, keys=keys, side=RESPONDER, confirmed=confirmed)
    turn.draft.put(AGREED, made.sid, agreed)
    response = steps.make_response(turn.steps, turn.me.keys.device, made, answer, keys)
    turn.draft.emit(Direct(device=turn.room.peer, kind="chat_response", body=response.encode()))
    if confirmed:
        _up(turn, agreed)


def _up(turn: Turn, agreed: Agreed) -> None:
    """Both have proven that they hold the key: its log may be read, or the session begins at once."""
    if agreed.seq:
        _begin(turn, agreed, agreed.seq)
    elif turn.standing is None:
        progress(turn, token=agreed.token)


# --- response and confirm ----------------------------------------------------------------------------------


def responded(turn: Turn, envelope: Envelope) -> None:
    """A chat_response came: the session is agreed, proven, or declined."""
    response = Response.decode(envelope.payload)
    steps.check_sent_by(envelope.sender, turn.room.peer)
    offer, unproven = turn.draft.get(OFFER), turn.draft.get(UNPROVEN)
    agreed = turn.draft.get(AGREED, response.sid)
    if agreed is not None and not agreed.proven:  # the answer is here before the own commit
        _prove(turn, agreed.request, agreed.keys, response)
        if response.accept:
            turn.draft.put(AGREED, response.sid, replace(agreed, proven=True))
        return
    if unproven is not None and unproven.request.sid == response.sid:
        _prove(turn, unproven.request, unproven, response)
        turn.draft.drop(UNPROVEN)
        progress(turn)
        return
    made = steps.check_awaited(offer.request if offer else None, response.sid)
    _check_signed(turn, made, response)
    turn.draft.drop(OFFER)
    if not response.accept or offer is None:
        _declined(turn, first=turn.standing is None)
        return
    shared = turn.steps.finish(offer.private, response.ephemeral)
    keys = steps.keys_of(turn.steps, made, response.ephemeral, shared)
    steps.check_response_mac(keys, response)
    confirm = steps.make_confirm(turn.me.keys.device, made.sid, keys)
    _commit(turn, Agreed(request=made, keys=keys, side=REQUESTER, confirmed=True), ("chat_confirm", confirm.encode()))


def _check_signed(turn: Turn, made: Request, response: Response) -> None:
    key = turn.steps.key_of(turn.record(turn.room.peer), made.ids[RESPONDER])
    steps.check_response_signed(turn.steps, key, made, response)


def _prove(turn: Turn, made: Request, keys: steps.Keyed, response: Response) -> None:
    """The answer to a session by prekey: the other side holds the key too, or its person says no."""
    _check_signed(turn, made, response)
    if response.accept:
        steps.check_response_mac(keys, response)
    else:
        _declined(turn, first=True)


def _declined(turn: Turn, *, first: bool) -> None:
    """The other person said no: a first session is over; who declines a new key keeps the old one."""
    turn.draft.emit(Fault(code="declined", peer=turn.room.peer, detail="the request was declined"))
    if first:
        turn.draft.put(ROOM, b"", replace(turn.room, out="declined"))
        erase(turn)
    progress(turn)


def confirmed(turn: Turn, envelope: Envelope) -> None:
    """A chat_confirm came: the requester holds the key too."""
    confirm = Confirm.decode(envelope.payload)
    steps.check_sent_by(envelope.sender, turn.room.peer)
    agreed = items.check_agreed(turn.draft.get(AGREED, confirm.sid))
    _check_confirm(turn, agreed.request, agreed.keys, confirm)
    if not agreed.confirmed:
        agreed = replace(agreed, confirmed=True)
        turn.draft.put(AGREED, confirm.sid, agreed)
        _up(turn, agreed)


def _check_confirm(turn: Turn, made: Request, keys: steps.Keyed, confirm: Confirm) -> None:
    key = turn.steps.key_of(turn.record(turn.room.peer), made.ids[REQUESTER])
    steps.check_confirm_signed(key, keys, confirm)
    steps.check_confirm_mac(keys, confirm)


# --- the commit --------------------------------------------------------------------------------------------


def committed(turn: Turn, envelope: Envelope) -> None:
    """An entry of the room's log that begins a session."""
    standing = turn.standing
    items.check_follows(envelope.token_hash, sha256(standing.token(turn.room_id)) if standing else NO_EPOCH)
    sid, th_hash = items.read_commit(envelope.payload)
    agreed = items.check_agreed(turn.draft.get(AGREED, sid))
    items.check_commit(agreed, th_hash, envelope.next_token_hash)
    if agreed.confirmed:
        _begin(turn, agreed, envelope.seq)
    else:
        turn.draft.put(AGREED, sid, replace(agreed, seq=envelope.seq))


def _begin(turn: Turn, agreed: Agreed, seq: int) -> None:
    """The session stands; everything of the one before it goes."""
    made, keys, draft = agreed.request, agreed.keys, turn.draft
    erase(turn)
    standing = Standing(
        number=made.epoch,
        sid=made.sid,
        th=keys.th,
        ids=made.ids,
        side=agreed.side,
        exporter=keys.exporter,
        key_check=keys.key_check,
        began=turn.now,
    )
    draft.put(EPOCH, b"", standing)
    draft.put(SEND, b"", SendChain(0, keys.chains[agreed.side]))
    draft.put(RECV, b"", RecvChain(0, keys.chains[1 - agreed.side]))
    if not agreed.proven:
        draft.put(UNPROVEN, b"", Unproven(request=made, th=keys.th, confirm=keys.confirm))
    draft.put(ROOM, b"", replace(turn.room, policy=made.policy))
    draft.drop(READ_ONLY)
    progress(turn, token=agreed.token, began_by=seq)


def erase(turn: Turn) -> None:
    """Forget every key of the session and of what was under way."""
    for shelf in (EPOCH, SEND, RECV, SKIP, WANT, OFFER, ASKED, AGREED, UNPROVEN):
        turn.draft.drop_all(shelf)
