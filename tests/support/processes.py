"""A real relay process under a test's hand: made, filled with people, started, killed, started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.relay.raw_client import Member, populate

from cloister.relay.app import init_relay, status
from cloister.relay.store.sqlite import Synchronous
from support.need import REPOSITORY


@dataclass(eq=False)
class RelayProcess:
    """A relay in `path`; `members` were enrolled before its first start."""

    path: Path
    members: list[Member]
    process: subprocess.Popen[bytes] | None = None
    port: int = 0
    tcp: int = 0
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.path.parent / "relay.log"

    @classmethod
    def make(cls, path: Path, people: int) -> RelayProcess:
        """A new relay with so many people, not started."""
        init_relay(path, "system.example", "127.0.0.1", 0, listen_on="127.0.0.1")
        return cls(path, populate(path, people))

    def start(self, mode: Synchronous = "FULL", *, tcp: bool = False) -> float:
        """Start it, with raw TCP if asked; seconds until it accepts connections."""
        began = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.relay.process", str(self.path), mode, *(["tcp"] if tcp else [])],
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=REPOSITORY,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        self.port = int(line)
        if tcp:
            self.tcp = status(self.path)["tcp"]
        return time.monotonic() - began

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self.process is not None
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process and no other."""
        os.kill(self.pid, number)

    def kill(self) -> int:
        """kill -9; gives the exit code."""
        return self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; gives the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.signal(number)
        code = self.process.wait(timeout=30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def rss(self) -> int:
        """Resident bytes of the process."""
        fields = Path(f"/proc/{self.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
