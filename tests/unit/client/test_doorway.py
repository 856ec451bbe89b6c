"""The owner's socket: a second process has the same interface; another user has none."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cloister.client import doorway as doors
from cloister.client import remote as remotes
from cloister.client.api import (
    Alarm,
    ConnectionChanged,
    CreateRoom,
    Event,
    GetStatus,
    History,
    ListRooms,
    Member,
    RoomInfo,
    Send,
    SendState,
    Sent,
    Status,
)
from cloister.client.client import Client, find_room
from cloister.client.doorway import doorway
from cloister.client.remote import LINE_MOST, Remote
from cloister.errors import CloisterError, UsageError

ROOM = RoomInfo(
    id="ab" * 16,
    title="#ops",
    suite="nonces",
    state="ready",
    epoch=1,
    members=[Member(user="a", device="d")],
    owners=["a"],
)
STATUS = Status(
    user="a", device="d", realm="r", relay="online", address="h:1", realm_size=1, realm_head="", rooms=1, queued=0
)


class Owner:
    """Answers like an agent."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def execute(self, command: Any) -> Any:
        self.seen.append(command)
        match command:
            case GetStatus():
                return STATUS
            case ListRooms():
                return [ROOM]
            case Send():
                return Sent(id="1", room=command.room, state=SendState.QUEUED)
            case _:
                raise UsageError("no_room", "ops")

    async def events(self, since: int | None) -> AsyncIterator[Event]:
        yield ConnectionChanged(cursor=since or 0, state="online")
        yield Alarm(cursor=7, code="fork", room="ab")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / ("long" * 40)
    folder.mkdir(mode=0o700)
    return folder / "agent.sock"


def run(test: Any) -> None:
    asyncio.run(asyncio.wait_for(test, 20))


def test_another_user_is_refused_before_a_byte_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = Owner()
    monkeypatch.setattr(doors, "peer_uid", lambda _socket: os.geteuid() + 1)

    async def test() -> None:
        async with doorway(path, owner):
            with pytest.raises(CloisterError) as caught:
                await Remote(path).execute(GetStatus())
            assert caught.value.code == "not_owner"

    run(test())
    assert owner.seen == []


def test_a_socket_of_another_user_is_not_trusted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = Owner()
    monkeypatch.setattr(remotes, "peer_uid", lambda _socket: os.geteuid() + 1)

    async def test() -> None:
        async with doorway(path, owner):
            with pytest.raises(CloisterError) as caught:
                await Remote(path).execute(GetStatus())
            assert caught.value.code == "not_owner"

    run(test())
    assert owner.seen == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_a_process_of_another_uid_gets_nothing_even_through_an_open_folder(tmp_path: Path) -> None:
    """The folder keeps it out; were the folder open, the kernel's word on who asks would."""
    path, owner = Path("agent.sock"), Owner()
    stranger = (
        "import os, socket, sys\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "try:\n"
        "    s.connect('agent.sock')\n"
        "except PermissionError:\n"
        "    print('kept out'); sys.exit()\n"
        'try:\n    s.sendall(b\'{"id":1,"command":{"type":"status"}}\\n\')\nexcept BrokenPipeError:\n    pass\n'
        "print(s.recv(1000).decode())\n"
    )

    async def ask() -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", stranger, stdout=subprocess.PIPE, cwd=tmp_path
        )
        out, _ = await process.communicate()
        return out.decode().strip()

    async def test() -> None:
        async with doorway(path, owner):
            assert await ask() == "kept out"
            path.chmod(0o666)
            assert json.loads(await ask())["error"][0] == "not_owner"

    before = Path.cwd()
    os.chdir(tmp_path)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o077 != 0o077 and str(folder).startswith("/tmp/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    try:
        run(test())
    finally:
        os.chdir(before)
    assert owner.seen == []


def test_the_socket_is_private_and_goes_with_its_owner(path: Path) -> None:
    async def test() -> None:
        before = os.umask(0)
        try:
            async with doorway(path, Owner()):
                assert path.stat().st_mode & 0o777 == 0o600
        finally:
            os.umask(before)
        assert not path.exists()
        with pytest.raises(CloisterError) as caught:
            await Remote(path).execute(GetStatus())
        assert caught.value.code == "profile_in_use"

    run(test())


@pytest.mark.parametrize(
    "line", [b"garbage\n", b'{"id":1}\n' + b"{}\n", b'{"id":1,"command":{"type":"nothing"}}\n', b"x" * (LINE_MOST + 2)]
)
def test_a_bad_line_ends_its_connection_and_nothing_else(path: Path, line: bytes) -> None:
    async def test() -> None:
        async with doorway(path, Owner()):
            with remotes.short_path(path) as name:
                reader, writer = await asyncio.open_unix_connection(name)
            writer.write(line)
            assert await reader.read() == b""
            writer.close()
            assert await Remote(path).execute(GetStatus()) == STATUS

    run(test())


def test_what_the_owner_leaves_behind_when_killed_is_replaced(path: Path) -> None:
    path.touch()

    async def test() -> None:
        async with doorway(path, Owner()):
            assert await Remote(path).execute(GetStatus()) == STATUS

    run(test())


def test_a_second_process_has_the_same_interface(path: Path) -> None:
    owner = Owner()

    async def test() -> None:
        async with doorway(path, owner):
            client = Client(Remote(path))
            assert await client.status() == STATUS
            assert await client.rooms() == [ROOM]
            assert (await client.room("ops")).id == ROOM.id
            assert (await client.send(ROOM.id, "hello")).state is SendState.QUEUED
            with pytest.raises(CloisterError) as caught:
                await client.create_room("x", suite="nonces", members=[])
            assert (caught.value.code, caught.value.detail) == ("no_room", "ops")
            events = client.events(since=5)
            assert await anext(events) == ConnectionChanged(cursor=5, state="online")
            assert await anext(events) == Alarm(cursor=7, code="fork", room="ab")

    run(test())
    assert CreateRoom(title="x", suite="nonces", members=[]) in owner.seen
    assert all(type(command) in remotes._RESULTS for command in owner.seen)


def test_every_command_has_a_result_type() -> None:
    assert {History, GetStatus, Send, CreateRoom} < set(remotes._RESULTS)
    assert len(remotes._RESULTS) == len(remotes.values.Command.__args__)


def test_a_room_is_found_by_id_prefix_or_title() -> None:
    other = RoomInfo(id="abab" + "cd" * 14, title="ops", suite="nonces", state="ready", epoch=1, members=[], owners=[])
    assert find_room([ROOM], "#ops") is ROOM
    assert find_room([ROOM, other], "ababcd") is other
    for name, code in (("nowhere", "no_room"), ("ops", "usage"), ("abab", "usage"), ("ab", "no_room")):
        with pytest.raises(UsageError) as caught:
            find_room([ROOM, other], name)
        assert caught.value.code == code
