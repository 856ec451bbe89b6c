"""What a classic session shows of itself: its state, its view, and the effect that tells of progress.

Source: docs/spec/suites.md ("States"). The state follows from the items and is stored nowhere:

    REMOVED     out of the room, and no run under way that takes this device in
    READ_ONLY   restored from a backup, alone, or fewer than two members would be left
    PENDING     no epoch yet, or entering (again)
    FROZEN      an order of removal stands
    READY       can seal
"""

from __future__ import annotations

from cloister.protocols.interface import (
    Add,
    Change,
    DeviceId,
    Rekey,
    Remove,
    RoomId,
    SessionView,
    SetPolicy,
    State,
)
from cloister.protocols.items import Draft
from cloister.protocols.rounds.agreement import Agreement, Run, Turn
from cloister.protocols.rounds.epochs import READ_ONLY, current, open_runs, ordered_out, room_of, runs_of

# --- state and progress ------------------------------------------------------------------------------------


def state_of(draft: Draft) -> State:
    """What the session waits for."""
    state, epoch = room_of(draft), current(draft)
    if state.out:
        return State.PENDING if open_runs(draft) else State.REMOVED
    if draft.get(READ_ONLY) is not None:
        return State.READ_ONLY
    if epoch is None:
        return State.PENDING if state.tried or runs_of(draft) else State.READ_ONLY
    out = ordered_out(draft) & set(epoch.roster)
    if len(epoch.roster) - len(out) < 2:
        return State.READ_ONLY
    return State.FROZEN if out else State.READY


def view_of(draft: Draft, agreement: Agreement, room: RoomId, me: DeviceId) -> SessionView:
    """The state for surfaces."""
    state, epoch = room_of(draft), current(draft)
    found = open_runs(draft)
    newest = found[-1] if found else None
    if epoch is not None:
        number, roster, key_check = epoch.number, epoch.roster, epoch.key_check
    else:
        number, roster, key_check = 0, newest.proposal.context.roster if newest else (me,), ""
    return SessionView(
        suite=agreement.suite,
        room=room,
        epoch=number,
        roster=roster,
        state=state_of(draft),
        policy=epoch.policy if epoch else state.policy,
        missing=agreement.missing(draft, newest) if newest else (),
        awaits=newest.phase.removeprefix("expect ") if newest else "",
        confirmed=agreement.confirmed(draft, newest) if newest else roster if epoch else (),
        parked=state.parked,
        key_check=key_check,
        joined_at=state.joined_at,
        pending_changes=_pending(draft, newest),
    )


def _pending(draft: Draft, run: Run | None) -> tuple[Change, ...]:
    """What the newest run and the standing orders would change."""
    epoch = current(draft)
    members = set(epoch.roster) if epoch else set()
    removes = [Remove(device) for device in sorted(ordered_out(draft) & members)]
    if run is None:
        return tuple(removes)
    context = run.proposal.context
    adds = [Add(device) for device in run.proposal.change.added]
    policies = [SetPolicy(context.policy)] if epoch and context.policy != epoch.policy else []
    return tuple([*removes, *adds, *policies]) or (Rekey(),)


def progress(turn: Turn, *, token: bytes | None = None, proposer: DeviceId = "") -> None:
    """Tell that the session's state moved; `token` is that of a key agreed in the proposer's run."""
    view = view_of(turn.draft, turn.agreement, turn.room, turn.me.device)
    turn.draft.tell(view, token=token, proposer=proposer)
