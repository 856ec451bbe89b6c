"""What a session of suite `transport` does with an envelope: invitations, commits, acknowledgements, leaves, records.

Source: docs/spec/classic/transport.md; one mapping (channel, kind) -> function, what stands in no row is `unsupported`.

    I1 came, I0 not read   kept; who is not in the room is given the token that opens its log
    I0 read, I1 not come   kept (WAITING), nothing is sealed meanwhile; after LOST the device counts as locked out
    both                   judged together: the epoch begins, and this device acknowledges it

Invariants
- Everything happens in the turn's draft: PeerError, RunBroken or Behind leave the session as it was.
- A commit ends the standing epoch only if a member of it has signed it; what is wrong in it beyond that is its maker's
  fault, proven by tok beside I0, and this device cannot follow the room (`locked`) until it is invited again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from cloister.codec.cbor import enc
from cloister.errors import PeerError
from cloister.primitives.kdf import sha256
from cloister.primitives.rsa import RsaVerifyKey
from cloister.protocols import record as records
from cloister.protocols.context import Party, check_certified, check_reach
from cloister.protocols.forms import HASH, ID
from cloister.protocols.interface import (
    Channel,
    ChannelKind,
    Deliver,
    DeviceId,
    EntryKind,
    Envelope,
    EpochChanged,
    Fault,
    Post,
    RoomPolicy,
    Roster,
    SignedHead,
    State,
)
from cloister.protocols.items import Shelf
from cloister.protocols.policy import Right, check_permitted
from cloister.protocols.rounds import epochs
from cloister.protocols.rounds.agreement import RunBroken
from cloister.protocols.rounds.commits import check_after_head, check_next_token, end_epochs, lay_out
from cloister.protocols.rounds.entering import check_parent
from cloister.protocols.rounds.epochs import (
    EPOCH,
    HEAD,
    READ_ONLY,
    ROOM,
    Epoch,
    chain_key,
    check_epoch_known,
    current,
    record_of,
    room_of,
    scope_of,
    verify_key,
)
from cloister.protocols.rounds.membership import counts
from cloister.protocols.transport import checks
from cloister.protocols.transport.items import (
    ACKED,
    INVITE,
    LEAVING,
    SEEN,
    STANDING,
    TOLD,
    WAITING,
    Held,
    Standing,
    Turn,
    Waiting,
    held_for,
    leaving,
    place_of,
    state_of,
    unconfirmed,
    variant_of,
)
from cloister.protocols.transport.steps import (
    EARLY,
    LATE,
    Ack,
    Box,
    CommitEntry,
    Ending,
    Invite,
    Keys,
    Token,
    ack_of,
    decode_notice,
    leave_of,
    terms_of,
    transcript,
)

SEEN_FOR: Final = LATE + EARLY
"""How long (ms) after its making an invitation could still be taken: its id is remembered until then."""


def take(turn: Turn, envelope: Envelope) -> None:
    """Judge an envelope; PeerError, RunBroken or Behind, else the draft holds what follows."""
    method = _TAKERS.get((envelope.channel.kind, envelope.kind))
    if method is None:
        raise PeerError("unsupported", "an entry of another kind")
    if envelope.channel.kind is ChannelKind.ROOM and envelope.channel.id != turn.room:
        raise PeerError("misrouted", "an entry of another room")
    method(turn, envelope)


def progress(turn: Turn, *, token: bytes | None = None, began_by: int = 0, proposer: DeviceId = "") -> None:
    """Tell that the session's state moved; before its commit was read, `token` is that of the proposer's key."""
    epoch = current(turn.draft)
    turn.draft.emit(
        EpochChanged(
            epoch=epoch.number if epoch else 0,
            roster=epoch.roster if epoch else (turn.me.device,),
            state=state_of(turn.draft, turn.agreement),
            missing=unconfirmed(turn.draft, turn.agreement, epoch) if epoch else (),
            key_check=epoch.key_check if epoch else "",
            access_token=token,
            began_by=began_by,
            proposer=proposer,
        )
    )


def _note_head(turn: Turn, head: SignedHead | None) -> None:
    known = turn.draft.get(HEAD)
    if head is not None and (known is None or (head.incarnation, head.seq) > (known.incarnation, known.seq)):
        turn.draft.put(HEAD, b"", head)


# --- I1 ----------------------------------------------------------------------------------------------------


def take_invite(turn: Turn, envelope: Envelope) -> None:
    """An invitation from the mailbox: kept until the log shows its commit, which may be there already."""
    invite = Invite.decode(envelope.payload)
    keys = judge_invite(turn, invite, envelope.sender)
    token = invite.token
    held = Held(invite=invite, at=turn.now)
    turn.draft.put(INVITE, place_of(token.terms), held)
    turn.draft.put(SEEN, token.invite_id, token.ts + SEEN_FOR)
    waiting, epoch = turn.draft.get(WAITING), current(turn.draft)
    if waiting is not None and epoch is not None:
        entry = CommitEntry.decode(waiting.envelope.payload)
        if entry.run_id == token.terms.run_id:
            checks.check_maker(_ending(turn, epoch, entry), token)
            turn.draft.drop(WAITING)
            _begin(turn, held, entry, waiting.envelope)
            return
    if (epoch is None or room_of(turn.draft).out) and not _follows_held(turn, token):
        progress(turn, token=keys.token(turn.room), proposer=token.terms.inviter)


def _follows_held(turn: Turn, token: Token) -> bool:
    """Whether the epoch before this one is that of another invitation here: the log is read from there on."""
    held = (other.invite.token for _, other in turn.draft.all(INVITE))
    return any(transcript(other.terms.ctx, other.key_hash) == token.terms.prev_th for other in held)


def judge_invite(turn: Turn, invite: Invite, sender: DeviceId | None) -> Keys:
    """The checks of I1 that need no commit, in their order; the key opened, for this moment."""
    steps, token, terms = turn.agreement, invite.token, invite.token.terms
    checks.check_mine(token, turn.me.device, turn.room)
    checks.check_outer(token, sender)
    check_reach(turn.me.directory(), terms.log_size)
    epoch = current(turn.draft)
    inviter = record_of(turn, terms.inviter, terms.log_size)
    check_certified(inviter)
    checks.check_member_invites(steps, terms, None if room_of(turn.draft).out else epoch)
    checks.check_signed(verify_key(turn, terms.inviter, terms.log_size), invite)
    checks.check_variant(steps, terms.variant, variant_of(turn.draft))
    checks.check_fresh(steps, token, turn.now)
    restored = turn.draft.get(READ_ONLY) or b""
    checks.check_since_restored(token, int.from_bytes(restored, "big"))
    known = turn.draft.get(SEEN, token.invite_id) is not None or turn.draft.get(INVITE, place_of(terms)) is not None
    checks.check_once(steps, known)
    checks.check_follows(steps, terms, epoch.number if epoch else 0)
    checks.check_few(sum(held.invite.token.terms.inviter == terms.inviter for _, held in turn.draft.all(INVITE)))
    return checks.open_key(steps, token, turn.decrypt_key())


# --- I0 ----------------------------------------------------------------------------------------------------


def _take_commit(turn: Turn, envelope: Envelope) -> None:
    """The entry that ends an epoch, or makes the room."""
    entry, epoch = CommitEntry.decode(envelope.payload), current(turn.draft)
    if epoch is None or room_of(turn.draft).out:
        _begin(turn, _invited_to(turn, entry, envelope), entry, envelope)
    elif envelope.token_hash != epoch.token_hash or turn.draft.get(WAITING) is not None:
        raise PeerError("stale_epoch", "a commit that does not end the standing epoch")
    else:
        ending = _ending(turn, epoch, entry)
        held = held_for(turn.draft, entry.run_id).get(ending.inviter)
        if turn.me.device in ending.removed:
            _put_out(turn, epoch, "removed")
        elif held is None:
            turn.draft.put(WAITING, b"", Waiting(envelope, turn.now))
            progress(turn)
        else:
            _begin(turn, held, entry, envelope)
    _note_head(turn, envelope.head)


def _invited_to(turn: Turn, entry: CommitEntry, envelope: Envelope) -> Held:
    """The invitation that leads a newcomer, who knows no maker, into this commit: the one that names it.

    Two cannot: k_c is in the entry, and each inviter's own differs.
    """
    found = list(held_for(turn.draft, entry.run_id).values())
    if not found:
        raise PeerError("stale_epoch", "a commit of an epoch that is not held")
    return next((held for held in found if checks.names(held.invite.token, envelope.payload, entry)), found[0])


def _ending(turn: Turn, epoch: Epoch, entry: CommitEntry) -> Ending:
    """What the entry says to the epoch that it ends, signed by a member of it."""
    ending = checks.open_ending(epoch.exporter, entry)
    if ending.inviter not in epoch.roster:
        raise PeerError("unknown_sender", "a commit by a stranger")
    checks.check_ending_signed(verify_key(turn, ending.inviter, epoch.log_size), epoch.th, entry, ending)
    return ending


def _put_out(turn: Turn, epoch: Epoch, why: str) -> None:
    """The room has gone on without this device."""
    turn.draft.put(ROOM, b"", replace(room_of(turn.draft), out=why))
    end_epochs(turn, epoch.th)
    turn.draft.drop_all(LEAVING)
    progress(turn)
    for _, held in list(turn.draft.all(INVITE)):  # who was taken in again meanwhile, finds the log by these
        token = held.invite.token
        if held.entry_id or token.terms.epoch <= epoch.number + 1:
            turn.draft.drop(INVITE, place_of(token.terms))
    for _, held in list(turn.draft.all(INVITE)):
        token = held.invite.token
        if not _follows_held(turn, token):
            keys = checks.open_key(turn.agreement, token, turn.decrypt_key())
            progress(turn, token=keys.token(turn.room), proposer=token.terms.inviter)


def lock_out(turn: Turn, epoch: Epoch) -> None:
    """The commit of the standing epoch cannot be followed; an invitation that comes after all leads in again."""
    _put_out(turn, epoch, "locked")
    turn.draft.emit(Fault(code="locked_out"))


def _begin(turn: Turn, held: Held, entry: CommitEntry, envelope: Envelope) -> None:
    """A commit and its invitation: all is judged, then the epoch stands."""
    epoch = None if room_of(turn.draft).out else current(turn.draft)
    token = held.invite.token
    checks.check_place(token.terms, envelope)
    if epoch is None:  # only who holds the epoch that it ends knows that a member made this entry
        checks.check_named(envelope.payload, entry, token)
    try:
        checks.check_named(envelope.payload, entry, token)
        keys = checks.open_key(turn.agreement, token, turn.decrypt_key())
        box = checks.check_box(keys, entry, token.terms.ctx)
        party = _judge_box(turn, box, held)
        ending = None if epoch is None else _ending(turn, epoch, entry)
        _judge_change(turn, box, party, epoch, ending)
    except PeerError as error:
        evidence = enc(held.invite.encode(), envelope.payload)
        inviter, check, detail = token.terms.inviter, error.check, error.detail
        raise RunBroken(error.code, inviter, fatal=True, evidence=evidence, check=check, detail=detail) from error
    check_next_token(envelope, keys.token(turn.room))
    check_after_head(envelope, box.head)
    _stand(turn, box, keys, held, envelope)


def _judge_box(turn: Turn, box: Box, held: Held) -> Party:
    """The context in the box is that of tok, its members count, and the inviter has signed it."""
    token, context = held.invite.token, box.context
    checks.check_members(box, turn.me.device)
    party, again = terms_of(context, turn.me.directory())
    checks.check_same_terms(box, token.terms, again)
    key = party.verify_key(party.index(context.proposer))
    checks.check_box_signed(key, box, token.terms.ctx, token.key_hash)
    return party


def _judge_change(turn: Turn, box: Box, party: Party, epoch: Epoch | None, ending: Ending | None) -> None:
    """What the commit changes follows from the epoch that it ends, and its maker may do it."""
    context, steps = box.context, turn.agreement
    user = record_of(turn, context.proposer, context.log_size).user
    if epoch is None or ending is None:
        owned = any(record.user in context.policy.owners for record in party.records)
        checks.check_may_invite(steps, user in context.policy.owners or not owned)
        locked = room_of(turn.draft).out == "locked"
        checks.check_newcomer(box, turn.me.device, locked=locked)
        return
    check_parent(context, epoch)
    checks.check_roster(box, ending, epoch.roster, gone(turn, epoch, context.log_size))
    wanted = Wanted(context.proposer, box.invitees, frozenset(ending.removed), context.policy, context.log_size)
    judge_wanted(turn, epoch, wanted)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a commit changes, by whom, judged at a size of the realm log."""

    by: DeviceId
    added: Roster
    removed: frozenset[DeviceId]
    policy: RoomPolicy
    log_size: int


def judge_wanted(turn: Turn, epoch: Epoch, wanted: Wanted) -> None:
    """PeerError not_inviter or not_allowed unless the room's policy lets a member make this commit.

    Anybody may make one that does nothing but take out whom every commit takes out.
    """
    user = record_of(turn, wanted.by, epoch.log_size).user
    due = due_out(turn, epoch, wanted.log_size)
    needful = bool(wanted.removed) and wanted.removed <= due
    needful = needful and not wanted.added and wanted.policy == epoch.policy
    checks.check_may_invite(turn.agreement, needful or holds_role(turn, epoch, user, due))
    for right in _rights(wanted, epoch.policy, due) if not needful else ():
        check_permitted(epoch.policy, user, right)


def gone(turn: Turn, epoch: Epoch, log_size: int) -> frozenset[DeviceId]:
    """The members who are out of the realm at this size of its log: no commit leaves them in."""
    return frozenset(device for device in epoch.roster if not counts(turn, device, log_size))


def due_out(turn: Turn, epoch: Epoch, log_size: int) -> frozenset[DeviceId]:
    """Those, and who asked to leave, as far as this device has read: a leave may have crossed a commit."""
    return gone(turn, epoch, log_size) | (leaving(turn.draft) & set(epoch.roster))


def holds_role(turn: Turn, epoch: Epoch, user: str, due: frozenset[DeviceId]) -> bool:
    """Whether the user is an inviter: an owner of the room, or anybody where no owner would be left in it."""
    owners = epoch.policy.owners
    left = [device for device in epoch.roster if device not in due]
    return user in owners or not any(record_of(turn, device, epoch.log_size).user in owners for device in left)


def _rights(wanted: Wanted, policy: RoomPolicy, due: frozenset[DeviceId]) -> list[Right]:
    """The rights that a commit uses."""
    used = [Right.ADD] if wanted.added else []
    used += [Right.REMOVE] if wanted.removed - due else []
    used += [Right.SET_POLICY] if wanted.policy != policy else []
    return used or [Right.REKEY]


def _stand(turn: Turn, box: Box, keys: Keys, held: Held, envelope: Envelope) -> None:
    """The epoch begins: its chains are laid out, what led to it is forgotten, this device acknowledges it."""
    draft, context, state = turn.draft, box.context, room_of(turn.draft)
    agreed = keys.schedule(len(context.roster))
    epoch = Epoch(
        number=context.epoch,
        th=keys.th,
        roster=context.roster,
        policy=context.policy,
        log_size=context.log_size,
        exporter=agreed.exporter,
        token=keys.token(turn.room),
        key_check=agreed.key_check,
        began_at=turn.now,
        began_by=envelope.seq,
    )
    newcomer = not state.current or state.out
    end_epochs(turn, state.current)
    lay_out(turn, epoch, turn.agreement.chains(agreed))
    joined_at = box.head if newcomer else state.joined_at
    draft.put(ROOM, b"", replace(state, policy=epoch.policy, current=epoch.th, out="", joined_at=joined_at, tried=True))
    standing = Standing(
        ctx=held.invite.token.terms.ctx,
        confirm=agreed.confirm,
        commit_hash=sha256(envelope.payload),
        inviter=context.proposer,
        variant=context.variant,
        deadline=context.deadline,
    )
    draft.put(STANDING, epoch.th, standing)
    draft.drop(READ_ONLY)
    draft.drop(WAITING)
    for place, other in list(draft.all(INVITE)):
        if other.invite.token.terms.epoch <= epoch.number:
            draft.drop(INVITE, place)
    forget_ended(turn)
    again = turn.me.device in leaving(draft)
    draft.drop_all(LEAVING)
    progress(turn, token=epoch.token, began_by=epoch.began_by)
    if context.proposer != turn.me.device and turn.agreement.acks_needed(len(epoch.roster) - 1):
        _acknowledge(turn, epoch, standing)
    if again:
        say_leave(turn, epoch)


def forget_ended(turn: Turn) -> None:
    """What belongs to epochs that are held no more."""
    held = {th for th, _ in turn.draft.all(EPOCH)}
    shelves: tuple[Shelf[Any], ...] = (STANDING, TOLD, ACKED)
    for shelf in shelves:
        for suffix, _ in list(turn.draft.all(shelf)):
            if suffix[:HASH] not in held:
                turn.draft.drop(shelf, suffix)


# --- acknowledgements and leaves ---------------------------------------------------------------------------


def _notice(turn: Turn, epoch: Epoch, body: bytes) -> None:
    """Say something to the members in the room's log, in an envelope that shows no sender."""
    entry_id = turn.rng(ID)
    payload = records.seal_envelope(scope_of(turn, epoch), body, EntryKind.HANDSHAKE, entry_id)
    channel = Channel(ChannelKind.ROOM, turn.room)
    turn.draft.emit(Post(channel=channel, kind=EntryKind.HANDSHAKE, entry_id=entry_id, payload=payload))


def _acknowledge(turn: Turn, epoch: Epoch, standing: Standing) -> None:
    """I2. One's own counts when it comes back in the log, as everybody else's."""
    ack = ack_of(standing.confirm, standing.ctx, standing.commit_hash, turn.me.device, turn.room, turn.signing_key())
    _notice(turn, epoch, ack.encode())


def say_leave(turn: Turn, epoch: Epoch) -> None:
    """Ask whoever holds the inviter's role to take this device out."""
    leave = leave_of(turn.room, epoch.th, turn.me.device, turn.signing_key())
    _notice(turn, epoch, leave.encode())


def _take_notice(turn: Turn, envelope: Envelope) -> None:
    """An acknowledgement or a leave in the room's log."""
    found = [epoch for _, epoch in turn.draft.all(EPOCH) if epoch.token_hash == envelope.token_hash]
    epoch = found[0] if found else None
    check_epoch_known(epoch)
    if epoch is None:
        raise PeerError("stale_epoch")
    plain = records.open_envelope(scope_of(turn, epoch), envelope.payload, envelope.kind, envelope.entry_id)
    notice = decode_notice(plain)
    checks.check_notice_sender(notice, epoch.roster, turn.room)
    key = verify_key(turn, notice.sender, epoch.log_size)
    if isinstance(notice, Ack):
        _take_ack(turn, epoch, notice, key)
    else:
        checks.check_leave(key, notice, epoch.th)
        if not epoch.ended_at:
            turn.draft.put(LEAVING, notice.sender.encode(), turn.now)
            progress(turn)
    _note_head(turn, envelope.head)


def _take_ack(turn: Turn, epoch: Epoch, ack: Ack, key: RsaVerifyKey) -> None:
    standing = turn.draft.get(STANDING, epoch.th)
    if standing is None:
        raise PeerError("stale_epoch")
    checks.check_ack_signed(key, ack, standing.ctx)
    try:
        checks.check_ack_mac(standing.confirm, ack, standing.ctx, standing.commit_hash)
    except PeerError as error:
        raise RunBroken(
            error.code, ack.sender, fatal=False, evidence=ack.encode(), check=error.check, detail=error.detail
        ) from error
    waited = state_of(turn.draft, turn.agreement) is State.FROZEN
    turn.draft.put(ACKED, chain_key(epoch.th, epoch.roster.index(ack.sender)), turn.now)
    if not epoch.ended_at:
        opened = waited and state_of(turn.draft, turn.agreement) is State.READY
        progress(turn, token=epoch.token if opened else None)


# --- records -----------------------------------------------------------------------------------------------


def _take_record(turn: Turn, envelope: Envelope) -> None:
    """A message in the room's log."""
    opened = epochs.open_entry(turn, envelope)
    _note_head(turn, envelope.head)
    if opened is not None:
        turn.draft.emit(
            Deliver(
                sender=opened.sender,
                epoch=opened.epoch.number,
                seq=envelope.seq,
                entry_id=envelope.entry_id,
                content=opened.content,
                head=opened.head,
            )
        )


_TAKERS: Final[Mapping[tuple[str, str], Callable[[Turn, Envelope], None]]] = {
    (ChannelKind.MAILBOX, "invite"): take_invite,
    (ChannelKind.ROOM, EntryKind.APPLICATION): _take_record,
    (ChannelKind.ROOM, EntryKind.HANDSHAKE): _take_notice,
    (ChannelKind.ROOM, EntryKind.COMMIT): _take_commit,
    (ChannelKind.ROOM, EntryKind.CREATE): _take_commit,
}
