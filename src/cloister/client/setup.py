"""Setting up a profile: keys, vault, enrolment by an invite link, and the newcomer's own check of what came back.

Source: docs/spec/identity.md ("Enrolment").

Invariants
- Keys and application are stored before anything is asked for: after a crash the same bytes are asked for again, and
  the relay gives the same answer again.
- The relay must hold the identity key that the link names before it sees more than a hello.
- A profile counts as enrolled only when the realm log, checked from its first record, says of this device exactly
  what it asked for.
- A refusal leaves nothing behind: what was made for this attempt goes, and a new link is tried with the old one's keys
  first, for an answer to them that was lost.
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
from cloister.errors import REGISTRY, PeerError, UnavailableError, UsageError
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


class NotLetInError(PeerError):
    """The relay does not take this application, or is not the link's: nobody was enrolled by it."""

    default = "bad_enrolment"


def check(link: str, user: str | None = None, device: str = "main") -> None:
    """PeerError bad_invite or bad_name, before anything is made or asked; without a user only the link is looked at."""
    invite = parse_invite(link)
    if user is not None:
        device_id(invite.realm, user, device)


async def enrol(
    profile: str | Path, link: str, *, user: str, password: str, device: str = "main", cost: int = DEFAULT_N,
    dialler: Dialler = dial, now: Callable[[], int] = entropy.now_ms, rng: Rng = entropy.rng,
) -> SetUp:  # fmt: skip
    """Make a profile and enrol it by the link; `cost` is the vault's scrypt N.

    Raises PeerError bad_invite, bad_name, wrong_realm and what the relay refuses with; UsageError exists (the profile,
    or somebody of this name), loose_files; UnavailableError unreachable. Called again after a failure it goes on where
    it stopped, with the same password.
    """
    invite = parse_invite(link)
    place = Profile.named(profile)
    name = device_id(invite.realm, user, device)
    known = place.exists
    key = place.unlock(password) if known else place.create(password, rng, cost=cost)
    lock = place.own()
    if lock is None:
        raise UsageError("profile_in_use", place.name)
    try:
        pending, account = await _joined(place, key, invite, name, dialler, now, rng)
    except NotLetInError as error:
        if not known:
            place.remove()
        if error.code == "identity_changed":
            raise UsageError("exists", f"{user} is somebody else in {invite.realm}") from error
        raise
    finally:
        place.disown(lock)
    return SetUp(user=account.user, device=account.device, realm=account.realm, words=pending.code.words())


async def _joined(
    place: Profile, key: bytes, invite: Invite, name: str, dialler: Dialler, now: Callable[[], int], rng: Rng
) -> tuple[_Pending, Account]:
    """Enrol with the profile's store, check what came back, and make it count."""
    store = DeviceStore(place.database, key)
    try:
        if store.get("meta", _ACCOUNT) is not None:
            raise UsageError("exists", f"a profile {place.name}")
        pending, account = await _enrolled(store, invite, name, dialler, now, rng)
        await _check(account, pending.application, store, dialler)
        store.apply([Put("meta", _ACCOUNT, account.encode()), Delete("meta", _PENDING)])
    finally:
        store.close()
    return pending, account


async def _enrolled(
    store: DeviceStore, invite: Invite, name: str, dialler: Dialler, now: Callable[[], int], rng: Rng
) -> tuple[_Pending, Account]:
    """Apply with what an attempt before this one applied with, and where that is refused, or new, with this link."""
    before = _before(store, invite, name)
    if before is not None:
        try:
            return before, await _admitted(invite, before, dialler, now, rng)
        except NotLetInError:
            if before.application.invite is None or before.application.invite.id == _token_id(invite):
                raise
    pending = await _prepared(store, invite, name, now(), rng)
    return pending, await _admitted(invite, pending, dialler, now, rng)


def _before(store: DeviceStore, invite: Invite, name: str) -> _Pending | None:
    """An attempt of this device in this realm that did not end."""
    stored = store.get("meta", _PENDING)
    if stored is None:
        return None
    try:
        pending = _Pending.decode(stored, invite.realm)
    except PeerError:  # it was for another realm
        return None
    return pending if pending.application.device_id == name else None


def _token_id(invite: Invite) -> bytes | None:
    return invite.token.id if invite.token else None


async def _prepared(store: DeviceStore, invite: Invite, name: str, now: int, rng: Rng) -> _Pending:
    """Fresh keys and application, stored."""
    user_keys, code = UserKeys.generate(rng)
    rsa = invite.token is not None  # where nobody is certified no room of an RSA suite can be
    keys = await asyncio.to_thread(DeviceKeys.generate, rng, rsa=rsa)
    application = Application.make(user_keys, keys, name, invite.token, now)
    pending = _Pending(user_keys, keys, code, application)
    store.apply([Put("meta", _PENDING, pending.encode())])
    return pending


async def _admitted(invite: Invite, pending: _Pending, dialler: Dialler, now: Callable[[], int], rng: Rng) -> Account:
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
    try:
        login.check_challenge(first, second, invite.relay_hash, connection.tls, now())
    except PeerError as error:
        raise NotLetInError(error.code, error.detail) from error
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
        raise NotLetInError(code, frame.detail if isinstance(frame, frames.Refused) else "")
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
