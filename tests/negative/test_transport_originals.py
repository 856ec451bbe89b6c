"""Document 002 as it stands: it works among its own, nobody is talked into it, an original takes back one fix."""

from __future__ import annotations

import pytest

from cloister.lab.attacks.transport import ATTACKS
from cloister.lab.originals.transport import FIXES, Document, original
from cloister.protocols.interface import Fault, Rekey, State
from cloister.protocols.transport.steps import Steps
from cloister.protocols.transport.suite import Transport
from support.suite_net import MINUTE, agreed, assembly


def test_the_document_as_a_whole_agrees_and_talks() -> None:
    net, nodes = agreed(original(), 3, "document")
    assert {node.live.view.state for node in nodes} == {State.READY}
    for number in range(12):
        nodes[number % 3].say(b"as published %d" % number)
        net.settle()
    assert [len(node.delivered) for node in nodes] == [8, 8, 8]
    nodes[0].change(Rekey())
    net.settle()
    assert {node.live.view.epoch for node in nodes} == {2}


@pytest.mark.parametrize("fix", FIXES)
def test_nobody_is_talked_into_an_original(fix: str) -> None:
    net, nodes = assembly(Transport(type("One", (FIXES[fix], Steps), {"variants": ("document 002",)})()), 2, fix)
    nodes[1].suite = Transport()
    net.settle()
    found = {(fault.code, fault.check) for fault in nodes[1].faults}
    assert found == {("not_allowed", "TRA-03")}
    assert nodes[1].session is None


@pytest.mark.parametrize("fix", FIXES)
def test_an_original_without_one_fix_agrees_and_talks(fix: str) -> None:
    net, nodes = agreed(Transport(type("One", (FIXES[fix], Steps), {})()), 2, ("one", fix))
    nodes[0].say(b"hello")
    net.settle()
    assert nodes[1].delivered[0].content == b"hello"
    net.pass_time(MINUTE)
    net.settle()
    assert not [effect for effects in nodes[1].effects for effect in effects if isinstance(effect, Fault)]


def test_every_fix_that_is_a_step_has_an_original_and_an_attack() -> None:
    assert {attack.fix for attack in ATTACKS} == set(FIXES)
    assert set(Document.__bases__) == set(FIXES.values())
    changed = [name for override in FIXES.values() for name in vars(override) if not name.startswith("_")]
    assert len(changed) == len(set(changed)), "a step belongs to one fix"
