"""What a classic room does when time has passed: turns, deadlines, rekeys, forgetting.

Source: docs/spec/suites.md ("Time"). The agenda is computed from the items, never stored: a list of (time, action).
`wake` carries out what is due; the session asks to be woken for the earliest of the rest.

Invariants
- Time alone changes nothing: what is due happens in `wake` only, so a backlog is read before anybody judges lateness.
- An action that cannot be done now (a member's certificate has ended) is put off by an hour, not repeated at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from cloister.errors import CloisterError, PeerError, UsageError
from cloister.protocols.interface import DeviceId, Fault, Roster
from cloister.protocols.policy import Right, permits
from cloister.protocols.rounds.agreement import AGREED, RUN, Phase, Run, Turn
from cloister.protocols.rounds.commits import WAIT_MOST, WAITING, Waiting, drop_epoch, end_run, post_commit
from cloister.protocols.rounds.epochs import (
    EPOCH,
    ORDER,
    READ_ON,
    READ_ONLY,
    ROOM,
    Epoch,
    StandingOrder,
    current,
    messages,
    open_runs,
    ordered_out,
    record_of,
    room_of,
    runs_of,
)
from cloister.protocols.rounds.membership import (
    HELD,
    HERE,
    PARK_AFTER,
    PARKING,
    SEEN,
    TURN_APART,
    open_run,
)
from cloister.protocols.rounds.run import CLOCK_SKEW, DAY, HOUR, NO_TH, RUN_LIFE, SECOND, Parking

REKEY_AFTER: Final = 7 * DAY
REKEY_MESSAGES: Final = 2**20
COMMIT_APART: Final = 5 * SECOND
KEEP_CONFIRMED: Final = 30 * DAY

Action = Callable[[Turn], None]
Agenda = list[tuple[int, Action]]


def agenda(turn: Turn) -> Agenda:
    """All that time will bring, as (ms, action), the earliest first."""
    found: Agenda = []
    for run in runs_of(turn.draft):
        found += _of_run(turn, run)
    for th, epoch in turn.draft.all(EPOCH):
        if epoch.ended_at:
            found.append((epoch.ended_at + READ_ON, _forget_epoch(th)))
    for run_id, waiting in turn.draft.all(WAITING):
        if not waiting.told:
            found.append((waiting.since + WAIT_MOST, _tell_of(run_id, waiting)))
    if turn.draft.get(READ_ONLY) is None and not room_of(turn.draft).out:
        found += _of_orders(turn) + _of_rekey(turn) + _of_parked(turn)
    return sorted(found, key=lambda item: item[0])


def run_due(turn: Turn) -> None:
    """Carry out what is due; each action once, for it moves its own time."""
    while True:
        due = [action for at, action in agenda(turn) if at <= turn.now]
        if not due:
            break
        due[0](turn)
    _purge(turn)


def _purge(turn: Turn) -> None:
    """Notes that have served: seen runs past their deadline, held proposals that nobody can follow."""
    for run_id, deadline in list(turn.draft.all(SEEN)):
        if deadline + CLOCK_SKEW < turn.now:
            turn.draft.drop(SEEN, run_id)
    for run_id, held in list(turn.draft.all(HELD)):
        if held.deadline < turn.now:
            turn.draft.drop(HELD, run_id)
    for author, at in list(turn.draft.all(PARKING)):
        if at + RUN_LIFE < turn.now:
            turn.draft.drop(PARKING, author)


def _forget_epoch(th: bytes) -> Action:
    return lambda turn: drop_epoch(turn.draft, th)


def _tell_of(run_id: bytes, waiting: Waiting) -> Action:
    """A commit still waits for its run's log: say so once; nothing can be sent until it comes."""

    def tell(turn: Turn) -> None:
        turn.draft.put(WAITING, run_id, replace(waiting, told=True))
        turn.draft.emit(Fault(code="locked_out", detail="the log of the run that was committed does not come"))

    return tell


# --- runs --------------------------------------------------------------------------------------------------


def _of_run(turn: Turn, run: Run) -> Agenda:
    if run.phase is Phase.EXPECT_COMMIT:
        agreed: Agenda = [(run.confirmed_at + KEEP_CONFIRMED, lambda turn: end_run(turn, run))]
        at = None if run.posted else commit_turn(turn, run)
        return agreed if at is None else [(at, lambda turn: commit(turn, run)), *agreed]
    late: Agenda = [(run.proposal.context.deadline + CLOCK_SKEW, lambda turn: time_out(turn, run))]
    kept = [(run.confirmed_at + KEEP_CONFIRMED, lambda turn: end_run(turn, run))] if run.confirmed_at else []
    return kept if run.lapsed else late + kept


def commit_turn(turn: Turn, run: Run) -> int | None:
    """When this device posts the commit: the proposer at once, the k-th other 5k s later; None if it may not."""
    context = run.proposal.context
    epoch = current(turn.draft)
    if context.prev_th == NO_TH:
        eligible = context.roster
    elif epoch is not None and epoch.th == context.prev_th and not room_of(turn.draft).out:
        eligible = tuple(device for device in context.roster if device in epoch.roster)
    else:
        return None
    if turn.me.device not in eligible:
        return None
    return run.ready_at + COMMIT_APART * _rank(turn.me.device, context.proposer, eligible)


def _rank(device: DeviceId, first: DeviceId, roster: Roster) -> int:
    """The place of a device when `first`, if it is there, goes first and the others follow in order."""
    line = [first, *(other for other in roster if other != first)] if first in roster else list(roster)
    return line.index(device)


def commit(turn: Turn, run: Run) -> None:
    """Post the commit of an agreed run."""
    agreed = turn.draft.get(AGREED, run.id)
    if agreed is None:
        end_run(turn, run)
    else:
        post_commit(turn, run, agreed)


def time_out(turn: Turn, run: Run) -> None:
    """The deadline has passed: the run is over, the room stays as it is; after the own confirm its keys are kept."""
    missing = turn.agreement.missing(turn.draft, run)
    if run.confirmed_at:
        turn.draft.put(RUN, run.id, replace(run, lapsed=True))
    else:
        end_run(turn, run)
    put_off(turn, run)
    turn.draft.emit(Fault(code="timeout", fatal=True, detail=", ".join(missing)))


def put_off(turn: Turn, run: Run) -> None:
    """A run that failed is followed by another for its orders ten minutes later, not at once."""
    for suffix, item in list(turn.draft.all(ORDER)):
        if item.order.encode() in run.proposal.change.orders:
            turn.draft.put(ORDER, suffix, replace(item, retry_at=turn.now + PARK_AFTER))


# --- orders ------------------------------------------------------------------------------------------------


def _of_orders(turn: Turn) -> Agenda:
    epoch = current(turn.draft)
    if epoch is None:
        return []
    out = ordered_out(turn.draft)
    left = tuple(device for device in epoch.roster if device not in out)
    items = [item for _, item in turn.draft.all(ORDER) if set(item.order.removed) & set(epoch.roster)]
    if not items or len(left) < 2 or turn.me.device not in left:
        return []
    found: Agenda = []
    for item in items:
        covering = [run for run in open_runs(turn.draft) if item.order.encode() in run.proposal.change.orders]
        if covering:
            found += _of_waiting(turn, covering[-1], item)
        else:
            turn_at = item.seen_at + TURN_APART * _rank(turn.me.device, item.order.author, left)
            found.append((max(turn_at, item.retry_at), lambda turn: _carefully(turn, open_plain)))
    return found


def open_plain(turn: Turn) -> None:
    """Open a run for what stands: a rekey, or every standing order."""
    open_run(turn)


def _of_waiting(turn: Turn, run: Run, item: StandingOrder) -> Agenda:
    """When to propose a removal's run again without those who did not answer."""
    missing = turn.agreement.missing(turn.draft, run)
    roster = run.proposal.context.roster
    answered = tuple(device for device in roster if device not in missing)
    parked_at = turn.draft.get(PARKING, item.order.author.encode())
    if not missing or len(answered) < 2 or turn.me.device not in answered:
        return []
    rank = _rank(turn.me.device, run.proposal.context.proposer, answered)
    at = run.opened_at + PARK_AFTER + TURN_APART * rank
    if parked_at is not None:
        at = max(at, parked_at + RUN_LIFE)
    parking = Parking(devices=missing, run_id=run.id, seq=run.last_seq)
    return [(max(at, item.retry_at), lambda turn: _carefully(turn, lambda turn: propose_again(turn, run, parking)))]


def propose_again(turn: Turn, run: Run, parking: Parking) -> None:
    """The same change with those who answered; the others are parked."""
    added = tuple(device for device in run.proposal.change.added if device not in parking.devices)
    open_run(turn, added=added, policy=run.proposal.context.policy, parking=parking)


# --- rekey, parked devices ---------------------------------------------------------------------------------


def _of_rekey(turn: Turn) -> Agenda:
    epoch = current(turn.draft)
    if epoch is None or any(run.proposal.context.prev_th == epoch.th for run in open_runs(turn.draft)):
        return []
    if ordered_out(turn.draft) & set(epoch.roster) or not permits(epoch.policy, user_of(turn, epoch), Right.REKEY):
        return []
    at = epoch.began_at + REKEY_AFTER + TURN_APART * epoch.roster.index(turn.me.device)
    if messages(turn.draft, epoch) >= REKEY_MESSAGES:
        at = turn.now
    return [(max(at, room_of(turn.draft).rest_until), lambda turn: _carefully(turn, open_plain))]


def user_of(turn: Turn, epoch: Epoch) -> str:
    """The user of this device, as the epoch judged it."""
    return record_of(turn, turn.me.device, epoch.log_size).user


def _of_parked(turn: Turn) -> Agenda:
    parked = room_of(turn.draft).parked
    found: Agenda = []
    for suffix, at in turn.draft.all(HERE):
        device = suffix.decode()
        if device in parked:
            rest = max(at, room_of(turn.draft).rest_until)
            found.append((rest, _adding(device)))
    return found


def _adding(device: DeviceId) -> Action:
    return lambda turn: _carefully(turn, lambda turn: add_again(turn, device))


def add_again(turn: Turn, device: DeviceId) -> None:
    """Take a parked device in again."""
    turn.draft.drop(HERE, device.encode())
    if not any(device in run.proposal.change.added for run in open_runs(turn.draft)):
        open_run(turn, added=(device,))


def _carefully(turn: Turn, action: Action) -> None:
    """Do it, or put it off by an hour and say why."""
    try:
        action(turn)
    except (UsageError, PeerError) as error:
        _rest(turn, error)


def _rest(turn: Turn, error: CloisterError) -> None:
    state = room_of(turn.draft)
    turn.draft.put(ROOM, b"", replace(state, rest_until=turn.now + HOUR))
    for suffix, item in list(turn.draft.all(ORDER)):
        turn.draft.put(ORDER, suffix, replace(item, retry_at=turn.now + HOUR))
    turn.draft.emit(Fault(code=error.code, detail=error.detail))
