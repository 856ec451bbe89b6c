"""`session`: two people, a code, no accounts (document 004).

Source: docs/cli.md ("Sessions"), docs/spec/classic/code.md; the prompts and lines are document 004's where it has them.

Invariants
- The code goes to standard output, as data; everything else is for people. A code is never an option's value.
- Ctrl+C ends the session on both sides, and so does the end of input; a kept session is left and resumed instead.
- Nothing that was typed leaves before the key stands and, where no secret was typed, both have compared.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, suppress
from typing import TYPE_CHECKING, Any, Final

import click

from cloister.apps.cli.chat import Chat
from cloister.apps.cli.exits import Exit
from cloister.apps.cli.frame import Commands, settings_of
from cloister.apps.cli.prompt import ask, password
from cloister.apps.cli.typed import Typed
from cloister.errors import CloisterError, PeerError, UnavailableError, UsageError

if TYPE_CHECKING:
    from cloister.apps.cli.output import Screen, Settings
    from cloister.client.api import SessionChanged
    from cloister.client.session import SessionClient

TRIES: Final = 3
"""How often a code may be typed."""
GOODBYE: Final = 5.0
"""Seconds that the end gets to reach the relay."""
_RULE: Final = "=" * 50

relay_option = click.option(
    "--relay",
    "address",
    default="localhost:7443",
    show_default=True,
    metavar="HOST:PORT",
    help="The relay to meet at; tcp://HOST:PORT where it serves raw TCP.",
)
keep_option = click.option(
    "--keep", default="", metavar="NAME", help="Keep the session under this name, to resume it within a day."
)


@click.group(cls=Commands, invoke_without_command=True)
@relay_option
@click.pass_context
def session(ctx: click.Context, address: str) -> None:
    """Chat with one other person by a code, without an account."""
    if ctx.invoked_subcommand is not None:
        return
    screen = settings_of(ctx).screen
    for line in (_RULE, "End-to-End Encrypted Chat Client", _RULE):
        screen.say(line)
    answer = ask("(C)reate a new session or (J)oin an existing one [C/J]", instead="session create, session join CODE")
    if answer.upper() in ("C", "CREATE"):
        ctx.invoke(create, address=address)
    elif answer.upper() in ("J", "JOIN"):
        ctx.invoke(join, code=ask("Session code", instead="session join CODE"), address=address)
    else:
        raise UsageError("usage", "answer C or J")


@session.command()
@click.option("--id-only", is_flag=True, help="No secret half in the code: you both compare a string instead.")
@relay_option
@keep_option
@click.pass_context
def create(ctx: click.Context, address: str, id_only: bool = False, keep: str = "") -> None:
    """Make a session and wait for the other person."""
    settings = settings_of(ctx)

    async def begin(talk: Talk, client: SessionClient) -> None:
        code = await client.create(whole=not id_only)
        settings.screen.data(code)
        settings.screen.record("session", code=code)
        talk.say("share this code with the other person, over a way that you trust")
        talk.say("waiting for another person to join")

    ctx.exit(_run(settings, _opening(address, keep), begin, address, keep))


@session.command()
@click.argument("code")
@relay_option
@keep_option
@click.pass_context
def join(ctx: click.Context, code: str, address: str, keep: str = "") -> None:
    """Join the session with this code."""
    typed = [code]

    async def begin(talk: Talk, client: SessionClient) -> None:
        if not typed:
            typed.append(await talk.ask("Session code:"))
        talk.say(f"joined session {await client.join(typed.pop())}")

    tries = TRIES if sys.stdin.isatty() and not keep else 1
    ctx.exit(_run(settings_of(ctx), _opening(address, keep), begin, address, keep, tries=tries))


@session.command()
@click.argument("name")
@click.pass_context
def resume(ctx: click.Context, name: str) -> None:
    """Go on with a kept session: the same two agree on a new key."""
    from cloister.client.session import resume_session

    secret = password(f"Password of session {name}")

    async def begin(talk: Talk, client: SessionClient) -> None:
        await client.again()
        talk.say("meeting again: the key is changed as soon as the other one is there")

    ctx.exit(_run(settings_of(ctx), lambda: resume_session(name, secret), begin, "", name))


def _opening(address: str, keep: str) -> Callable[[], AbstractAsyncContextManager[SessionClient]]:
    """What opens a guest's session; a kept one needs a password."""
    from cloister.client.session import open_session

    secret = password("New password", new=True) if keep else ""
    return lambda: open_session(address, keep=keep, password=secret)


def _run(
    settings: Settings,
    opened: Callable[[], AbstractAsyncContextManager[SessionClient]],
    begin: Callable[[Talk, SessionClient], Coroutine[Any, Any, None]],
    address: str,
    keep: str,
    *,
    tries: int = 1,
) -> int:
    """The whole session; the exit code. A wrong code may be typed again, each time as a new guest."""

    async def once(typed: Typed) -> int:
        talk = Talk(settings.screen, typed, keep=keep)
        async with opened() as client:
            await talk.connected(client, address)
            await begin(talk, client)
            return await talk.run(client)

    async def main() -> int:
        typed = Typed()
        for _ in range(tries - 1):
            try:
                return await once(typed)
            except WrongCodeError as error:
                settings.screen.error(error, error.info.exit_code)
        return await once(typed)

    return asyncio.run(main())


class WrongCodeError(PeerError):
    """The other side does not hold the same code: it may be typed again."""

    default = "wrong_code_or_mitm"


class Talk:
    """One session on one screen: the stages, the question, then the line-mode chat."""

    def __init__(self, screen: Screen, typed: Typed, *, keep: str) -> None:
        self._screen = screen
        self._keep = keep
        self._typed = typed
        self._chat: asyncio.Task[None] | None = None
        self._question: asyncio.Task[None] | None = None
        self._interrupted = asyncio.Event()
        self._ended = asyncio.Event()
        self._failure = ""
        self._wrong_code = False
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._interrupted.set)

    def say(self, line: str, style: str = "dim") -> None:
        """A line for people."""
        self._screen.say(f"* {line}", style)

    async def ask(self, question: str) -> str:
        """A line from the person; at the end of input none, and the session is left."""
        self._screen.say(question)
        async for line in self._typed:
            if line.strip():
                return line.strip()
        self._interrupted.set()
        return ""

    async def connected(self, client: SessionClient, address: str) -> None:
        """Say where this is and what vouches for it."""
        from cloister.client.session import is_here

        if not address:
            return
        if is_here(address):
            self.say(f"relay {address}, on this machine: not pinned")
        elif client.pinned:
            self.say(f"relay {address}, the same as before")
        else:
            self.say(f"relay {address}, met for the first time: pinned from now on. What protects you two is the code.")

    async def run(self, client: SessionClient) -> int:
        """Until the session ends, or the person leaves."""
        watching = asyncio.create_task(self._watch(client))
        interrupted = asyncio.create_task(self._interrupted.wait())
        ended = asyncio.create_task(self._ended.wait())
        try:
            while True:
                waiting = {watching, interrupted, ended, *([self._chat] if self._chat else [])}
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=0.2)
                if watching in done:
                    watching.result()
                if ended in done:
                    return self._exit()
                if interrupted in done or (self._chat is not None and self._chat.done()):
                    return await self._leave(client)
        finally:
            tasks = [task for task in (watching, interrupted, ended, self._chat, self._question) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _exit(self) -> int:
        if self._wrong_code:
            raise WrongCodeError
        if self._failure:
            raise PeerError(self._failure)
        self.say("the session is over")
        return int(Exit.DONE)

    async def _leave(self, client: SessionClient) -> int:
        """Ctrl+C, or the end of input: end the session for both, unless it is kept and was merely left."""
        if self._chat is not None and self._chat.done() and not self._interrupted.is_set():
            with suppress(asyncio.CancelledError):
                self._chat.result()
            if self._keep:
                self.say(f"left; go on within a day with: cloister session resume {self._keep}")
                return int(Exit.DONE)
        with suppress(CloisterError):
            await client.finish()
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE):
                if await client.rooms():
                    await self._ended.wait()
        self.say("the session is over")
        return int(Exit.DONE)

    async def _watch(self, client: SessionClient) -> None:
        """The stages, as they come."""
        from cloister.client import api

        first = asyncio.create_task(self._beginning(client))
        try:
            async for event in client.events():
                if isinstance(event, api.SessionChanged):
                    self._stage(client, event)
                elif isinstance(event, api.ConnectionChanged) and event.state == "offline" and self._chat is None:
                    self._offline(event.code)
        finally:
            first.cancel()

    def _offline(self, code: str) -> None:
        if code in ("wrong_realm", "clock_skew", "quota", "version", "bad_sig", "not_allowed"):
            raise UnavailableError(code)
        if code == "unreachable":
            self.say("the relay cannot be reached; trying again")

    async def _beginning(self, client: SessionClient) -> None:
        """A session that already stands is talked in at once."""
        for room in await client.rooms():
            if room.state == "ready":
                self._talk(client, room.id)

    def _stage(self, client: SessionClient, now: SessionChanged) -> None:
        match now.stage:
            case "agreeing":
                self.say("performing Diffie-Hellman key exchange")
            case "compare":
                self._ask(client, now)
            case "awaiting":
                self.say("waiting for the other person to compare")
            case "ready":
                self._talk(client, now.room)
            case "failed":
                self._failure = now.code
                self._wrong_code = now.code == WrongCodeError.default
                self.say(PeerError(now.code).sentence, "bad")
            case "waiting":
                self._failure, self._wrong_code = "", False
            case "ended":
                self._failure = self._failure or now.code
                self._ended.set()
            case _:
                pass

    def _ask(self, client: SessionClient, now: SessionChanged) -> None:
        for line in (
            "compare with the other person, over a way on which you know each other:",
            f"    {now.digits}",
            f"    {', '.join(now.pictures)}",
        ):
            self.say(line, "good")
        self._question = asyncio.create_task(self._answer(client))

    async def _answer(self, client: SessionClient) -> None:
        while True:
            word = (await self.ask("Is it the same on both sides? [same/different]")).lower()
            if not word:
                return
            if word in ("same", "different"):
                if word == "different":
                    self._failure = "wrong_code_or_mitm"
                await client.compared(same=word == "same")
                return

    def _talk(self, client: SessionClient, room: str) -> None:
        if self._chat is not None:
            return
        for line in ("Key exchange complete! Secure channel established.", _RULE, "Secure chat session started!",
                     "Type your messages below. Press Ctrl+C to exit.", _RULE):  # fmt: skip
            self._screen.say(line, "good")
        chat = Chat(self._screen, self._typed, own_echo=not sys.stdin.isatty())

        async def run() -> None:
            await chat.run(client, await client.room(room))

        self._chat = asyncio.create_task(run())
