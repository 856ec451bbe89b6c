"""`help`, `version` and `completion`: what needs no profile and no relay.

Source: docs/cli.md. The texts come from the registry of errors and the table of exit codes, never from here.
"""

from __future__ import annotations

import platform

import click
from click.shell_completion import get_completion_class

from cloister import __version__
from cloister.apps.cli.exits import MEANINGS, Exit
from cloister.apps.cli.frame import Command, settings_of
from cloister.errors import REGISTRY, ErrorInfo, InternalError, UsageError

_SHELLS = ("bash", "zsh", "fish")
_EXIT_CODES = "exit-codes"


@click.command("help", cls=Command)
@click.argument("topic", required=False, metavar="[exit-codes|CODE]")
@click.pass_context
def help_(ctx: click.Context, topic: str | None) -> None:
    """What an error or exit code means.

    Without a topic: the commands. CODE is the word after `code:` in an error.
    """
    screen = settings_of(ctx).screen
    if topic is None:
        screen.data(ctx.find_root().get_help())
    elif topic == _EXIT_CODES:
        for code in Exit:
            screen.data(f"{code.value:>4}  {MEANINGS[code]}")
            screen.record("exit_code", code=code.value, meaning=MEANINGS[code])
    elif topic in REGISTRY:
        info = REGISTRY[topic]
        for line in _explained(info):
            screen.data(line)
        screen.record("error_code", code=info.code, message=info.sentence, hint=info.hint, exit=info.exit_code)
    else:
        raise UsageError("usage", f"no topic {topic}; there are exit-codes and the codes of errors")


def _explained(info: ErrorInfo) -> list[str]:
    ending = Exit(info.exit_code)
    return [
        f"{info.code}: {info.sentence}",
        f"  what to do: {info.hint}",
        f"  exit code:  {ending.value} ({MEANINGS[ending]})",
    ]


@click.command(cls=Command)
@click.pass_context
def version(ctx: click.Context) -> None:
    """Which version this is."""
    screen = settings_of(ctx).screen
    screen.data(f"cloister {__version__}")
    screen.record("version", cloister=__version__, python=platform.python_version())


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Completion for bash, zsh or fish.

    \b
    bash:  cloister completion bash > ~/.local/share/bash-completion/completions/cloister
    zsh:   cloister completion zsh > ~/.zfunc/_cloister     (a folder of fpath)
    fish:  cloister completion fish > ~/.config/fish/completions/cloister.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise InternalError("internal", f"no completion for {shell}")
    script = kind(ctx.find_root().command, {}, "cloister", "_CLOISTER_COMPLETE").source()
    screen = settings_of(ctx).screen
    screen.data(script)
    screen.record("completion", shell=shell, script=script)
