"""The connection to the relay: login, request numbers, and what each open request was for.

Source: docs/spec/login.md. States: CLOSED -> EXPECT_CHALLENGE -> EXPECT_WELCOME -> ONLINE -> CLOSED.

Invariants
- Nothing but login frames leaves before ONLINE; a frame that the state does not expect closes the connection.
- Each request has a number of its own and is answered once; an answer to an unknown number is a broken rule.
- Open requests are forgotten when the connection ends: all of them follow from stored state and are made again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

import msgspec

from cloister.engine.account import Account
from cloister.engine.unit import Unit
from cloister.errors import PeerError
from cloister.primitives.signature import VerifyKey
from cloister.wire import frames, login
from cloister.wire.log import HeadKeys

_key_decoder = msgspec.msgpack.Decoder(list[frames.HeadKey])


class LinkState(Enum):
    """What the connection waits for."""

    CLOSED = "a connection"
    EXPECT_CHALLENGE = "the relay's challenge"
    EXPECT_WELCOME = "the relay's welcome"
    ONLINE = "nothing: the login is done"


@dataclass(frozen=True, slots=True)
class Asked:
    """What an open request was for: `ref` is a log id or an outbox number, `tag` the entry id that was sent."""

    what: Literal[
        "log", "outbox", "mail", "mailopen", "mailkey", "mailkeys", "certify", "invite", "prekeys", "claim", "stage",
        "groupinfo", "meeting",
        "users", "presence",
    ]  # fmt: skip
    ref: bytes | int = b""
    tag: bytes = b""


@dataclass(slots=True)
class Link:
    """The state of the one connection."""

    account: Account
    state: LinkState = LinkState.CLOSED
    identity: VerifyKey | None = None
    statements: list[frames.HeadKey] = field(default_factory=list)
    head_keys: HeadKeys = field(default_factory=lambda: HeadKeys("", ()))
    last_error: str = ""
    _tls: bytes = b""
    _hello: frames.Hello | None = None
    _rid: int = 0
    _asked: dict[int, Asked] = field(default_factory=dict)

    @property
    def online(self) -> bool:
        """Whether requests may be sent."""
        return self.state is LinkState.ONLINE

    @property
    def idle(self) -> bool:
        """Whether the login is done and every request was answered."""
        return self.online and not self._asked

    def load(self, unit: Unit, identity: VerifyKey) -> None:
        """Take up the head keys that earlier logins brought, checked again under the relay's identity key."""
        stored = unit.get("meta", b"head keys")
        self.statements = _key_decoder.decode(stored) if stored else []
        self.identity = identity
        self.head_keys = HeadKeys.certified(self.account.realm, identity, self.statements)

    def opened(self, unit: Unit, tls: bytes) -> None:
        """A connection stands; `tls` is the SHA-256 of the certificate that the relay showed on it."""
        self._tls, self._hello = tls, login.hello(self.account.device, unit.rng)
        self.state = LinkState.EXPECT_CHALLENGE
        unit.transmit(frames.encode(self._hello))

    def closed(self, code: str) -> None:
        """The connection ended."""
        self.state, self.last_error = LinkState.CLOSED, code
        self._asked.clear()

    def challenged(self, unit: Unit, challenge: frames.Challenge) -> None:
        """L2 came: check the relay, prove this device."""
        if self.state is not LinkState.EXPECT_CHALLENGE or self._hello is None:
            raise PeerError("bad_encoding", "a challenge that was not awaited")
        account = self.account
        self.identity = login.check_challenge(self._hello, challenge, account.relay_pin, self._tls, unit.now)
        answer = login.login(self._hello, challenge, account.keys.device, list(account.chain[:1]), self._tls, unit.now)
        self.state = LinkState.EXPECT_WELCOME
        unit.transmit(frames.encode(answer))

    def welcomed(self, unit: Unit, welcome: frames.Welcome) -> None:
        """L4 came: the login is done."""
        if self.state is not LinkState.EXPECT_WELCOME or self.identity is None:
            raise PeerError("bad_encoding", "a welcome that was not awaited")
        login.check_welcome(self.account.realm, self.identity, welcome)
        if welcome.head_key not in self.statements:
            self.statements = [*self.statements, welcome.head_key]
            unit.put("meta", b"head keys", msgspec.msgpack.encode(self.statements))
        self.head_keys = HeadKeys.certified(self.account.realm, self.identity, self.statements)
        self.state, self.last_error = LinkState.ONLINE, ""

    def request(self, asked: Asked) -> int:
        """A number for a new request."""
        self._rid += 1
        self._asked[self._rid] = asked
        return self._rid

    def answered(self, rid: int) -> Asked:
        """What the answered request was for; PeerError for an answer that nobody asked for."""
        try:
            return self._asked.pop(rid)
        except KeyError:
            raise PeerError("bad_encoding", "an answer to no request") from None
