"""Standard input, which two may want: the reader of a chat's lines, and a question that is asked meanwhile.

Source: docs/cli.md ("Passwords"). A chat that loses the owner of its profile asks for the password while its reader
waits for the next line.

Invariants
- Only who holds `TURN` reads: what answers a question is never taken for a line of the chat, and so never sent.
- A line that is not UTF-8 is refused alone; the lines after it are read.
"""

from __future__ import annotations

import asyncio
import os
import select
import sys
import threading
from collections import deque
from contextlib import suppress
from typing import Final

from cloister.errors import UsageError

TURN: Final = threading.Lock()
"""Held by whoever reads standard input, and by a question from before it is shown until it is answered."""
_READ: Final = 64 * 1024


class Typed:
    """Lines of standard input as they are typed: an iterator that may be waited for and left any number of times.

    A thread reads the descriptor itself: a terminal, a pipe and a file alike, and none of it keeps the process alive.
    """

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._whole: deque[bytes] = deque()
        self._rest = b""
        self._ended = False
        loop = asyncio.get_running_loop()
        arguments = (os.dup(sys.stdin.fileno()), loop, self._queue)  # its number stays the reader's to the end
        threading.Thread(target=_read, args=arguments, name="standard input", daemon=True).start()

    def __aiter__(self) -> Typed:
        return self

    async def __anext__(self) -> str:
        while not self._whole:
            if self._ended:
                raise StopAsyncIteration
            data = await self._queue.get()
            *whole, self._rest = (self._rest + data).split(b"\n")
            self._ended = not data
            if self._ended and self._rest:
                whole.append(self._rest)
            self._whole.extend(whole)
        return _text(self._whole.popleft())


def _read(descriptor: int, loop: asyncio.AbstractEventLoop, queue: asyncio.Queue[bytes]) -> None:
    data = b"?"
    while data:
        try:
            data = _next(descriptor)
        except OSError:
            data = b""
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(queue.put_nowait, data)
    os.close(descriptor)


def _next(descriptor: int) -> bytes:
    """What comes next; what came during a question was its answer, and is no longer there when the turn is ours."""
    while True:
        select.select([descriptor], [], [])
        with TURN:
            if select.select([descriptor], [], [], 0)[0]:
                return os.read(descriptor, _READ)


def _text(line: bytes) -> str:
    try:
        return line.decode().removesuffix("\r")
    except UnicodeDecodeError:
        raise UsageError("usage", "standard input is not UTF-8 text") from None
