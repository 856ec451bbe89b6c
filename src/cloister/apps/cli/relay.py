"""`relay`: make a relay, run it, let people in, see how it stands. The one module of the apps that knows the relay.

Source: docs/cli.md, docs/run-a-relay.md.

Invariants
- A relay is a folder; every command takes --folder, or the one place where it is by default.
- The other commands work while the relay runs (through its admin socket) and while it does not.
- Data about people that the relay has, it shows here to its operator and nobody else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from cloister.apps.cli.frame import Commands, settings_of
from cloister.errors import UsageError

_UNITS: Final = {"m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}


@click.group(cls=Commands)
def relay() -> None:
    """Set up and run a relay, make invites."""


@relay.group(cls=Commands)
def invite() -> None:
    """Links that let people into the realm."""


@relay.group(cls=Commands)
def user() -> None:
    """Who is in the realm, and whom the relay serves."""


def folder_option(command: Any) -> Any:
    """--folder, as every command about a relay takes it."""
    return click.option("--folder", metavar="DIR", help="The relay's folder (else the usual place).")(command)


def folder_of(folder: str | None) -> Path:
    """The relay's folder: as given, else beside the profiles' home."""
    from cloister.client.profile import home

    return Path(folder) if folder else home().with_name(home().name + "-relay")


def init_options(command: Any) -> Any:
    """What has to be known to make a relay and its authority."""
    for option in (
        click.option("--listen", default="", metavar="ADDRESS", help="Address to bind (else all)."),
        click.option("--port", type=click.IntRange(1, 65535), default=7443, show_default=True, help="Port to bind."),
        click.option("--realm", metavar="NAME", help="The realm's name (else the domain)."),
        click.option("--domain", default="localhost", show_default=True, help="Host name or address in invite links."),
        folder_option,
    ):
        command = option(command)
    return command


def make(
    folder: str | None, domain: str, realm: str | None, port: int, listen: str, mode: str = "embedded"
) -> dict[str, Any]:
    """Make a relay with its authority; what to show of it."""
    from cloister.relay.app import init_relay

    path = folder_of(folder)
    made = init_relay(path, realm or domain, domain, port, listen_on=listen, mode=mode)
    shown = {
        "folder": str(path),
        "realm": made.config.realm,
        "address": f"{made.config.link_host}:{made.config.port}",
        "relay": made.relay_hash.hex(),
        "root": made.root_hash.hex(),
    }
    return shown if mode == "embedded" else {**shown, "link": made.open_link()}


@relay.command()
@init_options
@click.option(
    "--authority",
    "mode",
    type=click.Choice(["embedded", "none"]),
    default="embedded",
    show_default=True,
    help="Who vouches for people: the relay's own authority, or nobody (keys are trusted on first use).",
)
@click.pass_context
def init(
    ctx: click.Context, folder: str | None, domain: str, realm: str | None, port: int, listen: str, mode: str
) -> None:
    """Make a relay in a new folder: its keys, its authority, its TLS certificate.

    With --authority none nobody is certified: whoever has the link registers a name, the first key that comes has it.
    """
    made = make(folder, domain, realm, port, listen, mode)
    screen = settings_of(ctx).screen
    for name, value in made.items():
        screen.data(f"{name:<8} {value}")
    screen.record("relay", **made)
    screen.say("What next:")
    screen.say("  cloister relay run                          serve, until Ctrl+C")
    screen.say("  cloister relay invite create                a link for the first person")


@relay.command()
@click.option(
    "--open",
    "registration",
    is_flag=True,
    help="Let anybody register a name, in a realm of --authority none (always so on this machine alone).",
)
@click.option("--guests", is_flag=True, help="Let strangers chat by session codes (always so on this machine alone).")
@click.option("--tcp", type=click.IntRange(1, 65535), metavar="PORT", help="Serve raw TCP there, too; guests may come.")
@folder_option
@click.pass_context
def run(ctx: click.Context, folder: str | None, guests: bool, tcp: int | None, registration: bool) -> None:
    """Serve until Ctrl+C or SIGTERM; the log goes to standard error."""
    from cloister.relay.app import serve

    screen = settings_of(ctx).screen
    serve(
        folder_of(folder),
        guests=guests,
        registration=registration,
        tcp=tcp,
        ready=lambda port: screen.say(f"the relay listens on port {port}; Ctrl+C stops it", "good"),
    )


@relay.command()
@folder_option
@click.pass_context
def status(ctx: click.Context, folder: str | None) -> None:
    """How the relay stands: counts and sizes, nothing about content."""
    from cloister.relay.app import status as ask

    found = {name: value for name, value in ask(folder_of(folder)).items() if name != "ok"}
    screen = settings_of(ctx).screen
    for name, value in found.items():
        screen.data(f"{name:<12} {_plain(value)}")
    screen.record("relay_status", **found)


@invite.command("create")
@click.option("--uses", type=click.IntRange(1, 1000), default=1, show_default=True, help="How many people it lets in.")
@click.option("--expires", default="7d", show_default=True, metavar="TIME", help="Until when: 30m, 12h, 7d, 2w.")
@folder_option
@click.pass_context
def create(ctx: click.Context, folder: str | None, uses: int, expires: str) -> None:
    """Make an invite link; whoever has it can join, so hand it over privately."""
    from cloister.relay.app import create_invite

    link = create_invite(folder_of(folder), uses, milliseconds(expires))
    screen = settings_of(ctx).screen
    screen.data(link)
    screen.record("invite", link=link, uses=uses, expires=expires)
    screen.say(f"lets {uses} in for {expires}; on the other machine: cloister setup")
    screen.say("it was made on the relay's host: no member can check that it was used by whom you gave it to", "dim")


@user.command("list")
@folder_option
@click.pass_context
def list_(ctx: click.Context, folder: str | None) -> None:
    """Everybody who is in the realm."""
    from cloister.relay.app import users

    screen = settings_of(ctx).screen
    for row in users(folder_of(folder)):
        state = "disabled" if row["disabled"] else "served"
        screen.data(f"{row['user']:<16} {row['devices']} devices  {state}")
        screen.record("relay_user", **row)


@user.command()
@click.argument("name")
@folder_option
@click.pass_context
def disable(ctx: click.Context, folder: str | None, name: str) -> None:
    """Serve a user no more: connections end, no device of the user logs in.

    Members are not told, and rooms keep who is in them: to put a device out of the realm: cloister authority revoke.
    """
    _serve(ctx, folder, name, wanted=False)


@user.command()
@click.argument("name")
@folder_option
@click.pass_context
def enable(ctx: click.Context, folder: str | None, name: str) -> None:
    """Serve a user again."""
    _serve(ctx, folder, name, wanted=True)


def _serve(ctx: click.Context, folder: str | None, name: str, *, wanted: bool) -> None:
    from cloister.relay.app import serve_user

    serve_user(folder_of(folder), name, wanted)
    screen = settings_of(ctx).screen
    screen.data(f"{name} {'served' if wanted else 'disabled'}")
    screen.record("relay_user", user=name, disabled=not wanted)


def milliseconds(text: str) -> int:
    """A length of time such as 30m, 12h, 7d or 2w, in ms."""
    found = re.fullmatch(r"([1-9][0-9]{0,4})([mhdw])", text)
    if found is None:
        raise UsageError("usage", f"{text} is no length of time; say 30m, 12h, 7d or 2w")
    return int(found[1]) * _UNITS[found[2]]


def _plain(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


# --- the authority that is embedded in the relay, for `authority` ------------------------------------------


def issued(folder: str | None) -> list[dict[str, Any]]:
    """Everything that the authority has issued."""
    from cloister.relay import app

    return app.issued(folder_of(folder))


def issue(folder: str | None, device: str, requests: Sequence[bytes]) -> list[bytes]:
    """New certificates (DER) for a device."""
    from cloister.relay import app

    return app.issue(folder_of(folder), device, requests)


def revoke(folder: str | None, device: str) -> int:
    """Revoke a device's certificates; how many."""
    from cloister.relay import app

    return app.revoke(folder_of(folder), device)


def verify(folder: str | None, der: bytes) -> dict[str, Any]:
    """What a certificate certifies; an error with the code of what is wrong."""
    from cloister.relay import app

    return {name: value for name, value in app.verify(folder_of(folder), der).items() if name != "ok"}


def revocation_list(folder: str | None) -> bytes:
    """A revocation list (DER) as of now."""
    from cloister.relay import app

    return app.revocation_list(folder_of(folder))


def realm_of(folder: str | None) -> str:
    """The realm that the relay serves."""
    from cloister.relay import app

    return str(app.status(folder_of(folder))["realm"])
