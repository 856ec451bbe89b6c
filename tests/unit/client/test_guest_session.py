"""Sessions of guests on this machine: which relay is held to what, what is kept and how, what leaves no trace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cloister.client import session as sessions
from cloister.client.profile import write_private
from cloister.client.session import is_here, kept, known_relays, open_session, resume_session
from cloister.client.transport import Connection
from cloister.errors import CloisterError, UnavailableError, UsageError
from cloister.identity.vault import FLOOR_N
from cloister.primitives.kdf import sha256
from cloister.wire import frames, login
from support.relays import World

PASSWORD = "correct horse"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLOISTER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@asynccontextmanager
async def nobody_there(address: str) -> AsyncIterator[Connection]:
    raise UnavailableError("unreachable", address)
    yield  # type: ignore[unreachable]


class Wired:
    """A connection to the rules of a relay, in this process."""

    def __init__(self, world: World) -> None:
        self.tls = sha256(b"the relay's certificate")
        self._world, self._client = world, world.stranger()
        self._came: asyncio.Queue[bytes] = asyncio.Queue()

    async def send(self, frame: bytes) -> None:
        self._world.core.frame(self._client.wire, frame, self._world.now)
        self._world.step()
        for data in self._client.wire.sent:
            self._came.put_nowait(data)
        self._client.wire.sent.clear()

    async def receive(self) -> AsyncIterator[bytes]:
        while True:
            yield await self._came.get()


def wired(world: World, monkeypatch: pytest.MonkeyPatch):
    """Dials the world's relay, whatever the address; its clock is the guest's."""
    monkeypatch.setattr(login, "check_clock", lambda theirs, ours: None)
    monkeypatch.setattr("cloister.wire.guest.check_clock", lambda theirs, ours: None)

    @asynccontextmanager
    async def dial(address: str) -> AsyncIterator[Connection]:
        yield Wired(world)

    return dial


async def refused(work) -> str:
    with pytest.raises(CloisterError) as caught:
        async with work:
            pass
    return caught.value.code


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("localhost:7443", True),
        ("127.0.0.1:7443", True),
        ("127.5.0.9:1", True),
        ("[::1]:7443", True),
        ("tcp://localhost:5000", True),
        ("relay.example:7443", False),
        ("192.0.2.1:7443", False),
        ("localhost.example:7443", False),
        ("tcp://relay.example:5000", False),
    ],
)
def test_what_is_this_machine(address: str, here: bool) -> None:
    assert is_here(address) is here


def test_a_list_of_relays_that_is_none_is_said_so(home: Path) -> None:
    assert known_relays() == {}
    home.mkdir(mode=0o700)
    for text in (b"relay.example:7443\n", b"relay.example:7443 no-hex\n", b"\xff"):
        write_private(home / sessions.KNOWN, text)
        with pytest.raises(UnavailableError) as damaged:
            known_relays()
        assert damaged.value.code == "damaged"


def test_a_relay_elsewhere_is_pinned_at_the_first_meeting_and_held_to_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def meet(world: World, address: str) -> tuple[bool, str]:
        async with open_session(address, dialler=wired(world, monkeypatch)) as client:
            before = client.pinned
            async with asyncio.timeout(10):
                try:
                    return before, await client.create()
                except CloisterError as error:
                    return before, error.code

    first, other = World(names=()), World(names=())
    other.keys = replace(other.keys, identity=other.head)  # another relay under the same address
    other.start()
    pinned, code = asyncio.run(meet(first, "relay.example:7443"))
    assert (pinned, len(code)) == (False, 16)
    assert known_relays() == {"relay.example:7443": first.realm_pin}
    assert (home / sessions.KNOWN).stat().st_mode & 0o077 == 0
    pinned, code = asyncio.run(meet(first, "relay.example:7443"))
    assert (pinned, len(code)) == (True, 16)
    assert asyncio.run(meet(other, "relay.example:7443")) == (True, "wrong_realm")
    pinned, code = asyncio.run(meet(first, "localhost:7443"))
    assert (pinned, len(code)) == (False, 16)
    assert list(known_relays()) == ["relay.example:7443"]


def test_a_relay_that_does_not_let_guests_in_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def meet() -> str:
        world = World(names=(), guests=False)
        async with open_session("relay.example:7443", dialler=wired(world, monkeypatch)) as client:
            with pytest.raises(UsageError) as caught:
                await client.create()
            return caught.value.code

    assert asyncio.run(meet()) == "not_allowed"


def test_a_session_that_is_not_kept_leaves_nothing(home: Path) -> None:
    async def look() -> None:
        async with open_session("localhost:7443", dialler=nobody_there) as client:
            assert await client.rooms() == []
            await client.finish()

    asyncio.run(look())
    assert not home.exists()


def test_a_kept_session_is_private_has_a_password_and_is_made_once(home: Path) -> None:
    async def story() -> None:
        async with open_session("localhost:7443", keep="talk", password=PASSWORD, dialler=nobody_there, cost=FLOOR_N):
            assert await refused(resume_session("talk", PASSWORD, dialler=nobody_there)) == "profile_in_use"
        assert await refused(open_session(keep="talk", password=PASSWORD, dialler=nobody_there)) == "exists"
        assert await refused(resume_session("talk", "wrong", dialler=nobody_there)) == "wrong_password"
        assert await refused(resume_session("talk", PASSWORD, dialler=nobody_there)) == "no_session"
        assert await refused(resume_session("other", PASSWORD, dialler=nobody_there)) == "no_profile"

    asyncio.run(story())
    assert not [path for path in (home / "sessions").rglob("*") if path.lstat().st_mode & 0o077]


@pytest.mark.parametrize("name", ["", ".hidden", "x" * 65])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        kept(name)


def test_the_frames_of_a_guest_are_its_own() -> None:
    assert frames.GuestLogin in frames.BeforeLogin.__args__
