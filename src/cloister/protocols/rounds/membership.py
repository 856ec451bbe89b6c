"""How a classic room's members change: orders of removal, runs opened and entered, devices parked and asked in again.

Source: docs/spec/suites.md ("Membership"); A.0 of the protocols ("Membership change").

Invariants
- Add, rekey and a new policy leave the old epoch usable until the run's commit; a run locks nothing.
- An order of removal freezes the room at its place in the log. Any member of the new roster may open the run that
  carries it out: its author first, then by rank, 60 s apart. It stands, over epochs, until the device is out.
- A run that carries out an order is proposed again after 10 minutes with those who answered (two at least); who did
  not is parked, may answer `here`, and is added again by any member who may add. One such freeze per author and day.
- Every receiver checks each change against the policy and roster of the epoch that it ends. A newcomer, who has not
  seen that epoch, checks that it is invited, by whom, and that all keys are certified.
- A device that does not count in the realm any more, or has been expired for 30 days, may be put out by any member.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError, UsageError
from cloister.protocols.checks import check
from cloister.protocols.context import Context, check_reach, party_of
from cloister.protocols.forms import ID
from cloister.protocols.interface import (
    Add,
    Change,
    DeviceId,
    EntryKind,
    Leave,
    NotReady,
    OpenRun,
    Remove,
    RoomPolicy,
    Roster,
    SetPolicy,
)
from cloister.protocols.items import Shelf
from cloister.protocols.policy import Right, permits
from cloister.protocols.rounds import epochs
from cloister.protocols.rounds import run as runs
from cloister.protocols.rounds.agreement import Run, Turn
from cloister.protocols.rounds.commits import end_run
from cloister.protocols.rounds.epochs import (
    HEAD,
    ORDER,
    READ_ONLY,
    ROOM,
    Epoch,
    StandingOrder,
    check_not_silenced,
    current,
    open_runs,
    ordered_out,
    post_entry,
    record_of,
    room_of,
    runs_of,
    silenced,
    standing_orders,
    verify_key,
)
from cloister.protocols.rounds.run import MINUTE, NO_TH, RUN_LIFE, Order, Parking, Proposal, RunChange
from cloister.protocols.rounds.view import state_of

RUNS_MOST: Final = 4
"""Open runs of a room."""
HELD_MOST: Final = 4
"""Proposals kept until the log is read as far as they need."""
PARK_AFTER: Final = 10 * MINUTE
TURN_APART: Final = MINUTE
"""Between the turns of members who may do the same thing."""


@dataclass(frozen=True, slots=True)
class Held:
    """A proposal whose parent epoch is not there yet."""

    body: bytes
    sender: DeviceId
    deadline: int

    def encode(self) -> bytes:
        """The stored form."""
        return enc(self.body, self.sender, self.deadline)

    @classmethod
    def decode(cls, data: bytes) -> Held:
        """What `encode` gave."""
        fields = Fields.decode(data, "held proposal")
        held = cls(fields.octets("body"), fields.text("sender"), fields.uint("deadline"))
        fields.end()
        return held


def _encode_time(at: int) -> bytes:
    return enc(at)


def _decode_time(data: bytes) -> int:
    return Fields.decode(data, "time").uint("time")


SEEN: Shelf[int] = Shelf(b"seen", _encode_time, _decode_time)
"""Run id -> its deadline: no proposal is taken twice."""
PARKING: Shelf[int] = Shelf(b"parking", _encode_time, _decode_time)
"""Author of an order -> when a run of his order last parked devices."""
HERE: Shelf[int] = Shelf(b"here", _encode_time, _decode_time)
"""Parked device that answered -> when it is this device's turn to add it."""
HELD: Shelf[Held] = Shelf(b"held", Held.encode, Held.decode)


# --- orders of removal -------------------------------------------------------------------------------------


def counts(turn: epochs.Sitting, device: DeviceId, log_size: int) -> bool:
    """Whether the realm still counts the device at this log size (an expired one does)."""
    try:
        record_of(turn, device, log_size)
    except PeerError as error:
        return error.code not in ("revoked", "not_in_manifest", "unknown_sender")
    return True


def give_order(turn: Turn, epoch: Epoch, removed: Roster) -> None:
    """Sign an order, let it stand here, and post it to the room."""
    order = Order(
        suite=turn.agreement.suite,
        room=turn.room,
        epoch=epoch.number,
        th=epoch.th,
        author=turn.me.device,
        removed=removed,
        log_size=max(epoch.log_size, turn.me.directory().size),
    ).signed(turn.signing_key())
    entry_id, head = turn.rng(ID), turn.draft.get(HEAD)
    turn.draft.put(ORDER, order.id, StandingOrder(order=order, seen_at=turn.now, entry_id=entry_id))
    post_entry(turn, epoch, order.encode(), kind=EntryKind.HANDSHAKE, entry_id=entry_id, head=head)


@check("RUN-09")
def check_order_place(order: Order, turn: Turn, epoch: Epoch) -> None:
    """PeerError("wrong_context") unless the order was given in this room and epoch."""
    if (order.suite, order.room, order.epoch, order.th) != (
        turn.agreement.suite,
        turn.room,
        epoch.number,
        epoch.th,
    ) or order.log_size < epoch.log_size:
        raise PeerError("wrong_context", "an order of another room or epoch", check="RUN-09")


@check("RUN-10")
def check_order_right(order: Order, turn: Turn, epoch: Epoch) -> None:
    """PeerError("not_allowed") unless its author may put each of them out.

    By the policy anybody, else oneself, or a device that is out of the realm or expired for 30 days.
    """
    if order.author not in epoch.roster or not set(order.removed) <= set(epoch.roster):
        raise PeerError("roster", "an order by or about a stranger", check="RUN-10")
    if permits(epoch.policy, record_of(turn, order.author, epoch.log_size).user, Right.REMOVE):
        return
    for device in order.removed:
        given_up = not counts(turn, device, order.log_size) or turn.me.directory().stale(device, order.log_size)
        if device != order.author and not given_up:
            raise PeerError("not_allowed", "who may not remove", check="RUN-10")


def judge_order(turn: Turn, order: Order, epoch: Epoch) -> None:
    """Every check of an order given in the standing epoch; PeerError, or Behind."""
    check_reach(turn.me.directory(), order.log_size)
    check_order_place(order, turn, epoch)
    if order.author not in epoch.roster:
        raise PeerError("roster", "an order by a stranger")
    runs.check_order_signature(order, verify_key(turn, order.author, epoch.log_size))
    check_order_right(order, turn, epoch)


def adopt_order(turn: Turn, order: Order) -> None:
    """The order stands here; runs that leave its subject in are over, unless this device has confirmed them."""
    if turn.draft.get(ORDER, order.id) is not None:
        return
    turn.draft.put(ORDER, order.id, StandingOrder(order=order, seen_at=turn.now))
    for run in runs_of(turn.draft):
        if set(order.removed) & set(run.proposal.context.roster) and not run.confirmed_at:
            end_run(turn, run)


@check("RUN-11")
def check_author(order: Order, sender: DeviceId) -> None:
    """PeerError("inner_outer") unless the record that carries an order is its author's."""
    if order.author != sender:
        raise PeerError("inner_outer", check="RUN-11")


def take_order(turn: Turn, content: bytes, sender: DeviceId, epoch: Epoch) -> None:
    """An order found in the room's log."""
    order = Order.decode(content)
    check_author(order, sender)
    known = turn.draft.get(ORDER, order.id)
    if known is not None and not known.logged and sender in silenced(turn.draft):
        turn.draft.drop(ORDER, order.id)  # a proposal brought it first; in the log it comes after its author's removal
        return
    check_not_silenced(sender, silenced(turn.draft))
    if known is None:
        judge_order(turn, order, epoch)
        adopt_order(turn, order)
    _logged(turn, order)


def own_order_logged(turn: Turn, entry_id: bytes) -> None:
    """One's own entry came back: if it is an order, it counts from here on, unless another one silenced its author."""
    for suffix, item in list(turn.draft.all(ORDER)):
        if item.entry_id == entry_id:
            if turn.me.device in silenced(turn.draft):
                turn.draft.drop(ORDER, suffix)
            else:
                _logged(turn, item.order)


def _logged(turn: Turn, order: Order) -> None:
    standing = turn.draft.get(ORDER, order.id)
    if standing is not None:
        turn.draft.put(ORDER, order.id, replace(standing, logged=True))


def lapsed_members(turn: epochs.Sitting, epoch: Epoch) -> Roster:
    """Members that are revoked or out of their user's manifest by now."""
    size = turn.me.directory().size
    return tuple(device for device in epoch.roster if not counts(turn, device, size))


class Lapsed:
    """As `lapsed_members`, asked once for each size of the realm log and epoch."""

    __slots__ = ("_asked", "_found")

    def __init__(self) -> None:
        self._asked: tuple[int, bytes] | None = None
        self._found: Roster = ()

    def members(self, turn: epochs.Sitting, epoch: Epoch) -> Roster:
        """Who they are now."""
        asked = turn.me.directory().size, epoch.th
        if self._asked != asked:
            self._asked, self._found = asked, lapsed_members(turn, epoch)
        return self._found


def put_out_lapsed(turn: Turn, epoch: Epoch) -> None:
    """Order out the members that do not count in the realm any more; UsageError when this device is one."""
    lapsed = set(lapsed_members(turn, epoch)) - ordered_out(turn.draft)
    if turn.me.device in lapsed:
        raise UsageError("revoked")
    if lapsed:
        give_order(turn, epoch, tuple(sorted(lapsed)))


# --- opening a run -----------------------------------------------------------------------------------------


def roster_after(base: Roster, removed: frozenset[DeviceId], change: RunChange) -> Roster:
    """The new roster: base, less removed and parked, and the added."""
    return tuple(sorted((set(base) - removed - set(change.parked)) | set(change.added)))


def open_run(
    turn: Turn, *, added: Roster = (), policy: RoomPolicy | None = None, parking: Parking | None = None
) -> None:
    """Propose a run that carries out every standing order and these changes; who is out of the realm is put out first.

    UsageError where the roster cannot be; PeerError where a member does not count.
    """
    draft, epoch, state = turn.draft, current(turn.draft), room_of(turn.draft)
    if epoch is not None and draft.get(READ_ONLY) is None:
        put_out_lapsed(turn, epoch)
    base = epoch.roster if epoch else (turn.me.device,)
    orders = standing_orders(draft, base)
    change = RunChange(added=added, orders=tuple(order.encode() for order in orders), parking=parking)
    roster = roster_after(base, ordered_out(draft), change)
    if not 2 <= len(roster) <= turn.agreement.most:
        raise UsageError("quota", f"a room of this suite has 2 to {turn.agreement.most} devices")
    run_id, secret = runs.fresh_ids(turn.rng)
    context = Context(
        suite=turn.agreement.suite,
        variant=turn.agreement.variant,
        room=turn.room,
        epoch=epoch.number + 1 if epoch else 1,
        run_id=run_id,
        prev_th=epoch.th if epoch else NO_TH,
        proposer=turn.me.device,
        deadline=turn.now + RUN_LIFE,
        log_size=max(turn.me.directory().size, epoch.log_size if epoch else 0),
        roster=roster,
        policy=policy or state.policy,
    )
    party = party_of(context, turn.me.directory())
    proposal = Proposal(context=context, change=change, secret=secret, head=draft.get(HEAD))
    run = Run(proposal=proposal.signed(party.ctx, turn.signing_key()), opened_at=turn.now)
    turn.parties[run.id] = party
    replace_runs(turn, context)
    note_run(turn, run)
    draft.emit(
        OpenRun(
            run_id=run.id,
            room=turn.room if epoch else None,
            token=runs.access_token(turn.agreement.suite, secret),
            deadline=context.deadline,
            sealed=_mail(turn, run),
        )
    )
    turn.agreement.begin(turn, run)


def _mail(turn: Turn, run: Run) -> tuple[tuple[DeviceId, str, bytes], ...]:
    """M0 for every other device of the new roster, `parked` for those left out."""
    body, roster = run.proposal.encode(), run.proposal.context.roster
    proposals = [(device, "propose", body) for device in roster if device != turn.me.device]
    notice = enc("parked", turn.room, run.id, list(roster))
    return (*proposals, *((device, "parked", notice) for device in run.proposal.change.parked))


def replace_runs(turn: Turn, context: Context) -> None:
    """A proposer's new run takes the place of its older ones, but for those this device has confirmed."""
    for run in runs_of(turn.draft):
        if run.proposal.context.proposer == context.proposer and not run.confirmed_at:
            end_run(turn, run)


def note_run(turn: Turn, run: Run) -> None:
    """Remember that the run was seen, and whom it parks at whose order."""
    turn.draft.put(SEEN, run.id, run.proposal.context.deadline)
    if run.proposal.change.parking is not None:
        for order in run.proposal.orders():
            turn.draft.put(PARKING, order.author.encode(), turn.now)


# --- changes that are asked for ----------------------------------------------------------------------------


def ask(turn: Turn, changes: Sequence[Change]) -> None:
    """Carry out a caller's wish as far as it is this device's to do. UsageError, or PeerError about a device."""
    draft, epoch, state = turn.draft, current(turn.draft), room_of(turn.draft)
    added = tuple(sorted({change.device for change in changes if isinstance(change, Add)}))
    removed = {change.device for change in changes if isinstance(change, Remove)}
    if any(isinstance(change, Leave) for change in changes):
        removed.add(turn.me.device)
    policies = [change.policy for change in changes if isinstance(change, SetPolicy)]
    policy = policies[-1] if policies else None
    if state.out or (removed and draft.get(READ_ONLY) is not None):
        raise NotReady(state_of(draft))
    base = epoch.roster if epoch else (turn.me.device,)
    if set(added) & set(base) or not removed <= set(base):
        raise UsageError("roster", "add who is out, remove who is in")
    if epoch is None:
        ask_first(turn, added, removed, policy)
        return
    for right in _rights(added, policy, removed):
        if not permits(epoch.policy, epochs.record_of(turn, turn.me.device, epoch.log_size).user, right):
            raise UsageError("not_allowed", f"{right.value} is not for everybody here")
    ask_next(turn, epoch, added, frozenset(removed), policy)


def _rights(added: Roster, policy: RoomPolicy | None, removed: set[DeviceId]) -> list[Right]:
    """The rights, removal apart, that these changes use."""
    rights = [Right.ADD] if added else []
    rights += [Right.SET_POLICY] if policy else []
    return rights if rights or removed else [Right.REKEY]


def ask_first(turn: Turn, added: Roster, removed: set[DeviceId], policy: RoomPolicy | None) -> None:
    """The run that makes the room; a second attempt is a new room, for the first may still be completed."""
    if removed or not added:
        raise UsageError("not_ready", "the room begins when somebody is added")
    state = room_of(turn.draft)
    if state.tried:
        raise UsageError("not_ready", "propose it again as a new room")
    turn.draft.put(ROOM, b"", replace(state, tried=True, policy=policy or state.policy))
    open_run(turn, added=added, policy=policy)


def ask_next(turn: Turn, epoch: Epoch, added: Roster, removed: frozenset[DeviceId], policy: RoomPolicy | None) -> None:
    """A change of a standing epoch: the order at once, the run by whoever stays."""
    mine = [run for run in open_runs(turn.draft) if run.proposal.context.proposer == turn.me.device]
    if removed:
        give_order(turn, epoch, tuple(sorted(removed)))
        _judge_own(turn, epoch)
    elif mine:
        raise NotReady(state_of(turn.draft), turn.agreement.missing(turn.draft, mine[-1]))
    out = ordered_out(turn.draft)
    left = set(epoch.roster) - out | set(added)
    if turn.me.device not in out and len(left) >= 2:
        open_run(turn, added=added, policy=policy)


def _judge_own(turn: Turn, epoch: Epoch) -> None:
    """One's own order meets the rules that others will judge it by, and ends the runs that do not carry it out."""
    for suffix, item in list(turn.draft.all(ORDER)):
        if item.order.author == turn.me.device and item.order.th == epoch.th:
            judge_order(turn, item.order, epoch)
            turn.draft.drop(ORDER, suffix)
            adopt_order(turn, item.order)
            turn.draft.put(ORDER, suffix, item)
