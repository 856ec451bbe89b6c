"""People and connections for load: real enrolment, real login, frames by hand.

`populate` enrols people into a relay that does not run, through its core and with real frames; `connect` dials a
running one over TLS and logs a device in. Used by the benchmark and by tests/system.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import aiohttp

from cloister.identity.credential import device_id
from cloister.identity.enrolment import Application
from cloister.identity.invite import Token, stored_proof
from cloister.identity.keys import DeviceKeys, UserKeys, key_hash
from cloister.primitives.kdf import sha256
from cloister.relay.app import now_ms, open_relay
from cloister.relay.core import RelayCore
from cloister.relay.store.interface import InviteRow
from cloister.wire import frames, login

ROOM_TOKEN = sha256(b"the token of the room's first epoch")


@dataclass(frozen=True, slots=True)
class Member:
    """An enrolled device and what it pins."""

    device: str
    keys: DeviceKeys
    pin: bytes


@dataclass(eq=False)
class _Wire:
    """A connection in memory."""

    address: str
    tls: bytes = sha256(b"no TLS in memory")
    waiting: int = 0
    sent: list[bytes] = field(default_factory=list)

    def send(self, data: bytes) -> None:
        """Keep a frame."""
        self.sent.append(data)

    def close(self, code: str) -> None:
        """A refusal: nothing here expects one."""
        raise ConnectionError(code)


def populate(path: Path, count: int) -> list[Member]:
    """Enrol `count` people with one device each (no RSA keys) into the relay at `path`."""
    relay = open_relay(path)
    try:
        now = now_ms()
        token = Token.generate(secrets.token_bytes)
        row = InviteRow(token.id, stored_proof(token.relay_proof()), count, now + 3_600_000, "")
        relay.core.admission.put_invite(row, now)
        pin = key_hash(relay.core.directory.realm.relay_key.spki())
        realm = relay.config.realm
        members = [_enrol(relay.core, realm, f"u{number}", token, pin, now) for number in range(count)]
        while (batch := relay.core.take_batch()) is not None:
            relay.store.apply(batch.writes)
            relay.core.committed(batch, now)
        return members
    finally:
        relay.close()


def _enrol(core: RelayCore, realm: str, name: str, token: Token, pin: bytes, now: int) -> Member:
    wire = _Wire(f"in memory {name}")
    user, _ = UserKeys.generate(secrets.token_bytes)
    keys = DeviceKeys.generate(secrets.token_bytes, rsa=False)
    device = device_id(realm, name, "main")
    application = Application.make(user, keys, device, token, now)
    core.connect(wire, now)
    first = login.hello(None, secrets.token_bytes)
    core.frame(wire, frames.encode(first), now)
    second = frames.decode_answer(wire.sent[0])
    request = application.register(user, frames.digest(first), frames.digest(second), now)
    core.frame(wire, frames.encode(frames.Enrol(rid=1, request=request)), now)
    return Member(device, keys, pin)


def tls_context() -> ssl.SSLContext:
    """TLS 1.3; the login judges the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Line(Protocol):
    """A dialled connection; `tls` is the hash of the relay's certificate."""

    tls: bytes

    async def send(self, data: bytes) -> None:
        """Send one message."""
        ...

    async def receive(self) -> bytes:
        """The next message; ConnectionError when there is none."""
        ...


class WebSocketLine:
    """A WebSocket of aiohttp."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.tls = _tls_hash(socket.get_extra_info("ssl_object"))

    async def send(self, data: bytes) -> None:
        """See `Line`."""
        await self.socket.send_bytes(data)

    async def receive(self) -> bytes:
        """See `Line`."""
        message = await self.socket.receive()
        if message.type is not aiohttp.WSMsgType.BINARY:
            raise ConnectionError("closed")
        data: bytes = message.data
        return data


class StreamLine:
    """Raw TCP under TLS: each message after its length."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.tls = _tls_hash(writer.get_extra_info("ssl_object"))

    async def send(self, data: bytes) -> None:
        """See `Line`."""
        self.writer.write(len(data).to_bytes(4, "big") + data)
        await self.writer.drain()

    async def receive(self) -> bytes:
        """See `Line`."""
        try:
            size = int.from_bytes(await self.reader.readexactly(4), "big")
            return await self.reader.readexactly(size)
        except asyncio.IncompleteReadError as error:
            raise ConnectionError("closed") from error


def _tls_hash(secured: ssl.SSLObject) -> bytes:
    return hashlib.sha256(secured.getpeercert(True) or b"").digest()


class Client:
    """A logged-in device; requests are numbered, answers are found by number."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.rid = 0
        self.pushed: list[frames.Answer] = []

    async def send(self, frame: frames.Frame) -> None:
        """Send one frame."""
        await self.line.send(frames.encode(frame))

    async def receive(self) -> frames.Answer:
        """The next frame; ConnectionError when there is none."""
        return frames.decode_answer(await self.line.receive())

    def next(self) -> int:
        """A new request number."""
        self.rid += 1
        return self.rid

    async def ask(self, frame: frames.Frame) -> frames.Answer:
        """Send a request and take its answer; what is pushed meanwhile is kept."""
        await self.send(frame)
        while True:
            answer = await self.receive()
            if getattr(answer, "rid", None) == getattr(frame, "rid", None):
                return answer
            self.pushed.append(answer)

    async def present(self, log: bytes, token: bytes, after: int = 0) -> frames.Page:
        """Open a log; every page of it, joined."""
        entries: list[frames.Entry | frames.Stub] = []
        while True:
            page = await self.present_page(log, token, after)
            entries.extend(page.entries)
            if not page.more:
                return frames.Page(rid=page.rid, log=log, entries=entries, head=page.head, more=False)
            after = page.entries[-1].seq

    async def present_page(self, log: bytes, token: bytes, after: int = 0) -> frames.Page:
        """One page of a log."""
        page = await self.ask(frames.Present(rid=self.next(), log=log, token=token, after=after))
        if not isinstance(page, frames.Page):
            raise ConnectionError(str(page))
        return page

    async def create(self, log: bytes, token: bytes = ROOM_TOKEN) -> frames.Answer:
        """Create a room with this first token (again: the same answer)."""
        return await self.ask(
            frames.Commit(
                rid=self.next(), log=log, expects=frames.NO_TOKEN, entry_id=log, payload=b"", next=sha256(token),
                group_info=None, items=[],
            )
        )  # fmt: skip


@asynccontextmanager
async def dial(host: str, port: int, *, tcp: bool = False) -> AsyncIterator[Line]:
    """A connection over TLS, as a WebSocket or as raw TCP."""
    if tcp:
        reader, writer = await asyncio.open_connection(host, port, ssl=tls_context(), limit=2**20)
        try:
            yield StreamLine(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        return
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_connect=10)) as session:
        async with session.ws_connect(
            f"wss://{host}:{port}/v1", ssl=tls_context(), compress=0, max_msg_size=2**20, autoping=True
        ) as socket:
            yield WebSocketLine(socket)
    await asyncio.sleep(0.1)  # TLS transports end after their session


@asynccontextmanager
async def connect(host: str, port: int, member: Member, *, tcp: bool = False) -> AsyncIterator[Client]:
    """Dial and log in; ConnectionError when refused."""
    async with dial(host, port, tcp=tcp) as line:
        yield await log_in(line, member)


async def log_in(line: Line, member: Member) -> Client:
    """L1 to L4 on a connection that stands."""
    client = Client(line)
    first = login.hello(member.device, secrets.token_bytes)
    await client.send(first)
    second = await client.receive()
    if not isinstance(second, frames.Challenge):
        raise ConnectionError(str(second))
    login.check_challenge(first, second, member.pin, line.tls, now_ms())
    await client.send(login.login(first, second, member.keys.device, [], line.tls, now_ms()))
    fourth = await client.receive()
    if not isinstance(fourth, frames.Welcome):
        raise ConnectionError(str(fourth))
    return client
