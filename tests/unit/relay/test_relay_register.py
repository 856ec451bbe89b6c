"""A realm that certifies nobody (authority mode `none`): a name is the first key's that comes (F4.1).

Checks: REALM-23, REALM-24.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from cloister.errors import PeerError
from cloister.identity.authority import OPEN
from cloister.identity.certificate import build_requests
from cloister.identity.enrolment import Application, check_enrolled
from cloister.identity.manifest import Manifest, Row
from cloister.identity.realm import NEVER, RealmState
from cloister.identity.records import Genesis
from cloister.relay.core import Settings
from cloister.wire import frames, limits, login
from cloister.wire.frames import Bye, Challenge, Enrol, Enrolled, Refused
from support.people import Person, Realm
from support.relays import Client, World


class OpenRealm(Realm):
    """A realm whose authority certifies the relay alone."""

    def genesis(self) -> Genesis:
        return replace(super().genesis(), mode=OPEN)


class OpenWorld(World):
    """Its relay; `registration` is whether it is open."""

    registration = True

    @property
    def settings(self) -> Settings:
        return Settings(realm=self.realm.name, open=self.registration)


@pytest.fixture
def world() -> OpenWorld:
    return OpenWorld(names=(), realm=OpenRealm())


def register(world: World, person: Person, address: str = "192.0.2.1", **altered: bytes) -> list[frames.Frame]:
    """Register on a new connection; what was heard."""
    client = world.stranger(address)
    first = login.hello(None, world.rng)
    client.say(first)
    (second,) = client.hear()
    assert isinstance(second, Challenge)
    digests = {"l1": frames.digest(first), "l2": frames.digest(second), **altered}
    request = person.application.register(person.keys, digests["l1"], digests["l2"], world.now)
    client.say(Enrol(rid=7, request=request))
    world.step()
    return client.hear()


def code(heard: list[frames.Frame]) -> str:
    assert isinstance(heard[0], Refused)
    assert isinstance(heard[-1], Bye)
    return heard[0].code


def state_of(world: World) -> RealmState:
    return world.core.directory.realm


def log_in(world: World, person: Person) -> Client:
    world.people[person.name] = person
    return world.client(person.name)


def test_without_being_open_nobody_registers(world: OpenWorld) -> None:
    world.registration = False
    world.start()
    assert code(register(world, world.realm.person("dan"))) == "used_invite"


def test_a_realm_that_certifies_takes_in_by_invite_only_even_when_it_is_open() -> None:
    world = OpenWorld(names=())
    assert code(register(world, world.realm.person("dan"))) == "used_invite"


@pytest.mark.parametrize("part", ["l1", "l2"])
def test_a_registration_for_another_connection_is_refused(world: OpenWorld, part: str) -> None:
    assert code(register(world, world.realm.person("dan"), **{part: bytes(32)})) == "bad_sig"


def test_a_name_accepts_only_the_key_that_came_first(world: OpenWorld) -> None:
    dan = world.realm.person("dan")
    first = register(world, dan)
    assert isinstance(first[0], Enrolled)
    assert register(world, dan) == first
    assert code(register(world, world.realm.person("dan"))) == "identity_changed"
    again = type(dan.application).make(dan.keys, dan.device, dan.id, None, world.now + 1)
    assert code(register(world, replace(dan, application=again))) == "conflict"


def test_registrations_of_an_address_are_few(world: OpenWorld) -> None:
    for number in range(limits.REGISTER_RATE.value):
        assert isinstance(register(world, world.realm.person(f"p{number}"))[0], Enrolled)
    assert code(register(world, world.realm.person("one-more"))) == "quota"
    assert isinstance(register(world, world.realm.person("elsewhere"), "192.0.2.2")[0], Enrolled)
    world.now += limits.HOUR // limits.REGISTER_RATE.value
    world.realm.now = world.now
    assert isinstance(register(world, world.realm.person("later"))[0], Enrolled)


def test_who_has_registered_logs_in_without_a_certificate_and_never_expires(world: OpenWorld) -> None:
    dan = world.realm.person("dan", rsa=0)
    register(world, dan)
    record = check_enrolled(dan.application, state_of(world))
    assert record.key == dan.device.device.public
    assert (record.certificates, record.rsa_verify, record.rsa_encrypt) == ((), None, None)
    assert record.not_after == NEVER
    assert not state_of(world).certifies
    client = log_in(world, dan)
    assert (
        client.ask(frames.GetPubkey(rid=client.next(), username="dan"), frames.Pubkey).identity_key == dan.keys.public
    )
    rows = world.store.entries(frames.REALM_LOG, 0, 99)
    assert RealmState.fold((row.payload or b"", row.ts_ms) for row in rows).users() == ("dan",)


def test_requests_that_do_not_fit_the_manifest_are_refused_by_the_fold(world: OpenWorld) -> None:
    dan, eve = world.realm.person("dan"), world.realm.person("eve")
    record = dan.application.record(dan.application.requests)
    cases = [
        (replace(record, leaves=eve.application.requests), "wrong_name"),  # REALM-23
        (replace(record, leaves=build_requests(eve.device, dan.id)), "not_in_manifest"),  # REALM-24
        (replace(record, leaves=(bytes(8),)), "bad_cert"),
    ]
    for altered, expected in cases:
        with pytest.raises(PeerError) as caught:
            world.realm.state.apply(altered.encode(), world.now)
        assert caught.value.code == expected


def test_who_leaves_a_manifest_does_not_count_any_more(world: OpenWorld) -> None:
    dan = world.realm.person("dan")
    world.realm.append(dan.application.record(dan.application.requests).encode())
    other = Row.of(dan.id.replace("phone", "desk"), world.realm.person("x").device.hashes())
    world.realm.publish(dan, Manifest.successor(dan.manifest, dan.keys, [other], world.now))
    with pytest.raises(PeerError, match="not_in_manifest"):
        world.realm.state.device(dan.id)


def test_an_application_is_the_same_with_and_without_an_authority(world: OpenWorld) -> None:
    dan = world.realm.person("dan")
    assert Application.decode(dan.application.encode(), world.realm.name) == dan.application
