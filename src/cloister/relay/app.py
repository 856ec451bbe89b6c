"""A relay as a whole: make one, run it, ask something of it. What the command line calls.

    init_relay(path, realm, host, port)          makes the data directory; gives the fingerprints to show
    serve(path)                                  serves until SIGTERM or SIGINT; StoreFailed when the disk fails
    create_invite(path, uses, life) -> link      revoke(path, device) -> leaves    issue(path, device, requests)
    status(path) -> dict                         issued(path) -> list              revocation_list(path) -> DER
    verify(path, DER) -> dict

Source: docs/spec/relay.md. The last two lines work on a running relay through its admin socket and otherwise on
its store. Clock and randomness of the relay process have their home here.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import secrets
import signal
import socket
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import uvloop

from cloister.errors import UnavailableError, UsageError
from cloister.identity.authority import MODE, Authority
from cloister.identity.invite import Invite
from cloister.identity.keys import key_hash
from cloister.identity.records import Genesis
from cloister.identity.tls import certificate_der, make_tls_identity
from cloister.primitives import Rng
from cloister.primitives.kdf import sha256
from cloister.primitives.signature import SigningKey
from cloister.relay import admin, files
from cloister.relay.admin import AdminSocket, Operations
from cloister.relay.core import RelayCore, RelayKeys, Settings
from cloister.relay.core.directory import genesis_writes
from cloister.relay.core.enrol import AUTHORITY
from cloister.relay.files import Config, Directory
from cloister.relay.journal import Journal
from cloister.relay.listener import listen, tls_context
from cloister.relay.server import Server
from cloister.relay.sockets import broadcast
from cloister.relay.store.interface import PutMeta
from cloister.relay.store.sqlite import SqliteStore, Synchronous
from cloister.wire.log import certify_head_key

RESERVE: Final = 64 * 1024 * 1024
"""Bytes of the disk that stay free, or a twentieth of a small one: what needs room is refused before."""


def now_ms() -> int:
    """The time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What `init_relay` made: the SPKI hashes (32 bytes) that a link pins."""

    config: Config
    relay_hash: bytes
    root_hash: bytes

    def open_link(self) -> str:
        """The link by which anybody may register in a realm of mode `none`: where the relay is, and its key."""
        config = self.config
        link = Invite(
            host=config.link_host,
            port=config.port,
            realm=config.realm,
            relay_hash=self.relay_hash,
            root_hash=self.root_hash,
            token=None,
        )
        return str(link)


@dataclass(slots=True, kw_only=True)
class Opened:
    """A relay's directory, store and core, ready to serve or to be asked."""

    directory: Directory
    config: Config
    store: SqliteStore
    core: RelayCore
    lock: int

    def operations(self) -> Operations:
        """What an operator may ask."""
        return Operations(self.core, self.store, self.config, now_ms, secrets.token_bytes)

    def close(self) -> None:
        """Release files and lock."""
        self.store.close()
        os.close(self.lock)


def init_relay(
    path: Path,
    realm: str,
    host: str = "localhost",
    port: int = files.DEFAULT_PORT,
    *,
    listen_on: str = "",
    mode: str = MODE,
    now: int | None = None,
    rng: Rng = secrets.token_bytes,
) -> Made:
    """Make a relay in an empty or new directory: keys, authority, TLS certificate, genesis record.

    A relay whose address is this machine listens there alone, unless `listen_on` says otherwise (F5.7). In `mode` none
    the authority certifies the relay and nobody else, and anybody may register where the relay is open.
    Raises UsageError exists, usage or bad_name, UnavailableError disk.
    """
    at_home = LOOPBACK if host in ("localhost", LOOPBACK) else ""
    config = Config(realm=realm, host=host, port=port, listen=listen_on or at_home).checked()
    made_at = now_ms() if now is None else now
    directory = Directory.create(path)
    identity, head = SigningKey.generate("ed25519", rng), SigningKey.generate("ed25519", rng)
    authority = Authority.create(realm, made_at, rng)
    leaf = authority.issue_relay(identity, made_at, rng)
    certificate, private = make_tls_identity(host, made_at, rng)
    directory.write("identity.key", identity.private_bytes())
    directory.write("head.key", head.private_bytes())
    directory.write("relay.crt", files.encode_chain((leaf, authority.authorities.intermediate)))
    directory.write("tls.pem", certificate + private)
    genesis = Genesis(
        realm=realm,
        mode=mode,
        root=authority.authorities.root,
        intermediate=authority.authorities.intermediate,
        relay_key=identity.public.raw,
    )
    store = SqliteStore(directory.database)
    try:
        writes = genesis_writes(Settings(realm=realm), genesis.encode(), made_at)
        store.apply([*writes, PutMeta(AUTHORITY, authority.encode())])
    finally:
        store.close()
    directory.write(files.CONFIG, config.text().encode())  # last: with it the directory is a relay's
    return Made(config=config, relay_hash=key_hash(identity.public.spki()), root_hash=authority.authorities.root_hash)


def open_relay(
    path: Path, synchronous: Synchronous = "FULL", *, guests: bool = False, registration: bool = False
) -> Opened:
    """Open a relay that does not run; UsageError relay_in_use when it does, UnavailableError when damaged.

    `guests`: strangers may chat by session codes; `registration`: a realm of mode `none` takes in whoever registers a
    name. Both are always so on a relay that listens on this machine alone.
    """
    directory = Directory.open(path)
    config = directory.config()
    lock = directory.lock()
    if lock is None:
        raise UsageError("relay_in_use", str(path))
    identity, head = directory.key("identity.key"), directory.key("head.key")
    keys = RelayKeys(
        identity=identity,
        head=head,
        head_key=certify_head_key(identity, config.realm, head.public.raw, 0),
        chain=files.decode_chain(directory.read("relay.crt")),
    )
    with ExitStack() as undo:
        undo.callback(os.close, lock)
        store = undo.enter_context(closing(SqliteStore(directory.database, synchronous)))
        state = store.meta(AUTHORITY)
        if state is None:
            raise UnavailableError("damaged", "the store has no authority")
        at_home = config.listen == LOOPBACK
        settings = Settings(realm=config.realm, guests=guests or at_home, open=registration or at_home)
        core = RelayCore(store, settings, keys, Authority.decode(state), secrets.token_bytes, broadcast)
        undo.pop_all()
    return Opened(directory=directory, config=config, store=store, core=core, lock=lock)


async def run_relay(
    path: Path,
    *,
    synchronous: Synchronous = "FULL",
    guests: bool = False,
    registration: bool = False,
    tcp: int | None = None,
    ready: Callable[[int], None] = lambda port: None,
    journal: Journal | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT. `ready(port)` is called once connections are accepted; `guests` as `open_relay`.

    With `tcp`, raw TCP is served on that port (0: any), and guests may come.
    `synchronous` is SQLite's; anything but FULL loses acknowledged entries on a power cut (tests show it).
    """
    relay = open_relay(path, synchronous, guests=guests or tcp is not None, registration=registration)
    try:
        server = _server(relay, journal or Journal(now_ms), tcp)
        operations = relay.operations()
        operations.config = replace(relay.config, port=server.port)
        started = now_ms()
        operations.running = lambda: {
            "running": True,
            "pid": os.getpid(),
            "port": server.port,
            **({} if server.tcp_port is None else {"tcp": server.tcp_port}),
            "connections": server.connections,
            "uptime_ms": now_ms() - started,
        }
        door = AdminSocket(relay.directory, operations, server.wake)
        await door.start()
        stopping = _stop_on_signals(server)
        ready(server.port)
        try:
            await server.run()
        finally:
            stopping()
            await door.stop()
    finally:
        relay.close()


def serve(
    path: Path, *, synchronous: Synchronous = "FULL", guests: bool = False, registration: bool = False,
    tcp: int | None = None, ready: Callable[[int], None] = lambda port: None,
) -> None:  # fmt: skip
    """`run_relay` on uvloop: a whole relay process. Returns after SIGTERM or SIGINT."""
    allow_files()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)  # frames are many, short-lived and without cycles
    uvloop.run(run_relay(
        path, synchronous=synchronous, guests=guests, registration=registration, tcp=tcp, ready=ready,
    ))  # fmt: skip


def allow_files() -> None:
    """As many open files as the system grants: each connection is one, also of those that wait at the gate."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # some systems name more than they grant
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _listen(host: str, port: int) -> socket.socket:
    try:
        return listen(host, port)
    except OSError as error:
        raise UnavailableError("listen", f"port {port}: {error.strerror}") from error


def _server(relay: Opened, journal: Journal, tcp: int | None) -> Server:
    pem = relay.directory.read("tls.pem")
    listening = _listen(relay.config.listen, relay.config.port)
    stream = None if tcp is None else _listen(relay.config.listen, tcp)
    return Server(
        relay.core,
        relay.store,
        listening,
        tls_context(str(relay.directory.path / "tls.pem")),
        sha256(certificate_der(pem)),
        now=now_ms,
        journal=journal,
        disk_full=lambda: disk_full(relay.directory.path),
        tcp=stream,
    )


def disk_full(path: Path) -> bool:
    """Whether less than RESERVE (or a twentieth) of the disk is free."""
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize < min(RESERVE, disk.f_blocks * disk.f_frsize // 20)


def _stop_on_signals(server: Server) -> Callable[[], None]:
    """Stop in good order when asked to; gives what undoes it."""
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[None]] = []

    def stop() -> None:
        if not tasks:
            tasks.append(loop.create_task(server.stop()))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)

    def undo() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

    return undo


# --- the operator's requests --------------------------------------------------------------------------------


def _ask(path: Path, request: Mapping[str, object]) -> dict[str, Any]:
    return admin.ask(path, request, lambda line: _offline(path, line))


def _offline(path: Path, line: bytes) -> dict[str, Any]:
    """Carry out a request on the store of a relay that does not run."""
    relay = open_relay(path)
    try:
        answers: list[Mapping[str, object]] = []
        relay.operations().carry_out(line, answers.append)
        while (batch := relay.core.take_batch()) is not None:
            if batch.writes:
                relay.store.apply(batch.writes)
            relay.core.committed(batch, now_ms())
        answer: dict[str, Any] = json.loads(json.dumps(answers[0]))
        return answer
    finally:
        relay.close()


def status(path: Path) -> dict[str, Any]:
    """Totals, and whether the relay runs."""
    return _ask(path, {"op": "status"})


def create_invite(path: Path, uses: int = 1, life: int = 7 * 86_400_000) -> str:
    """A link that lets `uses` people enrol within `life` ms."""
    return str(_ask(path, {"op": "invite", "uses": uses, "life": life})["link"])


def users(path: Path) -> list[dict[str, Any]]:
    """Everybody who is in the realm: `user`, how many `devices`, whether `disabled`."""
    rows: list[dict[str, Any]] = _ask(path, {"op": "users"})["users"]
    return rows


def serve_user(path: Path, user: str, wanted: bool) -> None:
    """Let a user's devices log in, or no more; UsageError("no_user")."""
    _ask(path, {"op": "serve", "user": user, "wanted": wanted})


def revoke(path: Path, device: str) -> int:
    """Revoke a device's certificates; how many."""
    return int(_ask(path, {"op": "revoke", "device": device})["leaves"])


def issue(path: Path, device: str, requests: Sequence[bytes]) -> list[bytes]:
    """New certificates (DER) for a device whose keys stand in its user's newest manifest."""
    answer = _ask(path, {"op": "issue", "device": device, "requests": [b64encode(der).decode() for der in requests]})
    return [b64decode(leaf) for leaf in answer["leaves"]]


def issued(path: Path) -> list[dict[str, Any]]:
    """Everything that the authority has issued."""
    rows: list[dict[str, Any]] = _ask(path, {"op": "list"})["issued"]
    return rows


def revocation_list(path: Path) -> bytes:
    """A revocation list (DER) as of now."""
    return b64decode(_ask(path, {"op": "crl"})["crl"])


def verify(path: Path, der: bytes) -> dict[str, Any]:
    """What a certificate (DER) of this realm certifies now; CloisterError with the code of what is wrong."""
    return _ask(path, {"op": "verify", "certificate": b64encode(der).decode()})
