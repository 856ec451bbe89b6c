"""Which profile a command uses, and a client for it: in this process, or at the profile's owner.

Source: docs/cli.md ("Profiles"). A profile whose owner runs needs no password here; otherwise the password comes from
where `prompt` finds it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cloister.apps.cli.failures import as_cloister_error
from cloister.apps.cli.output import Settings
from cloister.apps.cli.prompt import ask_password, given_password
from cloister.errors import CloisterError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from cloister.client.client import Client

T = TypeVar("T")

PATIENCE: Final = 5.0
"""Seconds that a profile gets to catch up."""
_POLL: Final = 0.05
_TWICE: Final = 2
"""Caught up counts when it is so twice in a row: an answer may come a moment before what it announces."""


def profile_name(settings: Settings) -> str:
    """The profile of -p or CLOISTER_PROFILE, else the only one there is."""
    from cloister.client.profile import Profile, home

    if settings.profile:
        return settings.profile
    folders = sorted(home().iterdir()) if home().is_dir() else []
    found = [folder.name for folder in folders if Profile(folder).exists]
    if not found:
        raise UsageError("no_profile", "none was set up on this machine")
    if len(found) > 1:
        raise UsageError("usage", f"name a profile with -p: there are {', '.join(found)}")
    return found[0]


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Client]:
    """A client of the profile; asks for the password only when this process has to open the vault.

    An owner that is just coming or going does not answer: it is tried again for a moment.
    """
    name = profile_name(settings)
    loop = asyncio.get_running_loop()
    end = loop.time() + PATIENCE
    while True:
        async with AsyncExitStack() as stack:
            try:
                client = await _open(stack, settings, name)
                await client.status()
            except CloisterError as error:
                if error.code not in ("profile_in_use", "closed") or loop.time() > end:
                    raise
            else:
                yield client
                return
        await asyncio.sleep(_POLL)


async def _open(stack: AsyncExitStack, settings: Settings, name: str) -> Client:
    from cloister.client.client import Client

    if settings.password is None:
        settings.password = given_password()
    try:
        return await stack.enter_async_context(Client.open(name, password=settings.password))
    except UsageError as error:
        if error.code != "wrong_password" or settings.password is not None:
            raise
    settings.password = ask_password(f"Password of profile {name}")
    return await stack.enter_async_context(Client.open(name, password=settings.password))


async def lasting(settings: Settings, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
    """What `work` gives; begun anew with the profile's next owner, or in this process, when its owner ends."""
    while True:
        async with opened(settings) as client:
            try:
                return await work(client)
            except (CloisterError, BaseExceptionGroup) as raised:
                if as_cloister_error(raised).code != "closed":
                    raise
        await asyncio.sleep(_POLL)


async def caught_up(client: Client, seconds: float = PATIENCE) -> bool:
    """Wait until the profile has read all that waited and sent all that it must; False when that takes too long.

    Offline, this ends with the first failure to connect.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    times = 0
    while times < _TWICE:
        status = await client.status()
        times = times + 1 if status.caught_up else 0
        if loop.time() > end or (status.relay == "offline" and status.last_error):
            return False
        await asyncio.sleep(_POLL)
    return True


async def first_visit(profile: str | Path, secret: str) -> bool:
    """Be online once: this device's key packages reach the relay, so that others can take it in while it is away."""
    from cloister.client.client import Client

    async with Client.open(profile, password=secret) as client:
        return await caught_up(client)


async def patiently(client: Client, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What `work` gives; when a name is unknown, once more after the profile has caught up with the relay."""
    try:
        return await work()
    except CloisterError as error:
        if error.code not in ("no_user", "no_room"):
            raise
    await caught_up(client)
    return await work()


def with_client(settings: Settings, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
    """Run `work` with a client of the profile, to its end."""

    async def run() -> T:
        async with opened(settings) as client:
            return await work(client)

    return asyncio.run(run())
