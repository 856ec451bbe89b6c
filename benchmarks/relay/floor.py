"""The floor: a bare corked durable echo, the least that a relay of this kind can cost.

aiohttp on uvloop over TLS, SQLite with WAL and synchronous=FULL, as the relay has them. What arrives during one
commit is the one row of the next; then everybody gets it as one frame, built once, in one `transport.write` per
connection. No login, hash, signature, limit, index or page.

    python -m benchmarks.relay.floor DIRECTORY      prints its port; DIRECTORY holds tls.pem and floor.db
"""

from __future__ import annotations

import asyncio
import sqlite3
import ssl
import sys
import threading
from pathlib import Path
from queue import SimpleQueue

import uvloop
from aiohttp import WSMsgType, web


class Floor:
    """All of it."""

    def __init__(self, path: Path) -> None:
        self._loop = asyncio.get_running_loop()
        self._store = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._store.execute("PRAGMA journal_mode = WAL")
        self._store.execute("PRAGMA synchronous = FULL")
        self._store.execute("CREATE TABLE log (id INTEGER PRIMARY KEY, data BLOB NOT NULL)")
        self._transports: set[asyncio.WriteTransport] = set()
        self._arrived: list[bytes] = []
        self._queue: SimpleQueue[list[bytes]] = SimpleQueue()
        self._writing = False
        self._due = False
        threading.Thread(target=self._write, daemon=True).start()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One connection."""
        messages = web.WebSocketResponse(compress=False, max_msg_size=2**18)
        await messages.prepare(request)
        transport = request.transport
        if transport is None:
            return messages
        self._transports.add(transport)
        try:
            while True:
                message = await messages.receive()
                if message.type is not WSMsgType.BINARY:
                    return messages
                self._arrived.append(message.data)
                if not self._due:
                    self._due = True
                    self._loop.call_soon(self._turn)
        finally:
            self._transports.discard(transport)

    def _turn(self) -> None:
        self._due = False
        if self._arrived and not self._writing:
            self._writing = True
            self._queue.put(self._arrived)
            self._arrived = []

    def _write(self) -> None:
        while True:
            batch = self._queue.get()
            data = b"".join(batch)
            self._store.execute("INSERT INTO log (data) VALUES (?)", (data,))
            self._loop.call_soon_threadsafe(self._stored, data)

    def _stored(self, data: bytes) -> None:
        size = len(data)
        head = b"\x82\x7e" + size.to_bytes(2, "big") if size < 65_536 else b"\x82\x7f" + size.to_bytes(8, "big")
        packet = head + data
        for transport in self._transports:
            transport.write(packet)
        self._writing = False
        self._turn()


async def main(directory: Path) -> None:
    """Serve until killed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(directory / "tls.pem")
    server = web.Server(Floor(directory / "floor.db").handle, access_log=None)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0, ssl=context, backlog=1024)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await listening.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1])))
