"""Setting up a profile: keys, vault, enrolment by an invite link, and the newcomer's own check of what came back.

Source: docs/spec/identity.md ("Enrolment").

Invariants
- Keys and application are stored before anything is asked for: after a crash the same bytes are asked for again, and
  the relay gives the same answer again.
- The relay must hold the identity key that the link names before it sees more than a hello.
- A profile counts as enrolled only when the realm log, checked from its first record, says of this device exactly
  what it asked for.
- The recovery words exist outside the profile only: they are returned once and stored until then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloister.client import entropy
from cloister.client.agent import Agent, Dialler
from cloister.client.profile import Profile
from cloister.client.store import DeviceStore
from cloister.client.suites import SUITES
from cloister.client.transport import Connection, dial
from cloister.codec.cbor import Fields, enc
from cloister.engine.account import ROW as _ACCOUNT
from cloister.engine.account import Account
from cloister.engine.store import Delete, Put
from cloister.engine.values import ConnectionChanged
from cloister.errors import REGISTRY, CloisterError, PeerError, UnavailableError, UsageError
from cloister.identity.credential import device_id
from cloister.identity.enrolment import Application, check_enrolled
from cloister.identity.invite import Invite, parse_invite
from cloister.identity.keys import DeviceKeys, RecoveryCode, UserKeys
from cloister.identity.vault import DEFAULT_N
from cloister.primitives import Rng
from cloister.wire import frames, login

_PENDING: Final = b"pending enrolment"
PATIENCE: Final = 30.0
"""Seconds for the relay's answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetUp:
    """A profile that is ready. `words` are the recovery words, to be shown once and never stored."""

    user: str
    device: str
    realm: str
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Pending:
    """What must survive a crash between asking and being taken in."""

    user_keys: UserKeys
    keys: DeviceKeys
    code: RecoveryCode
    application: Application

    def encode(self) -> bytes:
        return enc(self.user_keys.encode(), self.keys.encode(), self.code.reveal(), self.application.encode())

    @classmethod
    def decode(cls, data: bytes, realm: str) -> _Pending:
        fields = Fields.decode(data, "pending enrolment")
        return cls(
            UserKeys.decode(fields.octets("user keys")),
            DeviceKeys.decode(fields.octets("device keys")),
            RecoveryCode(fields.octets("code", 16)),
            Application.decode(fields.octets("application"), realm),
        )


async def enrol(
    profile: str | Path, link: str, *, user: str, password: str, device: str = "main", cost: int = DEFAULT_N,
    dialler: Dialler = dial, now: Callable[[], int] = entropy.now_ms, rng: Rng = entropy.rng,
) -> SetUp:  # fmt: skip
    """Make a profile and enrol it by the link; `cost` is the vault's scrypt N.

    Raises PeerError bad_invite, wrong_realm and what the relay refuses with; UsageError exists, loose_files;
    UnavailableError unreachable. Called again after a failure it goes on where it stopped, with the same password.
    """
    invite = parse_invite(link)
    place = Profile.named(profile)
    name = device_id(invite.realm, user, device)
    key = place.unlock(password) if place.exists else place.create(password, rng, cost=cost)
    lock = place.own()
    if lock is None:
        raise UsageError("profile_in_use", place.name)
    store = DeviceStore(place.database, key)
    try:
        if store.get("meta", _ACCOUNT) is not None:
            raise UsageError("exists", f"a profile {place.name}")
        pending = await _prepared(store, invite, name, now(), rng)
        account = await _admitted(store, invite, pending, dialler, now, rng)
        await _check(account, pending.application, store, dialler)
        store.apply([Put("meta", _ACCOUNT, account.encode()), Delete("meta", _PENDING)])
    finally:
        store.close()
        place.disown(lock)
    return SetUp(user=account.user, device=account.device, realm=account.realm, words=pending.code.words())


async def _prepared(store: DeviceStore, invite: Invite, name: str, now: int, rng: Rng) -> _Pending:
    """Fresh keys and application, stored; or those of an attempt that did not end."""
    stored = store.get("meta", _PENDING)
    if stored is not None:
        pending = _Pending.decode(stored, invite.realm)
        if pending.application.device_id == name:
            return pending
    user_keys, code = UserKeys.generate(rng)
    rsa = invite.token is not None  # where nobody is certified no room of an RSA suite can be
    keys = await asyncio.to_thread(DeviceKeys.generate, rng, rsa=rsa)
    application = Application.make(user_keys, keys, name, invite.token, now)
    pending = _Pending(user_keys, keys, code, application)
    store.apply([Put("meta", _PENDING, pending.encode())])
    return pending


async def _admitted(
    store: DeviceStore, invite: Invite, pending: _Pending, dialler: Dialler, now: Callable[[], int], rng: Rng
) -> Account:
    """Ask the relay; the account that follows from its answer."""
    address = f"{invite.host}:{invite.port}"
    try:
        async with asyncio.timeout(PATIENCE), dialler(address) as connection:
            reply = await _ask(connection, invite, pending, now, rng)
    except TimeoutError:
        raise UnavailableError("unreachable", f"{address} did not answer in time") from None
    fields = Fields.decode(reply, "enrolled")
    fields.kind("enrolled")
    fields.uint("log size")
    leaves = Fields(fields.array("leaves", 3), "leaves")
    chain = []
    while not leaves.done:
        chain.append(leaves.octets("leaf"))
    fields.end()
    return Account(
        realm=invite.realm,
        device=pending.application.device_id,
        address=address,
        user_keys=pending.user_keys,
        keys=pending.keys,
        chain=tuple(chain),
        relay_pin=invite.relay_hash,
        root_pin=invite.root_hash,
    )


async def _ask(connection: Connection, invite: Invite, pending: _Pending, now: Callable[[], int], rng: Rng) -> bytes:
    first = login.hello(None, rng)
    await connection.send(frames.encode(first))
    answers = connection.receive()
    second = _answer(await anext(answers, b""))
    if not isinstance(second, frames.Challenge):
        raise PeerError("bad_encoding", "not a challenge")
    login.check_challenge(first, second, invite.relay_hash, connection.tls, now())
    register = pending.application.register(pending.user_keys, frames.digest(first), frames.digest(second), now())
    await connection.send(frames.encode(frames.Enrol(rid=1, request=register)))
    enrolled = _answer(await anext(answers, b""))
    if not isinstance(enrolled, frames.Enrolled):
        raise PeerError("bad_encoding", "not the answer to an enrolment")
    return enrolled.reply


def _answer(data: bytes) -> frames.Answer:
    if not data:
        raise UnavailableError("closed", "the relay ended the connection")
    frame = frames.decode_answer(data)
    if isinstance(frame, frames.Refused | frames.Bye):
        code = frame.code if frame.code in REGISTRY else "internal"
        raise CloisterError(code, frame.detail if isinstance(frame, frames.Refused) else "")
    return frame


async def _check(account: Account, application: Application, store: DeviceStore, dialler: Dialler) -> None:
    """Log in, fetch the realm log, and see that it says of this device what was asked for."""
    agent = Agent(account, SUITES, store, dialler=dialler)
    try:
        async with asyncio.timeout(PATIENCE), agent.running():
            async for event in agent.events(None):
                if agent.engine.knows(application.manifest.user):
                    break
                if isinstance(event, ConnectionChanged) and event.state == "offline" and event.code in REGISTRY:
                    raise UnavailableError(event.code)
    except TimeoutError:
        raise UnavailableError("unreachable", "the realm log did not come in time") from None
    check_enrolled(application, agent.engine.realm)
