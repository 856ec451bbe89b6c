"""A device whose certificates ended 30 days ago: any member may take it out, by the same verdict for all."""

from __future__ import annotations

import pytest

from cloister.errors import PeerError, UsageError
from cloister.identity.realm import STALE_DAYS
from cloister.protocols.interface import Remove, State
from support.insider import SUITE
from support.mls_net import mls_room
from support.people import DAY, Realm
from support.suite_net import agreed


def test_who_may_not_remove_may_not_remove_an_expired_device_either() -> None:  # RUN-10
    net, (_, b, c) = agreed(SUITE, 3, "expired")
    net.directory.refuse(c.name, "expired")
    with pytest.raises(UsageError) as caught:
        b.change(Remove(c.name))
    assert caught.value.code == "not_allowed"


def test_anybody_removes_a_device_that_was_given_up() -> None:  # RUN-10
    net, (a, b, c) = agreed(SUITE, 3, "given up")
    c.silent = lambda envelope: True
    net.directory.give_up(c.name)
    b.change(Remove(c.name))
    net.settle()
    for node in (a, b):
        assert (node.live.view.roster, node.live.view.state) == ((a.name, b.name), State.READY)
        assert node.faults == []


def test_in_a_room_of_mls_too() -> None:  # GRP-07
    net, (a, b, c) = mls_room(3)
    net.directory.refuse(c.name, "expired")
    with pytest.raises(UsageError) as caught:
        b.change(Remove(c.name))
    assert caught.value.code == "not_allowed"
    net.directory.give_up(c.name)
    b.change(Remove(c.name))
    net.settle([a, b])
    assert a.live.view.roster == (a.name, b.name)


def test_the_realm_says_when_a_device_was_given_up_at_each_size() -> None:
    realm = Realm()
    alice, size = realm.enrol("alice"), realm.state.size
    end = realm.device(alice).not_after
    realm.now = end + STALE_DAYS * DAY
    realm.enrol("bob")
    assert not realm.state.stale(alice.id)
    realm.now += 1
    realm.enrol("carol")
    assert realm.state.stale(alice.id)
    assert not realm.state.stale(alice.id, size), "judged at a size, for ever the same"
    realm.renew(alice)
    assert not realm.state.stale(alice.id)
    with pytest.raises(PeerError) as caught:
        realm.state.stale("cloister://home.example/u/nobody/d/phone")
    assert caught.value.code == "unknown_sender"
