"""The owner's side of the profile's Unix socket: other processes of the same user come in here (see `remote`).

Invariants: the socket exists only while the profile is owned; a process of another user is refused before a byte is
read; one bad line ends its connection and nothing else.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec

from cloister.client.client import Backend
from cloister.client.remote import LINE_MOST, Answer, Question, peer_uid, question_decoder, short_path
from cloister.errors import CloisterError


@asynccontextmanager
async def doorway(path: Path, backend: Backend) -> AsyncIterator[None]:
    """Serve `backend` at `path` while the context lasts."""
    guests: dict[asyncio.Future[None], asyncio.StreamWriter] = {}

    def enter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        guest = asyncio.ensure_future(_host(reader, writer, backend))
        guests[guest] = writer
        guest.add_done_callback(lambda done: guests.pop(done, None))

    server = await asyncio.start_unix_server(enter, sock=_door(path), limit=LINE_MOST)
    try:
        yield
    finally:
        server.close()
        for guest, writer in list(guests.items()):
            guest.cancel()
            writer.transport.abort()
        await asyncio.gather(*guests, return_exceptions=True)
        await asyncio.sleep(0)  # the transports end in the loop's next round
        _remove(path)


def _door(path: Path) -> socket.socket:
    """A listening socket that only this user can reach; what a killed owner left is replaced."""
    _remove(path)
    door = socket.socket(socket.AF_UNIX)
    with short_path(path) as name:
        os.fchmod(door.fileno(), 0o600)  # Linux takes the mode of the file from here: never open, not for a moment
        door.bind(name)
    return door


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


async def _host(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, backend: Backend) -> None:
    try:
        await _serve(reader, writer, backend)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, backend: Backend) -> None:
    if peer_uid(writer.get_extra_info("socket")) != os.geteuid():
        writer.write(_line(Answer(id=0, error=("not_owner", ""))))
        return
    while True:
        try:
            question = question_decoder.decode(await reader.readuntil(b"\n"))
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, msgspec.DecodeError, ConnectionError):
            return
        try:
            await _answer(writer, backend, question)
        except CloisterError as error:
            writer.write(_line(Answer(id=question.id, error=(error.code, error.detail))))
        except ConnectionError:
            return


async def _answer(writer: asyncio.StreamWriter, backend: Backend, question: Question) -> None:
    if question.command is not None:
        result = await backend.execute(question.command)
        writer.write(_line(Answer(id=question.id, result=msgspec.Raw(msgspec.json.encode(result)))))
        await writer.drain()
    if question.events:
        async for event in backend.events(question.since):
            writer.write(_line(Answer(id=question.id, event=event)))
            await writer.drain()


def _line(answer: Answer) -> bytes:
    return msgspec.json.encode(answer) + b"\n"
