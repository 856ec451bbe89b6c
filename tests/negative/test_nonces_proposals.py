"""Suite `nonces`: proposals (M0), orders of removal and notices, each refused by the check that is there for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cloister.codec.cbor import enc
from cloister.errors import PeerError, UsageError
from cloister.protocols.context import party_of
from cloister.protocols.interface import (
    READ_ONLY_ITEM,
    Add,
    Behind,
    ChannelKind,
    Direct,
    EntryKind,
    Envelope,
    Fault,
    Follow,
    Leave,
    Me,
    Need,
    NotReady,
    OpenRun,
    Rekey,
    Remove,
    SetPolicy,
    State,
    Who,
)
from cloister.protocols.rounds import run as runs
from cloister.protocols.rounds.epochs import current
from cloister.protocols.rounds.run import NO_TH, Parking, RunChange
from support.insider import SUITE, Standing, standing
from support.suite_net import (
    DAY,
    MAILBOX,
    MINUTE,
    NOW,
    POLICY,
    ROOM,
    Net,
    agreed,
    device_name,
    dump,
    keys_of,
    refusal,
    seeded,
)

X = device_name("x")
Y = device_name("y")


def test_a_control_the_unaltered_rekey_is_entered() -> None:
    room = standing()
    effects = room.session().receive(room.propose(room.context()), NOW, seeded(1))
    assert [effect for effect in effects if isinstance(effect, Follow)]
    assert not [effect for effect in effects if isinstance(effect, Fault)]


# --- the proposal itself ---


def test_a_proposal_that_the_proposer_did_not_sign_is_refused() -> None:  # RUN-02
    room = standing()
    refusal(room.session(), room.propose(room.context(), by=2), code="bad_sig", check="RUN-02")


def test_a_proposal_whose_secret_was_replaced_is_refused() -> None:  # RUN-02
    room = standing()
    envelope = room.propose(room.context())
    swapped = runs.Proposal.decode(envelope.payload)
    payload = replace(swapped, secret=bytes([1]) * 32).encode()
    refusal(room.session(), replace(envelope, payload=payload), code="bad_sig", check="RUN-02")


def test_a_proposer_outside_the_new_roster_is_refused() -> None:  # RUN-02
    room = standing()
    context = room.context(roster=tuple(sorted((*room.epoch.roster[1:], X))))
    refusal(room.session(), room.propose(context, RunChange(added=(X,))), code="unknown_sender", check="RUN-02")


def test_a_proposal_from_another_mailbox_is_refused() -> None:  # RUN-03
    room = standing()
    refusal(
        room.session(),
        room.propose(room.context(), sender=room.nodes[2].name),
        code="inner_outer",
        check="RUN-03",
    )


def test_a_proposal_of_another_suite_is_refused() -> None:  # RUN-04
    room = standing()
    refusal(room.session(), room.propose(room.context(suite="shares")), code="wrong_context", check="RUN-04")


def test_a_proposal_of_another_variant_is_refused() -> None:  # RUN-05
    room = standing()
    refusal(room.session(), room.propose(room.context(variant="fs=0")), code="not_allowed", check="RUN-05")


@pytest.mark.parametrize("deadline", [NOW, NOW - 1, NOW + DAY + 3 * MINUTE])
def test_a_deadline_that_is_past_or_too_far_is_refused(deadline: int) -> None:  # RUN-06
    room = standing()
    refusal(room.session(), room.propose(room.context(deadline=deadline)), code="stale_timestamp", check="RUN-06")


def test_a_roster_that_is_too_large_is_refused() -> None:  # RUN-07
    room = standing()
    many = tuple(sorted((*room.epoch.roster, *(device_name(f"z{i:02}") for i in range(30)))))
    refusal(room.session(), room.propose(room.context(roster=many)), code="quota", check="RUN-07")
    alone = room.context(roster=(room.nodes[room.victim].name,))
    refusal(room.session(), room.propose(alone), code="quota", check="RUN-07")


def test_a_proposal_without_this_device_is_refused() -> None:  # RUN-08
    room = standing()
    context = room.context(roster=tuple(d for d in room.epoch.roster if d != room.nodes[room.victim].name))
    refusal(room.session(), room.propose(context), code="misrouted", check="RUN-08")


def test_a_proposal_for_another_room_is_refused() -> None:
    room = standing()
    refusal(room.session(), room.propose(room.context(room=bytes(16))), code="misrouted")


def test_a_proposal_that_is_not_whole_is_refused() -> None:
    room = standing()
    envelope = room.propose(room.context())
    for payload in (b"", envelope.payload[:-1], envelope.payload + b"\0", enc("propose"), bytes(70_000)):
        refusal(room.session(), replace(envelope, payload=payload), code="bad_encoding")


def test_a_roster_that_is_not_sorted_is_refused() -> None:
    room = standing()
    backwards = room.context(roster=tuple(reversed(room.epoch.roster)))
    refusal(room.session(), room.propose(backwards), code="bad_encoding")


def test_a_later_version_is_unsupported() -> None:
    room = standing()
    envelope = room.propose(room.context())
    later = envelope.payload.replace(b"fnonces\x01", b"fnonces\x02")
    refusal(room.session(), replace(envelope, payload=later), code="unsupported")


def test_a_member_without_rsa_keys_is_refused() -> None:  # CTX-01
    room = standing()
    context = room.context(roster=tuple(sorted((*room.epoch.roster, Y))))
    refusal(room.session(), room.propose(context, RunChange(added=(Y,))), code="not_ready", check="CTX-01")


def test_a_member_that_the_realm_does_not_know_is_refused() -> None:
    room = standing()
    context = room.context(roster=tuple(sorted((*room.epoch.roster, device_name("nobody")))))
    refusal(room.session(), room.propose(context), code="unknown_sender")


def test_a_proposal_ahead_of_the_realm_log_asks_for_it_first() -> None:
    room = standing()
    session = room.session()
    size = room.net.directory.size + 5
    effects = session.receive(room.propose(room.context(log_size=size)), NOW, seeded(1))
    assert effects == (Need(what="realm", ids=(size.to_bytes(8, "big"),)),)


def test_a_run_is_entered_once() -> None:  # RUN-12
    room = standing()
    session = room.session()
    envelope = room.propose(room.context())
    session.receive(envelope, NOW, seeded(1))
    refusal(session, envelope, code="replay", check="RUN-12")


def test_an_open_run_of_a_fifth_member_is_refused() -> None:  # RUN-13
    net, nodes = agreed(SUITE, 6, "many runs")
    session = nodes[5].live
    for node in nodes[:5]:
        nodes[5].silent = lambda envelope: True
        node.silent = lambda envelope: True
        node.change(Rekey())
    mail = [item for item in net.mail[nodes[5].name] if item.kind == "propose"]
    for envelope in mail[:4]:
        session.receive(envelope, net.now, seeded(1))
    refusal(session, mail[4], net.now, code="quota", check="RUN-13")


def test_a_run_that_does_not_follow_the_standing_epoch_is_refused() -> None:  # RUN-14
    room = standing()
    for context in (
        room.context(prev_th=bytes(32)),
        room.context(epoch=1),
        room.context(log_size=room.epoch.log_size - 1),
    ):
        refusal(room.session(), room.propose(context), code="stale_epoch", check="RUN-14")


def test_a_roster_that_does_not_follow_from_the_change_is_refused() -> None:  # RUN-15
    room = standing()
    more = tuple(sorted((*room.epoch.roster, X)))
    refusal(room.session(), room.propose(room.context(roster=more)), code="roster", check="RUN-15")
    fewer = tuple(d for d in room.epoch.roster if d != room.nodes[2].name)
    refusal(room.session(), room.propose(room.context(roster=fewer)), code="roster", check="RUN-15")
    again = RunChange(added=(room.nodes[2].name,))
    refusal(room.session(), room.propose(room.context(), again), code="roster", check="RUN-15")


def test_a_stranger_who_proposes_itself_is_refused() -> None:  # RUN-15
    room = standing()
    context = room.context(proposer=X, roster=tuple(sorted((*room.epoch.roster, X))))
    refusal(room.session(), room.propose(context, RunChange(added=(X,)), by=3), code="roster", check="RUN-15")


def test_a_run_that_leaves_an_ordered_out_device_in_is_refused() -> None:  # RUN-16
    room = standing()
    session = room.session()
    order = room.order(0, (room.nodes[2].name,))
    session.receive(room.record(0, order.encode(), kind=EntryKind.HANDSHAKE), NOW, seeded(1))
    assert session.view.state is State.FROZEN
    refusal(session, room.propose(room.context()), code="roster", check="RUN-16")


def test_changes_that_the_policy_forbids_are_refused() -> None:  # RUN-17, POL-01
    room = standing()
    policy = replace(POLICY, title="mine now")
    context = room.context(policy=policy, proposer=room.nodes[2].name)
    refusal(room.session(), room.propose(context, by=2), code="not_allowed", check="POL-01")
    allowed = room.session().receive(room.propose(room.context(policy=policy)), NOW, seeded(1))
    assert [effect for effect in allowed if isinstance(effect, Follow)]


@pytest.mark.parametrize("right", ["may_add", "may_rekey"])
def test_members_need_the_right_that_a_run_uses(right: str) -> None:  # RUN-17, POL-01
    net = Net(seed=right)
    nodes = [net.node(SUITE, user, index) for index, user in enumerate("abc")]
    nodes[0].create(ROOM, replace(POLICY, **{right: Who.OWNERS}))  # type: ignore[arg-type]
    nodes[0].change(*(Add(node.name) for node in nodes[1:]))
    net.settle()
    wish = Rekey() if right == "may_rekey" else Add(net.directory.enrol("x", 3))
    with pytest.raises(UsageError) as error:
        nodes[1].change(wish)
    assert error.value.code == "not_allowed"
    # the same, by a member whose own client does not ask
    epoch = current(nodes[1].live._draft())  # type: ignore[attr-defined]
    assert epoch is not None
    forger = Standing(net, nodes, epoch, 2)
    added = (X,) if right == "may_add" else ()
    context = forger.context(proposer=nodes[1].name, roster=tuple(sorted({*epoch.roster, *added})), policy=epoch.policy)
    envelope = forger.propose(context, RunChange(added=added), by=1)
    refusal(nodes[2].live, envelope, code="not_allowed", check="POL-01")


# --- orders ---


def test_an_order_that_its_author_did_not_sign_is_refused() -> None:  # RUN-01
    room = standing()
    order = room.order(0, (room.nodes[2].name,), by=2)
    refusal(
        room.session(),
        room.record(0, order.encode(), kind=EntryKind.HANDSHAKE),
        code="bad_sig",
        check="RUN-01",
    )


@pytest.mark.parametrize(
    "changes",
    [{"room": bytes(16)}, {"epoch": 7}, {"th": bytes(32)}, {"suite": "shares"}, {"log_size": 1}],
    ids=["room", "epoch", "th", "suite", "log size"],
)
def test_an_order_of_another_place_is_refused(changes: dict[str, object]) -> None:  # RUN-09
    room = standing()
    order = room.order(0, (room.nodes[2].name,), **changes)  # type: ignore[arg-type]
    refusal(
        room.session(),
        room.record(0, order.encode(), kind=EntryKind.HANDSHAKE),
        code="wrong_context",
        check="RUN-09",
    )


def test_an_order_by_one_who_may_not_remove_is_refused() -> None:  # RUN-10
    room = standing()
    order = room.order(2, (room.nodes[0].name,))
    refusal(
        room.session(),
        room.record(2, order.encode(), kind=EntryKind.HANDSHAKE),
        code="not_allowed",
        check="RUN-10",
    )


def test_an_order_about_a_stranger_is_refused() -> None:  # RUN-10
    room = standing()
    order = room.order(0, (X,))
    refusal(
        room.session(),
        room.record(0, order.encode(), kind=EntryKind.HANDSHAKE),
        code="roster",
        check="RUN-10",
    )


def test_an_order_carried_by_another_members_record_is_refused() -> None:  # RUN-11
    room = standing()
    order = room.order(0, (room.nodes[2].name,))
    refusal(
        room.session(),
        room.record(2, order.encode(), kind=EntryKind.HANDSHAKE),
        code="inner_outer",
        check="RUN-11",
    )


def test_an_order_by_a_stranger_inside_a_proposal_is_refused() -> None:
    room = standing()
    key = keys_of(3).rsa_sign
    assert key is not None
    order = replace(room.order(0, (room.nodes[2].name,)), author=X).signed(key)
    context = room.context(roster=room.epoch.roster[:2])
    envelope = room.propose(context, RunChange(orders=(order.encode(),)))
    refusal(room.session(), envelope, code="roster")


@pytest.mark.parametrize("removed", [(), ("b", "a"), ("a", "a")])
def test_an_order_that_names_nobody_or_somebody_twice_is_refused(removed: tuple[str, ...]) -> None:
    room = standing()
    order = replace(room.order(0, (room.nodes[2].name,)), removed=removed)
    refusal(room.session(), room.record(0, order.encode(), kind=EntryKind.HANDSHAKE), code="bad_encoding")


def test_an_order_ahead_of_the_realm_log_asks_for_it_first() -> None:
    room = standing()
    order = room.order(0, (room.nodes[2].name,), log_size=99)
    effects = room.session().receive(room.record(0, order.encode(), kind=EntryKind.HANDSHAKE), NOW, seeded(1))
    assert effects == (Need(what="realm", ids=((99).to_bytes(8, "big"),)),)


def test_an_order_from_a_proposal_freezes_the_room_before_the_log_shows_it() -> None:
    room = standing()
    session = room.session()
    order = room.order(0, (room.nodes[2].name,))
    context = room.context(roster=tuple(d for d in room.epoch.roster if d != room.nodes[2].name))
    effects = session.receive(room.propose(context, RunChange(orders=(order.encode(),))), NOW, seeded(1))
    assert [effect for effect in effects if isinstance(effect, Follow)]
    assert session.view.state is State.FROZEN
    with pytest.raises(NotReady):
        session.seal(b"x", bytes(16), None, NOW, seeded(1))
    later = session.receive(room.record(0, order.encode(), kind=EntryKind.HANDSHAKE), NOW, seeded(1))
    assert not [effect for effect in later if isinstance(effect, Fault)]


# --- parking ---


def _parking(room_run: bytes, *devices: str, seq: int = 0) -> RunChange:
    room = standing()
    order = room.order(0, (room.nodes[2].name,))
    return RunChange(
        orders=(order.encode(),), parking=Parking(devices=tuple(sorted(devices)), run_id=room_run, seq=seq)
    )


def test_parking_without_an_order_is_refused() -> None:  # RUN-18
    room = standing()
    parked = room.nodes[2].name
    context = room.context(roster=tuple(d for d in room.epoch.roster if d != parked))
    change = RunChange(parking=Parking(devices=(parked,), run_id=bytes(16), seq=0))
    refusal(room.session(), room.propose(context, change), code="not_allowed", check="RUN-18")


def test_parking_is_judged_by_the_run_that_was_let_pass() -> None:  # RUN-18
    net, nodes = agreed(SUITE, 4, "parking")
    a, b, c, d = nodes
    for node in nodes[1:]:
        node.silent = lambda envelope: True
    a.change(Remove(d.name))
    b.silent = None
    net.settle()
    first = net.mail[c.name][0]
    # nothing but time makes it lawful: the same parking at once is refused, after ten minutes it is taken
    net.pass_time(10 * MINUTE)
    a.wake()
    again = net.mail[b.name][-1]
    assert again.kind == "propose"
    session = SUITE.restore(b.me, b.items)
    early = replace(runs.Proposal.decode(again.payload))
    assert early.change.parked == (c.name,)
    assert runs.Proposal.decode(first.payload).context.run_id == early.change.parking.run_id  # type: ignore[union-attr]
    effects = session.receive(again, net.now, seeded(1))
    assert not [effect for effect in effects if isinstance(effect, Fault)]


def test_parking_before_ten_minutes_is_refused() -> None:  # RUN-18
    _parking_refused(after=5 * MINUTE, parked="c", code="roster")


def test_parking_somebody_who_answered_is_refused() -> None:  # RUN-18
    _parking_refused(after=10 * MINUTE + 1, parked="b", code="roster")


def test_parking_somebody_who_was_not_asked_is_refused() -> None:  # RUN-18
    _parking_refused(after=10 * MINUTE + 1, parked="d", code="roster")


def test_a_second_freeze_of_one_author_within_a_day_is_refused() -> None:  # RUN-18
    _parking_refused(after=10 * MINUTE + 1, parked="c", code="not_allowed", twice=True)


def test_parking_for_an_unknown_run_is_refused() -> None:  # RUN-18
    _parking_refused(after=10 * MINUTE + 1, parked="c", code="roster", basis=bytes(16))


def test_parking_judged_at_a_time_before_the_answers_is_refused() -> None:  # RUN-18
    _parking_refused(after=10 * MINUTE + 1, parked="b", code="roster", seq=0)


def _parking_refused(
    *,
    after: int,
    parked: str,
    code: str,
    twice: bool = False,
    basis: bytes | None = None,
    seq: int | None = None,
) -> None:
    """a's second proposal of d's removal, which parks somebody, in a room of five; b (or e) judges it."""
    net, nodes = agreed(SUITE, 5, "parked five")
    names = {node.name[18]: node.name for node in nodes}
    a, b = nodes[0], nodes[1]
    for node in nodes[2:]:
        node.silent = lambda envelope: True
    a.change(Remove(names["d"]))
    net.settle()
    first = runs.Proposal.decode(net.mail[names["c"]][0].payload)
    net.pass_time(after)
    left = tuple(sorted(name for user, name in names.items() if user not in ("d", parked)))
    log = net.runs[first.context.run_id]
    context = replace(first.context, deadline=net.now + DAY, roster=left)
    parking = Parking(
        devices=(names[parked],),
        run_id=first.context.run_id if basis is None else basis,
        seq=len(log.entries) if seq is None else seq,
    )
    change = replace(first.change, parking=parking)
    judge = b if parked != "b" else nodes[4]
    judge.silent = None
    net.settle([judge])
    key = keys_of(0).rsa_sign
    assert key is not None

    def made(run_id: bytes) -> Envelope:
        own = replace(context, run_id=run_id)
        proposal = runs.Proposal(context=own, change=change, secret=bytes(32))
        signed = proposal.signed(party_of(own, net.directory).ctx, key)
        return Envelope(channel=MAILBOX, kind="propose", payload=signed.encode(), sender=a.name)

    if twice:
        judge.live.receive(made(bytes([8]) * 16), net.now, seeded(1))
    refusal(judge.live, made(bytes([9]) * 16), net.now, code=code, check="RUN-18")


def test_a_notice_of_parking_by_a_stranger_is_refused() -> None:  # RUN-20
    room = standing()
    me = room.nodes[room.victim].name
    members = [room.nodes[0].name, room.nodes[2].name]
    good = Envelope(channel=MAILBOX, kind="parked", payload=enc("parked", ROOM, bytes(16), members), sender=members[0])
    refusal(room.session(), replace(good, sender=X), code="not_allowed", check="RUN-20")
    for named in ([*members, X], [*members, me], []):
        payload = enc("parked", ROOM, bytes(16), sorted(named))
        refusal(room.session(), replace(good, payload=payload), code="not_allowed", check="RUN-20")
    refusal(room.session(), replace(good, payload=enc("parked", bytes(16), bytes(16), members)), code="misrouted")
    answers = room.session().receive(good, NOW, seeded(1))
    assert len([effect for effect in answers if isinstance(effect, Direct)]) == 2, (
        "the control: it answers `here` to both"
    )


def test_a_device_that_was_not_parked_is_not_added_by_saying_here() -> None:  # RUN-21
    room = standing()
    here = Envelope(channel=MAILBOX, kind="here", payload=enc("here", ROOM, bytes(16)), sender=X)
    refusal(room.session(), here, code="unknown_sender", check="RUN-21")


# --- newcomers ---


def _invited(**changes: object) -> Envelope:
    """A proposal by member 0 that adds x to the standing room, seen by x, who knows nothing."""
    room = standing()
    added = RunChange(added=(X,))
    change = changes.pop("change", added)
    assert isinstance(change, RunChange)
    context = room.context(roster=tuple(sorted((*room.epoch.roster, X))), **changes)
    return room.propose(context, change)


def _join(envelope: Envelope) -> object:
    room = standing()
    me = Me(device=X, keys=keys_of(3), directory=lambda: room.net.directory, realm="home")
    return SUITE.join(me, envelope, None, NOW, seeded(1))


def test_a_newcomer_enters_when_it_is_invited() -> None:
    session, effects = _join(_invited())  # type: ignore[misc]
    assert [effect for effect in effects if isinstance(effect, Follow)]
    assert session.view.state is State.PENDING


@pytest.mark.parametrize(
    "changes",
    [
        {"change": RunChange()},
        {"prev_th": NO_TH, "epoch": 1},
        {"prev_th": NO_TH, "change": RunChange(added=(X,))},
    ],
    ids=["not added", "a new room adds all", "a new room begins at 1"],
)
def test_a_newcomer_that_is_not_invited_stays_out(changes: dict[str, object]) -> None:  # RUN-19
    with pytest.raises(PeerError) as error:
        _join(_invited(**changes))
    assert (error.value.code, error.value.check) == ("not_allowed", "RUN-19")


def test_a_newcomer_checks_who_may_add() -> None:  # POL-01
    with pytest.raises(PeerError) as error:
        _join(_invited(policy=replace(POLICY, may_add=Who.NOBODY)))
    assert (error.value.code, error.value.check) == ("not_allowed", "POL-01")


def test_a_new_room_is_made_by_an_owner() -> None:  # RUN-19
    room = standing()
    roster = tuple(sorted((room.nodes[0].name, X)))
    policy = replace(POLICY, owners=("zoe",))
    context = room.context(roster=roster, prev_th=NO_TH, epoch=1, policy=policy)
    with pytest.raises(PeerError) as error:
        _join(room.propose(context, RunChange(added=(X,))))
    assert (error.value.code, error.value.check) == ("not_allowed", "RUN-19")


def test_a_newcomer_ahead_of_its_realm_log_is_told_so() -> None:
    with pytest.raises(Behind) as error:
        _join(_invited(log_size=99))
    assert error.value.need.ids == ((99).to_bytes(8, "big"),)


def test_only_a_proposal_leads_into_a_room() -> None:
    with pytest.raises(PeerError) as error:
        _join(replace(_invited(), kind="parked"))
    assert error.value.code == "no_session"


# --- what a caller may not ask ---


def test_a_caller_is_told_what_is_not_allowed() -> None:
    room = standing()
    node = room.nodes[room.victim]
    for changes, code in (
        ((Remove(room.nodes[0].name),), "not_allowed"),
        ((SetPolicy(POLICY),), "not_allowed"),
        ((Add(room.nodes[0].name),), "roster"),
        ((Remove(X),), "roster"),
        ((Add(Y),), "not_ready"),
        ((Add(device_name("nobody")),), "unknown_sender"),
    ):
        with pytest.raises(UsageError) as error:
            room.session().change(changes, NOW, seeded(1))
        assert error.value.code == code, changes
    assert node.live.view.state is State.READY


def test_a_second_run_of_one_proposer_waits_for_the_first() -> None:
    room = standing()
    session = room.session()
    session.change([Rekey()], NOW, seeded(1))
    with pytest.raises(NotReady) as error:
        session.change([Add(X)], NOW, seeded(1))
    assert len(error.value.missing) == 2


def test_a_room_that_never_was_is_proposed_again_as_a_new_one() -> None:
    net = Net(seed="again")
    a, b = net.node(SUITE, "a", 0), net.node(SUITE, "b", 1)
    a.create(ROOM, POLICY)
    with pytest.raises(UsageError):
        a.change(Rekey())
    with pytest.raises(UsageError):
        a.change(Leave())
    a.change(Add(b.name))
    net.pass_time(DAY + 3 * MINUTE)
    a.wake()
    assert a.faults[-1].code == "timeout"
    with pytest.raises(UsageError) as error:
        a.change(Add(b.name))
    assert error.value.code == "not_ready"


def test_a_fifth_members_proposal_ahead_of_the_log_is_refused() -> None:
    room = standing(6, 5)
    session = room.session()
    for i in range(5):
        fields = {"prev_th": bytes([i]) * 32, "epoch": 9, "run_id": bytes([i]) * 16, "proposer": room.nodes[i].name}
        ahead = room.propose(room.context(**fields), by=i)
        if i < 4:
            session.receive(ahead, NOW, seeded(1))
        else:
            refusal(session, ahead, code="quota")
    session.wake(NOW + 2 * DAY, seeded(1))
    assert not [key for key in dump(session) if key.startswith(b"held/")], "they go with their deadlines"


def test_a_held_proposal_is_judged_when_its_time_has_come() -> None:
    net, nodes = agreed(SUITE, 3, "held and refused")
    a, b, c = nodes
    c.silent = lambda envelope: envelope.channel.kind is ChannelKind.ROOM
    b.change(Rekey())
    net.settle()
    epoch = current(a.live._draft())  # type: ignore[attr-defined]
    assert epoch is not None
    forger = Standing(net, nodes, epoch, 2)
    context = forger.context(epoch=3, prev_th=bytes(32), roster=epoch.roster)
    net.mail[c.name].append(forger.propose(context))
    net.settle()
    c.silent = None
    net.settle()
    assert [fault.code for fault in c.faults] == ["stale_epoch"]
    assert c.live.view.epoch == 2


def test_a_profile_without_rsa_keys_cannot_take_part() -> None:
    room = standing()
    bare = Me(device=Y, keys=keys_of(3, rsa=False), directory=lambda: room.net.directory, realm="home")
    with pytest.raises(UsageError) as error:
        SUITE.create(bare, ROOM, POLICY, NOW, seeded(1))
    assert error.value.code == "not_ready"
    with pytest.raises(UsageError):
        SUITE.join(bare, _invited(), None, NOW, seeded(1))


def test_here_changes_nothing_where_this_device_may_not_add() -> None:
    net = Net(seed="may not add")
    nodes = [net.node(SUITE, user, index) for index, user in enumerate("abcd")]
    nodes[0].create(ROOM, replace(POLICY, may_add=Who.OWNERS))
    nodes[0].change(*(Add(node.name) for node in nodes[1:]))
    net.settle()
    nodes[2].silent = lambda envelope: True
    nodes[0].change(Remove(nodes[3].name))
    net.settle()
    net.pass_time(10 * MINUTE)
    net.settle()
    nodes[0].silent = lambda envelope: True
    nodes[2].silent = None
    net.settle()
    assert nodes[2].name in nodes[1].live.view.parked
    assert not [key for key in nodes[1].items if key.startswith(b"here/")]


def test_an_order_for_an_epoch_that_has_ended_is_refused() -> None:
    net, nodes = agreed(SUITE, 3, "late order")
    a, b, c = nodes
    c.silent = lambda envelope: envelope.kind == EntryKind.HANDSHAKE and envelope.channel.kind is ChannelKind.ROOM
    a.apply(tuple(e for e in a.live.change([Remove(c.name)], net.now, a.rng) if not isinstance(e, OpenRun)))
    order = net.rooms[ROOM].entries[-1]
    fresh, others = agreed(SUITE, 3, "late order")
    others[0].change(Rekey())
    fresh.settle()
    late = [effect.code for effect in others[1].live.receive(order, fresh.now, seeded(1)) if isinstance(effect, Fault)]
    assert late == ["stale_epoch"]
    del b


def test_a_restored_backup_takes_no_run_entry_before_it_was_woken() -> None:
    from support.insider import bench

    case = bench()
    items = {**case.stages["hello"], READ_ONLY_ITEM: b""}
    session = SUITE.restore(case.nodes[case.victim].me, items)
    refusal(session, case.messages[2, "hello"], code="not_ready")
