"""One life of a group in every suite, the experimental post-quantum one included."""

from __future__ import annotations

import pytest

from cloister.errors import PeerError, UsageError
from cloister.mls import SUITES, Add, Group, Remove, suite_of
from support.mls import NOW, Client, agree, capabilities, group_of

XWING = 0xF001


def test_the_experimental_suite_is_for_those_who_list_it() -> None:
    suite = suite_of(XWING)
    assert suite.experimental
    assert not any(SUITES[each].experimental for each in range(1, 8))
    a = Client("a", suite)
    a.create()
    unaware = Client("b", suite, capabilities=capabilities())
    with pytest.raises(UsageError, match="MLS-V034"):
        a.group.commit(NOW, a.rng, [Add(unaware.package().package)])


def test_a_key_package_of_one_suite_is_none_of_another() -> None:
    a, other = Client("a"), Client("b", suite_of(XWING))
    a.create()
    with pytest.raises(UsageError, match="MLS-V051"):
        a.group.commit(NOW, a.rng, [Add(other.package().package)])


@pytest.mark.parametrize("number", sorted(SUITES))
def test_a_groups_life(number: int) -> None:
    suite = suite_of(number)
    a, b, c = clients = group_of("a", "b", "c", suite=suite)
    agree(clients)
    assert b.group.process(a.group.protect(b"hello", a.rng), NOW).data == b"hello"
    staged = b.group.commit(NOW, b.rng)
    b.group.merge(staged, NOW)
    for each in (a, c):
        each.take(staged.message)
    agree(clients)
    update = c.group.propose_update(NOW, c.rng)
    for each in (a, b):
        each.group.process(update, NOW)
    staged = a.group.commit(NOW, a.rng, [Remove(1)])
    a.group.merge(staged, NOW)
    c.take(staged.message)
    joiner = Client("d", suite)
    info = a.group.group_info()
    joiner.group, message = Group.join_external(joiner.identity, info, joiner.policy, NOW, joiner.rng)
    for each in (a, c):
        each.take(message)
    agree([a, c, joiner])
    a.group = Group.restore(a.group.changes().put, a.identity, a.policy)
    sealed = joiner.group.protect(b"here", joiner.rng)
    assert a.group.process(sealed, NOW).data == b"here"
    with pytest.raises(PeerError) as caught:
        b.group.process(sealed, NOW)
    assert caught.value.check == "MLS-V026"
