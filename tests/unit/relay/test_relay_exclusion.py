"""Users whom the operator serves no more: also where the authority certifies nobody, and can revoke nobody."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cloister.errors import PeerError, UnavailableError, UsageError
from cloister.identity.authority import OPEN
from cloister.identity.records import Genesis
from cloister.primitives.kdf import sha256
from cloister.relay import app
from cloister.relay.core import Settings
from cloister.relay.core.exclusion import DISABLED
from cloister.relay.store.interface import PutMeta
from cloister.wire import frames, login
from support.people import Person, Realm
from support.relays import TLS, World

BOTH = pytest.mark.parametrize("certifies", [True, False], ids=["embedded", "none"])


class OpenRealm(Realm):
    """A realm whose authority certifies the relay alone."""

    def genesis(self) -> Genesis:
        return replace(super().genesis(), mode=OPEN)


class OpenWorld(World):
    """Its relay."""

    @property
    def settings(self) -> Settings:
        return Settings(realm=self.realm.name, open=True)


def world_of(certifies: bool) -> World:
    """A relay with ann and bob in it."""
    if certifies:
        return World(names=("ann", "bob"))
    world = OpenWorld(names=(), realm=OpenRealm())
    for name in ("ann", "bob"):
        world.people[name] = person = world.realm.person(name)
        client = world.stranger()
        first = login.hello(None, world.rng)
        client.say(first)
        (second,) = client.hear()
        request = person.application.register(person.keys, frames.digest(first), frames.digest(second), world.now)
        client.say(frames.Enrol(rid=1, request=request))
        world.step()
        assert isinstance(client.hear()[-1], frames.Enrolled)
    return world


def tried(world: World, person: Person) -> frames.Answer:
    """What a login gets."""
    client = world.stranger()
    first = login.hello(person.id, world.rng)
    client.say(first)
    (second,) = client.hear()
    assert isinstance(second, frames.Challenge)
    client.say(login.login(first, second, person.device.device, [], TLS, world.now))
    return client.hear()[0]


def code(answer: frames.Answer) -> str:
    return answer.code if isinstance(answer, frames.Refused) else ""


@BOTH
def test_who_is_not_served_is_out_and_stays_out(certifies: bool) -> None:
    world = world_of(certifies)
    ann, bob = world.client("ann"), world.client("bob")
    world.core.serve("ann", wanted=False)
    assert not ann.wire.closed  # until it stands
    assert code(tried(world, world.people["ann"])) == "disabled"
    world.step()
    assert ann.wire.closed == "disabled"
    assert ann.hear()[-1] == frames.Bye(code="disabled")
    assert not bob.wire.closed
    world.start()
    assert code(tried(world, world.people["ann"])) == "disabled"
    assert code(tried(world, world.people["bob"])) == ""


@BOTH
def test_only_who_has_the_key_learns_it(certifies: bool) -> None:
    world = world_of(certifies)
    world.core.serve("ann", wanted=False)
    thief = replace(world.people["ann"], device=world.people["bob"].device)
    assert code(tried(world, thief)) == "bad_sig"


@BOTH
def test_who_is_served_again_finds_what_waited(certifies: bool) -> None:
    world = world_of(certifies)
    bob = world.client("bob")
    world.core.serve("ann", wanted=False)
    mail = frames.Mail(world.people["ann"].id, bytes(16), b"sealed")
    bob.ask(frames.Deposit(rid=bob.next(), mail=mail), frames.Done)
    world.core.serve("ann", wanted=True)
    world.step()
    ann = world.client("ann")
    ann.say(frames.MailOpen(rid=1, after=0))
    world.step()
    mailed = [each for each in ann.hear() if isinstance(each, frames.Mailed)]
    assert [item.body for each in mailed for item in each.items] == [b"sealed"]


def test_the_realm_log_and_the_members_hear_nothing_of_it() -> None:
    world = world_of(certifies=True)
    before = world.core.directory.realm.size
    world.core.serve("ann", wanted=False)
    world.step()
    assert world.core.directory.realm.size == before
    world.core.directory.check_mail(world.people["ann"].id)


def test_an_unknown_user_is_not_remembered() -> None:
    world = world_of(certifies=True)
    with pytest.raises(PeerError) as error:
        world.core.serve("zoe", wanted=False)
    assert error.value.code == "unknown_sender"
    assert world.core.take_batch() is None


def test_names_that_cannot_be_read_stop_the_start() -> None:
    world = world_of(certifies=True)
    world.store.apply([PutMeta(DISABLED, sha256(b"damaged"))])
    with pytest.raises(UnavailableError) as error:
        world.start()
    assert error.value.code == "damaged"


def test_an_operator_lists_disables_and_enables(tmp_path: Path) -> None:
    path = tmp_path / "relay"
    app.init_relay(path, "home.example", "127.0.0.1", 0, listen_on="127.0.0.1", mode="none")
    assert app.users(path) == []
    with pytest.raises(UsageError, match="no_user"):
        app.serve_user(path, "ann", wanted=False)
