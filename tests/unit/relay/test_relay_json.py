"""The subprotocol `cloister.json` at a real server: objects in, objects out, beside others who speak MessagePack."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from benchmarks.relay.raw_client import ROOM_TOKEN, Member, WebSocketLine, connect, populate, tls_context

from cloister.primitives.kdf import sha256
from cloister.relay import app
from cloister.relay.server import Server
from cloister.wire import frames, login
from support.serving import serving

ROOM = sha256(b"the room of two encodings")[:16]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Member]]:
    path = tmp_path_factory.mktemp("json") / "relay"
    app.init_relay(path, "json.example", "127.0.0.1", 0, listen_on="127.0.0.1")
    return path, populate(path, 2)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def of(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


class Speaker:
    """A client that knows JSON and base64, and for the login the CBOR that is signed."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, kind: str, /, **fields: object) -> None:
        await self.socket.send_str(json.dumps({"type": kind, **fields}))

    async def hear(self) -> dict[str, Any]:
        message = await self.socket.receive()
        assert message.type is aiohttp.WSMsgType.TEXT, message
        found: dict[str, Any] = json.loads(message.data)
        return found

    async def ask(self, kind: str, /, **fields: object) -> dict[str, Any]:
        await self.say(kind, **fields)
        return await self.hear()

    async def log_in(self, member: Member) -> dict[str, Any]:
        first = login.hello(member.device, app.secrets.token_bytes)
        said = await self.ask("hello", device=member.device, nonce=b64(first.nonce), versions=first.versions)
        second = frames.Challenge(
            nonce=of(said["nonce"]), ts_ms=said["ts_ms"], version=said["version"], server_id=said["server_id"],
            identity_key=of(said["identity_key"]), chain=[of(each) for each in said["chain"]],
            signature=of(said["signature"]),
        )  # fmt: skip
        tls = WebSocketLine(self.socket).tls
        login.check_challenge(first, second, member.pin, tls, app.now_ms())
        third = login.login(first, second, member.keys.device, [], tls, app.now_ms())
        return await self.ask("login", chain=[], ts_ms=third.ts_ms, signature=b64(third.signature))


@asynccontextmanager
async def speaking(server: Server, *offered: str) -> AsyncIterator[Speaker]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"wss://127.0.0.1:{server.port}/v1", ssl=tls_context(), protocols=offered) as socket,
    ):
        yield Speaker(socket)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "no json", '{"type":"user_list"}', '{"type":"hello","device":1}', "x" * 500_000]
)
def test_what_is_no_object_gets_bye_and_the_end(made: tuple[Path, list[Member]], text: str) -> None:
    async def work(server: Server) -> None:
        async with speaking(server, "cloister.json") as speaker:
            await speaker.socket.send_str(text)
            assert await speaker.hear() == {"type": "bye", "code": "bad_encoding"}
            assert (await speaker.socket.receive()).type is aiohttp.WSMsgType.CLOSE

    serving(made[0], work)


def test_a_binary_message_is_no_object(made: tuple[Path, list[Member]]) -> None:
    async def work(server: Server) -> None:
        async with speaking(server, "cloister.json") as speaker:
            await speaker.socket.send_bytes(frames.encode(login.hello(None, app.secrets.token_bytes)))
            assert await speaker.hear() == {"type": "bye", "code": "bad_encoding"}

    serving(made[0], work)


def test_an_unknown_subprotocol_is_not_agreed_on(made: tuple[Path, list[Member]]) -> None:
    async def work(server: Server) -> None:
        async with speaking(server, "soap", "cloister.json") as speaker:
            assert speaker.socket.protocol == "cloister.json"
        async with speaking(server) as speaker:
            assert speaker.socket.protocol is None
            await speaker.socket.send_bytes(frames.encode(login.hello(None, app.secrets.token_bytes)))
            assert (await speaker.socket.receive()).type is aiohttp.WSMsgType.BINARY

    serving(made[0], work)


def test_a_room_of_two_encodings(made: tuple[Path, list[Member]]) -> None:
    path, (ann, bob) = made

    async def work(server: Server) -> None:
        async with connect("127.0.0.1", server.port, ann) as binary, speaking(server, "cloister.json") as speaker:
            assert (await speaker.log_in(bob))["type"] == "welcome"
            await binary.create(ROOM)
            await binary.present(ROOM, ROOM_TOKEN)
            page = await speaker.ask("present", rid=1, log=b64(ROOM), token=b64(ROOM_TOKEN), after=0)
            assert [entry["kind"] for entry in page["entries"]] == ["create"]
            names = await speaker.ask("user_list", rid=2)
            assert (names["type"], names["rid"], names["names"]) == ("users", 2, ["u0", "u1"])
            refused = await speaker.ask("get_pubkey", rid=3, username="nobody")
            assert (refused["type"], refused["rid"], refused["code"]) == ("refused", 3, "no_user")
            body = app.secrets.token_bytes(300)
            post = {"log": b64(ROOM), "kind": "application", "token_hash": b64(sha256(ROOM_TOKEN))}
            await speaker.say("relay", rid=4, entry_id=b64(b"e" * 16), payload=b64(body), **post)
            answers = [await speaker.hear(), await speaker.hear()]
            assert sorted(answer["type"] for answer in answers) == ["ack", "pushed"]
            pushed = await binary.receive()
            assert isinstance(pushed, frames.Pushed)
            assert isinstance(pushed.entries[0], frames.Entry)
            assert pushed.entries[0].payload == body
            own = next(answer for answer in answers if answer["type"] == "pushed")
            assert of(own["head"]["hash"]) == pushed.head.hash
            mail = {"type": "mail", "device": ann.device, "item_id": b64(b"i" * 16), "body": b64(b"sealed")}
            assert await speaker.ask("chat_request", rid=5, mail=mail) == {"type": "done", "rid": 5}
            await binary.send(frames.MailOpen(rid=9, after=0))
            heard = [await binary.receive(), await binary.receive()]
            (mailed,) = [frame for frame in heard if isinstance(frame, frames.Mailed)]
            assert [item.body for item in mailed.items] == [b"sealed"]

    serving(path, work)
    for name in ("relay.db", "relay.db-wal"):  # the name of document 003 is not kept
        file = path / name
        assert not file.exists() or b"chat_request" not in file.read_bytes()
