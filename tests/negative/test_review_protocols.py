"""What a review of suite `nonces` found: an insider must not part the members, nor make one pass over a commit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cloister.protocols.contributions.steps import Confirm
from cloister.protocols.interface import ChannelKind, NotReady, Rekey
from cloister.protocols.nonces import steps
from cloister.protocols.rounds.epochs import current
from cloister.protocols.rounds.run import RunChange
from support.insider import SUITE, Standing, bench
from support.suite_net import agreed, refusal, seeded


def test_a_confirm_with_a_wrong_answer_to_anybody_is_refused_by_all() -> None:  # NON-01
    """If each member judged its own answer only, the others would go on and shut the one out that was lied to."""
    case = bench()
    true = case.message(2, "confirm")
    assert isinstance(true, Confirm)
    kc, th = case.agreed.confirm, case.agreed.th
    answers = dict(steps.open_answers(kc, th, 2, true.answers))
    assert sorted(answers) == [0, case.victim]
    wrong = [(j, answer if j == case.victim else bytes(32)) for j, answer in answers.items()]
    sealed = steps.seal_answers(kc, th, 2, wrong)
    lie = case.forged(2, "confirm", lambda m: replace(m, answers=sealed, mac=steps.FORM.confirm_mac(kc, th, 2, sealed)))
    fault = refusal(case.session("confirm"), lie, code="bad_answer", check="NON-01")
    assert (fault.fatal, fault.peer) == (True, case.nodes[2].name)


def test_an_order_in_a_held_proposal_does_not_hold_up_the_commit() -> None:
    """It names a realm log without end, and is judged with the commit that makes its parent epoch."""
    net, nodes = agreed(SUITE, 3, "held order")
    a, b, c = nodes
    c.silent = lambda envelope: envelope.channel.kind is ChannelKind.ROOM
    b.change(Rekey())
    net.settle()
    epoch = current(a.live._draft())  # type: ignore[attr-defined]
    assert epoch is not None
    assert epoch.number == 2
    forger = Standing(net, nodes, epoch, 2)
    order = forger.order(0, (b.name,), log_size=2**60)
    context = forger.context(epoch=3, prev_th=epoch.th, roster=tuple(sorted((a.name, c.name))))
    net.mail[c.name].append(forger.propose(context, RunChange(orders=(order.encode(),))))
    net.settle()
    c.silent = None
    net.settle()
    assert c.live.view.epoch == 2


def test_one_member_holds_one_proposal_ahead_of_the_log() -> None:
    """Or one insider could fill the places that honest proposals need."""
    net, nodes = agreed(SUITE, 3, "held places")
    a, _, c = nodes
    epoch = current(a.live._draft())  # type: ignore[attr-defined]
    assert epoch is not None
    forger = Standing(net, nodes, epoch, 2)
    for i in range(6):
        c.give(forger.propose(forger.context(epoch=9, prev_th=bytes([i]) * 32, run_id=bytes([i]) * 16)))
    assert [fault.code for fault in c.faults] == []
    assert len([key for key in c.items if key.startswith(b"held/")]) == 1


def test_nothing_is_sealed_in_an_epoch_that_a_commit_has_ended() -> None:
    """The commit waits for its run's log: the relay takes nothing more in the old epoch."""
    net, nodes = agreed(SUITE, 3, "waiting")
    b, c = nodes[1:]
    first = set(net.runs)
    c.silent = lambda envelope: envelope.channel.id in net.runs.keys() - first and envelope.seq > 8
    b.change(Rekey())
    net.settle()
    assert c.live.view.epoch == 1
    assert [key for key in c.items if key.startswith(b"waiting/")]
    with pytest.raises(NotReady):
        c.live.seal(b"too late", bytes(16), None, net.now, seeded(1))
    c.silent = None
    net.settle()
    assert c.live.view.epoch == 2
