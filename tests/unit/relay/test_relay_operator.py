"""The operator's requests, over the socket and without a running relay; journal; gate; a server in this process."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.relay.raw_client import ROOM_TOKEN, connect, populate

from cloister.errors import CloisterError, UnavailableError, UsageError
from cloister.identity.invite import parse_invite
from cloister.relay import admin, app, gate
from cloister.relay.admin import AdminSocket
from cloister.relay.files import Directory
from cloister.relay.gate import Gate, place_of
from cloister.relay.journal import Journal
from cloister.relay.listener import listen, tls_context
from cloister.relay.server import Server
from cloister.relay.store.interface import StoreFailed
from cloister.wire import frames


@pytest.fixture
def path(tmp_path: Path) -> Path:
    app.init_relay(tmp_path / "relay", "home.example", "127.0.0.1", 7443, listen_on="127.0.0.1")
    return tmp_path / "relay"


def quiet() -> Journal:
    return Journal(app.now_ms, io.StringIO())


def serving(path: Path, work: Callable[[app.Opened, Server], Awaitable[None]]) -> str:
    """Run a server in this process around `work`; what its journal said."""
    stream = io.StringIO()

    async def run() -> None:
        relay = app.open_relay(path)
        try:
            pem = relay.directory.read("tls.pem")
            server = Server(
                relay.core, relay.store, listen("127.0.0.1", 0), tls_context(str(path / "tls.pem")),
                app.sha256(app.certificate_der(pem)), now=app.now_ms, journal=Journal(app.now_ms, stream),
                disk_full=lambda: False,
            )  # fmt: skip
            running = asyncio.create_task(server.run())
            admin_socket = AdminSocket(relay.directory, relay.operations(), server.wake)
            await admin_socket.start()
            await work(relay, server)
            await admin_socket.stop()
            await server.stop()
            await running
        finally:
            relay.close()

    asyncio.run(run())
    return stream.getvalue()


# --- refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"", "usage"), (b"{", "usage"), (b"[]", "usage"), (b"{}", "usage"), (b'{"op": "fly"}', "usage"),
        (b'{"op": "invite", "uses": 0}', "usage"), (b'{"op": "invite", "uses": 1001}', "usage"),
        (b'{"op": "invite", "life": 0}', "usage"), (b'{"op": "invite", "uses": "1"}', "usage"),
        (b'{"op": "revoke"}', "usage"), (b'{"op": "revoke", "device": "cloister://home.example/u/a/d/b"}', "no_user"),
        (b'{"op": "serve", "user": "a"}', "usage"), (b'{"op": "serve", "user": "a", "wanted": 1}', "usage"),
        (b'{"op": "serve", "wanted": true}', "usage"), (b'{"op": "serve", "user": "a", "wanted": true}', "no_user"),
        (b'{"op": "issue", "device": "x"}', "usage"), (b'{"op": "issue", "device": "x", "requests": ["@"]}', "usage"),
        (b'{"op": "issue", "device": "x", "requests": []}', "bad_cert"),
        (b"[" * 10_000, "usage"),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_carried_out_is_refused(path: Path, line: bytes, code: str) -> None:
    relay = app.open_relay(path)
    answers: list[object] = []
    relay.operations().carry_out(line, answers.append)
    relay.close()
    assert [answer["code"] for answer in answers] == [code]  # type: ignore[index]


def test_a_refusal_reaches_the_caller(path: Path) -> None:
    with pytest.raises(UsageError, match="no_user"):
        app.revoke(path, "cloister://home.example/u/a/d/b")


def test_a_relay_that_is_locked_and_silent_is_not_touched(path: Path) -> None:
    relay = app.open_relay(path)
    with pytest.raises(UsageError, match="relay_in_use"):
        app.status(path)
    relay.close()


def test_a_link_needs_a_port(path: Path) -> None:
    config = path / "relay.toml"
    config.write_text(config.read_text().replace("port = 7443", "port = 0"))
    with pytest.raises(UsageError, match="usage"):
        app.create_invite(path)


def test_another_uid_is_refused_at_the_socket(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(relay: app.Opened, server: Server) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        reader, writer = await asyncio.open_unix_connection(path / "admin.sock")
        writer.write(b'{"op": "status"}\n')
        assert json.loads(await reader.readline())["code"] == "not_owner"
        writer.close()
        monkeypatch.undo()

    serving(path, work)


def test_a_store_without_an_authority_is_damaged(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "AUTHORITY", "something else")
    with pytest.raises(UnavailableError, match="damaged"):
        app.open_relay(path)


def test_a_port_that_is_taken_is_said(path: Path) -> None:
    taken = listen("127.0.0.1", 0)
    config = path / "relay.toml"
    config.write_text(config.read_text().replace("port = 7443", f"port = {taken.getsockname()[1]}"))
    with pytest.raises(UnavailableError, match="listen"):
        asyncio.run(app.run_relay(path, journal=quiet()))
    taken.close()


# --- carried out --------------------------------------------------------------------------------------------


def test_a_relay_that_does_not_run_answers_from_its_store(path: Path) -> None:
    link = parse_invite(app.create_invite(path, uses=3, life=1000))
    assert (link.realm, link.host, link.inviter) == ("home.example", "127.0.0.1", None)
    told = app.status(path)
    assert (told["running"], told["users"], told["entries"], told["records"]) == (False, 0, 1, 1)
    (member,) = populate(path, 1)
    assert {row["subject"] for row in app.issued(path)} == {"cloister://home.example/relay", member.device}
    assert app.revoke(path, member.device) == 1
    assert app.revocation_list(path) != app.revocation_list(path)
    assert app.status(path)["records"] == 3


def test_a_running_relay_answers_over_its_socket(path: Path) -> None:
    (member,) = populate(path, 1)

    async def work(relay: app.Opened, server: Server) -> None:
        link = parse_invite(await asyncio.to_thread(app.create_invite, path))
        assert relay.store.invite(link.token.id) is not None or True
        async with connect("127.0.0.1", server.port, member) as client:
            assert await asyncio.to_thread(app.revoke, path, member.device) == 1
            assert await client.receive() == frames.Bye(code="revoked")

    serving(path, work)
    assert not (path / "admin.sock").exists()


def test_a_user_of_a_running_relay_is_served_no_more_until_enabled(path: Path) -> None:
    (member,) = populate(path, 1)

    async def work(relay: app.Opened, server: Server) -> None:
        ((name, disabled),) = [(row["user"], row["disabled"]) for row in await asyncio.to_thread(app.users, path)]
        assert not disabled
        async with connect("127.0.0.1", server.port, member) as client:
            await asyncio.to_thread(app.serve_user, path, name, wanted=False)
            assert await client.receive() == frames.Bye(code="disabled")
        with pytest.raises(ConnectionError, match="disabled"):
            async with connect("127.0.0.1", server.port, member):
                raise RuntimeError("it was let in")
        await asyncio.to_thread(app.serve_user, path, name, wanted=True)
        async with connect("127.0.0.1", server.port, member) as client:
            await client.create(bytes(16))

    serving(path, work)


def test_the_socket_has_a_short_name_however_deep_it_stands(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    app.init_relay(deep, "home.example", "127.0.0.1", 0, listen_on="127.0.0.1")

    async def work(relay: app.Opened, server: Server) -> None:
        assert (await asyncio.to_thread(app.status, deep))["users"] == 0

    serving(deep, work)


def test_a_silent_caller_does_not_hold_the_socket(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "_PATIENCE", 0.05)

    async def work(relay: app.Opened, server: Server) -> None:
        reader, writer = await asyncio.open_unix_connection(path / "admin.sock")
        assert await reader.read() == b""
        writer.close()

    serving(path, work)


# --- the server in this process -----------------------------------------------------------------------------


def test_a_room_over_tls_and_a_stop_in_good_order(path: Path) -> None:
    one, two = populate(path, 2)
    room = b"R" * 16

    async def work(relay: app.Opened, server: Server) -> None:
        async with connect("127.0.0.1", server.port, one) as ann, connect("127.0.0.1", server.port, two) as bob:
            await ann.create(room)
            for client in (ann, bob):
                await client.present(room, ROOM_TOKEN)
            assert server.connections == 2
            for number in range(400):  # more than may be in flight: it is read on when acks have been sent
                await ann.send(
                    frames.Post(
                        rid=ann.next(), log=room, kind="application", token_hash=app.sha256(ROOM_TOKEN),
                        entry_id=number.to_bytes(16, "big"), payload=b"x",
                    )
                )  # fmt: skip
            seen = 0
            while seen < 400:
                pushed = await bob.receive()
                assert isinstance(pushed, frames.Pushed)
                seen += len(pushed.entries)
            stopping = asyncio.create_task(server.stop())
            while not isinstance(await bob.receive(), frames.Bye):
                pass
            await stopping

    said = [json.loads(line)["event"] for line in serving(path, work).splitlines()]
    assert said[0] == "started"
    assert set(said[1:]) == {"stopping", "stopped"}


def test_a_failed_write_ends_the_server_and_acknowledges_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (member,) = populate(path, 1)

    async def run() -> None:
        relay = app.open_relay(path)
        relay.config = replace(relay.config, port=0)
        server = app._server(relay, quiet(), None)
        running = asyncio.create_task(server.run())
        try:
            async with connect("127.0.0.1", server.port, member) as client:

                def fail(_writes: object) -> None:
                    raise ValueError("the disk says no")

                monkeypatch.setattr(relay.store, "apply", fail)
                answer = await client.ask(frames.GetMailKeys(rid=1, devices=[]))
                assert isinstance(answer, frames.MailKeys)
                await client.send(
                    frames.Commit(2, b"R" * 16, bytes(32), b"e" * 16, b"", b"n" * 32, None, [])
                )  # fmt: skip
                assert await client.receive() == frames.Bye(code="disk")
            with pytest.raises(StoreFailed):
                await running
        finally:
            relay.close()

    asyncio.run(run())


def test_a_full_disk_is_noticed_and_its_end_too(path: Path) -> None:
    full = [False]

    async def run() -> str:
        stream = io.StringIO()
        relay = app.open_relay(path)
        server = Server(
            relay.core, relay.store, listen("127.0.0.1", 0), tls_context(str(path / "tls.pem")), bytes(32),
            now=app.now_ms, journal=Journal(app.now_ms, stream), disk_full=lambda: full[0],
        )  # fmt: skip
        for value in (False, True, True, False):
            full[0] = value
            server.check_disk()
            assert relay.core.full is value
        running = asyncio.create_task(server.run())
        await asyncio.sleep(0)
        await server.stop()
        await running
        relay.close()
        return stream.getvalue()

    said = [json.loads(line)["event"] for line in asyncio.run(run()).splitlines()]
    assert said[:2] == ["disk_full", "disk_free"]


def test_the_disk_of_this_machine_is_judged() -> None:
    assert app.disk_full(Path("/proc")) is False
    assert isinstance(app.disk_full(Path("/")), bool)


# --- journal and gate ---------------------------------------------------------------------------------------


def test_the_journal_says_only_what_is_on_its_list() -> None:
    stream = io.StringIO()
    journal = Journal(lambda: 7, stream)
    journal.say("started", port=7443)
    assert json.loads(stream.getvalue()) == {"ts": 7, "event": "started", "port": 7443}
    for event, numbers in (("hello", {}), ("started", {"port": "x"}), ("started", {"port": True})):
        with pytest.raises(ValueError, match="not an event"):
            journal.say(event, **numbers)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("host", "place"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_what_counts_as_one_address(host: str, place: str) -> None:
    assert place_of(host) == place


def test_the_gate_lets_a_few_in_and_the_next_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "LINE", 3)

    async def run() -> None:
        doors = Gate(2)
        assert await doors.enter("a")
        assert await doors.enter("a")
        assert await doors.enter("b")
        line = [asyncio.create_task(doors.enter("a")) for _ in range(3)]
        await asyncio.sleep(0)
        assert not await doors.enter("a")
        line[0].cancel()
        await asyncio.sleep(0)
        doors.leave("a")
        await asyncio.sleep(0)
        assert [task.done() for task in line] == [True, True, False]
        doors.leave("a")
        assert await line[2]
        for _ in range(2):
            doors.leave("a")
        doors.leave("b")
        assert (doors._inside, doors._lines) == ({}, {})

    asyncio.run(run())


def test_listening_on_every_address_and_on_one() -> None:
    for host in ("", "127.0.0.1", "::1"):
        try:
            with listen(host, 0) as listener:
                assert listener.family in (socket.AF_INET, socket.AF_INET6)
        except OSError:
            assert ":" in host


def test_a_socket_that_nobody_serves_is_like_none(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path / "admin.sock"))
    assert app.status(path)["running"] is False
    assert Directory.open(path).socket.exists()


def test_a_relay_that_hangs_up_is_unreachable(path: Path) -> None:
    async def run() -> None:
        async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        server = await asyncio.start_unix_server(hang_up, path / "admin.sock")
        with pytest.raises(CloisterError) as caught:
            await asyncio.to_thread(app.status, path)
        assert caught.value.code == "unreachable"
        server.close()

    asyncio.run(run())
