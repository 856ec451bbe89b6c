"""The demo's processes: a relay, and members that talk JSON lines.

Source: docs/demo.md ("Processes"). Every process is started with an environment of its own that holds no secret, and
is ended with the demo, however that ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

from cloister.apps.cli.demo.scan import Needle
from cloister.errors import REGISTRY, CloisterError, UnavailableError

CLOISTER: Final = (sys.executable, "-m", "cloister.apps.cli")
"""The command of this very installation."""
_LINE_MOST: Final = 4 * 1024 * 1024
_END: Final = 10.0
"""Seconds that a process gets to end by itself."""
_LOG_SHOWN: Final = 300


def environment() -> dict[str, str]:
    """What a process of the demo sees: nothing of the person's own profiles and passwords."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CLOISTER_")}


async def output_of(command: Sequence[str], log: Path) -> str:
    """Run a command to its end; its standard output. What it says goes to `log`."""
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=errors, env=environment()
        )
        output, _ = await process.communicate()
    if process.returncode:
        raise UnavailableError("demo_failed", f"{' '.join(command[-4:])} ended with {process.returncode}: {tail(log)}")
    return output.decode()


@asynccontextmanager
async def running(command: Sequence[str], log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that runs while the context lasts; everything that it writes goes to `log`."""
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, env=environment()
        )
    try:
        yield process
    finally:
        await end(process)


async def end(process: asyncio.subprocess.Process) -> None:
    """Ask a process to end, and make it end when it does not."""
    with suppress(ProcessLookupError):
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_END):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def ending(returncode: int | None) -> str:
    """How a process ended, in words."""
    if returncode is None:
        return "closed its output"
    return f"was killed by signal {-returncode}" if returncode < 0 else f"ended with {returncode}"


def tail(log: Path) -> str:
    """The end of a log, for an error."""
    with suppress(OSError):
        return " ".join(log.read_text(errors="replace").split())[-_LOG_SHOWN:]
    return ""


class Member:
    """A member's process, seen from outside. `stage` says what it has reached, for errors."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, secrets: int, log: Path) -> None:
        self.name = name
        self.process = process
        self.stage = "enrolled"
        self._secrets = secrets
        self._log = log

    @classmethod
    @asynccontextmanager
    async def started(cls, name: str, log: Path) -> AsyncIterator[Member]:
        """A member's process, while the context lasts."""
        read, write = os.pipe()
        try:
            with log.open("ab") as errors:
                process = await asyncio.create_subprocess_exec(
                    *CLOISTER, "demo-member", str(write), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                    stderr=errors, env=environment(), pass_fds=(write,), limit=_LINE_MOST,
                )  # fmt: skip
        finally:
            os.close(write)
        try:
            yield cls(name, process, read, log)
        finally:
            await end(process)
            os.close(read)

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    async def tell(self, what: dict[str, Any]) -> None:
        """Send one line of instructions."""
        stdin = self.process.stdin
        if stdin is not None:
            with suppress(ConnectionError):  # its end is noticed where it is read
                stdin.write(json.dumps(what).encode() + b"\n")
                await stdin.drain()

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """What the member tells, until it ends."""
        stdout = self.process.stdout
        while stdout is not None and (line := await stdout.readline()):
            yield json.loads(line)

    async def died(self) -> CloisterError:
        """The error for a member whose output has ended too early."""
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self.process.wait()
        how = ending(self.process.returncode)
        return UnavailableError("demo_failed", f"{self.name} {how} before it was {self.stage}; {tail(self._log)}")

    async def secrets(self) -> list[Needle]:
        """End the member and take over what its keys are."""
        await self.tell({"do": "end"})
        text = await asyncio.to_thread(_read_all, self._secrets)
        await self.process.wait()
        if not text:
            raise UnavailableError("demo_failed", f"{self.name} gave no keys to look for; {tail(self._log)}")
        rows = [line.split("\t") for line in text.splitlines()]
        return [Needle(name=f"{self.name}'s {name}", value=bytes.fromhex(value)) for name, value in rows]


def _read_all(descriptor: int) -> str:
    with os.fdopen(descriptor, closefd=False) as pipe:
        return pipe.read()


def error_of(event: dict[str, Any], who: str) -> CloisterError:
    """The error that a member reported."""
    code = event["code"] if event["code"] in REGISTRY else "demo_failed"
    return CloisterError(code, f"{who}: {event['detail']}" if event["detail"] else who)
