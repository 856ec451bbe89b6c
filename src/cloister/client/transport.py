"""A connection to the relay: WebSocket over TLS 1.3 (`HOST:PORT`), or raw TCP (`tcp://HOST:PORT`).

Source: docs/spec/wire.md ("Transport"). The relay's TLS certificate is its own; what counts is the relay's identity
key, pinned at enrolment, which signs the hash of that certificate in the login (LOGIN-01, LOGIN-02). So the handshake
here accepts any certificate, and nothing is sent before login but a hello.

Invariants: TLS 1.3 or nothing, but for raw TCP to a loopback address, which is plain (and lets guests in, no device);
what is tried is what the address says, never something weaker after it failed; no compression; frames over the limit
end the connection; every failure is an UnavailableError.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import socket as sockets
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Final, Protocol

import aiohttp

from cloister.errors import UnavailableError
from cloister.wire import limits
from cloister.wire.login import NO_TLS

PATH: Final = "/v1"
TCP: Final = "tcp://"
"""How the address of a raw TCP listener begins."""
DIAL: Final = 10.0
"""Seconds to connect, shake hands and upgrade."""
HEARTBEAT: Final = 20.0
"""Seconds between pings; a connection that does not answer is closed after half of it."""
FRAME_MOST: Final = limits.ANSWER.value


class Connection(Protocol):
    """A dialled connection. `tls` is the SHA-256 of the certificate that the relay showed, NO_TLS without one."""

    @property
    def tls(self) -> bytes:
        """32 bytes."""
        ...

    async def send(self, frame: bytes) -> None:
        """Send one frame."""
        ...

    def receive(self) -> AsyncIterator[bytes]:
        """Frames until the connection ends."""
        ...


class WebSocket:
    """A Connection over aiohttp."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        secured = socket.get_extra_info("ssl_object")
        if secured is None:
            raise UnavailableError("tls", "the connection is not encrypted")
        self.tls = _tls_hash(secured)

    async def send(self, frame: bytes) -> None:
        """Send one frame."""
        try:
            await self._socket.send_bytes(frame)
        except (aiohttp.ClientError, ConnectionError, OSError) as error:
            raise UnavailableError("closed") from error

    async def receive(self) -> AsyncIterator[bytes]:
        """Frames until the connection ends."""
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.BINARY:
                return
            yield message.data


class Stream:
    """A Connection over raw TCP: each frame after its length (4 bytes, big-endian)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        secured = writer.get_extra_info("ssl_object")
        self.tls = NO_TLS if secured is None else _tls_hash(secured)

    async def send(self, frame: bytes) -> None:
        """Send one frame."""
        try:
            self._writer.write(len(frame).to_bytes(4, "big") + frame)
            await self._writer.drain()
        except (ConnectionError, OSError) as error:
            raise UnavailableError("closed") from error

    async def receive(self) -> AsyncIterator[bytes]:
        """Frames until the connection ends."""
        while True:
            try:
                size = int.from_bytes(await self._reader.readexactly(4), "big")
                if not 0 < size <= FRAME_MOST:
                    return
                frame = await self._reader.readexactly(size)
            except (asyncio.IncompleteReadError, ConnectionError, OSError):
                return
            yield frame


def _tls_hash(secured: ssl.SSLObject) -> bytes:
    return hashlib.sha256(secured.getpeercert(True) or b"").digest()


def tls_context() -> ssl.SSLContext:
    """TLS 1.3 only; the certificate is judged in the login."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def dial(address: str) -> AbstractAsyncContextManager[Connection]:
    """Connect to HOST:PORT or tcp://HOST:PORT; UnavailableError("unreachable") when that fails."""
    return _dial_stream(address.removeprefix(TCP)) if address.startswith(TCP) else _dial_websocket(address)


@asynccontextmanager
async def _dial_stream(address: str) -> AsyncIterator[Connection]:
    host, _, port = address.rpartition(":")
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(DIAL):
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            keep_alive(writer.get_extra_info("socket"))
            if not is_loopback(writer.get_extra_info("peername")[0]):
                await writer.start_tls(tls_context())
    except (OSError, ValueError, TimeoutError) as error:
        if writer is not None:
            writer.close()
        raise UnavailableError("unreachable", f"{address}: {type(error).__name__}") from error
    try:
        yield Stream(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError, OSError):
            await writer.wait_closed()


def is_loopback(host: str) -> bool:
    """Whether an IP address is of this machine and no network: there raw TCP is plain."""
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def keep_alive(socket: sockets.socket) -> None:
    """Notice a dead relay within half a minute: raw TCP has no pings."""
    for level, option, value in (
        (sockets.SOL_SOCKET, sockets.SO_KEEPALIVE, 1),
        (sockets.IPPROTO_TCP, getattr(sockets, "TCP_KEEPIDLE", 0), 15),
        (sockets.IPPROTO_TCP, getattr(sockets, "TCP_KEEPINTVL", 0), 5),
        (sockets.IPPROTO_TCP, getattr(sockets, "TCP_KEEPCNT", 0), 3),
        (sockets.IPPROTO_TCP, getattr(sockets, "TCP_USER_TIMEOUT", 0), 30_000),
    ):
        if option:
            socket.setsockopt(level, option, value)


@asynccontextmanager
async def _dial_websocket(address: str) -> AsyncIterator[Connection]:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=DIAL)
    async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
        try:
            async with asyncio.timeout(DIAL):
                socket = await session.ws_connect(
                    f"wss://{address}{PATH}",
                    ssl=tls_context(),
                    compress=0,
                    max_msg_size=FRAME_MOST + 1,  # the library refuses from there on
                    heartbeat=HEARTBEAT,
                )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise UnavailableError("unreachable", f"{address}: {type(error).__name__}") from error
        try:
            yield WebSocket(socket)
        finally:
            await socket.close()
