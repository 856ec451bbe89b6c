"""Runs that their proposer never finishes: one member's many take nobody else's place."""

from __future__ import annotations

import pytest

from cloister.protocols.interface import ChannelKind, Rekey, State
from cloister.protocols.rounds.membership import RUNS_MOST
from cloister.protocols.transport.suite import Transport
from support.insider import SUITES
from support.suite_net import agreed


@pytest.mark.parametrize("name", SUITES)
def test_a_member_that_never_confirms_its_own_runs_keeps_nobody_elses_out(name: str) -> None:  # RUN-13
    net, (a, b, c) = agreed(SUITES[name], 3, "half a run")
    before = dict(b.items)
    b.silent = lambda envelope: envelope.channel.kind is ChannelKind.RUN and envelope.seq > 5
    for _ in range(RUNS_MOST + 1):
        b.items = dict(before)  # who breaks the rules forgets what it has begun
        b.session = b.suite.restore(b.me, b.items)
        b.change(Rekey())
        net.settle()
    assert sum(key.startswith(b"run/") for key in c.items) > RUNS_MOST, "c has confirmed them, and must keep them"
    a.change(Rekey())
    b.silent = None
    net.settle()
    assert c.faults == []
    assert c.live.view.epoch == 2


@pytest.mark.parametrize("suite", [*SUITES.values(), Transport()], ids=[*SUITES, "transport"])
def test_the_token_of_a_key_that_awaits_its_commit_names_who_proposed_it(suite: object) -> None:
    _, nodes = agreed(suite, 3, "named")  # type: ignore[arg-type]
    for node in nodes[1:]:
        offered = [
            each for each in node.changes if each.state is State.PENDING and each.access_token and not each.began_by
        ]
        assert offered
        assert {each.proposer for each in offered} == {nodes[0].name}
