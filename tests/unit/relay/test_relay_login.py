"""The door: who gets in, who does not, and that strangers learn and hold little."""

from __future__ import annotations

import pytest

from cloister.errors import PeerError
from cloister.primitives.signature import SigningKey
from cloister.wire import frames, limits, login
from cloister.wire.frames import Bye, Challenge, Hello, Login, Refused, Welcome
from support.people import Person
from support.relays import TLS, Client, World


@pytest.fixture
def world() -> World:
    return World()


def challenged(world: World, device: str | None, address: str = "192.0.2.1") -> tuple[Client, Hello, Challenge]:
    client = world.stranger(address)
    first = login.hello(device, world.rng)
    client.say(first)
    (second,) = client.hear()
    assert isinstance(second, Challenge)
    return client, first, second


def answered(world: World, person: Person, **changes: object) -> Client:
    """A client after L3, signed as `changes` say: key, tls, now, chain."""
    client, first, second = challenged(world, person.id)
    values = {"key": person.device.device, "chain": [], "tls": TLS, "now": world.now, **changes}
    client.say(login.login(first, second, **values))  # type: ignore[arg-type]
    return client


def refusal(client: Client) -> tuple[str, str]:
    """The code of a refusal and that of the closing."""
    refused, bye = client.hear()
    assert isinstance(refused, Refused)
    assert bye == Bye(code=refused.code)
    return refused.code, client.wire.closed


# --- refused ------------------------------------------------------------------------------------------------


def test_a_signature_by_another_key_is_refused(world: World) -> None:
    client = answered(world, world.people["ann"], key=world.people["bob"].device.device)
    assert refusal(client) == ("bad_sig", "bad_sig")


def test_an_unknown_device_gets_the_same_answers_as_a_wrong_signature(world: World) -> None:
    known = answered(world, world.people["ann"], key=SigningKey.generate("ed25519", world.rng))
    client, first, second = challenged(world, "cloister://home.example/u/nobody/d/phone")
    client.say(login.login(first, second, SigningKey.generate("ed25519", world.rng), [], TLS, world.now))
    assert client.hear() == known.hear()
    assert client.wire.closed == known.wire.closed == "bad_sig"


def test_the_relays_own_key_does_not_log_an_unknown_device_in(world: World) -> None:
    client, first, second = challenged(world, "cloister://home.example/u/nobody/d/phone")
    client.say(login.login(first, second, world.realm.relay_key, [], TLS, world.now))
    assert refusal(client)[0] == "bad_sig"


def test_a_login_made_for_another_tls_certificate_is_refused(world: World) -> None:
    assert refusal(answered(world, world.people["ann"], tls=bytes(32)))[0] == "bad_sig"


def test_a_login_for_another_challenge_is_refused(world: World) -> None:
    person = world.people["ann"]
    _client, first, second = challenged(world, person.id)
    other, _, _ = challenged(world, person.id)
    other.say(login.login(first, second, person.device.device, [], TLS, world.now))
    assert refusal(other)[0] == "bad_sig"


def test_a_challenge_is_answered_once(world: World) -> None:
    person = world.people["ann"]
    client, first, second = challenged(world, person.id)
    answer = login.login(first, second, person.device.device, [], TLS, world.now)
    client.say(answer)
    assert isinstance(client.hear()[0], Welcome)
    client.say(answer)
    assert client.hear() == [Bye(code="bad_encoding")]  # no frame of a logged-in device


@pytest.mark.parametrize("sign", [1, -1])
def test_a_clock_two_minutes_off_is_told_the_relays_time(world: World, sign: int) -> None:
    answered(world, world.people["ann"], now=world.now + sign * limits.CLOCK.value)
    client = answered(world, world.people["ann"], now=world.now + sign * (limits.CLOCK.value + 1))
    (refused, _) = client.hear()
    assert isinstance(refused, Refused)
    assert (refused.code, refused.number) == ("clock_skew", world.now)


def test_a_challenge_lives_thirty_seconds(world: World) -> None:
    person = world.people["ann"]
    for late, expected in ((0, Welcome), (1, Refused)):
        client, first, second = challenged(world, person.id)
        world.now += limits.CHALLENGE_LIFE.value + late
        client.say(login.login(first, second, person.device.device, [], TLS, world.now))
        answer = client.hear()[0]
        assert isinstance(answer, expected)
    assert answer.code == "replay"  # type: ignore[union-attr]


def test_a_revoked_device_is_told_so(world: World) -> None:
    world.core.admission.revoke(world.people["ann"].id, world.now)
    world.step()
    assert refusal(answered(world, world.people["ann"]))[0] == "revoked"


def test_a_device_that_left_the_manifest_is_told_so(world: World) -> None:
    ann = world.people["ann"]
    manifest = ann.manifest.successor(ann.keys, [], world.now)
    client = world.client("ann")
    client.ask(frames.Append(rid=1, record=record_of(manifest)), frames.Ack)
    assert client.wire.closed == "revoked"
    assert refusal(answered(world, ann))[0] == "not_in_manifest"


def record_of(manifest: object) -> bytes:
    from cloister.identity.records import NewManifest

    return NewManifest(manifest=manifest.encoded).encode()  # type: ignore[attr-defined]


def test_an_expired_device_is_told_so(world: World) -> None:
    world.now += 91 * limits.DAY
    assert refusal(answered(world, world.people["ann"]))[0] == "expired"


def test_a_certificate_that_is_not_the_logs_is_refused(world: World) -> None:
    ann, bob = (world.realm.state.device(world.people[name].id) for name in ("ann", "bob"))
    assert refusal(answered(world, world.people["ann"], chain=[bob.certificates[0]]))[0] == "bad_cert"
    assert isinstance(answered(world, world.people["ann"], chain=[ann.certificates[0]]).hear()[0], Welcome)


def test_an_unknown_version_is_refused(world: World) -> None:
    client = world.stranger()
    client.say(Hello(device=None, nonce=bytes(32), versions=[999]))
    assert refusal(client)[0] == "version"


def test_failed_logins_of_an_address_are_counted(world: World) -> None:
    ann = world.people["ann"]
    for _ in range(limits.LOGIN_RATE.value):
        client = answered(world, ann, tls=bytes(32))
        world.core.disconnect(client.wire, world.now)
    client = answered(world, ann)
    assert refusal(client)[0] == "quota"
    world.client("ann", "198.51.100.7")
    world.now += limits.MINUTE // limits.LOGIN_RATE.value
    world.core.disconnect(client.wire, world.now)
    assert isinstance(answered(world, ann).hear()[0], Welcome)


# --- strangers ----------------------------------------------------------------------------------------------


def test_a_stranger_has_ten_seconds_for_the_first_frame(world: World) -> None:
    client = world.stranger()
    world.now += limits.HANDSHAKE.value
    world.core.tick(world.now)
    assert not client.wire.closed
    world.now += 1
    world.core.tick(world.now)
    assert client.hear() == [Bye(code="timeout")]


def test_a_stranger_has_thirty_seconds_for_the_login(world: World) -> None:
    client, _, _ = challenged(world, world.people["ann"].id)
    world.now += limits.CHALLENGE_LIFE.value + 1
    world.core.tick(world.now)
    assert client.wire.closed == "timeout"


def test_who_has_logged_in_has_all_the_time(world: World) -> None:
    client = world.client("ann")
    world.now += limits.DAY
    world.core.tick(world.now)
    assert not client.wire.closed


def test_an_address_has_twenty_connections_before_login(world: World) -> None:
    clients = [world.stranger() for _ in range(limits.CONNECTIONS.value)]
    late = world.stranger()
    assert late.wire.closed == "quota"
    late.say(login.hello(None, world.rng))
    assert late.hear() == []
    assert not world.stranger("198.51.100.7").wire.closed
    world.core.disconnect(clients[0].wire, world.now)
    assert not world.stranger().wire.closed


def test_a_logged_in_device_makes_room_for_strangers(world: World) -> None:
    for _ in range(limits.CONNECTIONS.value - 1):
        world.stranger()
    world.client("ann")
    assert not world.stranger().wire.closed


def test_a_frame_over_the_limit_of_strangers_ends_the_connection(world: World) -> None:
    for size, expected in ((limits.LOGIN_FRAME.value + 1, "bad_encoding"),):
        client = world.stranger()
        world.core.frame(client.wire, bytes(size), world.now)
        assert client.wire.closed == expected


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xc1", b"\x91\xa5hello", b"\xff" * 100, b"\x93\xa5hello\xc0\xc0"])
def test_garbage_ends_a_strangers_connection(world: World, data: bytes) -> None:
    client = world.stranger()
    world.core.frame(client.wire, data, world.now)
    assert client.hear() == [Bye(code="bad_encoding")]


def test_frames_of_another_state_are_refused_in_one_place(world: World) -> None:
    client = world.stranger()
    client.say(Login(chain=[], ts_ms=0, signature=b"x"))
    assert refusal(client)[0] == "not_allowed"
    client, _, _ = challenged(world, None)
    client.say(Login(chain=[], ts_ms=0, signature=b"x"))
    assert refusal(client)[0] == "not_allowed"
    client, _, _ = challenged(world, world.people["ann"].id)
    client.say(frames.Enrol(rid=1, request=b""))
    assert refusal(client)[0] == "not_allowed"


# --- inside -------------------------------------------------------------------------------------------------


def test_the_ninth_connection_of_a_device_closes_its_first(world: World) -> None:
    clients = [world.client("ann") for _ in range(limits.DEVICE_CONNECTIONS.value)]
    assert not clients[0].wire.closed
    world.client("ann")
    assert clients[0].wire.closed
    assert not clients[1].wire.closed


def test_the_client_checks_what_the_relay_signs(world: World) -> None:
    _client, first, second = challenged(world, world.people["ann"].id)
    with pytest.raises(PeerError, match="wrong_realm"):
        login.check_challenge(first, second, bytes(32), TLS, world.now)
    with pytest.raises(PeerError, match="bad_sig"):
        login.check_challenge(first, second, world.realm_pin, bytes(32), world.now)
    login.check_challenge(first, second, world.realm_pin, TLS, world.now)


def test_a_connection_that_is_gone_is_forgotten(world: World) -> None:
    client = world.client("ann")
    assert world.core.known(client.wire)
    world.core.disconnect(client.wire, world.now)
    world.core.disconnect(client.wire, world.now)
    assert not world.core.known(client.wire)
    assert not world.core.busy(client.wire)
    world.core.drained(client.wire, world.now)
    client.say(frames.UserList(rid=1))
    assert client.hear() == []


def test_stopping_says_goodbye_to_everybody(world: World) -> None:
    client, stranger = world.client("ann"), world.stranger()
    world.core.stop("closed")
    world.core.stop("closed")
    assert client.hear() == stranger.hear() == [Bye(code="closed")]
