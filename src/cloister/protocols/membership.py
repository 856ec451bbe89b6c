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
- A device that does not count in the realm any more may be put out by any member.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError, UsageError
from cloister.protocols import run as runs
from cloister.protocols.agreement import RUN, Phase, Run, Turn
from cloister.protocols.checks import check
from cloister.protocols.context import MEMBERS_MOST, Context, Party, check_reach, party_of
from cloister.protocols.epochs import (
    HEAD,
    ORDER,
    READ_ONLY,
    Epoch,
    StandingOrder,
    current,
    end_run,
    ordered_out,
    record_of,
    room_of,
    runs_of,
    seal_entry,
    standing_orders,
    verify_key,
)
from cloister.protocols.forms import ID, texts
from cloister.protocols.interface import (
    Channel,
    ChannelKind,
    DeviceId,
    Direct,
    EntryKind,
    Envelope,
    Follow,
    OpenRun,
    Post,
    RoomPolicy,
    Roster,
)
from cloister.protocols.items import Draft, Shelf
from cloister.protocols.policy import Right, check_permitted, permits
from cloister.protocols.run import MINUTE, NO_TH, RUN_LIFE, Order, Parking, Proposal, RunChange

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


def counts(turn: Turn, device: DeviceId, log_size: int) -> bool:
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
    turn.draft.put(ORDER, order.id, StandingOrder(order=order, seen_at=turn.now))
    entry_id, head = turn.rng(ID), turn.draft.get(HEAD)
    payload = seal_entry(turn, epoch, order.encode(), kind=EntryKind.HANDSHAKE, entry_id=entry_id, head=head)
    channel = Channel(ChannelKind.ROOM, turn.room)
    turn.draft.emit(Post(channel=channel, kind=EntryKind.HANDSHAKE, entry_id=entry_id, payload=payload))


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

    By the policy anybody, else oneself, or a device that is out of the realm.
    """
    if order.author not in epoch.roster or not set(order.removed) <= set(epoch.roster):
        raise PeerError("roster", "an order by or about a stranger", check="RUN-10")
    if permits(epoch.policy, record_of(turn, order.author, epoch.log_size).user, Right.REMOVE):
        return
    for device in order.removed:
        if device != order.author and counts(turn, device, order.log_size):
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
    judge_order(turn, order, epoch)
    adopt_order(turn, order)


def lapsed_members(turn: Turn, epoch: Epoch) -> Roster:
    """Members that are revoked or out of their user's manifest by now."""
    size = turn.me.directory().size
    return tuple(device for device in epoch.roster if not counts(turn, device, size))


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


# --- entering a run ----------------------------------------------------------------------------------------


@check("RUN-12")
def check_run_unseen(draft: Draft, run_id: bytes) -> None:
    """PeerError("replay") for a run that was proposed before."""
    if draft.get(SEEN, run_id) is not None:
        raise PeerError("replay", check="RUN-12")


@check("RUN-13")
def check_few_runs(draft: Draft, context: Context) -> None:
    """PeerError("quota") when the room has RUNS_MOST open runs by others already."""
    others = [run for run in runs_of(draft) if run.proposal.context.proposer != context.proposer]
    if sum(run.phase is not Phase.EXPECT_COMMIT for run in others) >= RUNS_MOST:
        raise PeerError("quota", "too many open runs", check="RUN-13")


@check("RUN-14")
def check_parent(context: Context, epoch: Epoch) -> None:
    """PeerError("stale_epoch") unless the run ends the standing epoch, at a log size not below its own."""
    if context.prev_th != epoch.th or context.epoch != epoch.number + 1 or context.log_size < epoch.log_size:
        raise PeerError("stale_epoch", "a run that does not follow the standing epoch", check="RUN-14")


@check("RUN-15")
def check_roster(proposal: Proposal, epoch: Epoch, removed: frozenset[DeviceId]) -> None:
    """PeerError("roster") unless the new roster is the old one and the signed change, proposed by one who stays."""
    change, context = proposal.change, proposal.context
    base = set(epoch.roster)
    follows = (
        context.proposer in base - removed
        and not set(change.added) & base
        and context.roster == roster_after(epoch.roster, removed, change)
    )
    if not follows:
        raise PeerError("roster", check="RUN-15")


@check("RUN-16")
def check_orders_met(proposal: Proposal, out: frozenset[DeviceId]) -> None:
    """PeerError("roster") when the run leaves somebody in against whom an order stands here."""
    if out & set(proposal.context.roster):
        raise PeerError("roster", "a standing removal is not carried out", check="RUN-16")


@check("RUN-17")
def check_changes_allowed(proposal: Proposal, epoch: Epoch, user: str) -> None:
    """PeerError("not_allowed") unless the policy gives the proposer each right that the run uses."""
    change, policy = proposal.change, proposal.context.policy
    if change.added:
        check_permitted(epoch.policy, user, Right.ADD)
    if policy != epoch.policy:
        check_permitted(epoch.policy, user, Right.SET_POLICY)
    if not change.added and not change.orders and policy == epoch.policy:
        check_permitted(epoch.policy, user, Right.REKEY)


@check("RUN-18")
def check_parking(turn: Turn, proposal: Proposal, orders: tuple[Order, ...]) -> None:
    """PeerError("roster") or ("not_allowed") unless devices are parked by the rules.

    An order must be carried out; they were asked in a run 10 minutes ago and had not answered by the entry named;
    no author of these orders has had a freeze that parked somebody for a day.
    """
    parking = proposal.change.parking
    if parking is None:
        return
    past = [turn.draft.get(PARKING, order.author.encode()) or 0 for order in orders]
    if not orders or any(turn.now < at + RUN_LIFE - runs.CLOCK_SKEW for at in past if at):
        raise PeerError("not_allowed", "one freeze that parks somebody per author and day", check="RUN-18")
    basis = turn.draft.get(RUN, parking.run_id)
    if basis is None:
        return
    early = proposal.opened() < basis.proposal.opened() + PARK_AFTER - runs.CLOCK_SKEW
    asked = set(parking.devices) <= set(basis.proposal.context.roster)
    if early or not asked or any(turn.agreement.answered(turn.draft, basis, d, parking.seq) for d in parking.devices):
        raise PeerError("roster", "parked without cause", check="RUN-18")


@check("RUN-19")
def check_invited(turn: Turn, proposal: Proposal) -> None:
    """PeerError("not_allowed") unless this newcomer is among the added and the policy lets the proposer add it.

    In a new room all but the proposer are added, and the proposer is an owner.
    """
    context, user = proposal.context, record_of(turn, proposal.context.proposer, proposal.context.log_size).user
    check_permitted(context.policy, user, Right.ADD)
    if context.prev_th == NO_TH:
        added = set(context.roster) - {context.proposer}
        fits = user in context.policy.owners and context.epoch == 1 and set(proposal.change.added) == added
    else:
        fits = turn.me.device in proposal.change.added or room_of(turn.draft).out == "locked"
    if not fits:
        raise PeerError("not_allowed", "not invited by these changes", check="RUN-19")


def receive_proposal(turn: Turn, envelope: Envelope) -> None:
    """M0 from the mailbox: enter the run, hold it until the log is read that far, or refuse."""
    proposal = Proposal.decode(envelope.payload)
    runs.check_outer(proposal, envelope.sender)
    party = judge_proposal(turn, proposal)
    check_few_runs(turn.draft, proposal.context)
    epoch, context = current(turn.draft), proposal.context
    if room_of(turn.draft).out or epoch is None:
        check_invited(turn, proposal)
    elif context.prev_th != epoch.th and context.epoch > epoch.number + 1:
        _hold(turn, envelope, proposal)
        return
    else:
        judge_change(turn, proposal, epoch)
    enter(turn, proposal, party)


def judge_proposal(turn: Turn, proposal: Proposal) -> Party:
    """The checks of a proposal that need no epoch; the party, with its certified keys."""
    context = proposal.context
    runs.check_suite(context, turn.agreement.suite)
    if context.room != turn.room:
        raise PeerError("misrouted", "a proposal for another room")
    runs.check_variant(context, turn.agreement.variant)
    check_run_unseen(turn.draft, context.run_id)
    runs.check_deadline(context, turn.now)
    runs.check_size(context, turn.agreement.most)
    runs.check_addressed(context, turn.me.device)
    party = party_of(context, turn.me.directory())
    runs.check_proposal_signature(proposal, party)
    return party


def judge_change(turn: Turn, proposal: Proposal, epoch: Epoch) -> None:
    """The checks of a proposal by a member of the epoch that it ends; its orders stand here afterwards."""
    check_parent(proposal.context, epoch)
    orders = proposal.orders()
    for order in orders:
        if turn.draft.get(ORDER, order.id) is None:
            judge_order(turn, order, epoch)
    removed = frozenset(device for order in orders for device in order.removed)
    check_roster(proposal, epoch, removed)
    check_orders_met(proposal, ordered_out(turn.draft))
    user = record_of(turn, proposal.context.proposer, epoch.log_size).user
    check_changes_allowed(proposal, epoch, user)
    check_parking(turn, proposal, orders)
    for order in orders:
        adopt_order(turn, order)


def _hold(turn: Turn, envelope: Envelope, proposal: Proposal) -> None:
    """Its parent is an epoch that the log has not shown yet."""
    if len(list(turn.draft.all(HELD))) >= HELD_MOST:
        raise PeerError("quota", "too many proposals ahead of the log")
    held = Held(envelope.payload, proposal.context.proposer, proposal.context.deadline)
    turn.draft.put(HELD, proposal.context.run_id, held)


def enter(turn: Turn, proposal: Proposal, party: Party) -> None:
    """Take part in the run."""
    context = proposal.context
    run = Run(proposal=proposal, opened_at=turn.now)
    turn.parties[run.id] = party
    replace_runs(turn, context)
    note_run(turn, run)
    turn.draft.emit(Follow(run_id=run.id, token=runs.access_token(turn.agreement.suite, proposal.secret)))
    turn.agreement.begin(turn, run)


# --- parked devices ----------------------------------------------------------------------------------------


def _read_notice(turn: Turn, body: bytes, kind: str) -> Roster:
    """The members named in a `parked` notice, none in a `here`; PeerError bad_encoding or misrouted."""
    fields = Fields.decode(body, kind)
    fields.kind(kind)
    room, _ = fields.octets("room", ID), fields.octets("run", ID)
    members = texts(fields, "members", MEMBERS_MOST) if kind == "parked" else ()
    fields.end()
    if room != turn.room:
        raise PeerError("misrouted", "a notice for another room")
    return members


@check("RUN-20")
def check_parked_by_member(turn: Turn, sender: DeviceId, members: Roster) -> None:
    """PeerError("not_allowed") unless a member of the room, as it is known here, says who went on without me."""
    epoch = current(turn.draft)
    known = set(epoch.roster if epoch else ()).union(*(run.proposal.context.roster for run in runs_of(turn.draft)))
    if sender not in members or not {sender, *members} <= known or turn.me.device in members:
        raise PeerError("not_allowed", "a notice by a stranger", check="RUN-20")


def receive_parked(turn: Turn, envelope: Envelope) -> None:
    """The others went on without this device: tell them that it is here."""
    members = _read_notice(turn, envelope.payload, "parked")
    check_parked_by_member(turn, envelope.sender or "", members)
    body = Fields.decode(envelope.payload, "parked")
    body.kind("parked")
    answer = enc("here", body.octets("room", ID), body.octets("run", ID))
    turn.draft.emit(*(Direct(device=device, kind="here", body=answer) for device in members))


@check("RUN-21")
def check_was_parked(turn: Turn, sender: DeviceId) -> None:
    """PeerError("unknown_sender") unless the device was parked, or is by a run under way."""
    parked = {*room_of(turn.draft).parked}.union(*(run.proposal.change.parked for run in runs_of(turn.draft)))
    if sender not in parked:
        raise PeerError("unknown_sender", check="RUN-21")


def receive_here(turn: Turn, envelope: Envelope) -> None:
    """A parked device is back: it is added when it is this device's turn and nobody did it before."""
    _read_notice(turn, envelope.payload, "here")
    sender, epoch = envelope.sender or "", current(turn.draft)
    check_was_parked(turn, sender)
    if epoch is None:
        return
    user = record_of(turn, turn.me.device, epoch.log_size).user
    if permits(epoch.policy, user, Right.ADD):
        turn.draft.put(HERE, sender.encode(), turn.now + TURN_APART * epoch.roster.index(turn.me.device))
