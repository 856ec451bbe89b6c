"""Three MLS implementations behind one small interface: ours, mls-rs (a wheel) and ts-mls (under node).

For the interoperability tests and the benchmark. A peer is one client in one group; suite 1 throughout. Bytes
are MLSMessages. What a peer cannot do, it has no method for: the mls-rs wheel has no pre-shared keys, no external
join of its own and no GroupInfo.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from cloister.mls import (
    Add,
    Capabilities,
    CommitOptions,
    Credential,
    Group,
    Identity,
    KeyPackage,
    LeafTemplate,
    Policy,
    PreSharedKey,
    Remove,
    decode_message,
    encode_message,
    lifetime_from,
    make_key_package,
    suite_of,
)
from cloister.primitives.signature import SigningKey

SUITE = suite_of(1)
POLICY = Policy(validate=lambda credential, key, now: True, max_lifetime=2**64)
HERE = Path(__file__).resolve().parent


def now() -> int:
    """Milliseconds since the epoch."""
    return int(time.time() * 1000)


class Ours:
    """A client of this project."""

    system = "cloister"

    def __init__(self, name: str, rng: Any = None) -> None:
        self.name = name
        self.rng = rng or random.SystemRandom().randbytes
        key = SigningKey.generate("ed25519", self.rng)
        template = LeafTemplate(
            credential=Credential.basic(name.encode()), capabilities=Capabilities(credentials=(1, 2))
        )
        self.identity = Identity(key=key, template=template)
        self.keys: dict[bytes, bytes] = {}

    def now(self) -> int:
        """Milliseconds since the epoch; a recorded client has its own."""
        return now()

    def create(self, group_id: bytes) -> None:
        self.group = Group.create(self.identity, SUITE, group_id, POLICY, self.now(), self.rng)

    def key_package(self) -> bytes:
        self.own = make_key_package(
            SUITE, self.identity.key, self.identity.template, lifetime_from(self.now()), self.rng
        )
        return encode_message(self.own.package)

    def join(self, welcome: bytes) -> None:
        self.group = Group.join(self.own, self.identity, welcome, POLICY, self.now(), self.lookup)

    def join_external(self, info: bytes, resync: int | None = None) -> bytes:
        self.group, message = Group.join_external(self.identity, info, POLICY, self.now(), self.rng, resync=resync)
        return message

    def lookup(self, psk: Any) -> bytes | None:
        return self.keys.get(psk.key_id)

    def commit(
        self,
        adds: list[bytes] | None = None,
        removes: list[int] | None = None,
        *,
        psks: list[Any] | None = None,
        path: bool = True,
        public: bool = False,
    ) -> tuple[bytes, bytes]:
        packages = [decode_message(each) for each in adds or []]
        proposals = [
            *(Remove(each) for each in removes or []),
            *(Add(each) for each in packages if isinstance(each, KeyPackage)),
            *(PreSharedKey(each) for each in psks or []),
        ]
        options = CommitOptions(path=path, public=public)
        staged = self.group.commit(self.now(), self.rng, proposals, options, self.lookup)
        self.group.merge(staged, self.now())
        return staged.message, staged.welcome or b""

    def process(self, message: bytes) -> bytes:
        received = self.group.process(message, self.now(), self.lookup)
        if hasattr(received, "data"):
            return received.data
        if hasattr(received, "base"):
            self.group.merge(received, self.now())
        return b""

    def protect(self, data: bytes) -> bytes:
        return self.group.protect(data, self.rng)

    def export(self, label: str, context: bytes, length: int) -> bytes:
        return self.group.export(label, context, length)

    def authenticator(self) -> bytes:
        return self.group.epoch_authenticator

    def group_info(self) -> bytes:
        return self.group.group_info()

    def leaf_of(self, name: str) -> int:
        return next(index for index, leaf in self.group.members() if leaf.credential.identity == name.encode())


class MlsRs:
    """A client of the mls-rs wheel."""

    system = "mls-rs"

    def __init__(self, name: str) -> None:
        import mls_rs_uniffi as module

        self.module = module
        self.name = name
        pair = module.generate_signature_keypair(module.CipherSuite.CURVE25519_AES128)
        config = module.client_config_default()
        self.client = module.Client(id=name.encode(), signature_keypair=pair, client_config=config)

    def create(self, group_id: bytes) -> None:
        self.group = self.client.create_group(group_id)

    def key_package(self) -> bytes:
        return self.client.generate_key_package_message().to_bytes()

    def join(self, welcome: bytes) -> None:
        self.group = self.client.join_group(None, self.module.Message.from_bytes(welcome)).group

    def commit(self, adds: list[bytes] | None = None, removes: list[MlsRs] | None = None) -> tuple[bytes, bytes]:
        if adds:
            made = self.group.add_members([self.module.Message.from_bytes(each) for each in adds])
        elif removes:
            made = self.group.remove_members([each.client.signing_identity() for each in removes])
        else:
            made = self.group.commit()
        message = made.commit_message.to_bytes()
        welcome = made.welcome_message.to_bytes() if made.welcome_message else b""
        self.group.process_incoming_message(made.commit_message)
        return message, welcome

    def process(self, message: bytes) -> bytes:
        received = self.group.process_incoming_message(self.module.Message.from_bytes(message))
        return received.data if received.is_application_message() else b""

    def protect(self, data: bytes) -> bytes:
        return self.group.encrypt_application_message(data).to_bytes()

    def export(self, label: str, context: bytes, length: int) -> bytes:
        return self.group.export_secret(label.encode(), context, length)


class TsMlsHost:
    """The node process that holds all ts-mls clients of a run."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            ["node", str(folder / "peer.mjs")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
        )

    def call(self, client: str, op: str, **arguments: Any) -> dict[str, Any]:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps({"client": client, "op": op, **arguments}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise RuntimeError(f"ts-mls {op}: {answer['error']}")
        return answer

    def close(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait(timeout=10)
        self.process.stdout.close()


def ts_mls_folder() -> Path | None:
    """The folder with ts-mls and its peer script, installed once into the cache; None without node or network."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return None
    root = Path(os.environ.get("CLOISTER_CACHE", HERE.parents[1] / ".cache"))
    folder = root / "ts-mls"
    if not (folder / "node_modules" / "ts-mls").exists():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(HERE / "ts" / "package.json", folder)
        command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
        if subprocess.run(command, cwd=folder, capture_output=True, timeout=300, check=False).returncode:
            return None
    shutil.copy(HERE / "ts" / "peer.mjs", folder)
    return folder


class TsMls:
    """A client of ts-mls."""

    system = "ts-mls"

    def __init__(self, name: str, host: TsMlsHost) -> None:
        self.name = name
        self.host = host
        self.keys: dict[bytes, bytes] = {}
        self.milliseconds = 0.0

    def call(self, op: str, **arguments: Any) -> dict[str, Any]:
        keys = {key.hex(): value.hex() for key, value in self.keys.items()}
        answer = self.host.call(self.name, op, psks=keys, **arguments)
        self.milliseconds = answer["ms"]
        return answer

    def create(self, group_id: bytes) -> None:
        self.call("create", group=group_id.hex())

    def key_package(self) -> bytes:
        return bytes.fromhex(self.call("key_package")["data"])

    def join(self, welcome: bytes, **arguments: Any) -> None:
        self.call("join", data=welcome.hex(), **arguments)

    def join_external(self, info: bytes, *, resync: bool = False) -> bytes:
        return bytes.fromhex(self.call("join_external", data=info.hex(), resync=resync)["data"])

    def commit(
        self,
        adds: list[bytes] | None = None,
        removes: list[int] | None = None,
        *,
        psk_ids: list[dict[str, Any]] | None = None,
    ) -> tuple[bytes, bytes]:
        answer = self.call(
            "commit", adds=[each.hex() for each in adds or []], removes=removes or [], psk_ids=psk_ids or []
        )
        return bytes.fromhex(answer["data"]), bytes.fromhex(answer["welcome"])

    def process(self, message: bytes) -> bytes:
        return bytes.fromhex(self.call("process", data=message.hex())["data"])

    def protect(self, data: bytes) -> bytes:
        return bytes.fromhex(self.call("protect", data=data.hex())["data"])

    def export(self, label: str, context: bytes, length: int) -> bytes:
        answer = self.call("export", label=label, context=context.hex(), length=length)
        return bytes.fromhex(answer["data"])

    def authenticator(self) -> bytes:
        return bytes.fromhex(self.call("authenticator")["data"])

    def group_info(self) -> bytes:
        return bytes.fromhex(self.call("group_info")["data"])

    def reinit(self, group_id: bytes) -> bytes:
        return bytes.fromhex(self.call("reinit", group=group_id.hex())["data"])
