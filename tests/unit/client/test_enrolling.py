"""Enrolling against a relay in this process: what a refusal leaves behind, and how an attempt goes on."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cloister.client import setup
from cloister.client.profile import Profile
from cloister.client.setup import SetUp, enrol
from cloister.client.transport import Connection, dial
from cloister.errors import CloisterError, UnavailableError
from cloister.identity.vault import FLOOR_N
from cloister.relay.app import create_invite, init_relay
from cloister.relay.server import Server
from cloister.testing.keys import keys_of
from support.serving import serving

LINK = "cloister:join?relay=localhost:1&realm=home#1." + ".".join(("A" * 43, "A" * 43, "A" * 64, ""))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLOISTER_HOME", str(tmp_path / "home"))
    numbers = itertools.count()
    monkeypatch.setattr(setup.DeviceKeys, "generate", lambda rng, *, rsa: keys_of(next(numbers), rsa=rsa))
    return tmp_path / "home"


class Place:
    """A relay that runs, and newcomers."""

    def __init__(self, server: Server) -> None:
        self._address = f"127.0.0.1:{server.port}"
        self.lose_answer = False

    async def enrol(self, link: str, user: str, profile: str = "") -> SetUp:
        return await enrol(profile or user, link, user=user, password="pw", cost=FLOOR_N, dialler=self._dial)

    async def refused(self, link: str, user: str, profile: str = "") -> CloisterError:
        with pytest.raises(CloisterError) as caught:
            await self.enrol(link, user, profile)
        return caught.value

    @asynccontextmanager
    async def _dial(self, _address: str) -> AsyncIterator[Connection]:
        async with dial(self._address) as connection:
            yield Deaf(connection) if self.lose_answer else connection


class Deaf:
    """A connection that breaks before the second answer: the one to the enrolment."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.tls = connection.tls

    async def send(self, frame: bytes) -> None:
        await self._connection.send(frame)

    async def receive(self) -> AsyncIterator[bytes]:
        answers = self._connection.receive()
        yield await anext(answers)
        await anext(answers)


def realm(folder: Path, work: Callable[[Place, list[str]], Awaitable[None]]) -> None:
    """A realm with two links."""
    init_relay(folder / "relay", "home", "127.0.0.1", 7443)
    links = [create_invite(folder / "relay") for _ in range(2)]
    serving(folder / "relay", lambda server: work(Place(server), links))


@pytest.mark.parametrize(
    ("link", "user", "code"),
    [
        ("nonsense", None, "bad_invite"),
        (LINK[:-3], None, "bad_invite"),
        (LINK, "../x", "bad_name"),
        (LINK, "A", "bad_name"),
    ],
)
def test_a_bad_link_or_name_is_refused_before_anything_is_asked(link: str, user: str | None, code: str) -> None:
    with pytest.raises(CloisterError) as caught:
        setup.check(link, user)
    assert caught.value.code == code


def test_a_name_that_somebody_has_is_taken_and_nothing_stays(tmp_path: Path, home: Path) -> None:
    async def work(place: Place, links: list[str]) -> None:
        await place.enrol(links[0], "alice")
        assert (await place.refused(links[1], "alice", "mine")).code == "exists"
        assert [path.name for path in home.iterdir()] == ["alice"]
        assert (await place.enrol(links[1], "bob")).user == "bob"

    realm(tmp_path, work)


def test_a_used_link_leaves_nothing_and_a_new_one_lets_in(tmp_path: Path, home: Path) -> None:
    async def work(place: Place, links: list[str]) -> None:
        await place.enrol(links[0], "alice")
        assert (await place.refused(links[0], "dave")).code == "used_invite"
        assert not (home / "dave").exists()
        assert (await place.enrol(links[1], "dave")).user == "dave"

    realm(tmp_path, work)


def test_an_attempt_that_broke_off_goes_on_with_another_link(tmp_path: Path, home: Path) -> None:
    async def work(place: Place, links: list[str]) -> None:
        place.lose_answer = True
        assert isinstance(await place.refused(links[0], "alice"), UnavailableError)
        place.lose_answer = False
        assert (await place.enrol(links[1], "alice")).user == "alice"  # by the first link: the second is still good
        assert (await place.enrol(links[1], "bob")).user == "bob"

    realm(tmp_path, work)


def test_an_attempt_under_a_dead_link_does_not_stand_in_the_way_of_a_new_one(tmp_path: Path, home: Path) -> None:
    async def work(place: Place, links: list[str]) -> None:
        place.lose_answer = True
        dead = links[0][:-4] + "AAA."
        assert (await place.refused(dead, "alice")).code == "closed"
        assert Profile.named("alice").exists
        place.lose_answer = False
        assert (await place.enrol(links[1], "alice")).user == "alice"

    realm(tmp_path, work)


def test_other_files_in_a_profiles_folder_stay(tmp_path: Path) -> None:
    place = Profile(tmp_path / "folder")
    place.create("pw", lambda size: bytes(size), cost=FLOOR_N)
    lock = place.own()
    (place.folder / "letter").write_text("keep me")
    place.remove()
    assert [path.name for path in place.folder.iterdir()] == ["letter"]
    assert lock is not None
    place.disown(lock)
