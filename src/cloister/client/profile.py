"""A device's folder: where it is, who may read it, who owns it now, and the vault that opens its database.

Source: docs/spec/identity.md ("Vault"), docs/cli.md ("Environment").

    <home>/<name>/          0700
        vault               scrypt over the password; holds the database key          0600
        store.db (-wal)     the encrypted database                                    0600
        lock                held by the process that owns the profile                 0600
        agent.sock          where a second process reaches the owner                  0600

<home> is $CLOISTER_HOME, or the platform's folder for user data.

Invariants
- A folder or file that others can read, or that another user owns, is refused (`loose_files`).
- Files are written beside their place, synced, and moved there; links are not followed.
- One process owns a profile: it holds an exclusive lock on `lock` until it ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import platformdirs

from cloister.errors import UnavailableError, UsageError
from cloister.identity import vault
from cloister.primitives import Rng

KEY_SIZE: Final = 32
_NAME_MOST: Final = 64


def home() -> Path:
    """The folder that holds all profiles."""
    chosen = os.environ.get("CLOISTER_HOME")
    return Path(chosen) if chosen else platformdirs.user_data_path("cloister")


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile's folder; nothing is read or made until a method is called."""

    folder: Path

    @classmethod
    def named(cls, profile: str | Path) -> Profile:
        """The profile of this name, or in this folder when it is a path."""
        if isinstance(profile, Path) or os.sep in profile:
            return cls(Path(profile).absolute())
        if not profile or len(profile) > _NAME_MOST or profile.startswith("."):
            raise UsageError("usage", "a profile's name has 1 to 64 characters and no dot in front")
        return cls(home() / profile)

    @property
    def name(self) -> str:
        """What people call it."""
        return self.folder.name

    @property
    def vault_file(self) -> Path:
        """The file that the password opens."""
        return self.folder / "vault"

    @property
    def database(self) -> Path:
        """The encrypted store."""
        return self.folder / "store.db"

    @property
    def socket(self) -> Path:
        """Where the owner listens."""
        return self.folder / "agent.sock"

    @property
    def exists(self) -> bool:
        """Whether a profile was set up here."""
        return self.vault_file.exists()

    def create(self, password: str, rng: Rng, *, cost: int = vault.DEFAULT_N) -> bytes:
        """Make folder and vault; the new database key (32 bytes). `cost` is scrypt's N.

        UsageError("exists") where there is one already.
        """
        if self.exists:
            raise UsageError("exists", f"a profile {self.name}")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_private(self.folder)
        key = rng(KEY_SIZE)
        write_private(self.database, b"")  # an empty file is an empty database; SQLite's companions take its mode
        write_private(self.vault_file, vault.seal(key, password, rng, n=cost))
        return key

    def remove(self) -> None:
        """Take away what `create` and `own` made, by the process that owns it; UnavailableError("disk")."""
        beside = [self.database.with_name(self.database.name + end) for end in ("", "-wal", "-shm")]
        try:
            for path in (self.vault_file, *beside, self.folder / "lock"):
                path.unlink(missing_ok=True)
            if not any(self.folder.iterdir()):
                self.folder.rmdir()
        except OSError as error:
            raise UnavailableError("disk", f"{self.name}: {error.strerror}") from error

    def unlock(self, password: str) -> bytes:
        """The database key; UsageError no_profile, wrong_password, bad_vault or loose_files."""
        return vault.open_vault(self._locked(), password)

    def _locked(self) -> bytes:
        """The vault as it lies there, once the files were found closed to others."""
        if not self.exists:
            raise UsageError("no_profile", self.name)
        for path in (self.folder, self.vault_file, self.database):
            if path.exists():
                check_private(path)
        return read_private(self.vault_file)

    def change_password(self, old: str, new: str, rng: Rng, *, cost: int = vault.DEFAULT_N) -> None:
        """Put the database key under another password, with a fresh salt and today's `cost` (scrypt's N).

        The file is the old one or the new one, also after a power cut. Errors as `unlock`; UsageError for an empty one.
        """
        write_private(self.vault_file, vault.rewrap(self._locked(), old, new, rng, n=cost))

    def own(self) -> int | None:
        """Take the profile for this process: the lock's file descriptor, or None when another process has it."""
        if not self.folder.is_dir():
            raise UsageError("no_profile", self.name)
        check_private(self.folder)
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return lock

    def disown(self, lock: int) -> None:
        """Give the profile free again."""
        os.close(lock)


def check_private(path: Path) -> None:
    """UsageError("loose_files") unless the path is this user's and closed to all others."""
    found = path.lstat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o077 or stat.S_ISLNK(found.st_mode):
        raise UsageError("loose_files", str(path))


def read_private(path: Path) -> bytes:
    """A private file's bytes."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise UnavailableError("disk", f"{path.name}: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def write_private(path: Path, data: bytes) -> None:
    """Replace a private file: old or new, never between, also after a power cut."""
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(beside, flags, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise UnavailableError("disk", f"{path.name}: {error.strerror}") from error
