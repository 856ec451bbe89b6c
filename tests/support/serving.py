"""A relay's server in this process, with both listeners, around a test's work."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from pathlib import Path

from cloister.relay import app
from cloister.relay.journal import Journal
from cloister.relay.listener import listen, tls_context
from cloister.relay.server import Server


def serving(path: Path, work: Callable[[Server], Awaitable[None]]) -> None:
    """Open the relay at `path`, serve on free ports of this machine while `work` runs, and stop in good order."""

    async def run() -> None:
        relay = app.open_relay(path, guests=True)
        try:
            certificate = app.certificate_der(relay.directory.read("tls.pem"))
            server = Server(
                relay.core, relay.store, listen("127.0.0.1", 0), tls_context(str(path / "tls.pem")),
                app.sha256(certificate), now=app.now_ms, journal=Journal(app.now_ms, io.StringIO()),
                tcp=listen("127.0.0.1", 0),
            )  # fmt: skip
            running = asyncio.create_task(server.run())
            await work(server)
            await server.stop()
            await running
        finally:
            relay.close()

    asyncio.run(run())
