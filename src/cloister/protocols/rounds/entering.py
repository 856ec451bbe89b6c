"""Proposals from the mailbox, judged and entered; devices that were parked, asked in again.

Source: docs/spec/suites.md ("Membership"); A.0 of the protocols ("Run channel", "Membership change").

Invariants
- Every receiver checks each change against the policy and roster of the epoch that it ends. A newcomer, who has not
  seen that epoch, checks that it is invited, by whom, and that all keys are certified.
- A proposal that runs ahead of the log is held, four at most and one of a member, until the log is read that far.
- A device is parked only for a removal, after ten minutes, for what it had not said by a named place in the run's log,
  and by one author's orders once a day.
"""

from __future__ import annotations

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError
from cloister.protocols.checks import check
from cloister.protocols.context import MEMBERS_MOST, Context, Party, check_reach, party_of
from cloister.protocols.forms import ID, texts
from cloister.protocols.interface import DeviceId, Direct, Envelope, Follow, Roster
from cloister.protocols.items import Draft
from cloister.protocols.policy import Right, check_permitted, permits
from cloister.protocols.rounds import run as runs
from cloister.protocols.rounds.agreement import RUN, Phase, Run, Turn
from cloister.protocols.rounds.epochs import ORDER, Epoch, current, open_runs, ordered_out, record_of, room_of, runs_of
from cloister.protocols.rounds.membership import (
    HELD,
    HELD_MOST,
    HERE,
    PARK_AFTER,
    PARKING,
    RUNS_MOST,
    SEEN,
    TURN_APART,
    Held,
    adopt_order,
    judge_order,
    note_run,
    replace_runs,
    roster_after,
)
from cloister.protocols.rounds.run import NO_TH, RUN_LIFE, Order, Proposal

# --- entering a run ----------------------------------------------------------------------------------------


@check("RUN-12")
def check_run_unseen(draft: Draft, run_id: bytes) -> None:
    """PeerError("replay") for a run that was proposed before."""
    if draft.get(SEEN, run_id) is not None:
        raise PeerError("replay", check="RUN-12")


@check("RUN-13")
def check_few_runs(draft: Draft, context: Context) -> None:
    """PeerError("quota") when RUNS_MOST other members have open runs already: one who never confirms counts once."""
    having = {run.proposal.context.proposer for run in open_runs(draft) if run.phase is not Phase.EXPECT_COMMIT}
    if len(having - {context.proposer}) >= RUNS_MOST:
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

    An order must be carried out; they were asked in a run 10 minutes ago, known here, and had not answered by the entry
    that the proposer names, nor by the time of the proposal as the relay dates entries; no author of these orders has
    had a freeze that parked somebody for a day.
    """
    parking = proposal.change.parking
    if parking is None:
        return
    past = [turn.draft.get(PARKING, order.author.encode()) or 0 for order in orders]
    if not orders or any(turn.now < at + RUN_LIFE - runs.CLOCK_SKEW for at in past if at):
        raise PeerError("not_allowed", "one freeze that parks somebody per author and day", check="RUN-18")
    basis = turn.draft.get(RUN, parking.run_id)
    if basis is None:
        raise PeerError("roster", "parked for a run that nobody here was asked in", check="RUN-18")
    before = proposal.opened() - runs.CLOCK_SKEW
    early = proposal.opened() < basis.proposal.opened() + PARK_AFTER - runs.CLOCK_SKEW
    asked = set(parking.devices) <= set(basis.proposal.context.roster)
    if (
        early
        or not asked
        or any(turn.agreement.answered(turn.draft, basis, device, parking.seq, before) for device in parking.devices)
    ):
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
    if epoch is None and _comes_early(turn, proposal):
        _hold(turn, envelope, proposal)
        return
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
    for order in proposal.orders():  # now, or what is held would hold up the commit that it is judged after
        check_reach(turn.me.directory(), order.log_size)
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


def _comes_early(turn: Turn, proposal: Proposal) -> bool:
    """Whether a newcomer, still in the run that takes it in, is asked as a member of the epoch that this run makes."""
    if proposal.context.prev_th == NO_TH or turn.me.device in proposal.change.added:
        return False
    return any(run.proposal.context.epoch < proposal.context.epoch for run in runs_of(turn.draft))


def _hold(turn: Turn, envelope: Envelope, proposal: Proposal) -> None:
    """Its parent is an epoch that the log has not shown yet. A member's newest proposal takes its older one's place."""
    for suffix, item in list(turn.draft.all(HELD)):
        if item.sender == proposal.context.proposer:
            turn.draft.drop(HELD, suffix)
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
