"""Presence at the relay: opt-in, pushed to who follows, gone with the connection."""

from __future__ import annotations

from cloister.wire.frames import Done, Online, Presence, UserList, Users
from support.relays import Client, World


def changes(client: Client) -> list[tuple[str, bool]]:
    """The changes that a connection was told since it was last looked at."""
    return [(frame.name, frame.online) for frame in client.hear() if isinstance(frame, Online)]


def test_nobody_is_seen_who_has_not_said_so() -> None:
    world = World()
    ann, bob = world.client("ann"), world.client("bob")
    assert ann.ask(UserList(rid=ann.next()), Users).online == []
    bob.ask(Presence(rid=bob.next(), visible=False), Done)
    world.core.disconnect(bob.wire, world.now)
    assert changes(ann) == []


def test_changes_are_pushed_to_who_has_asked_for_the_list() -> None:
    world = World()
    ann, bob, cy = world.client("ann"), world.client("bob"), world.client("cy")
    ann.ask(UserList(rid=ann.next()), Users)
    first = bob.ask(Presence(rid=bob.next(), visible=True), Done)
    assert first.rid
    second = world.client("bob")
    second.ask(Presence(rid=second.next(), visible=True), Done)
    second.ask(Presence(rid=second.next(), visible=True), Done)
    assert changes(ann) == [("bob", True)]
    assert changes(cy) == []
    assert cy.ask(UserList(rid=cy.next()), Users).online == ["bob"]
    world.core.disconnect(bob.wire, world.now)
    assert changes(ann) == []
    second.ask(Presence(rid=second.next(), visible=False), Done)
    assert changes(ann) == changes(cy) == [("bob", False)]
    world.core.disconnect(ann.wire, world.now)
    second.ask(Presence(rid=second.next(), visible=True), Done)
    assert changes(ann) == []
    assert changes(cy) == [("bob", True)]
