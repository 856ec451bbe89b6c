"""The WebSocket to a relay: the largest frame that a relay sends comes through, a silent relay is noticed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from cloister.client import transport
from cloister.client.entropy import rng
from cloister.errors import UnavailableError
from cloister.identity.tls import make_tls_identity
from cloister.wire import limits
from cloister.wire.frames import Entry, Head, Page, encode

Handler = Callable[[web.WebSocketResponse], Awaitable[None]]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A TLS context of a relay."""
    path: Path = tmp_path_factory.mktemp("tls") / "tls.pem"
    path.write_bytes(b"".join(make_tls_identity("127.0.0.1", 1_790_000_000_000, rng)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def dialled(
    secured: ssl.SSLContext, serve: Handler, use: Callable[[transport.Connection], Awaitable[None]], **options: bool
) -> None:
    """Dial a server that does this with each connection."""

    async def answer(request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse(compress=False, **options)  # type: ignore[arg-type]
        await response.prepare(request)
        await serve(response)
        return response

    async def work() -> None:
        app = web.Application()
        app.router.add_get(transport.PATH, answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=secured)
        await site.start()
        host, port = runner.addresses[0][:2]
        try:
            async with transport.dial(f"{host}:{port}") as connection:
                await use(connection)
        finally:
            await runner.cleanup()

    asyncio.run(work())


def test_a_frame_beyond_the_limit_ends_the_connection(secured: ssl.SSLContext) -> None:
    async def serve(response: web.WebSocketResponse) -> None:
        await response.send_bytes(b"first")
        await response.send_bytes(bytes(limits.ANSWER.value + 1))
        await response.receive()

    async def use(connection: transport.Connection) -> None:
        assert [frame async for frame in connection.receive()] == [b"first"]

    dialled(secured, serve, use)


def test_a_frame_of_the_limit_comes_through(secured: ssl.SSLContext) -> None:
    async def serve(response: web.WebSocketResponse) -> None:
        await response.send_bytes(bytes(limits.ANSWER.value))

    async def use(connection: transport.Connection) -> None:
        assert [len(frame) async for frame in connection.receive()] == [limits.ANSWER.value]

    dialled(secured, serve, use)


def test_the_page_of_the_largest_commit_is_within_the_limit() -> None:
    entry = Entry(
        seq=2**63, kind="commit", flags=2**32, epoch=2**63, token_hash=bytes(32), entry_id=bytes(16),
        payload=bytes(limits.COMMIT.value), ts_ms=2**63, next_token_hash=bytes(32), group_info_hash=bytes(32),
        item_hashes=[bytes(32)] * limits.COMMIT_ITEMS.value,
    )  # fmt: skip
    head = Head(incarnation=2**63, seq=2**63, hash=bytes(32), signature=bytes(64))
    page = Page(rid=2**63, log=bytes(16), entries=[entry], head=head, more=True)
    assert limits.COMMIT.value < len(encode(page)) <= limits.ANSWER.value


@pytest.mark.parametrize("reads", [True, False], ids=["no pongs", "reads nothing"])
def test_a_relay_that_is_silently_gone_is_noticed(
    secured: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, reads: bool
) -> None:
    """Half-open: nothing says that the other end is gone; only the pings do."""
    monkeypatch.setattr(transport, "HEARTBEAT", 0.4)
    over = asyncio.Event()

    async def serve(response: web.WebSocketResponse) -> None:
        while reads and not over.is_set():
            await response.receive()
        await over.wait()

    async def use(connection: transport.Connection) -> None:
        async with asyncio.timeout(10):
            assert [frame async for frame in connection.receive()] == []
            with pytest.raises(UnavailableError):
                await connection.send(b"anybody?")
        over.set()

    dialled(secured, serve, use, autoping=False)


def test_a_control_a_relay_that_answers_is_kept(secured: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "HEARTBEAT", 0.4)

    async def serve(response: web.WebSocketResponse) -> None:
        await response.receive()

    async def use(connection: transport.Connection) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                assert [frame async for frame in connection.receive()] == []
        await connection.send(b"over")

    dialled(secured, serve, use)
