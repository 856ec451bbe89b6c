"""The agent: the process part that owns a profile. It drives the engine and keeps the connection.

Source: docs/architecture.md ("Life of a message").

Invariants
- One input at a time: the engine handles it, the store commits its writes, then frames leave and events are told.
- A store that cannot commit ends the agent: what it holds in memory may be ahead of the disk and is not trusted.
- The connection is dialled again with jittered, doubling pauses; a refusal that no retry can mend ends the dialling.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Final, Protocol, Self

from cloister.client import entropy
from cloister.client.transport import Connection, dial
from cloister.engine import inputs, values
from cloister.engine.account import Account
from cloister.engine.core import Engine
from cloister.engine.link import Link
from cloister.engine.messages import since_cursor
from cloister.engine.store import Store
from cloister.engine.unit import Disconnect, Notify, Output, Reply, Transmit, Unit
from cloister.errors import CloisterError, InternalError, UnavailableError, UsageError
from cloister.protocols.interface import Suite

BACKOFF: Final = (0.1, 0.3, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
"""Seconds before the n-th new try, each times 0.5 to 1.5."""
EVENTS_MOST: Final = 10_000
"""Events that one slow listener may leave unread before it is told that it fell behind."""

Dialler = Callable[[str], AbstractAsyncContextManager[Connection]]


class Listener:
    """One reader of events."""

    def __init__(self) -> None:
        self._events: deque[values.Event] = deque()
        self._ready = asyncio.Event()
        self._ended: CloisterError | None = None

    def tell(self, event: values.Event) -> None:
        """Queue an event; a listener that leaves too many unread is ended."""
        if len(self._events) >= EVENTS_MOST:
            self.end(UnavailableError("closed", "events were not read; read the history and listen again"))
            return
        self._events.append(event)
        self._ready.set()

    def end(self, error: CloisterError) -> None:
        """No more events will come."""
        self._ended = error
        self._ready.set()

    async def read(self) -> AsyncIterator[values.Event]:
        """Events in order, until the listener is ended."""
        while True:
            while self._events:
                yield self._events.popleft()
            if self._ended is not None:
                raise self._ended
            self._ready.clear()
            await self._ready.wait()


class Machine(Protocol):
    """What is driven: a device's engine, or a guest's."""

    @property
    def link(self) -> Link:
        """The state of the connection."""
        ...

    def handle(self, what: inputs.Input, now: int) -> Unit:
        """Handle one input whole."""
        ...

    def next_wake(self) -> int | None:
        """When `Tick` is due (ms), or None."""
        ...


class Driver:
    """Drives an engine, its store and its connection; a `client.Backend`."""

    def __init__(
        self, engine: Machine, address: str, store: Store, *, dialler: Dialler, now: Callable[[], int],
        jitter: Callable[[float, float], float],
    ) -> None:  # fmt: skip
        self._machine = engine
        self._address = address
        self._store = store
        self._dialler = dialler
        self._now = now
        self._jitter = jitter
        self._listeners: set[Listener] = set()
        self._tickets: dict[int, asyncio.Future[Any]] = {}
        self._ticket = 0
        self._out: asyncio.Queue[bytes] | None = None
        self._hangup: asyncio.Event | None = None
        self._final = ""
        self._timer: asyncio.TimerHandle | None = None
        self._failed: CloisterError | None = None

    # --- the interface of clients ---

    async def execute(self, command: values.Command) -> Any:
        """Carry out a command; CloisterError when it cannot be."""
        listener = self._listen() if isinstance(command, values.Send) and command.wait else None
        try:
            result = await self.ask(lambda ticket: inputs.Execute(ticket, command))
            if listener is not None and isinstance(command, values.Send):
                return await self._sent(listener, result, command.timeout)
            return result
        finally:
            if listener is not None:
                self._listeners.discard(listener)

    async def ask(self, make: Callable[[int], inputs.Input]) -> Any:
        """The reply to an input with a ticket."""
        self._ticket += 1
        ticket, answer = self._ticket, asyncio.get_running_loop().create_future()
        self._tickets[ticket] = answer
        try:
            self._input(make(ticket))
            return await answer
        finally:
            self._tickets.pop(ticket, None)

    async def events(self, since: int | None) -> AsyncIterator[values.Event]:
        """Messages after the cursor `since`, then everything that happens; None: only what happens from now on."""
        listener = self._listen()
        try:
            last = 0
            for old in since_cursor(self._store, since) if since is not None else ():
                last = old.cursor
                yield old
            async for event in listener.read():
                if not (isinstance(event, values.MessageReceived) and event.cursor <= last):
                    yield event
        finally:
            self._listeners.discard(listener)

    def _listen(self) -> Listener:
        listener = Listener()
        if self._failed is not None:
            listener.end(self._failed)
        self._listeners.add(listener)
        return listener

    async def _sent(self, listener: Listener, queued: values.Sent, timeout_ms: int) -> values.Sent:
        """The message once the relay has stored and signed it; still queued when the time is over."""
        try:
            async with asyncio.timeout(timeout_ms / 1000 if timeout_ms else None):
                async for event in listener.read():
                    if isinstance(event, values.SendChanged) and event.sent.id == queued.id:
                        if event.sent.state is values.SendState.FAILED:
                            raise UsageError(event.sent.code or "internal", "the message was not sent")
                        return event.sent
        except TimeoutError:
            return queued
        raise UnavailableError("closed")

    # --- driving ---

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Keep the profile connected while the context lasts."""
        self._input(inputs.Tick())
        task = asyncio.create_task(self._stay_connected())
        try:
            yield self
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            self._end(UnavailableError("closed", "the profile was closed"))

    def _input(self, what: inputs.Input) -> None:
        """Handle one input: engine, disk, then the world."""
        if self._failed is not None:
            raise self._failed
        try:
            unit = self._machine.handle(what, self._now())
        except Exception as error:  # a bug: what is in memory is ahead of the disk, and must not be built on
            self._end(error if isinstance(error, CloisterError) else InternalError("internal", repr(error)))
            raise
        try:
            self._store.apply(unit.writes)
        except UnavailableError as error:
            self._end(error)
            raise
        for output in unit.outputs:
            self._carry_out(output)
        self._schedule()

    def _carry_out(self, output: Output) -> None:
        match output:
            case Transmit():
                if self._out is not None:
                    self._out.put_nowait(output.frame)
            case Disconnect():
                self._final = output.code if output.final else self._final
                if self._hangup is not None:
                    self._hangup.set()
            case Notify():
                for listener in list(self._listeners):
                    listener.tell(output.event)
            case Reply():
                self._answer(output)

    def _answer(self, reply: Reply) -> None:
        answer = self._tickets.get(reply.ticket)
        if answer is None or answer.done():
            return
        if reply.error is not None:
            answer.set_exception(reply.error)
        else:
            answer.set_result(reply.result)

    def _schedule(self) -> None:
        """Tick when the engine next wants to."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = self._machine.next_wake()
        if at is not None:
            delay = max(0.005, (at - self._now()) / 1000)
            self._timer = asyncio.get_running_loop().call_later(min(delay, 3600.0), self._tick)

    def _tick(self) -> None:
        if self._failed is None:
            self._input(inputs.Tick())

    def _end(self, error: CloisterError) -> None:
        """The agent is over: everybody who waits is told."""
        self._failed = self._failed or error
        if self._timer is not None:
            self._timer.cancel()
        for answer in self._tickets.values():
            if not answer.done():
                answer.set_exception(error)
        for listener in self._listeners:
            listener.end(error)
        if self._hangup is not None:
            self._hangup.set()

    # --- the connection ---

    async def _stay_connected(self) -> None:
        tries = 0
        while self._failed is None and not self._final:
            code = "closed"
            try:
                async with self._dialler(self._address) as connection:
                    code = await self._talk(connection)
            except UnavailableError as error:
                code = error.code
            if self._failed is not None:
                return
            tries = 0 if self._machine.link.online else tries + 1
            self._input(inputs.Closed(self._final or code))
            await asyncio.sleep(BACKOFF[min(tries, len(BACKOFF) - 1)] * self._jitter(0.5, 1.5))

    async def _talk(self, connection: Connection) -> str:
        """Until the connection ends or the engine hangs up; why it ended."""
        self._out, self._hangup = asyncio.Queue(), asyncio.Event()
        out, hangup = self._out, self._hangup
        self._input(inputs.Opened(connection.tls))
        tasks = [
            asyncio.create_task(self._read(connection)),
            asyncio.create_task(_write(connection, out)),
            asyncio.create_task(_wait(hangup)),
        ]
        try:
            done, _pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                if isinstance(error, CloisterError):
                    return error.code
                if error is not None:
                    raise error
            return "closed"
        finally:
            self._out = self._hangup = None
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, connection: Connection) -> None:
        async for frame in connection.receive():
            self._input(inputs.Received(frame))


class Agent(Driver):
    """The owner of a profile."""

    def __init__(
        self, account: Account, suites: Mapping[str, Suite], store: Store, *,
        dialler: Dialler = dial, now: Callable[[], int] = entropy.now_ms,
        rng: Callable[[int], bytes] = entropy.rng, jitter: Callable[[float, float], float] = entropy.jitter,
    ) -> None:  # fmt: skip
        self.engine = Engine(account, suites, store, rng)
        super().__init__(self.engine, account.address, store, dialler=dialler, now=now, jitter=jitter)


async def _write(connection: Connection, out: asyncio.Queue[bytes]) -> None:
    while True:
        await connection.send(await out.get())


async def _wait(hangup: asyncio.Event) -> None:
    await hangup.wait()
