"""Two guests, a real relay core, agents and the virtual clock: document 004 from the code to the end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import pytest

from cloister.engine.guest import guest_account
from cloister.errors import CloisterError
from cloister.wire import frames, limits
from cloister.wire.frames import NO_TOKEN
from support.guests import Meeting, live


async def refused(work: Coroutine[Any, Any, Any]) -> str:
    with pytest.raises(CloisterError) as caught:
        await work
    return caught.value.code


# --- refused ------------------------------------------------------------------------------------------------


def test_a_code_that_nobody_made_and_one_that_is_no_code_are_refused() -> None:
    async def story(meeting: Meeting) -> None:
        joiner = meeting.guest("joiner")
        assert await refused(joiner.client.join("no code")) == "usage"
        assert await refused(joiner.client.join("ABCDEF")) == "no_session"

    live(story)


def test_a_third_finds_the_session_full() -> None:
    async def story(meeting: Meeting) -> None:
        creator = meeting.guest("creator")
        code = await creator.client.create()
        await meeting.guest("joiner").client.join(code)
        assert await refused(meeting.guest("third").client.join(code)) == "session_full"

    live(story)


def test_the_id_alone_does_not_open_a_session_with_a_whole_code() -> None:
    async def story(meeting: Meeting) -> None:
        creator, joiner = meeting.guest("creator"), meeting.guest("joiner")
        code = await creator.client.create()
        assert await refused(joiner.client.join(code[:6])) == "usage"

    live(story)


def test_a_whole_code_is_refused_where_the_relay_says_that_strings_are_compared() -> None:
    async def story(meeting: Meeting) -> None:
        creator, joiner = meeting.guest("creator"), meeting.guest("joiner")
        code = await creator.client.create(whole=False)
        assert await refused(joiner.client.join(code + "-7Q4K-M9XP")) == "wrong_code_or_mitm"

    live(story)


def test_three_wrong_codes_burn_the_code_and_each_is_told() -> None:
    async def story(meeting: Meeting) -> None:
        creator = meeting.guest("creator")
        code = await creator.client.create()
        wrong = code[:-1] + ("0" if code[-1] != "0" else "1")
        for number in range(3):
            joiner = meeting.guest(f"joiner{number}")
            await joiner.client.join(wrong)
            await meeting.until(lambda joiner=joiner: joiner.last().stage == "ended")
            assert "failed" in joiner.stages
            joiner.crash()
            await meeting.until(lambda number=number: creator.stages.count("failed") == number + 1)
        await meeting.until(lambda: creator.last().stage == "ended")
        assert await refused(meeting.guest("late").client.join(code)) == "no_session"

    live(story)


def test_a_wrong_code_leaves_the_place_free_for_the_right_one() -> None:
    async def story(meeting: Meeting) -> None:
        creator, wrong = meeting.guest("creator"), meeting.guest("wrong")
        code = await creator.client.create()
        await wrong.client.join(code[:-1] + ("0" if code[-1] != "0" else "1"))
        await meeting.until(lambda: "failed" in wrong.stages)
        wrong.crash()
        await meeting.until(lambda: creator.last().stage == "waiting")
        right = meeting.guest("right")
        await right.client.join(code)
        await meeting.until(lambda: creator.last().stage == right.last().stage == "ready")

    live(story)


def test_where_the_strings_differ_for_one_of_them_the_session_ends_for_both() -> None:
    async def story(meeting: Meeting) -> None:
        creator, joiner = await meeting.met(whole=False)
        await creator.client.compared(same=True)
        await joiner.client.compared(same=False)
        await meeting.until(lambda: creator.last().stage == joiner.last().stage == "ended")

    live(story)


def test_nothing_is_sent_before_both_have_compared() -> None:
    async def story(meeting: Meeting) -> None:
        creator, joiner = await meeting.met(whole=False)
        room = (await creator.client.rooms())[0]
        assert room.state == "pending"
        sent = await creator.client.send(room.id, "early")
        await joiner.client.compared(same=True)
        await asyncio.sleep(30)
        assert (sent.state, joiner.texts, joiner.last().stage) == ("queued", [], "awaiting")
        await creator.client.compared(same=True)
        await meeting.until(lambda: joiner.texts == ["early"])

    live(story)


def test_a_code_nobody_uses_ends_after_ten_minutes() -> None:
    async def story(meeting: Meeting) -> None:
        creator = meeting.guest("creator")
        await creator.client.create()
        await meeting.until(lambda: creator.last().stage == "ended", limits.CODE_LIFE.value / 1000 + 30)

    live(story)


def test_a_guest_has_one_session() -> None:
    async def story(meeting: Meeting) -> None:
        creator = meeting.guest("creator")
        await creator.client.create()
        assert await refused(creator.client.create()) == "exists"

    live(story)


def test_a_relay_that_is_another_than_the_pinned_one_is_refused() -> None:
    async def story(meeting: Meeting) -> None:
        stranger = guest_account("relay:7443", bytes(range(32)), random.Random(1).randbytes)
        guest = meeting.guest("guest", stranger)
        await meeting.until(lambda: any(getattr(event, "code", "") == "wrong_realm" for event in guest.told))

    live(story)


# --- accepted -----------------------------------------------------------------------------------------------


def test_two_guests_talk_and_either_ends_the_session_for_both() -> None:
    async def story(meeting: Meeting) -> None:
        creator, joiner = await meeting.met()
        assert creator.stages == ["waiting", "agreeing", "ready"]
        await creator.say("Hello!")
        await joiner.say("Hi there!")
        await meeting.until(lambda: creator.texts == joiner.texts == ["Hello!", "Hi there!"])
        await joiner.client.finish()
        await meeting.until(lambda: creator.last().stage == joiner.last().stage == "ended")
        assert await refused(creator.say("late")) == "read_only"
        for guest in (creator, joiner):
            room = (await guest.client.rooms())[0]
            kept = [key for key, _value in guest.open.scan("item", bytes.fromhex(room.id))]
            assert [key[16:] for key in kept] == [b"room"]

    live(story)


def test_both_screens_show_the_same_string_and_pictures() -> None:
    async def story(meeting: Meeting) -> None:
        creator, joiner = await meeting.met(whole=False)
        shown = creator.last()
        assert (shown.digits, shown.pictures) == (joiner.last().digits, joiner.last().pictures)
        assert (len(shown.digits), len(shown.pictures)) == (14, 6)
        for guest in (creator, joiner):
            await guest.client.compared(same=True)
        await meeting.until(lambda: creator.last().stage == joiner.last().stage == "ready")
        await creator.say("compared")
        await meeting.until(lambda: joiner.texts == ["compared"])

    live(story)


def test_a_crashed_guest_goes_on_where_it_stood_and_meets_again_with_a_new_key() -> None:
    async def story(meeting: Meeting) -> None:
        creator, joiner = await meeting.met()
        await creator.say("before")
        await meeting.until(lambda: joiner.texts == ["before"])
        joiner.crash()
        await creator.say("meanwhile")
        joiner.start()
        await meeting.until(lambda: joiner.texts == ["before", "meanwhile"])
        check = (await creator.client.rooms())[0].key_check
        await joiner.client.again()
        await asyncio.sleep(20)
        rooms = [(await guest.client.rooms())[0] for guest in (creator, joiner)]
        assert [room.epoch for room in rooms] == [2, 2]
        assert rooms[0].key_check == rooms[1].key_check != check
        await joiner.say("again")
        await meeting.until(lambda: creator.texts[-1:] == ["again"])

    live(story)


def test_the_relay_restarts_and_the_session_goes_on() -> None:
    async def story(meeting: Meeting) -> None:
        creator, joiner = await meeting.met()
        meeting.relay.crash()
        meeting.relay.start()
        await creator.say("still here")
        await meeting.until(lambda: joiner.texts == ["still here"])

    live(story)


def test_the_joiner_makes_the_room_where_the_creator_does_not() -> None:
    async def story(meeting: Meeting) -> None:
        creator, joiner = meeting.guest("creator"), meeting.guest("joiner")
        code = await creator.client.create()
        await joiner.client.join(code)
        place = joiner.agent.engine
        await meeting.until(lambda: place.room is not None)
        creator.crash()
        await meeting.until(lambda: joiner.last().stage == "ready", 60)

    live(story)


def test_the_relay_stores_no_text_no_name_and_no_code() -> None:
    async def story(meeting: Meeting) -> None:
        creator, joiner = await meeting.met()
        await creator.say("a canary in the mine")
        await meeting.until(lambda: joiner.texts)
        room = bytes.fromhex((await creator.client.rooms())[0].id)
        rows = list(meeting.relay.store.entries(room, 0, 99))
        assert [row.kind for row in rows] == ["create", "application"]
        assert rows[0].token_hash == NO_TOKEN
        held = repr(meeting.relay.store.__dict__).encode()
        for secret in (b"canary", b"creator", b"joiner"):
            assert secret not in held
        assert not any(isinstance(row.payload, frames.Staged) for row in rows)

    live(story)
