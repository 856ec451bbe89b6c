"""Guests at the relay: who comes in, what they see, and how much they may leave behind."""

from __future__ import annotations

import pytest

from cloister.primitives.kdf import sha256
from cloister.primitives.signature import SigningKey
from cloister.relay.core.state import State
from cloister.wire import frames, limits, login
from cloister.wire.frames import Bye, Done, GuestLogin, Paired, Pass, Refused, SessionCreated, Welcome
from cloister.wire.guest import guest_login
from cloister.wire.login import NO_TLS
from support.relays import Client, World

ROOM, OTHER = b"G" * 16, b"H" * 16
T0, T1 = b"0" * 32, b"1" * 32


@pytest.fixture
def world() -> World:
    return World(names=("ann",))


def meet(world: World) -> tuple[Client, Client]:
    """Two guests after D4."""
    creator, joiner = world.guest(address="192.0.2.8"), world.guest(address="192.0.2.9")
    code = creator.ask(frames.CreateSession(rid=creator.next(), purpose="chat", mode="code"), SessionCreated).session
    joiner.ask(frames.JoinSession(rid=joiner.next(), session=code), Paired)
    creator.hear()
    for speaker in (creator, joiner) * 2:
        speaker.ask(Pass(rid=speaker.next(), session=code, body=b"D"), Done)
        creator.hear()
        joiner.hear()
    return creator, joiner


def room(world: World) -> tuple[Client, Client]:
    """Two guests whose room stands and is followed."""
    creator, joiner = meet(world)
    creator.create(ROOM, T0)
    for guest in (creator, joiner):
        guest.present(ROOM, T0)
    return creator, joiner


def challenged(world: World) -> tuple[Client, frames.Hello, frames.Challenge]:
    client = world.stranger()
    first = login.hello(None, world.rng)
    client.say(first)
    (second,) = client.hear()
    assert isinstance(second, frames.Challenge)
    return client, first, second


# --- the door -----------------------------------------------------------------------------------------------


def test_a_guest_that_does_not_hold_its_key_is_refused(world: World) -> None:
    client, first, second = challenged(world)
    mine, another = (SigningKey.generate("ed25519", world.rng) for _ in range(2))
    forged = guest_login(first, second, mine, client.wire.tls, world.now)
    client.say(GuestLogin(key=another.public.raw, ts_ms=forged.ts_ms, signature=forged.signature))
    assert client.hear()[0].code == "bad_sig"  # LOGIN-08
    assert client.wire.closed


def test_a_guest_login_for_another_tls_certificate_is_refused(world: World) -> None:
    client, first, second = challenged(world)
    client.say(guest_login(first, second, SigningKey.generate("ed25519", world.rng), sha256(b"another"), world.now))
    assert client.hear()[0].code == "bad_sig"


def test_a_guest_login_after_the_challenges_life_is_refused(world: World) -> None:
    client, first, second = challenged(world)
    world.now += limits.CHALLENGE_LIFE.value + 1
    client.say(guest_login(first, second, SigningKey.generate("ed25519", world.rng), client.wire.tls, world.now))
    assert client.hear()[0].code == "replay"


def test_a_guest_with_a_wrong_clock_is_refused(world: World) -> None:
    client, first, second = challenged(world)
    late = world.now + limits.CLOCK.value + 1
    client.say(guest_login(first, second, SigningKey.generate("ed25519", world.rng), client.wire.tls, late))
    assert client.hear()[0].code == "clock_skew"


def test_a_device_login_is_no_guest_login_and_the_other_way_round(world: World) -> None:
    client, first, second = challenged(world)
    device = login.login(first, second, SigningKey.generate("ed25519", world.rng), [], client.wire.tls, world.now)
    client.say(GuestLogin(key=bytes(32), ts_ms=device.ts_ms, signature=device.signature))
    assert client.wire.closed
    client, first, second = challenged(world)
    client.say(device)
    assert client.hear()[0].code == "not_allowed"


def test_without_tls_only_guests_come_in(world: World) -> None:
    ann = world.stranger()
    ann.wire.tls = NO_TLS
    ann.say(login.hello(world.people["ann"].id, world.rng))
    assert ann.hear() == [
        Refused(rid=0, code="not_allowed", detail="without TLS only guests log in"),
        Bye(code="not_allowed"),
    ]
    newcomer = world.stranger()
    newcomer.wire.tls = NO_TLS
    newcomer.say(login.hello(None, world.rng))
    newcomer.hear()
    newcomer.say(frames.Enrol(rid=1, request=b"x"))
    assert newcomer.hear()[0].code == "not_allowed"
    guest = world.stranger()
    guest.wire.tls = NO_TLS
    first = login.hello(None, world.rng)
    guest.say(first)
    (second,) = guest.hear()
    assert isinstance(second, frames.Challenge)
    guest.say(guest_login(first, second, SigningKey.generate("ed25519", world.rng), NO_TLS, world.now))
    assert isinstance(guest.hear()[0], Welcome)


def test_ten_new_guests_an_hour_and_address_and_known_ones_besides(world: World) -> None:
    key = SigningKey.generate("ed25519", world.rng)
    world.guest(key)
    for _ in range(9):
        world.guest()
    client, first, second = challenged(world)
    client.say(guest_login(first, second, SigningKey.generate("ed25519", world.rng), client.wire.tls, world.now))
    assert client.hear()[0].code == "quota"
    world.guest(key)
    world.guest(address="192.0.2.77")
    world.now += limits.GUEST_RATE.value
    world.guest()


# --- what a guest may ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(set(frames.Request.__args__), key=lambda kind: kind.__name__))
def test_a_guest_sees_its_room_and_nothing_of_the_realm(world: World, kind: type[frames.Frame]) -> None:
    allowed = {frames.Present, frames.Forget, frames.Post, frames.Commit}
    meeting = {frames.CreateSession, frames.JoinSession, frames.Pass, frames.Release}
    assert (kind in world.core.handlers[State.GUEST]) == (kind in allowed | meeting)


def test_a_request_that_guests_do_not_have_is_refused(world: World) -> None:
    guest = world.guest()
    assert guest.refused(frames.UserList(rid=1)) == "not_allowed"


def test_a_guest_does_not_read_the_realm_log_or_a_members_room(world: World) -> None:
    guest, ann = world.guest(), world.client("ann")
    ann.create(OTHER, T1)
    assert guest.refused(frames.Present(rid=1, log=frames.REALM_LOG, token=b"", after=0)) == "not_allowed"
    assert guest.refused(frames.Present(rid=2, log=OTHER, token=T1, after=0)) == "not_allowed"
    assert guest.refused(guest.a_post(OTHER, T1, b"e" * 16)) == "no_session"
    assert guest.refused(guest.a_commit(OTHER, T1, T0, b"c" * 16)) == "no_session"


def test_a_guest_makes_no_room_before_d4(world: World) -> None:
    guest = world.guest()
    assert guest.refused(guest.a_commit(ROOM, None, T0, b"c" * 16)) == "not_allowed"


def test_a_guest_makes_one_room(world: World) -> None:
    creator, _joiner = room(world)
    assert creator.refused(creator.a_commit(OTHER, None, T1, b"c" * 16)) == "not_allowed"


def test_a_guests_room_does_not_take_a_members_place(world: World) -> None:
    ann = world.client("ann")
    ann.create(ROOM, T1)
    creator, _joiner = meet(world)
    assert creator.refused(creator.a_commit(ROOM, None, T0, b"c" * 16)) == "conflict"


def test_a_guests_commit_bears_nothing_but_its_payload(world: World) -> None:
    creator, _joiner = room(world)
    ann = world.people["ann"].id
    mail = frames.Mail(device=ann, item_id=b"i" * 16, body=b"x")
    assert creator.refused(creator.a_commit(ROOM, T0, T1, b"c" * 16, items=(mail,))) == "not_allowed"
    assert creator.refused(creator.a_commit(ROOM, T0, T1, b"c" * 16, group_info=b"g")) == "not_allowed"
    staged = frames.Staged(hash=bytes(32), size=1)
    assert creator.refused(creator.a_commit(ROOM, T0, T1, b"c" * 16, payload=staged)) == "not_allowed"


def test_both_may_make_the_same_room_and_get_the_same_place(world: World) -> None:
    creator, joiner = meet(world)
    first = creator.create(ROOM, T0)
    again = joiner.ask(joiner.a_commit(ROOM, None, T0, b"d" * 16), frames.Ack)
    assert (first.seq, again.seq) == (1, 1)


def test_two_guests_write_read_rekey_and_end(world: World) -> None:
    creator, joiner = room(world)
    creator.post(ROOM, T0, b"e" * 16)
    assert isinstance(joiner.hear()[-1], frames.Pushed)
    creator.ask(creator.a_commit(ROOM, T0, T1, b"c" * 16), frames.Ack)
    joiner.present(ROOM, T1)
    joiner.ask(joiner.a_commit(ROOM, T1, None, b"f" * 16), frames.Ack)
    creator.present(ROOM, T1)
    assert creator.refused(creator.a_post(ROOM, T1, b"g" * 16)) == "no_session"
    joiner.ask(frames.Forget(rid=99, log=ROOM), Done)


# --- limits -------------------------------------------------------------------------------------------------


def test_a_guest_room_has_a_thousand_entries(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GUEST_ENTRIES", limits.Limit("", 3, "", "", ""))
    creator, _joiner = room(world)
    creator.post(ROOM, T0, b"a" * 16)
    creator.post(ROOM, T0, b"b" * 16)
    assert creator.refused(creator.a_post(ROOM, T0, b"c" * 16)) == "quota"
    assert creator.post(ROOM, T0, b"b" * 16) == 3  # what stands is answered again


def test_a_guest_room_has_a_mebibyte(world: World) -> None:
    creator, _joiner = room(world)
    for number in range(limits.GUEST_BYTES.value // limits.RECORD.value):
        creator.post(ROOM, T0, bytes([number]) * 16, bytes(limits.RECORD.value))
    assert creator.refused(creator.a_post(ROOM, T0, b"z" * 16, b"x")) == "quota"
    world.start()  # the count survives the process
    guest = world.guest(creator.key)
    guest.present(ROOM, T0)
    assert guest.refused(guest.a_post(ROOM, T0, b"z" * 16, b"x")) == "quota"


def test_a_relay_has_so_many_guest_rooms(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GUEST_ROOMS", limits.Limit("", 1, "", "", ""))
    room(world)
    creator, _joiner = meet(world)
    assert creator.refused(creator.a_commit(OTHER, None, T1, b"c" * 16)) == "quota"


def test_a_guest_room_goes_after_a_day_also_over_a_restart(world: World) -> None:
    creator, _joiner = room(world)
    world.now += limits.GUEST_LIFE.value
    world.core.tick(world.now)
    world.start()
    guest = world.guest(creator.key)
    guest.present(ROOM, T0)
    guest.post(ROOM, T0, b"e" * 16)
    world.now += 1
    assert guest.refused(guest.a_post(ROOM, T0, b"f" * 16)) == "no_session"
    world.core.tick(world.now)
    world.step()
    world.store.refresh()
    assert world.store.last(ROOM) is None
    assert guest.refused(frames.Present(rid=7, log=ROOM, token=T0, after=0)) == "not_allowed"


def test_the_right_to_a_room_ends_ten_minutes_after_d4(world: World) -> None:
    creator, joiner = meet(world)
    world.now += limits.CODE_LIFE.value + 1
    world.core.tick(world.now)
    assert creator.refused(creator.a_commit(ROOM, None, T0, b"c" * 16)) == "not_allowed"
    assert joiner.wire.closed == ""
