"""How rooms, messages and events look."""

from __future__ import annotations

import json

import pytest

from cloister.apps.cli import view
from cloister.client import api
from support.fake_backend import ALICE, BOB, CAROL, ROOM, TIME, message, room
from support.payloads import PAYLOADS, forbidden


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_payload_in_any_field_reaches_a_line(payload: str) -> None:
    info = room(title=payload, members=[api.Member(user=payload, device=BOB)], owners=[payload], missing=[payload])
    lines = [
        view.room_row(info),
        *view.room_details(info),
        *view.Milestones().lines(info, payload),
        *view.Milestones().lines(room(title=payload, state="pending", missing=[payload])),
        *view.Milestones().lines(room(state="frozen"), payload),
        view.message_lines(message(payload, sender=payload, room_title=payload), with_room=True),
        view.event_line(api.Alarm(cursor=1, code="fork", peer=payload, detail=payload)),
        view.event_line(api.UserJoined(cursor=1, name=payload, how="log")),
        view.event_line(api.UserJoined(cursor=1, name=payload, how="log", alarm=True)),
    ]
    assert not forbidden("\n".join(lines))


@pytest.mark.parametrize("text", ["one\n* carol has left", "one\nbob: two", "one\r12:00 bob: two", "one\u2028* x"])
def test_a_message_cannot_look_like_another_line(text: str) -> None:
    first, second = view.message_lines(message(text), with_room=False).split("\n")
    assert first.endswith("bob: one")
    assert second.startswith(" " * (len(first) - len("one")))


def test_a_message_says_who_and_where() -> None:
    shown = view.message_lines(message("hello"), with_room=True)
    assert shown == f"{view.clock(TIME)} #triad bob: hello"


def test_a_message_for_programs_is_whole() -> None:
    record = view.message_record(message("a\x1bb"))
    assert json.loads(json.dumps(record)) == {
        "id": f"{1:064x}",
        "room": "triad",
        "room_id": ROOM,
        "sender": {"name": "bob", "device": BOB, "verified": True},
        "time": "2026-11-18T11:06:40Z",
        "text": "a\x1bb",
        "seq": 1,
        "own": False,
        "state": "sent",
        "reply_to": None,
        "attachments": [],
    }


def test_milestones_count_up_and_end_with_begin_chatting() -> None:
    told = view.Milestones()
    assert told.lines(room(state="pending", missing=[BOB, CAROL])) == ["agreeing 1 of 3 (waiting for bob, carol)"]
    assert told.lines(room(state="pending", missing=[BOB, CAROL])) == []
    assert told.lines(room(state="pending", missing=[CAROL])) == ["agreeing 2 of 3 (waiting for carol)"]
    assert told.lines(room()) == [
        "alice, bob, carol hold the same key; its check value is 1234 5678",
        "Begin chatting!",
    ]
    assert told.lines(room()) == []
    assert told.lines(room(epoch=2, key_check="9"), "bob made a new key") == [
        "bob made a new key",
        "alice, bob, carol hold the same key; its check value is 9",
    ]
    assert told.lines(room(state="frozen"), "carol is being removed") == ["carol is being removed"]
    assert told.lines(room(state="removed")) == ["the room is removed"]


def test_a_rooms_details_name_what_matters() -> None:
    text = "\n".join(view.room_details(room(alarms=["fork"], parked=[CAROL])))
    for part in ("triad", ROOM, "ready, nonces, epoch 1", "bob (phone)", "1234 5678", "4 entries verified", "fork"):
        assert part in text


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (api.Alarm(cursor=1, code="fork"), "ALARM fork (cloister help fork)"),
        (api.Alarm(cursor=1, code="bad_sig", peer=BOB, detail="x"), "ALARM bad_sig by bob: x (cloister help bad_sig)"),
        (api.ConnectionChanged(cursor=1, state="offline", code="closed"), "relay: offline (closed)"),
        (api.ConnectionChanged(cursor=1, state="online"), "relay: online"),
        (api.UserJoined(cursor=1, name="dave", how="log"), "dave joined the realm"),
        (
            api.SendChanged(cursor=1, sent=api.Sent(id="1", room="2", state=api.SendState.FAILED, code="quota")),
            "not sent: quota (cloister help quota)",
        ),
        (api.SendChanged(cursor=1, sent=api.Sent(id="1", room="2", state=api.SendState.SENT)), ""),
        (api.RoomChanged(cursor=1, room=room(), what="x"), ""),
    ],
)
def test_events_in_words(event: api.Event, line: str) -> None:
    assert view.event_line(event) == line


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (api.MessageReceived(cursor=7, message=message("x")), "message"),
        (api.RoomChanged(cursor=7, room=room(), what="x"), "room"),
        (api.Alarm(cursor=7, code="fork"), "alarm"),
        (api.ConnectionChanged(cursor=7, state="online"), "connection"),
        (api.UserJoined(cursor=7, name="x", how="log"), "user"),
        (api.SendChanged(cursor=7, sent=api.Sent(id="1", room="2", state=api.SendState.SENT)), "sent"),
    ],
)
def test_events_for_programs_have_a_type_and_a_cursor(event: api.Event, kind: str) -> None:
    name, fields = view.event_record(event)
    assert name == kind
    assert fields["cursor"] == 7
    assert "type" not in fields
    json.dumps(fields)


def test_devices_are_named_shortly() -> None:
    assert view.user_of(ALICE) == "alice"
    assert view.device_of(ALICE) == "laptop"
    assert view.user_of("odd") == "odd"


def test_acknowledgements_of_a_key_in_use_are_counted_as_they_come() -> None:
    lines = view.Milestones()
    owed = {"awaits": view.ACKNOWLEDGEMENTS, "state": "ready"}
    assert lines.lines(room(state="pending", epoch=0, members=room().members[:1])) == ["invited, waiting for the room"]
    told = lines.lines(room(missing=[BOB, CAROL], confirmed=[ALICE], **owed))
    assert told == ["confirmed 1/3 (waiting for bob, carol)", "Begin chatting!"]
    assert lines.lines(room(missing=[CAROL], confirmed=[ALICE, BOB], **owed)) == ["confirmed 2/3 (waiting for carol)"]
    assert lines.lines(room(missing=[CAROL], confirmed=[ALICE, BOB], **owed)) == []
    (line,) = lines.lines(room(confirmed=[ALICE, BOB, CAROL]))
    assert "hold the same key" in line
    assert "  confirmed    3/3" in view.room_details(room(confirmed=[ALICE, BOB, CAROL]))
