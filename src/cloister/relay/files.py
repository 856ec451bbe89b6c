"""The relay's data directory: who may see it, what is in it, how it is written.

Source: docs/spec/relay.md ("Files"); security hardening of the design ("Files").

    relay.toml    the operator's choices: realm, host, port (text, may be edited)
    identity.key  relay identity key, Ed25519 seed, 32 bytes
    head.key      head-signing key, Ed25519 seed, 32 bytes
    relay.crt     the identity key's chain, CBOR
    tls.pem       TLS certificate and key, PEM
    relay.db      the store, with -wal and -shm; it also holds the authority's state
    admin.sock    the admin socket while the relay runs; lock: held by the running relay

Invariants
- The directory has mode 0700, every file 0600; looser ones are refused (`loose_files`), as are symbolic links.
- A file is written beside its name, synced, renamed, and the directory synced: it is the old one or the new one.
- The umask is 077 before anything is made, so what SQLite makes is 0600 too.
- Secret keys are raw bytes and are never shown; errors name files, not contents.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import re
import stat
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloister.codec.cbor import Fields, enc
from cloister.errors import CloisterError, UnavailableError, UsageError
from cloister.identity.credential import realm_name
from cloister.primitives.signature import SigningKey

DEFAULT_PORT: Final = 7443
CONFIG: Final = "relay.toml"
DATABASE: Final = "relay.db"
SOCKET: Final = "admin.sock"
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What `relay.toml` says. `host` is the address in links, `listen` the one to bind (empty: all)."""

    realm: str
    host: str
    port: int = DEFAULT_PORT
    listen: str = ""

    @property
    def link_host(self) -> str:
        """`host` as links and addresses bear it: an IPv6 address in brackets."""
        return f"[{self.host.lower()}]" if ":" in self.host else self.host

    def text(self) -> str:
        """The file."""
        return (
            "# Cloister relay. The realm's name can not be changed once somebody has joined.\n"
            f'realm = "{self.realm}"\nhost = "{self.host}"\nport = {self.port}\nlisten = "{self.listen}"\n'
        )

    @classmethod
    def parse(cls, text: str) -> Config:
        """Read the file; UsageError names the first line that is wrong."""
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise UsageError("usage", f"{CONFIG}: {error}") from error
        unknown = sorted(values.keys() - {"realm", "host", "port", "listen"})
        if unknown:
            raise UsageError("usage", f"{CONFIG}: unknown setting {unknown[0]!r}")
        realm, host = values.get("realm", ""), values.get("host", "")
        port, listen = values.get("port", DEFAULT_PORT), values.get("listen", "")
        if not isinstance(realm, str) or not isinstance(host, str) or not isinstance(listen, str):
            raise UsageError("usage", f"{CONFIG}: realm, host and listen are texts")
        return cls(realm=realm, host=host, port=port, listen=listen).checked()

    def checked(self) -> Config:
        """This configuration if its values may stand; UsageError otherwise."""
        try:
            realm_name(self.realm)
        except CloisterError as error:
            raise UsageError("bad_name", error.detail) from error
        if not _is_host(self.host) or (self.listen and not _is_host(self.listen)):
            raise UsageError("usage", "a host is a name or an IP address")
        if isinstance(self.port, bool) or not isinstance(self.port, int) or not 0 <= self.port <= 65535:
            raise UsageError("usage", "a port is a number from 1 to 65535")
        return self


def _is_host(text: str) -> bool:
    """Whether a link may bear it: a host's name, an IPv4 or an IPv6 address."""
    return _NAME.fullmatch(text) is not None or _is_ipv6(text)


def _is_ipv6(text: str) -> bool:
    try:
        return ":" in text and not ipaddress.IPv6Address(text).scope_id
    except ValueError:
        return False


class Directory:
    """A relay's data directory, opened and judged."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path) -> Directory:
        """An empty directory of mode 0700; UsageError("exists") when something is there."""
        os.umask(0o077)
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise UsageError("exists", f"{path} is not empty")
        except OSError as error:
            raise UnavailableError("disk", f"{path}: {error.strerror}") from error
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> Directory:
        """An existing one; UsageError loose_files when others can look into it, no_profile when there is none."""
        os.umask(0o077)
        try:
            state = os.lstat(path)
        except OSError as error:
            raise UsageError("usage", f"{path}: no relay here; run: cloister relay init") from error
        if not stat.S_ISDIR(state.st_mode):
            raise UsageError("usage", f"{path} is not a directory")
        _check(path, state, 0o700)
        return cls(path)

    @property
    def database(self) -> Path:
        """The store's file, made with the right mode if it is not there; its companions inherit it."""
        path = self.path / DATABASE
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _check(path, os.fstat(descriptor), 0o600)
        finally:
            os.close(descriptor)
        return path

    @property
    def socket(self) -> Path:
        """Where the admin socket stands."""
        return self.path / SOCKET

    def read(self, name: str, most: int = 65_536) -> bytes:
        """A file of the directory; UsageError when it is missing, too loose or too large."""
        path = self.path / name
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError("usage", f"{path}: {error.strerror}") from error
        with os.fdopen(descriptor, "rb") as file:
            _check(path, os.fstat(descriptor), 0o600)
            data = file.read(most + 1)
        if len(data) > most:
            raise UsageError("usage", f"{path} is too large")
        return data

    def write(self, name: str, data: bytes) -> None:
        """Replace a file as a whole."""
        path, beside = self.path / name, self.path / f".{name}.new"
        try:
            beside.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(beside, flags, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.rename(path)
            directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise UnavailableError("disk", f"{path}: {error.strerror}") from error

    def config(self) -> Config:
        """The operator's choices."""
        return Config.parse(self.read(CONFIG).decode("utf-8", errors="replace"))

    def key(self, name: str) -> SigningKey:
        """An Ed25519 key."""
        seed = self.read(name, 32)
        if len(seed) != 32:
            raise UsageError("damaged", f"{self.path / name} is not a key")
        return SigningKey("ed25519", seed)

    def lock(self) -> int | None:
        """Own the directory until the process ends: a descriptor, or None when another process owns it."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return descriptor


def encode_chain(chain: tuple[bytes, ...]) -> bytes:
    """Certificates as one file."""
    return enc(*chain)


def decode_chain(data: bytes) -> tuple[bytes, ...]:
    """What `encode_chain` wrote."""
    fields = Fields.decode(data, "chain")
    chain = []
    while not fields.done:
        chain.append(fields.octets("certificate", most=8192))
    return tuple(chain)


def _check(path: Path, state: os.stat_result, mode: int) -> None:
    """UsageError("loose_files") unless the file is ours alone."""
    if state.st_uid != os.geteuid() or stat.S_IMODE(state.st_mode) & ~mode:
        raise UsageError("loose_files", f"{path} must be yours alone")
