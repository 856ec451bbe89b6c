"""A real realm for the command line: a relay process, and people with profiles of their own."""

from __future__ import annotations

import asyncio
import errno
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cloister.apps.cli.session import first_visit
from cloister.client.setup import enrol
from cloister.relay.app import create_invite, init_relay

CLOISTER = (sys.executable, "-m", "cloister.apps.cli")
PASSWORD = "correct horse"
COST = 2**15
PATIENCE = 40.0


@dataclass
class CliRealm:
    """`folder` holds the relay and a home for each person."""

    folder: Path
    port: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def relay(self) -> Path:
        return self.folder / "relay"

    def environment(self, user: str, **more: str) -> dict[str, str]:
        """A person's environment: home and password, no colour."""
        secret = self.folder / "password"
        base = {name: value for name, value in os.environ.items() if not name.startswith("CLOISTER_")}
        return {
            **base,
            "CLOISTER_HOME": str(self.folder / f"home-{user}"),
            "CLOISTER_PASSPHRASE_FILE": str(secret),
            "NO_COLOR": "1",
            "TERM": "xterm",
            **more,
        }

    def enrol(self, *users: str) -> None:
        """Let people in, with a vault that opens quickly."""

        async def one(user: str, link: str) -> None:
            profile = self.folder / f"home-{user}" / user
            await enrol(profile, link, user=user, password=PASSWORD, cost=COST)
            await first_visit(profile, PASSWORD)

        async def all_of_them() -> None:
            links = [create_invite(self.relay) for _ in users]
            await asyncio.gather(*(one(user, link) for user, link in zip(users, links, strict=True)))

        asyncio.run(all_of_them())

    def run(self, user: str, *arguments: str, text: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        """One command of a person's, to its end."""
        return subprocess.run(
            [*CLOISTER, *arguments],
            input=text,
            capture_output=True,
            text=True,
            env=self.environment(user, **more),
            timeout=PATIENCE,
        )

    def start_relay(self) -> subprocess.Popen[bytes]:
        """Run the relay; it answers when this returns."""
        process = subprocess.Popen([*CLOISTER, "relay", "run", "--folder", str(self.relay)], stderr=subprocess.DEVNULL)
        self.processes.append(process)
        wait_for(lambda: (self.relay / "admin.sock").exists())
        return process

    def stop_relay(self) -> None:
        """End the relay in good order."""
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=PATIENCE)
        self.processes.clear()


@contextmanager
def cli_realm(folder: Path, *users: str) -> Iterator[CliRealm]:
    """A realm with these people, while the context lasts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        realm = CliRealm(folder, probe.getsockname()[1])
    init_relay(realm.relay, "home", "127.0.0.1", realm.port)
    secret = folder / "password"
    secret.touch(0o600)
    secret.write_text(PASSWORD + "\n")
    realm.start_relay()
    try:
        realm.enrol(*users)
        yield realm
    finally:
        realm.stop_relay()


def wait_for(what, seconds: float = PATIENCE) -> None:
    """Wait until `what()` is true."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise TimeoutError("it did not come to pass")
        time.sleep(0.05)


_TAKE_TERMINAL = "import os, sys; os.close(os.open(os.ttyname(0), os.O_RDWR)); os.execv(sys.argv[1], sys.argv[1:])"
"""The leader of a new session that opens a terminal has it: Ctrl+C reaches the command as a signal."""


class Terminal:
    """A command on a pseudo-terminal: what is typed, and every byte that reached the screen."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (40, 120))
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *command],
            stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self.screen = b""

    def type(self, text: str) -> None:
        """Type on the keyboard."""
        os.write(self._master, text.encode())

    def read(self, seconds: float = 0.1) -> bool:
        """Take over what appeared; False when nothing did in time or the process has gone."""
        ready, _, _ = select.select([self._master], [], [], seconds)
        if not ready:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError as error:
            if error.errno == errno.EIO:
                return False
            raise
        self.screen += data
        return bool(data)

    def until(self, text: str, seconds: float = PATIENCE) -> None:
        """Wait until this stands on the screen."""
        end = time.monotonic() + seconds
        while text.encode() not in self.screen:
            gone = self.process.poll() is not None
            if (not self.read() and gone) or time.monotonic() > end:
                raise TimeoutError(f"{text!r} did not appear: {self.screen[-2000:]!r}")

    def end(self, seconds: float = PATIENCE) -> int:
        """Wait for the process; its exit code."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            self.read()
            if time.monotonic() > deadline:
                self.process.kill()
                raise TimeoutError(f"it did not end: {self.screen[-2000:]!r}")
        while self.read(0.05):
            pass
        return self.process.returncode

    def close(self) -> None:
        """Whatever still runs is ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        with suppress(OSError):
            os.close(self._master)


@contextmanager
def terminal(command: Sequence[str], environment: dict[str, str]) -> Iterator[Terminal]:
    """A command on a pseudo-terminal, while the context lasts."""
    made = Terminal(command, environment)
    try:
        yield made
    finally:
        made.close()
