"""How the inviter of a room of suite `transport` makes its next epoch; and how a member asks to be taken out.

Source: docs/spec/classic/transport.md ("Messages"). One commit (I0) for the room's log, one invitation (I1) for each
member's mailbox, in one transaction of the relay. The inviter invites itself too: that invitation is stored, not sent,
and opened when the commit comes back.

Invariants
- What the others would refuse is refused here (UsageError, or PeerError about a device), before anything is made.
- Every commit has a new key, so whoever is new reads nothing of before, and whoever is out nothing of after.
- K lives in this call only.
"""

from __future__ import annotations

from collections.abc import Sequence

from cloister.codec.cbor import enc
from cloister.errors import UsageError
from cloister.primitives.kdf import sha256
from cloister.protocols.context import Context, Party
from cloister.protocols.forms import HASH, ID
from cloister.protocols.interface import (
    NO_EPOCH,
    Add,
    Change,
    Commit,
    DeviceId,
    NotReady,
    Rekey,
    Remove,
    RoomPolicy,
    Roster,
    SetPolicy,
    State,
)
from cloister.protocols.items import Draft
from cloister.protocols.rounds.epochs import HEAD, READ_ONLY, Epoch, current, record_of, room_of
from cloister.protocols.rounds.run import NO_TH
from cloister.protocols.transport import steps
from cloister.protocols.transport.items import INVITE, REST, Held, Turn, leaving, place_of, variant_of
from cloister.protocols.transport.reading import Wanted, due_out, holds_role, judge_wanted, progress, say_leave
from cloister.protocols.transport.steps import ACK_LIFE, MEMBERS, NAME, Box, CommitEntry, Ending, Invite, Terms, Token


def wish(
    turn: Turn, epoch: Epoch | None, changes: Sequence[Change]
) -> tuple[Roster, frozenset[DeviceId], RoomPolicy | None]:
    """The changes as one: who is added, who removed, the new policy. UsageError where they make no sense."""
    added = tuple(sorted({change.device for change in changes if isinstance(change, Add)}))
    removed = frozenset(change.device for change in changes if isinstance(change, Remove))
    policies = [change.policy for change in changes if isinstance(change, SetPolicy)]
    base = epoch.roster if epoch else (turn.me.device,)
    if set(added) & set(base) or not removed <= set(base):
        raise UsageError("roster", "add who is out, remove who is in")
    if turn.me.device in removed:
        raise UsageError("usage", "a device leaves by Leave")
    if epoch is None and (removed or not added):
        raise UsageError("not_ready", "the room begins when somebody is added")
    return added, removed, policies[-1] if policies else None


def require_rights(
    turn: Turn, epoch: Epoch | None, added: Roster, removed: frozenset[DeviceId], policy: RoomPolicy | None
) -> None:
    """UsageError or PeerError for what the others would refuse."""
    if epoch is None:
        return
    log_size = _log_size(turn, epoch)
    out = removed | due_out(turn, epoch, log_size)
    wanted = Wanted(turn.me.device, added, out, policy or epoch.policy, log_size)
    judge_wanted(turn, epoch, wanted)
    user = record_of(turn, turn.me.device, epoch.log_size).user
    if added and policy is not None and user not in policy.owners:
        raise UsageError("usage", "hand the role over in a commit of its own: newcomers know no other inviter")


def _log_size(turn: Turn, epoch: Epoch | None) -> int:
    return max(turn.me.directory().size, epoch.log_size if epoch else 0)


def invite(turn: Turn, variant: str, added: Roster, removed: frozenset[DeviceId], policy: RoomPolicy | None) -> None:
    """Make the next epoch: I0, and I1 for everybody in it. UsageError, or PeerError about a member."""
    draft, epoch = turn.draft, current(turn.draft)
    log_size = _log_size(turn, epoch)
    base, out = (
        ((turn.me.device,), removed) if epoch is None else (epoch.roster, removed | due_out(turn, epoch, log_size))
    )
    roster = tuple(sorted((set(base) - out) | set(added)))
    if turn.me.device not in roster:
        raise UsageError(
            "revoked" if turn.me.device not in leaving(draft) else "usage", "this device is on its way out"
        )
    if len(roster) > MEMBERS:
        raise UsageError("quota", f"a room of this suite has at most {MEMBERS} devices")
    context = Context(
        suite=NAME,
        variant=variant_of(draft) or variant,
        room=turn.room,
        epoch=epoch.number + 1 if epoch else 1,
        run_id=turn.rng(ID),
        prev_th=epoch.th if epoch else NO_TH,
        proposer=turn.me.device,
        deadline=turn.now + ACK_LIFE,
        log_size=log_size,
        roster=roster,
        policy=policy or (epoch.policy if epoch else room_of(draft).policy),
    )
    party, terms = steps.terms_of(context, turn.me.directory())
    _send(
        turn, party, terms, Box(context=context, invitees=added, head=draft.get(HEAD)), tuple(sorted(out & set(base)))
    )


def _send(turn: Turn, party: Party, terms: Terms, box: Box, removed: Roster) -> None:
    """Draw K, seal I0, encrypt K to each member; store one's own invitation, emit the commit with the others'."""
    suite, epoch, key = turn.agreement, current(turn.draft), turn.rng(HASH)
    key_hash = suite.key_hash(terms.ctx, terms.inviter, key)
    keys = steps.keys_of(suite, terms, key_hash, key)
    sealed = steps.seal_box(keys, box, turn.signing_key(), terms.ctx, key_hash)
    entry = CommitEntry(terms.run_id, key_hash, sealed)
    if epoch is not None:
        ending = Ending(inviter=turn.me.device, removed=removed)
        entry = steps.seal_ending(epoch.exporter, epoch.th, entry, ending, turn.signing_key())
    payload, entry_id = entry.encode(), turn.rng(ID)
    invites = {
        device: _invite_of(turn, party, terms, device, key, key_hash, sha256(payload)) for device in party.roster
    }
    own = Held(invite=invites.pop(turn.me.device), at=turn.now, entry_id=entry_id, context=enc(*box.context.items()))
    turn.draft.put(INVITE, place_of(terms), own)
    turn.draft.drop(REST)
    turn.draft.emit(
        Commit(
            room=turn.room,
            expects=epoch.token_hash if epoch else NO_EPOCH,
            entry_id=entry_id,
            payload=payload,
            next_token_hash=sha256(keys.token(turn.room)),
            sealed=tuple((device, "invite", each.encode()) for device, each in invites.items()),
        )
    )
    progress(turn, token=None if epoch else keys.token(turn.room), proposer=turn.me.device)


def _invite_of(
    turn: Turn, party: Party, terms: Terms, device: DeviceId, key: bytes, key_hash: bytes, commit_hash: bytes
) -> Invite:
    """I1 for one member."""
    recipient = party.encrypt_key(party.index(device))
    token = Token(
        terms=terms,
        to=device,
        ts=turn.now,
        invite_id=turn.rng(ID),
        key_hash=key_hash,
        ciphertext=steps.seal_key(turn.agreement, recipient, terms, device, key),
        commit_hash=commit_hash,
    )
    return Invite(token).signed(turn.signing_key())


def leave(turn: Turn, epoch: Epoch | None, changes: Sequence[Change]) -> None:
    """Ask the holders of the inviter's role to take this device out; UsageError where nobody could."""
    if len(changes) > 1:
        raise UsageError("usage", "who leaves changes nothing else")
    if epoch is None or len(epoch.roster) < 2:
        raise UsageError("not_ready", "nobody is here who could carry it out")
    if turn.draft.get(READ_ONLY) is not None or turn.me.device in leaving(turn.draft):
        raise NotReady(State.READ_ONLY if turn.draft.get(READ_ONLY) is not None else State.READY)
    say_leave(turn, epoch)


def pending(draft: Draft, epoch: Epoch | None, to: Context | None) -> tuple[Change, ...]:
    """What one's own commit, and the leaves that stand, would change."""
    members = set(epoch.roster) if epoch else set()
    leaves = [Remove(device) for device in sorted(leaving(draft) & members)]
    if to is None:
        return tuple(leaves)
    removes = [Remove(device) for device in sorted(members - set(to.roster))]
    adds = [Add(device) for device in to.roster if device not in members and device != to.proposer]
    policies = [SetPolicy(to.policy)] if epoch and to.policy != epoch.policy else []
    return tuple([*removes, *adds, *policies]) or (Rekey(),)


def rank(turn: Turn, epoch: Epoch, out: frozenset[DeviceId]) -> int:
    """This device's place among those who hold the inviter's role."""
    staying = [device for device in epoch.roster if device not in out]
    users = {device: record_of(turn, device, epoch.log_size).user for device in staying}
    return [device for device in staying if holds_role(turn, epoch, users[device], out)].index(turn.me.device)
