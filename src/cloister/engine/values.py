"""What can be asked of a profile's owner, and what it reports: commands, results and events as typed values.

Source: docs/spec/client-api.md (generated). The same values serve the `Client` in the owner's process and, as JSON
lines over the Unix socket, a second process. Additive only: fields are never renamed or removed.

Invariants
- No field holds a secret, with one exception that the person asked for: the invite link. Text that a peer wrote is
  passed as it was received; surfaces use `safe_text`.
- Times are milliseconds since 1970; ids are lower-case hex; users are plain names, devices full device ids.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from msgspec import Struct


class Value(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all values of this interface."""


# --- results ------------------------------------------------------------------------------------------------


class SendState(StrEnum):
    """Where one's own message stands."""

    QUEUED = "queued"
    """Stored here; it goes out as soon as the room and the relay allow."""
    SENT = "sent"
    """Stored and signed by the relay."""
    FAILED = "failed"
    """Refused for good; `code` says why."""


class Member(Value, frozen=True):
    """A device in a room."""

    user: str
    device: str


class RoomInfo(Value, frozen=True):
    """A room as this device has it. `state`: pending, ready, frozen, read-only, removed."""

    id: str
    title: str
    suite: str
    state: str
    epoch: int
    members: list[Member]
    owners: list[str]
    missing: list[str] = []
    """Devices whose answer is awaited."""
    awaits: str = ""
    """What they owe: hellos, shares, confirms (`commit` when only that is missing), acknowledgements, a response."""
    confirmed: list[str] = []
    """Devices that have proved to this one that they hold the key, in suites whose members do."""
    parked: list[str] = []
    key_check: str = ""
    entries: int = 0
    """Entries of the room's log that were verified."""
    head: str = ""
    """Hash of the newest verified entry."""
    alarms: list[str] = []
    """Codes of what the relay was caught at in this room."""
    asks: str = ""
    """Who asks for this room and waits for this person's answer; empty when nobody does."""
    goes_on_in: str = ""
    """The room in which these two go on, where each had asked the other at once; empty everywhere else."""


class MessageInfo(Value, frozen=True):
    """A shown message."""

    id: str
    room: str
    room_title: str
    sender: str
    device: str
    verified: bool
    text: str
    time: int
    seq: int
    own: bool = False
    state: SendState = SendState.SENT
    broadcast: str = ""
    """The broadcast's id when this is a copy of one."""
    check: str = ""
    """Ten digits that everybody who got the same broadcast sees."""


class Sent(Value, frozen=True):
    """What became of `Send`: the message's id and state."""

    id: str
    room: str
    state: SendState
    seq: int = 0
    code: str = ""


class SequenceInfo(Value, frozen=True):
    """Where a member's message numbers stand in one epoch, as this device has stored it.

    `next` is the next number not used; `skipped` of those below it were never seen and may still come.
    """

    epoch: int
    user: str
    device: str
    own: bool
    next: int
    skipped: int = 0


class BroadcastCopy(Value, frozen=True):
    """A copy of a broadcast: for whom, in which room, whether that key is verified; `state` is the room's."""

    user: str
    device: str
    room: str
    message: str
    verified: bool
    state: str


class BroadcastInfo(Value, frozen=True):
    """A broadcast: its check value, and its copies (of a comparison: who was asked)."""

    id: str
    author: str
    check: str
    copies: list[BroadcastCopy]


class UserInfo(Value, frozen=True):
    """A user of the realm. `how` tells why the identity key is trusted: own, link, log."""

    name: str
    devices: list[str]
    safety_number: str
    how: str
    online: bool = False
    """Whether the relay says that they are there: a hint, of those who want to be seen."""


class CertificateInfo(Value, frozen=True):
    """A certificate of a user's device, as this device has verified it. Times in ms.

    `usage`: device, sign, encrypt. `state`: stands, revoked, not_in_manifest, expired. `place` is the record of the
    realm log that set it, `authority` the hash of the root key that was pinned at enrolment, `der` in base64.
    """

    device: str
    usage: str
    serial: str
    not_before: int
    not_after: int
    state: str
    place: int
    authority: str
    der: str


class Status(Value, frozen=True):
    """How this device stands. `relay`: online, connecting, offline."""

    user: str
    device: str
    realm: str
    relay: str
    address: str
    realm_size: int
    realm_head: str
    rooms: int
    queued: int
    last_error: str = ""
    caught_up: bool = False
    """Online, all that waited was read, and nothing of this device's own but texts is still to be sent."""


# --- commands -----------------------------------------------------------------------------------------------


class GetStatus(Value, frozen=True, tag="status"):
    """-> Status"""


class ListRooms(Value, frozen=True, tag="rooms"):
    """-> list[RoomInfo]"""


class CreateRoom(Value, frozen=True, tag="create_room"):
    """Make a room with all devices of these users -> RoomInfo (pending until the key is agreed)."""

    title: str
    suite: str
    members: list[str]


class AddMembers(Value, frozen=True, tag="add"):
    """Take users in -> RoomInfo"""

    room: str
    users: list[str]


class RemoveMembers(Value, frozen=True, tag="remove"):
    """Put users out -> RoomInfo"""

    room: str
    users: list[str]


class SetOwners(Value, frozen=True, tag="owners"):
    """Hand the room over: these users are its owners from the next epoch on -> RoomInfo"""

    room: str
    users: list[str]


class ListSequence(Value, frozen=True, tag="sequence"):
    """The message numbers of a room's members, in suites that store such -> list[SequenceInfo]"""

    room: str


class RekeyRoom(Value, frozen=True, tag="rekey"):
    """Make a new key among the same members -> RoomInfo"""

    room: str


class Send(Value, frozen=True, tag="send"):
    """Send a text -> Sent (queued, or sent when `wait`; `timeout` in ms, 0 = as long as it takes)."""

    room: str
    text: str
    wait: bool = False
    timeout: int = 0


class History(Value, frozen=True, tag="history"):
    """The newest `limit` messages of a room (all rooms: empty) after message id `since` -> list[MessageInfo]"""

    room: str = ""
    since: str = ""
    limit: int = 100


class AnswerRequest(Value, frozen=True, tag="answer_request"):
    """Say yes or no to who asks for a chat -> RoomInfo"""

    room: str
    accept: bool


class SetRequests(Value, frozen=True, tag="set_requests"):
    """What to do with requests for a chat: `ask`, `accept`, or `default` -> str, what counts from now on"""

    policy: Literal["ask", "accept", "default"]


class SetPresence(Value, frozen=True, tag="set_presence"):
    """Let others see when this device is online, or not -> bool, what counts from now on"""

    visible: bool


class EndRoom(Value, frozen=True, tag="end_room"):
    """Leave a room: done once another member has carried it out; of suite `pair` it ends for both -> RoomInfo"""

    room: str


class Broadcast(Value, frozen=True, tag="broadcast"):
    """Send a copy of a text to everybody over sessions of two -> BroadcastInfo"""

    text: str


class CheckBroadcast(Value, frozen=True, tag="check_broadcast"):
    """Compare a broadcast with those who may have got it too -> BroadcastInfo, then `BroadcastCompared` events"""

    id: str


class ListUsers(Value, frozen=True, tag="users"):
    """-> list[UserInfo]"""


class ListCertificates(Value, frozen=True, tag="certificates"):
    """A user's certificates, verified against the pinned authority -> list[CertificateInfo]"""

    user: str


class CreateInvite(Value, frozen=True, tag="invite"):
    """Make a link that lets `uses` people into the realm until `expires` (ms) -> str"""

    uses: int
    expires: int


Command = (
    GetStatus | ListRooms | CreateRoom | AddMembers | RemoveMembers | SetOwners | RekeyRoom | EndRoom | AnswerRequest
    | SetRequests | SetPresence | Broadcast | CheckBroadcast | ListSequence | Send | History | ListUsers
    | ListCertificates | CreateInvite
)  # fmt: skip
Result = (
    Status | RoomInfo | Sent | list[RoomInfo] | list[MessageInfo] | list[UserInfo] | list[SequenceInfo]
    | list[CertificateInfo] | BroadcastInfo | bool | str
)  # fmt: skip


# --- sessions of two by a code; only a guest's engine takes these ------------------------------------------------


class OpenSession(Value, frozen=True, tag="open_session"):
    """Make a code; `whole`: with a secret half, so that nothing has to be compared -> str, the code"""

    whole: bool = True


class EnterSession(Value, frozen=True, tag="enter_session"):
    """Join the session with this code, as typed -> str, its id"""

    code: str


class Compared(Value, frozen=True, tag="compared"):
    """What the person says of the two strings -> str, the stage"""

    same: bool


SessionCommand = OpenSession | EnterSession | Compared


# --- events -------------------------------------------------------------------------------------------------


class MessageReceived(Value, frozen=True, tag="message"):
    """A message was shown (one's own too, when it has come back signed); `cursor` orders all events."""

    cursor: int
    message: MessageInfo


class RoomChanged(Value, frozen=True, tag="room"):
    """A room's members, key or state moved; `what` is a line for people."""

    cursor: int
    room: RoomInfo
    what: str


class SendChanged(Value, frozen=True, tag="sent"):
    """One's own message changed its state."""

    cursor: int
    sent: Sent


class ConnectionChanged(Value, frozen=True, tag="connection"):
    """The connection to the relay: online, connecting, offline; `code` says why it ended."""

    cursor: int
    state: str
    code: str = ""


class Alarm(Value, frozen=True, tag="alarm"):
    """The relay or a member broke a rule: `code` of the registry; `proof` is a fork proof in hex, or empty."""

    cursor: int
    code: str
    room: str = ""
    peer: str = ""
    detail: str = ""
    proof: str = ""


class PresenceChanged(Value, frozen=True, tag="presence"):
    """Somebody who wants to be seen came or went, as the relay says: a hint."""

    cursor: int
    user: str
    online: bool


class BroadcastCompared(Value, frozen=True, tag="broadcast_compared"):
    """Another reader has told what it got: the same, or (with an alarm) something else."""

    cursor: int
    id: str
    author: str
    reader: str
    equal: bool
    check: str


class Invited(Value, frozen=True, tag="invited"):
    """Somebody asks for a chat and waits for `AnswerRequest`."""

    cursor: int
    room: str
    user: str
    title: str
    suite: str


class UserJoined(Value, frozen=True, tag="user"):
    """Somebody entered the realm; `how` as in UserInfo, `alarm` when a link's tag was wrong."""

    cursor: int
    name: str
    how: str
    alarm: bool = False


class SessionChanged(Value, frozen=True, tag="session"):
    """A session of two by a code moved. `stage`: waiting, agreeing, compare, awaiting, ready, ending, ended, failed.

    compare: `digits` and `pictures` are to be the same on both screens; awaiting: the other has not said so yet;
    failed: one try was refused (`code`), a creator waits for the next.
    """

    cursor: int
    stage: str
    room: str = ""
    digits: str = ""
    pictures: list[str] = []
    code: str = ""


Event = (
    MessageReceived | RoomChanged | SendChanged | ConnectionChanged | Alarm | Invited | BroadcastCompared
    | PresenceChanged | UserJoined | SessionChanged
)  # fmt: skip
