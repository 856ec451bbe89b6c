"""Every limit of the protocol in one typed table; docs/spec/limits.md is generated from it.

Source: docs/spec/wire.md. Invariants: each limit is tested at its value and one past it; code takes the value
from here and nowhere else. What depends on an operator's choice (disk ceiling, guests) is configuration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
SECOND: Final = 1000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR


@dataclass(frozen=True, slots=True)
class Limit:
    """One row: `value` in `unit`, and what a peer gets that exceeds it (an error code, or `closed`)."""

    name: str
    value: int
    unit: str
    answer: str
    why: str


FRAME: Final = Limit("frame", 256 * KIB, "bytes", "closed", "memory of a connection before a frame is parsed")
ANSWER: Final = Limit("answer frame", 8 * MIB + 64 * KIB, "bytes", "closed", "the largest commit and what names it")
LOGIN_FRAME: Final = Limit("login frame", 64 * KIB, "bytes", "closed", "memory a stranger may take")
RECORD: Final = Limit("record", 64 * KIB, "bytes", "bad_encoding", "one application or handshake entry")
MAIL_ITEM: Final = Limit("mailbox item", 64 * KIB, "bytes", "bad_encoding", "one sealed item for one device")
DEVICE_ID: Final = Limit("device id", 128, "bytes", "bad_encoding", "names in frames and certificates")
COMMIT: Final = Limit("commit", 8 * MIB, "bytes", "quota", "payload, group info and items together")
COMMIT_ITEMS: Final = Limit("items of a commit", 256, "items", "bad_encoding", "mailbox items of one transaction")
STAGE: Final = Limit("staged parts", 16 * MIB, "bytes a device", "quota", "what waits for its commit")
STAGE_LIFE: Final = Limit("staged part", 10 * MINUTE, "ms", "quota", "how long a part waits")
PART: Final = Limit("part", 128 * KIB, "bytes", "bad_encoding", "one part of what exceeds a frame")
LOG_PAGE: Final = Limit("page of a log", 192 * KIB, "bytes", "more follows", "one answer to present")
STUBS: Final = Limit("hash stubs of a page", 4 * KIB, "bytes", "more follows", "a run of entries not opened")
SEND_BUFFER: Final = Limit("send buffer", 64 * KIB, "bytes", "behind", "what a slow reader may hold back")
PUSH: Final = Limit("pushed entry", 64 * KIB, "bytes", "behind", "a larger one is announced and fetched")
MAILBOX: Final = Limit("mailbox", 1_000, "items", "quota", "what waits for an absent device")
MAILBOX_BYTES: Final = Limit("mailbox size", 16 * MIB, "bytes", "quota", "what waits for an absent device")
MAILBOX_LIFE: Final = Limit("mailbox item's life", 30 * DAY, "ms", "deleted", "undelivered items")
RUN_LIFE: Final = Limit("run", DAY, "ms", "timeout", "how far ahead a run's deadline may lie")
RUNS_PER_ROOM: Final = Limit("open runs of a room", 4, "runs", "quota", "attempts at the same time")
RUNS_PER_DEVICE: Final = Limit("open runs without a room", 64, "runs a device", "quota", "rooms being made")
RUN_ENTRIES: Final = Limit("entries of a run", 256, "entries", "quota", "32 members, three rounds, repeats")
COMMIT_RATE: Final = Limit("commits of a device", 10 * SECOND, "ms apart, burst 3", "quota", "one device's churn")
ROOM_COMMIT_RATE: Final = Limit("commits of a room", SECOND, "ms apart, burst 10", "quota", "churn")
POST_RATE: Final = Limit("posts of a connection", 400, "a second, burst 2000", "quota", "one member's flood")
LOGIN_RATE: Final = Limit("login tries of an address", 60, "failed a minute", "quota", "guessing")
ENROL_RATE: Final = Limit("enrolments of an address", 30, "a minute", "quota", "guessing tokens")
REGISTER_RATE: Final = Limit("registrations of an address", 10, "an hour", "quota", "names without an invite")
HANDSHAKE: Final = Limit("time to the first frame", 10 * SECOND, "ms", "closed", "slow handshakes")
CLOCK: Final = Limit("clock difference", 120 * SECOND, "ms", "clock_skew", "login timestamps")
CHALLENGE_LIFE: Final = Limit("login challenge", 30 * SECOND, "ms", "replay", "single use of a nonce")
SUBSCRIPTIONS: Final = Limit("logs followed", 1_024, "a connection", "quota", "relay memory of a connection")
CERTIFICATE: Final = Limit("certificate or request", 2 * KIB, "bytes", "bad_encoding", "of one key, DER")
RECORD_REALM: Final = Limit("realm record", 16 * KIB, "bytes", "bad_encoding", "one record of the realm log")
MANIFESTS: Final = Limit("manifests", 20, "a user and day", "quota", "growth of the realm log")
RENEWAL: Final = Limit("renewal of certificates", 30 * DAY, "ms before their end", "quota", "growth of the realm log")
INVITES: Final = Limit("live invites", 100, "a user", "quota", "links that wait")
USER_ROOMS: Final = Limit("rooms made by a device", 100, "a day", "quota", "growth of the room table")
MESSAGE_LIFE: Final = Limit("payload of a message", 30 * DAY, "ms", "deleted", "by age: nobody knows who has read")
COMMIT_LIFE: Final = Limit("payload of a commit, log of a run", 180 * DAY, "ms", "deleted", "past it: rejoin")
ENROLMENT_LIFE: Final = Limit("answer to an enrolment", 30 * DAY, "ms", "used_invite", "repeated requests")
TOKENS: Final = Limit("tokens of a log", 16, "a connection", "the oldest is forgotten", "relay memory of a connection")
IN_FLIGHT: Final = Limit("requests in flight", 256, "a connection", "not read on", "acks that wait for a slow reader")
DEVICE_CONNECTIONS: Final = Limit("connections of a device", 8, "connections", "the oldest is closed", "memory")
CONNECTIONS: Final = Limit("connections before login", 20, "an address", "closed", "slow strangers")
LINE: Final = Limit("connections in line", 2_048, "an address", "closed", "who waits for one of these places")
LINE_TIME: Final = Limit("time in line", 30 * SECOND, "ms", "closed", "who waits for one of these places")
GOODBYE: Final = Limit("time for the last answer", 2 * SECOND, "ms", "closed", "who neither reads nor goes")
BESIDE: Final = Limit("pings and parts", 1_024, "of one read", "closed", "work for what is no message")
PREKEY: Final = Limit("key package", 4 * KIB, "bytes", "bad_encoding", "one package of one device")
PREKEYS: Final = Limit("key packages", 100, "a device and suite", "quota", "one-time ones; one of last resort beside")
PREKEYS_LOW: Final = Limit("few key packages", 25, "left", "an event", "when a device uploads new ones")
PREKEY_LIFE: Final = Limit("key package's life", 90 * DAY, "ms", "bad_encoding", "from not_before to not_after")
PREKEY_CLAIM: Final = Limit("devices of a claim", 60, "devices", "bad_encoding", "their packages fit one frame")
CLAIM_RATE: Final = Limit("claims of a device", 6 * SECOND, "ms apart, burst 1000", "quota", "one room's devices")
CLAIMED_RATE: Final = Limit("claims on a device", 10 * MINUTE, "ms apart, burst 60", "the last resort", "draining")
GUEST_RATE: Final = Limit("new guests of an address", 6 * MINUTE, "ms apart, burst 10", "quota", "strangers")
CODE_LIFE: Final = Limit("session code", 10 * MINUTE, "ms", "session_over", "how long a code waits for its joiner")
CODE_TRIES: Final = Limit("joins of a code without D4", 3, "joins", "session_over", "guesses at its secret half")
CODES: Final = Limit("session codes", 10_000, "a relay", "quota", "relay memory; ids stay hard to hit")
JOIN_RATE: Final = Limit("joins that find nothing", MINUTE, "ms apart of an address, burst 10", "quota", "guessing ids")
CODE_BODY: Final = Limit("message of an agreement", KIB, "bytes", "bad_encoding", "D1 to D4")
GUEST_ROOMS: Final = Limit("guest rooms", 1_000, "a relay", "quota", "growth by strangers")
GUEST_ENTRIES: Final = Limit("entries of a guest room", 1_000, "entries", "quota", "growth by strangers")
GUEST_BYTES: Final = Limit("guest room", MIB, "bytes of payload", "quota", "growth by strangers")
GUEST_LIFE: Final = Limit("guest room's life", DAY, "ms", "no_session", "then the room is deleted")

TABLE: Final = tuple(value for value in list(globals().values()) if isinstance(value, Limit))
"""All rows, in the order of this file."""
