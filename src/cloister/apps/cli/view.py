"""How rooms, messages and events look: lines for people, objects for programs. No I/O.

Source: docs/cli.md ("JSON"). Everything that a peer wrote passes `safe_text` or `safe_name` here; objects hold it as
it is, because JSON in ASCII cannot reach a terminal as anything else.

Invariants: a message's further lines are indented, so that no text looks like another member's line or a line of
ours; a line of ours that is not a message begins with `* `.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from cloister.client import api
from cloister.client.text import safe_name, safe_text

SHORT_ID = 8
"""Digits of an id in lists; any unique beginning of at least four is understood."""


def user_of(device: str) -> str:
    """The user's name in a device id (`cloister://realm/u/USER/d/DEVICE`), for people."""
    parts = device.split("/")
    return safe_name(parts[-3] if len(parts) > 3 else device)


def device_of(device: str) -> str:
    """The device's own name in its id."""
    return safe_name(device.rsplit("/", 1)[-1])


def iso(time_ms: int) -> str:
    """A time as programs read it: UTC, to the second."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def clock(time_ms: int) -> str:
    """A time of day as people read it, in the zone of this machine."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).astimezone().strftime("%H:%M")


def message_lines(message: api.MessageInfo, *, with_room: bool) -> str:
    """A message for people; further lines stand under the first."""
    room = f"#{safe_name(message.room_title)} " if with_room else ""
    head = f"{clock(message.time)} {room}{safe_name(message.sender)}: "
    first, *rest = safe_text(message.text).split("\n")
    return "\n".join([head + first, *(" " * len(head) + line for line in rest)])


def message_record(message: api.MessageInfo) -> dict[str, Any]:
    """A message for programs."""
    return {
        "id": message.id,
        "room": message.room_title,
        "room_id": message.room,
        "sender": {"name": message.sender, "device": message.device, "verified": message.verified},
        "time": iso(message.time),
        "text": message.text,
        "seq": message.seq,
        "own": message.own,
        "state": message.state.value,
        "reply_to": None,
        "attachments": [],
    }


def room_row(room: api.RoomInfo) -> str:
    """A room in a list."""
    members = ", ".join(sorted({safe_name(member.user) for member in room.members}))
    return f"{room.id[:SHORT_ID]}  {safe_name(room.title)}  {room.state}  {members}"


def room_details(room: api.RoomInfo) -> list[str]:
    """Everything about a room."""
    members = [f"{safe_name(member.user)} ({device_of(member.device)})" for member in room.members]
    rows = [
        ("id", room.id),
        ("state", f"{room.state}, {room.suite}, epoch {room.epoch}"),
        ("members", ", ".join(members)),
        ("owners", ", ".join(safe_name(owner) for owner in room.owners)),
        ("confirmed", f"{len(room.confirmed)}/{len(room.members)}" if room.confirmed else ""),
        ("waiting for", ", ".join(user_of(device) for device in room.missing)),
        ("parked", ", ".join(user_of(device) for device in room.parked)),
        ("check value", room.key_check),
        ("log", f"{room.entries} entries verified, head {room.head[:16]}" if room.entries else ""),
        ("alarms", ", ".join(room.alarms)),
    ]
    return [safe_name(room.title), *(f"  {name:<12} {value}" for name, value in rows if value)]


def sequence_lines(rows: list[api.SequenceInfo]) -> list[str]:
    """The members' message numbers, one line each: what this device sends next, and expects next of the others."""
    width = max((len(safe_name(row.user)) for row in rows), default=0)
    lines = []
    for row in rows:
        verb = "sends" if row.own else "expects"
        left = f" ({row.skipped} below it not seen)" if row.skipped else ""
        lines.append(f"  epoch {row.epoch}  {safe_name(row.user):<{width}}  {verb} {row.next} next{left}")
    return lines


def record_of(value: msgspec.Struct) -> dict[str, Any]:
    """A value of the client's interface for programs, without its own tag."""
    fields: dict[str, Any] = msgspec.to_builtins(value)
    fields.pop("type", None)
    return fields


def agreement(room: api.RoomInfo) -> str:
    """How far a room's members have come with their key."""
    total = len(room.members)
    if total == 1:
        return "invited, waiting for the room"
    line = f"agreeing {total - len(room.missing)} of {total}"
    waited = ", ".join(sorted({user_of(device) for device in room.missing}))
    return f"{line} (waiting for {waited})" if waited else line


ACKNOWLEDGEMENTS = "acknowledgements"
"""What a member owes a key that is in use already (suite `transport`)."""


class Milestones:
    """Turns the states of one room into lines, each said once.

    An agreement has several rounds, and the count of members who have answered begins anew with each; only counts
    that are not below what was said before are told, so that the lines go forwards.
    """

    __slots__ = ("_done", "_epoch", "_last", "_missing", "_ready")

    def __init__(self) -> None:
        self._last = ""
        self._ready = False
        self._epoch = -1
        self._done = 0
        self._missing: list[str] = []

    def lines(self, room: api.RoomInfo, what: str = "") -> list[str]:
        """What is new about the room; `what` is the client's own words for it."""
        lines = self._new(room, what)
        self._ready = room.state == "ready"
        self._epoch, self._missing = room.epoch, room.missing
        said = "\n".join(lines)
        if said == self._last:
            return []
        self._last = said or self._last
        return lines

    def _new(self, room: api.RoomInfo, what: str) -> list[str]:
        if room.state == "pending":
            done = len(room.members) - len(room.missing)
            if done < self._done:
                return []
            self._done = done
            return [agreement(room)]
        self._done = 0
        if room.state != "ready":
            return [safe_text(what) if what else f"the room is {room.state}"]
        if not self._ready:
            return [_agreed(room), "Begin chatting!"]
        if room.epoch != self._epoch:
            return [safe_text(what), _agreed(room)] if what else [_agreed(room)]
        if self._missing != room.missing and room.confirmed:
            return [_agreed(room)]
        return []


def _agreed(room: api.RoomInfo) -> str:
    if room.awaits == ACKNOWLEDGEMENTS:
        waited = ", ".join(sorted({user_of(device) for device in room.missing}))
        return f"confirmed {len(room.confirmed)}/{len(room.members)} (waiting for {waited})"
    names = ", ".join(sorted({safe_name(member.user) for member in room.members}))
    return f"{names} hold the same key; its check value is {room.key_check}"


def event_line(event: api.Event) -> str:
    """An event that is no message and no room's state, for people; empty when there is nothing to say."""
    match event:
        case api.Alarm():
            by = f" by {user_of(event.peer)}" if event.peer else ""
            detail = f": {safe_text(event.detail)}" if event.detail else ""
            return f"ALARM {event.code}{by}{detail} (cloister help {event.code})"
        case api.Invited():
            name, title = safe_name(event.user), safe_name(event.title)
            return f"{name} asks for a chat ({title}): cloister requests accept {event.room[:SHORT_ID]}, or decline"
        case api.BroadcastCompared():
            same = "the same" if event.equal else "SOMETHING ELSE"
            return f"{safe_name(event.reader)} got {same} from {safe_name(event.author)} (check {event.check})"
        case api.PresenceChanged():
            return f"{safe_name(event.user)} is {'online' if event.online else 'gone'}, the relay says"
        case api.ConnectionChanged():
            return f"relay: {event.state}" + (f" ({event.code})" if event.code else "")
        case api.UserJoined(alarm=True):
            return f"ALARM {safe_name(event.name)} came with a wrong tag: the link was used by somebody else"
        case api.UserJoined():
            return f"{safe_name(event.name)} joined the realm"
        case api.SendChanged() if event.sent.state is api.SendState.FAILED:
            return f"not sent: {event.sent.code} (cloister help {event.sent.code})"
        case _:
            return ""


def event_record(event: api.Event) -> tuple[str, dict[str, Any]]:
    """The type and fields of an event for programs."""
    if isinstance(event, api.MessageReceived):
        return "message", {**message_record(event.message), "cursor": event.cursor}
    name = str(type(event).__struct_config__.tag)
    return name, record_of(event)
