"""The way from a second process to the owner of a profile: JSON lines over the profile's Unix socket.

Source: docs/spec/client-api.md.

    -> {"id": 7, "command": {"type": "send", ...}}        -> {"id": 8, "events": 41 | null}
    <- {"id": 7, "result": ...}                           <- {"id": 8, "event": {"type": "message", ...}}
    <- {"id": 7, "error": ["no_room", "ops"]}

Invariants
- The socket is 0600 in a folder of 0700, and each side checks that the other runs as the same user (`not_owner`).
- A line has at most LINE_MOST bytes; what does not parse ends the connection.
- This module imports neither the engine's core, nor the network client, nor the database: `send` stays quick.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from cloister.engine import values
from cloister.errors import REGISTRY, CloisterError, PeerError, UnavailableError, UsageError

LINE_MOST: Final = 4 * 1024 * 1024
_SOCKET_PATH_MOST: Final = 100
_RESULTS: Final[dict[type, Any]] = {
    values.GetStatus: values.Status,
    values.ListRooms: list[values.RoomInfo],
    values.CreateRoom: values.RoomInfo,
    values.AddMembers: values.RoomInfo,
    values.RemoveMembers: values.RoomInfo,
    values.SetOwners: values.RoomInfo,
    values.ListSequence: list[values.SequenceInfo],
    values.RekeyRoom: values.RoomInfo,
    values.Send: values.Sent,
    values.History: list[values.MessageInfo],
    values.ListUsers: list[values.UserInfo],
    values.ListCertificates: list[values.CertificateInfo],
    values.CreateInvite: str,
    values.EndRoom: values.RoomInfo,
    values.AnswerRequest: values.RoomInfo,
    values.SetRequests: str,
    values.SetPresence: bool,
    values.Broadcast: values.BroadcastInfo,
    values.CheckBroadcast: values.BroadcastInfo,
}


class Question(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A line to the owner: a command, or (events true) a wish for events after `since`."""

    id: int
    command: values.Command | None = None
    events: bool = False
    since: int | None = None


class Answer(msgspec.Struct, omit_defaults=True):
    """A line from the owner."""

    id: int
    result: msgspec.Raw = msgspec.Raw(b"null")
    event: values.Event | None = None
    error: tuple[str, str] | None = None


question_decoder = msgspec.json.Decoder(Question)
_answers = msgspec.json.Decoder(Answer)


class Remote:
    """A Backend at the other end of the socket."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def execute(self, command: values.Command) -> Any:
        """The owner's result, or the CloisterError that it met."""
        async with _connected(self._path) as (reader, writer):
            writer.write(msgspec.json.encode(Question(id=1, command=command)) + b"\n")
            answer = await _answer(reader)
            return msgspec.json.decode(answer.result, type=_RESULTS[type(command)])

    async def events(self, since: int | None) -> AsyncIterator[values.Event]:
        """The owner's events."""
        async with _connected(self._path) as (reader, writer):
            writer.write(msgspec.json.encode(Question(id=1, events=True, since=since)) + b"\n")
            while True:
                answer = await _answer(reader)
                if answer.event is not None:
                    yield answer.event


async def _answer(reader: asyncio.StreamReader) -> Answer:
    try:
        line = await reader.readuntil(b"\n")
        answer = _answers.decode(line)
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise UnavailableError("closed", "the owner of the profile ended") from error
    except (msgspec.DecodeError, asyncio.LimitOverrunError) as error:
        raise PeerError("bad_encoding", "an answer of the profile's owner") from error
    if answer.error is not None:
        code, detail = answer.error
        raise CloisterError(code if code in REGISTRY else "internal", detail)
    return answer


@asynccontextmanager
async def _connected(path: Path) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    with short_path(path) as name:
        try:
            reader, writer = await asyncio.open_unix_connection(name, limit=LINE_MOST)
        except OSError as error:
            raise UsageError("profile_in_use", str(error.strerror)) from error
    try:
        if peer_uid(writer.get_extra_info("socket")) != os.geteuid():
            raise UsageError("not_owner")
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def peer_uid(connected: socket.socket) -> int:
    """The user id of the process at the other end of a Unix socket."""
    credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


class short_path:
    """A name for a socket that fits the kernel's limit of 108 bytes, valid within the context."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = -1

    def __enter__(self) -> str:
        if len(os.fsencode(self._path)) < _SOCKET_PATH_MOST:
            return str(self._path)
        self._folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._folder}/{self._path.name}"

    def __exit__(self, *_error: object) -> None:
        if self._folder >= 0:
            os.close(self._folder)
