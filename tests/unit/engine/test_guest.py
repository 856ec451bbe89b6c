"""A guest's engine against a relay that does not keep to the rules, and against its own person's mistakes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

import pytest

from cloister.engine import inputs, values
from cloister.engine.guest import GuestEngine, guest_account, stored_account
from cloister.engine.unit import Disconnect, Notify, Reply
from cloister.errors import CloisterError, PeerError
from cloister.testing.store import MemoryStore
from cloister.wire import frames
from cloister.wire.frames import Frame
from support.guests import Guest, Meeting, live

NOW = 1_790_000_000_000
TLS = bytes(range(32))


def engine() -> GuestEngine:
    dice = random.Random("guest").randbytes
    return GuestEngine(guest_account("relay:7443", b"", dice), MemoryStore().open(), dice)


def twisted(meeting: Meeting, twist: Callable[[frames.Answer], Sequence[Frame]]) -> None:
    """From now on the relay's frames leave as `twist` says."""

    def hook(_client: str, data: bytes) -> Sequence[bytes]:
        try:
            frame = frames.decode_answer(data)
        except PeerError:
            return [data]
        return [frames.encode(each) for each in twist(frame)]

    meeting.relay.hook = hook


def alarms(guest: Guest) -> list[str]:
    return [event.code for event in guest.told if isinstance(event, values.Alarm)]


# --- the login ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frame",
    [
        frames.Done(rid=7),
        frames.Behind(log=bytes(16), seq=1),
        frames.SessionCreated(rid=1, session="A3F2B1", expires=0),
        frames.Paired(rid=1, session="A3F2B1", purpose="chat", mode="code"),
        frames.Users(rid=1, names=[], online=[]),
    ],
)
def test_an_answer_that_nothing_awaits_ends_the_login(frame: Frame) -> None:
    guest = engine()
    guest.handle(inputs.Opened(TLS), NOW)
    unit = guest.handle(inputs.Received(frames.encode(frame)), NOW)
    assert [output for output in unit.outputs if isinstance(output, Disconnect)] == [Disconnect("bad_encoding", True)]
    assert not unit.writes


def test_bytes_that_are_no_frame_end_the_login() -> None:
    guest = engine()
    guest.handle(inputs.Opened(TLS), NOW)
    unit = guest.handle(inputs.Received(b"\xff"), NOW)
    assert Disconnect("bad_encoding", True) in unit.outputs


def test_a_refused_login_is_told_to_whoever_waits() -> None:
    guest = engine()
    guest.handle(inputs.Meet(1, values.OpenSession()), NOW)
    guest.handle(inputs.Opened(TLS), NOW)
    unit = guest.handle(inputs.Received(frames.encode(frames.Refused(rid=0, code="quota"))), NOW)
    (reply,) = [output for output in unit.outputs if isinstance(output, Reply)]
    assert reply.error is not None
    assert (reply.error.code, Disconnect("quota", True) in unit.outputs) == ("quota", True)


def test_a_challenge_of_a_relay_without_a_name_is_refused() -> None:
    async def story(meeting: Meeting) -> None:
        twisted(
            meeting,
            lambda frame: [
                replace_frame(frame, server_id="cloister://x/u/y/d/z") if isinstance(frame, frames.Challenge) else frame
            ],
        )
        guest = meeting.guest("guest")
        await meeting.until(lambda: alarms(guest))
        assert alarms(guest)[0] in ("bad_sig", "bad_name")

    live(story)


def replace_frame(frame: Frame, **fields: object) -> Frame:
    from msgspec.structs import replace as other

    return other(frame, **fields)


# --- before the session -------------------------------------------------------------------------------------


def test_what_a_guest_has_not_is_refused() -> None:
    guest = engine()
    for command, code in (
        (values.Send(room="ab", text="x"), "no_room"),
        (values.EndRoom(room="ab"), "no_room"),
    ):
        (reply,) = guest.handle(inputs.Execute(1, command), NOW).outputs
        assert isinstance(reply, Reply)
        assert isinstance(reply.error, CloisterError)
        assert reply.error.code == code
    (reply,) = guest.handle(inputs.Meet(1, values.Compared(same=True)), NOW).outputs
    assert isinstance(reply, Reply)
    assert reply.error is not None
    assert reply.error.code == "not_ready"
    (reply,) = guest.handle(inputs.Execute(2, values.GetStatus()), NOW).outputs
    assert isinstance(reply, Reply)
    assert (reply.result.user, reply.result.relay, reply.result.rooms) == ("creator", "offline", 0)
    assert guest.next_wake() is None


def test_a_code_ends_with_its_connection() -> None:
    async def story(meeting: Meeting) -> None:
        creator = meeting.guest("creator")
        await creator.client.create()
        meeting.network.cut("creator")
        await meeting.until(lambda: creator.last().stage == "ended")
        assert creator.last().code == "closed"

    live(story)


def test_a_lying_relay_does_not_get_a_session_begun() -> None:
    async def story(meeting: Meeting) -> None:
        twisted(
            meeting,
            lambda frame: [replace_frame(frame, mode="sas") if isinstance(frame, frames.Paired) else frame],
        )
        creator, joiner = meeting.guest("creator"), meeting.guest("joiner")
        code = await creator.client.create()
        with pytest.raises(CloisterError) as refused:
            await joiner.client.join(code)
        assert refused.value.code == "wrong_code_or_mitm"
        await meeting.until(lambda: "failed" in creator.stages)

    live(story)


# --- the room -----------------------------------------------------------------------------------------------


def test_a_relay_that_alters_an_entry_is_caught_and_read_no_further() -> None:
    async def story(meeting: Meeting) -> None:
        creator, joiner = await meeting.met()

        def alter(frame: frames.Answer) -> Sequence[Frame]:
            if not isinstance(frame, frames.Pushed):
                return [frame]
            entries = [replace_frame(entry, payload=entry.payload[:-1] + b"!") for entry in frame.entries]
            return [replace_frame(frame, entries=entries)]

        twisted(meeting, alter)
        await creator.client.send((await creator.client.rooms())[0].id, "hello")
        await meeting.until(lambda: "bad_chain" in alarms(joiner))
        assert joiner.texts == []
        with pytest.raises(CloisterError) as refused:
            await joiner.say("no more")
        assert refused.value.code == "read_only"

    live(story)


def test_entries_that_were_not_pushed_are_fetched() -> None:
    async def story(meeting: Meeting) -> None:
        creator, joiner = await meeting.met()
        dropped: list[Frame] = []

        def drop(frame: frames.Answer) -> Sequence[Frame]:
            if isinstance(frame, frames.Pushed) and len(dropped) < 2:
                dropped.append(frame)
                return [frames.Behind(log=frame.log, seq=frame.head.seq)] if len(dropped) == 1 else []
            return [frame]

        twisted(meeting, drop)
        for text in ("one", "two", "three"):
            await creator.client.send((await creator.client.rooms())[0].id, text)
            await asyncio.sleep(1)
        await meeting.until(lambda: creator.texts == joiner.texts == ["one", "two", "three"])

    live(story)


def test_what_breaks_a_rule_ends_the_connection_and_the_session_goes_on() -> None:
    async def story(meeting: Meeting) -> None:
        creator, joiner = await meeting.met()
        sent: list[Frame] = []

        def once(frame: frames.Answer) -> Sequence[Frame]:
            if isinstance(frame, frames.Pushed) and not sent:
                sent.append(frame)
                return [frames.Done(rid=999), frame]
            return [frame]

        twisted(meeting, once)
        await creator.client.send((await creator.client.rooms())[0].id, "hello")
        await meeting.until(lambda: creator.texts == joiner.texts == ["hello"])
        assert alarms(creator) + alarms(joiner) == ["bad_encoding"]

    live(story)


def test_a_refusal_is_waited_out() -> None:
    async def story(meeting: Meeting) -> None:
        creator, joiner = await meeting.met()
        refused: list[Frame] = []

        def once(frame: frames.Answer) -> Sequence[Frame]:
            if isinstance(frame, frames.Ack) and not refused:
                refused.append(frame)
                return [frames.Refused(rid=frame.rid, code="quota")]
            return [frame]

        twisted(meeting, once)
        await creator.say("patience")
        await meeting.until(lambda: joiner.texts == ["patience"])

    live(story)


def test_a_guest_lists_its_room_its_history_its_status_and_its_keys() -> None:
    async def story(meeting: Meeting) -> None:
        creator, joiner = await meeting.met()
        await creator.say("one")
        await meeting.until(lambda: joiner.texts == ["one"])
        history = await joiner.client.history()
        assert [(message.sender, message.text, message.verified) for message in history] == [("creator", "one", False)]
        status = await joiner.client.status()
        assert (status.user, status.rooms, status.relay, status.queued) == ("joiner", 1, "online", 0)
        names = [name for name, _value in joiner.client.secrets()]
        assert sorted(set(names)) == ["chain key", "confirm key", "guest key", "resumption secret", "room key"]
        assert joiner.client.pinned
        with pytest.raises(CloisterError) as refused:
            await joiner.client.add((await joiner.client.rooms())[0].id, ["dave"])
        assert refused.value.code == "usage"

    live(story)


def test_a_store_without_a_session_is_nobodys() -> None:
    assert stored_account(MemoryStore().open()) is None


def test_a_fork_in_an_ack_is_noticed() -> None:
    async def story(meeting: Meeting) -> None:
        creator, _joiner = await meeting.met()
        twisted(
            meeting,
            lambda frame: [
                replace_frame(frame, head=replace_frame(frame.head, hash=bytes(32)))
                if isinstance(frame, frames.Ack)
                else frame
            ],
        )
        await creator.client.send((await creator.client.rooms())[0].id, "x")
        await meeting.until(lambda: alarms(creator))
        assert alarms(creator) == ["bad_head"]

    live(story)


def test_events_of_a_guest_are_the_clients() -> None:
    unit = engine().handle(inputs.Opened(TLS), NOW)
    told = [output.event for output in unit.outputs if isinstance(output, Notify)]
    assert told == [values.ConnectionChanged(cursor=0, state="connecting")]
