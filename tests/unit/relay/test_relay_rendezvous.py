"""Session codes at the relay: exactly two, each limit at its value and one past it, nothing but turns is looked at."""

from __future__ import annotations

import pytest

from cloister.wire import frames, limits
from cloister.wire.frames import (
    CreateSession,
    Done,
    JoinSession,
    Paired,
    Pass,
    Passed,
    PeerLeft,
    Refused,
    Release,
    SessionCreated,
    SessionOver,
)
from support.relays import Client, World


@pytest.fixture
def world() -> World:
    return World(names=("ann",))


def make(client: Client, purpose: str = "chat", mode: str = "code") -> str:
    """A code."""
    frame = CreateSession(rid=client.next(), purpose=purpose, mode=mode)  # type: ignore[arg-type]
    return client.ask(frame, SessionCreated).session


def join(client: Client, code: str) -> JoinSession:
    return JoinSession(rid=client.next(), session=code)


def a_pass(client: Client, code: str, body: bytes = b"D") -> Pass:
    return Pass(rid=client.next(), session=code, body=body)


def paired(world: World, mode: str = "code") -> tuple[Client, Client, str]:
    """Two guests, paired."""
    creator, joiner = world.guest(), world.guest()
    code = make(creator, mode=mode)
    joiner.ask(join(joiner, code), Paired)
    creator.hear()
    return creator, joiner, code


def agree(creator: Client, joiner: Client, code: str) -> None:
    """D1 to D4."""
    for speaker, other in ((creator, joiner), (joiner, creator), (creator, joiner), (joiner, creator)):
        speaker.ask(a_pass(speaker, code), Done)
        assert other.hear() == [Passed(session=code, body=b"D")]


# --- refused ------------------------------------------------------------------------------------------------


def test_a_code_that_nobody_made_is_no_session(world: World) -> None:
    joiner = world.guest()
    assert joiner.refused(join(joiner, "ABCDEF")) == "no_session"


def test_a_third_finds_the_session_full_before_and_after_the_agreement(world: World) -> None:
    creator, joiner, code = paired(world)
    third = world.guest()
    assert third.refused(join(third, code)) == "session_full"
    agree(creator, joiner, code)
    assert third.refused(join(third, code)) == "session_full"


def test_one_is_not_both(world: World) -> None:
    creator = world.guest()
    code = make(creator)
    assert creator.refused(join(creator, code)) == "quota"


def test_a_guest_has_one_code_at_a_time(world: World) -> None:
    creator = world.guest()
    make(creator)
    assert creator.refused(CreateSession(rid=9, purpose="chat", mode="sas")) == "quota"


def test_a_message_out_of_turn_is_refused(world: World) -> None:
    creator, joiner, code = paired(world)
    assert joiner.refused(a_pass(joiner, code)) == "not_allowed"
    creator.ask(a_pass(creator, code), Done)
    assert creator.refused(a_pass(creator, code)) == "not_allowed"


def test_a_fifth_message_is_refused(world: World) -> None:
    creator, joiner, code = paired(world)
    agree(creator, joiner, code)
    assert creator.refused(a_pass(creator, code)) == "not_allowed"


def test_nothing_is_passed_on_before_somebody_has_joined(world: World) -> None:
    creator = world.guest()
    code = make(creator)
    assert creator.refused(a_pass(creator, code)) == "no_session"


def test_a_strangers_message_is_not_passed_on(world: World) -> None:
    _creator, _joiner, code = paired(world)
    third = world.guest()
    assert third.refused(a_pass(third, code)) == "no_session"


def test_only_the_creator_releases_the_place(world: World) -> None:
    creator, joiner, code = paired(world)
    assert joiner.refused(Release(rid=9, session=code)) == "not_allowed"
    joiner.say(Release(rid=10, session=code))
    assert creator.hear() == []


def test_nobody_is_released_where_nobody_has_joined(world: World) -> None:
    creator = world.guest()
    assert creator.refused(Release(rid=9, session=make(creator))) == "not_allowed"


def test_a_message_has_at_most_a_kibibyte(world: World) -> None:
    creator, joiner, code = paired(world)
    creator.ask(a_pass(creator, code, bytes(limits.CODE_BODY.value)), Done)
    creator.hear()
    joiner.say(a_pass(joiner, code, bytes(limits.CODE_BODY.value + 1)))
    assert joiner.wire.closed == "bad_encoding"


def test_a_guest_makes_no_code_for_linking(world: World) -> None:
    guest = world.guest()
    assert guest.refused(CreateSession(rid=9, purpose="link", mode="code")) == "not_allowed"


def test_where_guests_do_not_chat_they_still_join_a_members_link() -> None:
    world = World(names=("ann",), guests=False)
    guest, ann = world.guest(), world.client("ann")
    assert guest.refused(CreateSession(rid=9, purpose="chat", mode="code")) == "not_allowed"
    assert guest.refused(join(guest, make(world.client("ann")))) == "not_allowed"
    assert guest.ask(join(guest, make(ann, "link")), Paired).purpose == "link"


# --- limits -------------------------------------------------------------------------------------------------


def test_a_code_lives_ten_minutes(world: World) -> None:
    creator, late = world.guest(), world.guest()
    code = make(creator)
    world.now += limits.CODE_LIFE.value
    joiner = world.guest()
    joiner.ask(join(joiner, code), Paired)
    world.core.disconnect(joiner.wire, world.now)
    creator.hear()
    world.now += 1
    assert late.refused(join(late, code)) == "no_session"
    world.core.tick(world.now)
    assert creator.hear() == [SessionOver(session=code, code="timeout")]
    make(creator)


def test_the_third_join_without_d4_burns_the_code(world: World) -> None:
    creator = world.guest()
    code = make(creator)
    for turn in range(limits.CODE_TRIES.value):
        joiner = world.guest()
        joiner.ask(join(joiner, code), Paired)
        assert creator.hear() == [Paired(rid=0, session=code, purpose="chat", mode="code")]
        world.core.disconnect(joiner.wire, world.now)
        last = turn == limits.CODE_TRIES.value - 1
        assert creator.hear() == [
            PeerLeft(session=code),
            *([SessionOver(session=code, code="quota")] if last else []),
        ]
    late = world.guest()
    assert late.refused(join(late, code)) == "no_session"


def test_a_released_joiner_is_told_and_counts(world: World) -> None:
    creator, joiner, code = paired(world)
    agree(creator, joiner, code)
    creator.ask(Release(rid=8, session=code), Done)
    assert joiner.hear() == [PeerLeft(session=code)]
    joiner.ask(join(joiner, code), Paired)
    creator.hear()
    creator.ask(Release(rid=9, session=code), Done)
    joiner.hear()
    joiner.ask(join(joiner, code), Paired)
    creator.hear()
    creator.say(Release(rid=10, session=code))
    assert creator.hear() == [Done(rid=10), SessionOver(session=code, code="quota")]


def test_joins_that_find_nothing_are_counted_for_the_address(world: World) -> None:
    joiner = world.guest()
    for _ in range(10):
        assert joiner.refused(join(joiner, "ABCDEF")) == "no_session"
    assert joiner.refused(join(joiner, "ABCDEF")) == "quota"
    code = make(world.guest(address="192.0.2.7"))
    assert joiner.refused(join(joiner, code)) == "quota"
    world.now += limits.JOIN_RATE.value
    joiner.ask(join(joiner, code), Paired)


def test_a_relay_keeps_so_many_codes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CODES", limits.Limit("", 2, "", "", ""))
    make(world.guest())
    make(world.guest())
    third = world.guest()
    assert third.refused(CreateSession(rid=9, purpose="chat", mode="code")) == "quota"


# --- accepted -----------------------------------------------------------------------------------------------


def test_both_are_told_purpose_and_mode_as_the_creator_fixed_them(world: World) -> None:
    creator, joiner = world.guest(), world.guest()
    code = make(creator, mode="sas")
    assert joiner.ask(join(joiner, code), Paired) == Paired(rid=1, session=code, purpose="chat", mode="sas")
    assert creator.hear() == [Paired(rid=0, session=code, purpose="chat", mode="sas")]


def test_a_code_ends_with_its_creators_connection(world: World) -> None:
    creator, joiner, code = paired(world)
    world.core.disconnect(creator.wire, world.now)
    assert joiner.hear() == [SessionOver(session=code, code="closed")]
    assert joiner.refused(join(joiner, code)) == "no_session"


def test_after_the_agreement_nobody_is_told_of_a_lost_connection(world: World) -> None:
    creator, joiner, code = paired(world)
    agree(creator, joiner, code)
    world.core.disconnect(creator.wire, world.now)
    assert joiner.hear() == []
    world.now += limits.CODE_LIFE.value + 1
    world.core.tick(world.now)
    assert joiner.hear() == []


def test_a_member_may_make_and_join_codes_too(world: World) -> None:
    ann, guest = world.client("ann"), world.guest()
    code = make(ann)
    guest.ask(join(guest, code), Paired)
    assert isinstance(ann.hear()[0], Paired)


def test_no_code_is_written_down(world: World) -> None:
    creator, joiner, code = paired(world)
    agree(creator, joiner, code)
    assert world.core.take_batch() is None


def test_an_unknown_purpose_or_mode_breaks_the_form(world: World) -> None:
    guest = world.guest()
    good = frames.encode(CreateSession(rid=1, purpose="chat", mode="code"))
    world.core.frame(guest.wire, good.replace(b"chat", b"chap"), world.now)
    assert guest.wire.closed == "bad_encoding"
    assert not any(isinstance(frame, Refused) for frame in guest.hear())
