"""The operator's requests: over a Unix socket while the relay runs, on its store while it does not.

Source: docs/spec/relay.md ("Admin"). JSON lines, one request and one answer a connection. The socket stands in the
data directory with mode 0600, and a peer of another uid is refused (`not_owner`).

    {"op": "status"}                                    -> {"ok": true, "running": .., "entries": .., ...}
    {"op": "invite", "uses": 1, "life": MS}             -> {"ok": true, "link": "cloister:join?..."}
    {"op": "users"}                                     -> {"ok": true, "users": [{"user": .., ..}]}
    {"op": "serve", "user": NAME, "wanted": BOOL}       -> {"ok": true}
    {"op": "revoke", "device": ID}                      -> {"ok": true, "leaves": N}
    {"op": "issue", "device": ID, "requests": [B64..]}  -> {"ok": true, "leaves": [B64..]}
    {"op": "list"}                                      -> {"ok": true, "issued": [..]}
    {"op": "crl"}                                       -> {"ok": true, "crl": B64}
    {"op": "verify", "certificate": B64}                -> {"ok": true, "subject": .., "usage": .., ...}
    refused                                             -> {"ok": false, "code": .., "detail": ..}

Invariants
- An answer follows the commit of what it reports.
- No operation reads content or adds a member: the relay has neither.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from cloister.errors import CloisterError, UnavailableError, UsageError
from cloister.identity.invite import Invite, Token, stored_proof
from cloister.identity.keys import key_hash
from cloister.primitives import Rng
from cloister.relay.core import RelayCore
from cloister.relay.files import Config, Directory
from cloister.relay.store.interface import InviteRow, Store
from cloister.wire import limits

MAX_LINE: Final = 65_536
MAX_USES: Final = 1000
_PATIENCE: Final = 10.0
Reply = Callable[[Mapping[str, object]], None]


class Operations:
    """What an operator may ask of a core."""

    def __init__(self, core: RelayCore, store: Store, config: Config, now: Callable[[], int], rng: Rng) -> None:
        self._core = core
        self._store = store
        self.config = config
        self._now = now
        self._rng = rng
        self._operations: Mapping[str, Callable[[Mapping[str, Any]], dict[str, object]]] = {
            "status": self._status,
            "invite": self._invite,
            "users": self._users,
            "serve": self._serve,
            "revoke": self._revoke,
            "issue": self._issue,
            "list": self._list,
            "crl": self._crl,
            "verify": self._verify,
        }
        self.running: Callable[[], dict[str, object]] = lambda: {"running": False}

    def carry_out(self, line: bytes, reply: Reply) -> None:
        """Carry out one request; `reply` is called once, after the commit."""
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise UsageError("usage", "a request is an object")
            operation = self._operations.get(request.get("op", ""))
            if operation is None:
                raise UsageError("usage", "no such operation")
            answer = {"ok": True, **operation(request)}
        except CloisterError as error:
            reply({"ok": False, "code": error.code, "detail": error.detail})
            return
        except (ValueError, RecursionError):
            reply({"ok": False, "code": "usage", "detail": "not JSON"})
            return
        self._core.later(lambda _: reply(answer))

    def _status(self, _request: Mapping[str, Any]) -> dict[str, object]:
        counts = self._store.counts()
        realm = self._core.directory.realm
        return {
            **self.running(),
            "realm": realm.realm,
            "users": len(realm.users()),
            "records": realm.size,
            "logs": counts.logs,
            "entries": counts.entries,
            "bytes": counts.payload_bytes,
            "mail": counts.mail_items,
            "disk_full": self._core.full,
        }

    def _invite(self, request: Mapping[str, Any]) -> dict[str, object]:
        uses, life = request.get("uses", 1), request.get("life", 7 * limits.DAY)
        if type(uses) is not int or type(life) is not int or not (1 <= uses <= MAX_USES and life > 0):
            raise UsageError("usage", f"an invite has 1 to {MAX_USES} uses and an end")
        if not self.config.port:
            raise UsageError("usage", "the port is chosen at each start: make the link while the relay runs")
        token = Token.generate(self._rng)
        now = self._now()
        self._core.admission.put_invite(
            InviteRow(token.id, stored_proof(token.relay_proof()), uses, now + life, ""), now
        )
        realm = self._core.directory.realm
        link = Invite(
            host=self.config.link_host,
            port=self.config.port,
            realm=self.config.realm,
            relay_hash=key_hash(realm.relay_key.spki()),
            root_hash=realm.authorities.root_hash,
            token=token,
        )
        return {"link": str(link)}

    def _users(self, _request: Mapping[str, Any]) -> dict[str, object]:
        realm, excluded = self._core.directory.realm, self._core.exclusion
        return {
            "users": [
                {"user": name, "devices": len(realm.user(name).devices), "disabled": name in excluded}
                for name in realm.users()
            ]
        }

    def _serve(self, request: Mapping[str, Any]) -> dict[str, object]:
        wanted = request.get("wanted")
        if not isinstance(wanted, bool):
            raise UsageError("usage", "wanted is true or false")
        user = _text(request, "user")
        if user not in self._core.directory.realm.users():
            raise UsageError("no_user", user)
        self._core.serve(user, wanted)
        return {}

    def _revoke(self, request: Mapping[str, Any]) -> dict[str, object]:
        return {"leaves": self._core.admission.revoke(_text(request, "device"), self._now())}

    def _issue(self, request: Mapping[str, Any]) -> dict[str, object]:
        wanted = request.get("requests")
        if not isinstance(wanted, list) or not all(isinstance(item, str) for item in wanted):
            raise UsageError("usage", "requests are a list of base64 texts")
        ders = [b64decode(item, validate=True) for item in wanted]
        leaves = self._core.admission.issue(ders, _text(request, "device"), self._now())
        return {"leaves": [b64encode(leaf).decode() for leaf in leaves]}

    def _list(self, _request: Mapping[str, Any]) -> dict[str, object]:
        return {
            "issued": [
                {
                    "serial": f"{row.serial:x}",
                    "subject": row.subject,
                    "usage": row.usage.value,
                    "issued": row.issued,
                    "revoked": row.revoked,
                }
                for row in self._core.admission.authority.list()
            ]
        }

    def _crl(self, _request: Mapping[str, Any]) -> dict[str, object]:
        return {"crl": b64encode(self._core.admission.crl(self._now())).decode()}

    def _verify(self, request: Mapping[str, Any]) -> dict[str, object]:
        der = b64decode(_text(request, "certificate"), validate=True)
        found = self._core.admission.authority.verify(der, self._now())
        return {
            "serial": f"{found.serial:x}",
            "subject": found.subject,
            "usage": found.usage.value,
            "not_before": found.not_before,
            "not_after": found.not_after,
        }


def _text(request: Mapping[str, Any], name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str):
        raise UsageError("usage", f"{name} is missing")
    return value


# --- while the relay runs -----------------------------------------------------------------------------------


class AdminSocket:
    """Serves `Operations` on the data directory's socket; `wake` makes the server store what was asked."""

    def __init__(self, directory: Directory, operations: Operations, wake: Callable[[], None]) -> None:
        self._directory = directory
        self._operations = operations
        self._wake = wake
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; the umask makes the socket 0600."""
        with closing(_unix_socket()) as listener, _ShortName(self._directory) as path:
            self._directory.socket.unlink(missing_ok=True)
            listener.bind(path)
            self._server = await asyncio.start_unix_server(self._serve, sock=listener.dup(), limit=MAX_LINE)

    async def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            self._directory.socket.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                writer.write(json.dumps(await self._answer(reader, writer)).encode() + b"\n")
                await writer.drain()
        except (TimeoutError, ConnectionError, ValueError):
            pass  # too slow, gone, or a line over the limit: nothing was asked
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Mapping[str, object]:
        if _peer_uid(writer.get_extra_info("socket")) != os.geteuid():
            return {"ok": False, "code": "not_owner", "detail": ""}
        line = await reader.readline()
        answered: asyncio.Future[Mapping[str, object]] = asyncio.get_running_loop().create_future()

        def reply(answer: Mapping[str, object]) -> None:
            if not answered.done():
                answered.set_result(answer)

        self._operations.carry_out(line, reply)
        self._wake()
        return await answered


def _peer_uid(peer: Any) -> int:
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(uid)


def _unix_socket() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.settimeout(_PATIENCE)
    return made


class _ShortName:
    """A name of the socket that fits into the 108 bytes of a Unix address, however deep the directory."""

    def __init__(self, directory: Directory) -> None:
        self._path = directory.socket
        self._descriptor = -1

    def __enter__(self) -> str:
        if len(os.fsencode(self._path)) < 100:
            return str(self._path)
        self._descriptor = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._descriptor}/{self._path.name}"

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


# --- the caller's side --------------------------------------------------------------------------------------


def ask(path: Path, request: Mapping[str, object], offline: Callable[[bytes], dict[str, Any]]) -> dict[str, Any]:
    """The answer of the running relay at `path`, else of `offline(line)`; CloisterError for a refusal."""
    directory = Directory.open(path)
    line = json.dumps(request).encode() + b"\n"
    answer = _over_socket(directory, line)
    if answer is None:
        answer = offline(line)
    if not answer.get("ok"):
        raise UsageError(str(answer.get("code", "internal")), str(answer.get("detail", "")))
    return answer


def _over_socket(directory: Directory, line: bytes) -> dict[str, Any] | None:
    """What the running relay says; None when none listens."""
    with closing(_unix_socket()) as peer, _ShortName(directory) as path:
        try:
            peer.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except OSError as error:
            raise UnavailableError("unreachable", f"{directory.socket}: {error.strerror}") from error
        try:
            peer.sendall(line)
            with peer.makefile("rb") as stream:
                answer = stream.readline()
        except OSError:
            answer = b""
    if not answer:
        raise UnavailableError("unreachable", "the relay did not answer")
    decoded: dict[str, Any] = json.loads(answer)
    return decoded
