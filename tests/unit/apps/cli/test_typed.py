"""Standard input: lines as they are typed, and whose they are while a question is asked."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator

import click
import pytest

from cloister.apps.cli import prompt
from cloister.apps.cli.typed import TURN, Typed
from cloister.errors import UsageError


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The end that is written to; the other one is standard input."""
    read, write = os.pipe()
    with os.fdopen(read) as stream:
        monkeypatch.setattr("sys.stdin", stream)
        yield write


async def lines() -> list[str]:
    return [line async for line in Typed()]


def test_what_answers_a_question_is_no_line_of_the_chat(keyboard: int) -> None:
    async def chat() -> list[str]:
        typed = Typed()
        os.write(keyboard, b"before\n")
        first = await anext(typed)
        with TURN:
            os.write(keyboard, b"the password\n")
            await asyncio.sleep(0.05)  # the reader has been woken, and waits for its turn
            assert select.select([sys.stdin], [], [], 0)[0]
            assert os.read(sys.stdin.fileno(), 100) == b"the password\n"
        os.write(keyboard, b"after\n")
        os.close(keyboard)
        return [first, *[line async for line in typed]]

    assert asyncio.run(chat()) == ["before", "after"]


def test_bytes_that_are_no_text_are_usage_and_the_next_line_is_read(keyboard: int) -> None:
    os.write(keyboard, b"\xff\nafter\n")
    os.close(keyboard)

    async def read() -> list[str]:
        typed = Typed()
        with pytest.raises(UsageError) as caught:
            await anext(typed)
        assert caught.value.code == "usage"
        return [line async for line in typed]

    assert asyncio.run(read()) == ["after"]


def test_one_ctrl_c_ends_a_question_in_a_running_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def asks(*_args: object, **_kwargs: object) -> str:
        signal.raise_signal(signal.SIGINT)  # the loop of asyncio.run would only take note of the first
        answered.set()
        raise click.Abort

    monkeypatch.setattr("click.prompt", asks)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)

    async def main() -> None:
        prompt.ask_password()

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert not answered.is_set()
    assert not TURN.locked()


def test_lines_come_from_a_pipe_whole(keyboard: int) -> None:
    os.write(keyboard, "one\ntwö\r\n\nlast".encode())
    os.close(keyboard)
    assert asyncio.run(lines()) == ["one", "twö", "", "last"]
