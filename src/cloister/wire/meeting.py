"""Frames of guests and of the rendezvous: two who share a session code are paired, and speak through the relay.

Source: docs/spec/wire.md ("Guests and session codes"), docs/spec/classic/code.md, document 004. A guest logs in with a
key made for one session, answering the same challenge as a device.

Invariants: what the two say (`body`) is opaque to the relay; a code's secret half never stands in a frame.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from cloister.wire import limits
from cloister.wire.parts import Frame, Hash, Sig, Uint

SessionId = Annotated[str, Meta(pattern="^[0-9A-F]{6}$", max_length=6)]
Purpose = Literal["chat", "link"]
Mode = Literal["code", "sas"]
Said = Annotated[bytes, Meta(max_length=limits.CODE_BODY.value)]


class GuestLogin(Frame, frozen=True, tag="guest"):
    """L3 of a guest: its key, and Sign_guest("login-guest", SHA-256(L1), SHA-256(L2), ts, tls)."""

    key: Hash
    ts_ms: Uint
    signature: Sig


class CreateSession(Frame, frozen=True, tag="create_session"):
    """Make a session code: what for, and whether its creator has made a secret half (`code`) or not (`sas`)."""

    rid: Uint
    purpose: Purpose
    mode: Mode


class SessionCreated(Frame, frozen=True, tag="session_created"):
    """The code, and until when somebody may join (ms)."""

    rid: Uint
    session: SessionId
    expires: Uint


class JoinSession(Frame, frozen=True, tag="join_session"):
    """Join the session with this code."""

    rid: Uint
    session: SessionId


class Paired(Frame, frozen=True, tag="paired"):
    """The two are paired: the answer to the joiner, and pushed to the creator with rid 0."""

    rid: Uint
    session: SessionId
    purpose: Purpose
    mode: Mode


class Pass(Frame, frozen=True, tag="pass"):
    """Pass this on to the other one: D1 to D4, in turn."""

    rid: Uint
    session: SessionId
    body: Said


class Passed(Frame, frozen=True, tag="passed"):
    """What the other one has said."""

    session: SessionId
    body: Said


class Release(Frame, frozen=True, tag="release"):
    """The creator's word that this try has failed: the place is free, the joiner is told."""

    rid: Uint
    session: SessionId


class PeerLeft(Frame, frozen=True, tag="peer_left"):
    """The other one has gone before D4."""

    session: SessionId


class SessionOver(Frame, frozen=True, tag="session_over"):
    """The code has ended: `timeout`, or `quota` when it was burnt."""

    session: SessionId
    code: Annotated[str, Meta(max_length=32)]
