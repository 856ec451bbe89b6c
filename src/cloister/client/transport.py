"""A connection to the relay: WebSocket over TLS 1.3.

Source: docs/spec/wire.md ("Transport"). The relay's TLS certificate is its own; what counts is the relay's identity
key, pinned at enrolment, which signs the hash of that certificate in the login (LOGIN-01, LOGIN-02). So the handshake
here accepts any certificate, and nothing is sent before login but a hello.

Invariants: TLS 1.3 or nothing; no compression; frames over the limit close the connection; every failure is an
UnavailableError.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Protocol

import aiohttp

from cloister.errors import UnavailableError
from cloister.wire import limits

PATH: Final = "/v1"
DIAL: Final = 10.0
"""Seconds to connect, shake hands and upgrade."""
HEARTBEAT: Final = 20.0
"""Seconds between pings; a connection that does not answer is closed after half of it."""
FRAME_MOST: Final = 2 * limits.FRAME.value


class Connection(Protocol):
    """A dialled connection. `tls` is the SHA-256 of the certificate that the relay showed."""

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
        certificate = secured.getpeercert(True)
        self.tls = hashlib.sha256(certificate or b"").digest()

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


def tls_context() -> ssl.SSLContext:
    """TLS 1.3 only; the certificate is judged in the login."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@asynccontextmanager
async def dial(address: str) -> AsyncIterator[Connection]:
    """Connect to HOST:PORT; UnavailableError("unreachable") when that fails."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=DIAL)
    async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
        try:
            async with asyncio.timeout(DIAL):
                socket = await session.ws_connect(
                    f"wss://{address}{PATH}",
                    ssl=tls_context(),
                    compress=0,
                    max_msg_size=FRAME_MOST,
                    heartbeat=HEARTBEAT,
                )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise UnavailableError("unreachable", f"{address}: {type(error).__name__}") from error
        try:
            yield WebSocket(socket)
        finally:
            await socket.close()
