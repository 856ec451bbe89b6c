"""Opening a profile: own it if it is free, otherwise reach its owner.

Invariants: the password is asked for only by the process that becomes the owner; the lock is held until the context
ends; a profile whose owner does not answer is `profile_in_use`, never taken away.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cloister.client.profile import Profile
from cloister.client.remote import Remote
from cloister.errors import UsageError

if TYPE_CHECKING:
    from cloister.client.client import Backend


@asynccontextmanager
async def open_backend(profile: str | Path, password: str | None) -> AsyncIterator[Backend]:
    """The profile's agent in this process, or the way to the one that runs."""
    place = Profile.named(profile)
    if not place.exists:
        raise UsageError("no_profile", place.name)
    lock = place.own()
    if lock is None:
        yield Remote(place.socket)
        return
    try:
        if password is None:
            raise UsageError("wrong_password", "no password was given")
        async with _owned(place, place.unlock(password)) as backend:
            yield backend
    finally:
        place.disown(lock)


@asynccontextmanager
async def _owned(place: Profile, key: bytes) -> AsyncIterator[Backend]:
    # only the owner needs the engine, the network client and the database
    from cloister.client.agent import Agent
    from cloister.client.doorway import doorway
    from cloister.client.store import DeviceStore
    from cloister.client.suites import SUITES
    from cloister.engine.account import ROW, Account

    store = DeviceStore(place.database, key)
    try:
        account = store.get("meta", ROW)
        if account is None:
            raise UsageError("no_profile", f"{place.name} was not enrolled; run cloister setup again")
        agent = Agent(Account.decode(account), SUITES, store)
        async with agent.running(), doorway(place.socket, agent):
            yield agent
    finally:
        store.close()
