"""A commit that waits for its run's log: whoever can never follow it is told, and never waits in silence."""

from __future__ import annotations

import pytest

from cloister.protocols.interface import ChannelKind, Rekey, State
from cloister.protocols.rounds.commits import WAIT_MOST, WAITING
from support.insider import SUITE
from support.suite_net import MINUTE, Net, Node, agreed, assembly


def waiting(seed: str, *, last: int = 8) -> tuple[Net, Node, bytes]:
    """A device whose room shows the commit of a rekey while the run's log stops at entry `last`; the run's id."""
    net, nodes = agreed(SUITE, 3, seed)
    b, c = nodes[1:]
    first = set(net.runs)
    c.silent = lambda envelope: envelope.channel.id in net.runs.keys() - first and envelope.seq > last
    b.change(Rekey())
    net.settle()
    (run,) = net.runs.keys() - first
    assert [key for key in c.items if key.startswith(b"waiting/")]
    return net, c, run


def later(net: Net, ms: int) -> None:
    net.pass_time(ms)
    net.settle()


def codes(node: Node) -> list[str]:
    return [fault.code for fault in node.faults]


def test_a_commit_that_waits_for_two_minutes_is_an_alarm_once() -> None:
    net, c, _ = waiting("waits")
    later(net, WAIT_MOST - 1)
    assert codes(c) == []
    later(net, 1)
    assert codes(c) == ["locked_out"]
    later(net, 10 * MINUTE)
    assert codes(c) == ["locked_out"], "it is said once"
    c.silent = None
    net.settle()
    assert (c.live.view.epoch, c.live.view.state) == (2, State.READY), "a log that comes late still leads in"


def test_a_device_that_was_started_again_still_tells() -> None:
    net, c, _ = waiting("restart")
    c.restart()
    later(net, WAIT_MOST)
    assert codes(c) == ["locked_out"]


def test_a_commit_whose_run_is_over_shuts_out_at_once() -> None:
    """The run can no longer complete: nothing of it will be read."""
    net, c, run = waiting("run over")
    c.apply(c.live.answer("run-refused", run, net.now, net.rng))
    assert codes(c) == ["locked_out"]
    assert (c.live.view.state, c.live.view.epoch) == (State.REMOVED, 1)
    assert list(c.live._draft().all(WAITING)) == []  # type: ignore[attr-defined]


def test_a_newcomer_whose_run_is_over_is_told() -> None:
    """It has no epoch that could end; it says that the room began without it."""
    net, nodes = assembly(SUITE, 3, "newcomer")
    c = nodes[2]
    c.silent = lambda envelope: envelope.channel.kind is ChannelKind.RUN and envelope.seq > 8
    net.settle()
    (run,) = net.runs
    assert nodes[0].live.view.state is State.READY
    commit = net.rooms[nodes[0].live.view.room].entries[0]
    c.give(commit)
    assert [key for key in c.items if key.startswith(b"waiting/")]
    c.apply(c.live.answer("run-refused", run, net.now, net.rng))
    assert codes(c) == ["locked_out"]


@pytest.mark.parametrize("gone", [False, True])
def test_a_control_a_commit_that_is_followed_is_no_alarm(gone: bool) -> None:
    net, c, _ = waiting("control")
    c.silent = None
    net.settle()
    if gone:
        later(net, WAIT_MOST)
    assert codes(c) == []
    assert c.live.view.epoch == 2
