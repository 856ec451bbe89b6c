"""Sessions of two without accounts: what `cloister session` does, for bots as well.

    async with open_session("relay.example:7443") as session:
        code = await session.create()                      # A3F2B1-7Q4K-M9XP: tell it to the other person
        async for event in session.events(): ...           # SessionChanged tells the stages, MessageReceived the texts
        await session.finish()

Source: docs/spec/classic/code.md, document 004, docs/cli.md ("Sessions").

    <home>/known-relays             HOST:PORT and the pin of each relay that a guest has met    0600
    <home>/sessions/NAME/           a session that is kept: vault, store, lock, as a profile    0700

Invariants
- Nothing is on the disk unless the session is kept; a kept one is encrypted as a profile is, under its own password.
- On this machine (loopback) no relay is pinned; elsewhere the relay's identity key is pinned at the first meeting, and
  another one is refused (`wrong_realm`). The code or the string protects the two either way.
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from cloister.client import api, entropy
from cloister.client.agent import Dialler, Driver
from cloister.client.client import Client
from cloister.client.profile import Profile, home, read_private, write_private
from cloister.client.store import MEMORY, DeviceStore
from cloister.client.transport import TCP, dial
from cloister.engine import inputs
from cloister.engine.account import Account
from cloister.engine.guest import GuestEngine, guest_account, stored_account
from cloister.engine.store import Store
from cloister.errors import UnavailableError, UsageError
from cloister.identity.vault import DEFAULT_N

DEFAULT_RELAY: Final = "localhost:7443"
KNOWN: Final = "known-relays"
KEPT: Final = "sessions"


class GuestAgent(Driver):
    """Drives a guest's engine."""

    def __init__(
        self, account: Account, store: Store, *, dialler: Dialler = dial,
        now: Callable[[], int] = entropy.now_ms, rng: Callable[[int], bytes] = entropy.rng,
        jitter: Callable[[float, float], float] = entropy.jitter,
    ) -> None:  # fmt: skip
        self.engine = GuestEngine(account, store, rng)
        super().__init__(self.engine, account.address, store, dialler=dialler, now=now, jitter=jitter)

    async def meet(self, command: api.SessionCommand) -> Any:
        """Make, join or confirm a session."""
        return await self.ask(lambda ticket: inputs.Meet(ticket, command))


class SessionClient(Client):
    """One session of two: a `Client` whose one room is the session."""

    def __init__(self, agent: GuestAgent) -> None:
        super().__init__(agent)
        self._agent = agent

    @property
    def pinned(self) -> bool:
        """Whether this relay had been met before, and is held to that."""
        return bool(self._agent.engine.account.relay_pin)

    @property
    def pin(self) -> bytes:
        """The relay's pin after the first login, 32 bytes; empty before."""
        return self._agent.engine.account.relay_pin

    async def create(self, *, whole: bool = True) -> str:
        """The code of a new session; without the secret half (`whole` False) both people compare a string."""
        code: str = await self._agent.meet(api.OpenSession(whole=whole))
        return code

    async def join(self, code: str) -> str:
        """Join the session with this code; UsageError no_session, session_full, usage."""
        session: str = await self._agent.meet(api.EnterSession(code=code))
        return session

    async def compared(self, *, same: bool) -> str:
        """Say whether both screens show the same string; the stage after that."""
        stage: str = await self._agent.meet(api.Compared(same=same))
        return stage

    def secrets(self) -> list[tuple[str, bytes]]:
        """(name, value) of every key of this guest and its session; for searching that they are nowhere else."""
        return [("guest key", self._agent.engine.account.keys.device.private_bytes()), *self._agent.engine.secrets()]

    async def again(self) -> None:
        """Meet again with the same other one: a new key, within a day of the last."""
        room = (await self.rooms())[0]
        await self.rekey(room.id)

    async def finish(self) -> None:
        """End the session for both; nothing happens where it has not begun or has ended."""
        for room in await self.rooms():
            if room.state not in ("removed", "frozen"):
                await self._agent.execute(api.EndRoom(room=room.id))


@asynccontextmanager
async def open_session(
    address: str = DEFAULT_RELAY, *, keep: str = "", password: str = "", dialler: Dialler = dial, cost: int = DEFAULT_N
) -> AsyncIterator[SessionClient]:
    """A guest at this relay; with `keep`, a session of that name is made, to be resumed within a day.

    Raises UsageError (exists, wrong_password); `cost` is scrypt's N.
    """
    if keep:
        profile = kept(keep)
        key = profile.create(password, entropy.rng, cost=cost)
        async with _owned(profile, key) as store, _running(store, address, dialler) as client:
            yield client
    else:
        store = DeviceStore(MEMORY, b"")
        try:
            async with _running(store, address, dialler) as client:
                yield client
        finally:
            store.close()


@asynccontextmanager
async def resume_session(name: str, password: str, *, dialler: Dialler = dial) -> AsyncIterator[SessionClient]:
    """A kept session, going on; UsageError no_profile, wrong_password, profile_in_use, no_session."""
    profile = kept(name)
    key = profile.unlock(password)
    async with _owned(profile, key) as store:
        account = stored_account(store)
        if account is None:
            raise UsageError("no_session", f"{name} had not begun")
        agent = GuestAgent(account, store, dialler=dialler)
        async with agent.running():
            yield SessionClient(agent)


def kept(name: str) -> Profile:
    """Where a session of this name is kept."""
    return Profile.named(home() / KEPT / Profile.named(name).name)


@asynccontextmanager
async def _owned(profile: Profile, key: bytes) -> AsyncIterator[DeviceStore]:
    lock = profile.own()
    if lock is None:
        raise UsageError("profile_in_use", profile.name)
    try:
        store = DeviceStore(profile.database, key)
        try:
            yield store
        finally:
            store.close()
    finally:
        profile.disown(lock)


@asynccontextmanager
async def _running(store: DeviceStore, address: str, dialler: Dialler) -> AsyncIterator[SessionClient]:
    pins = {} if is_here(address) else known_relays()
    pin = pins.get(address, b"")
    agent = GuestAgent(guest_account(address, pin, entropy.rng), store, dialler=dialler)
    async with agent.running():
        client = SessionClient(agent)
        try:
            yield client
        finally:
            if client.pin and not pin and not is_here(address):
                _remember(address, client.pin)


def is_here(address: str) -> bool:
    """Whether HOST:PORT or tcp://HOST:PORT is this machine."""
    host = address.removeprefix(TCP).rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def known_relays() -> dict[str, bytes]:
    """The pins by HOST:PORT; UnavailableError("damaged") for a file that is no such list."""
    path = home() / KNOWN
    if not path.exists():
        return {}
    try:
        rows = [line.split() for line in read_private(path).decode().splitlines()]
        return {address: bytes.fromhex(pin) for address, pin in rows}
    except ValueError as error:
        raise UnavailableError("damaged", f"{path.name}: remove it to begin anew") from error


def _remember(address: str, pin: bytes) -> None:
    home().mkdir(mode=0o700, parents=True, exist_ok=True)
    rows = known_relays() | {address: pin}
    write_private(home() / KNOWN, "".join(f"{known} {rows[known].hex()}\n" for known in sorted(rows)).encode())
