"""`authority`: the realm's certificates. It is embedded in the relay, whose folder it shares.

Source: docs/cli.md, docs/spec/identity.md ("Authority"); documents 000 to 002 of the project's origin.

Invariants: certificates come and go as PEM; a device is named `user/device` or by its whole id; what shuts somebody
out asks first.
"""

from __future__ import annotations

import base64
import re
import sys
import textwrap
from pathlib import Path
from typing import Any, Final

import click

from cloister.apps.cli import relay, view
from cloister.apps.cli.frame import Commands, settings_of
from cloister.errors import PeerError, UsageError

_MAX_FILE: Final = 64 * 1024
_PEM: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s+([A-Za-z0-9+/=\s]+)-----END \1-----")


@click.group(cls=Commands)
def authority() -> None:
    """The realm's certificates: issue, revoke, verify."""


@authority.command()
@relay.init_options
@click.pass_context
def init(ctx: click.Context, folder: str | None, domain: str, realm: str | None, port: int, listen: str) -> None:
    """Make a realm's authority, and with it the relay that it is embedded in."""
    made = relay.make(folder, domain, realm, port, listen)
    screen = settings_of(ctx).screen
    screen.data(f"realm    {made['realm']}")
    screen.data(f"root     {made['root']}")
    screen.record("authority", **made)
    screen.say("the root and intermediate keys stand in the relay's database; next: cloister relay run", "dim")


@authority.command("list")
@relay.folder_option
@click.pass_context
def list_(ctx: click.Context, folder: str | None) -> None:
    """All certificates that were issued."""
    _show(ctx, relay.issued(folder))


@authority.command()
@click.argument("device")
@relay.folder_option
@click.pass_context
def show(ctx: click.Context, folder: str | None, device: str) -> None:
    """The certificates of one device."""
    subject = device_id(folder, device)
    rows = [row for row in relay.issued(folder) if row["subject"] == subject]
    if not rows:
        raise UsageError("no_user", f"no certificate was issued to {device}")
    _show(ctx, rows)


@authority.command()
@click.argument("device")
@click.argument("requests", nargs=-1, required=True, metavar="REQUEST...")
@relay.folder_option
@click.pass_context
def issue(ctx: click.Context, folder: str | None, device: str, requests: tuple[str, ...]) -> None:
    """Issue certificates for a device's requests (PKCS #10, PEM or DER files).

    The keys must stand in the newest manifest of the device's user.
    """
    ders = [der_of(Path(name), "CERTIFICATE REQUEST") for name in requests]
    leaves = relay.issue(folder, device_id(folder, device), ders)
    screen = settings_of(ctx).screen
    for leaf in leaves:
        screen.data(pem(leaf, "CERTIFICATE"))
        screen.record("certificate", certificate=base64.b64encode(leaf).decode())
    screen.say(f"{len(leaves)} issued and entered into the realm log", "dim")


@authority.command()
@click.argument("device")
@click.option("--yes", is_flag=True, help="Do not ask.")
@relay.folder_option
@click.pass_context
def revoke(ctx: click.Context, folder: str | None, device: str, yes: bool) -> None:
    """Shut a device out of the realm, for good."""
    subject = device_id(folder, device)
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("usage", "there is no terminal to ask: use --yes")
        click.confirm(f"Shut {device} out for good?", abort=True, err=True)
    count = relay.revoke(folder, subject)
    screen = settings_of(ctx).screen
    screen.data(f"{subject}  {count} certificates revoked")
    screen.record("revoked", subject=subject, certificates=count)
    screen.say("every member learns it from the realm log; who writes next removes the device from the room", "dim")


@authority.command()
@click.argument("certificate", metavar="CERT")
@relay.folder_option
@click.pass_context
def verify(ctx: click.Context, folder: str | None, certificate: str) -> None:
    """Check a certificate (PEM or DER file) as members do, now."""
    found = relay.verify(folder, der_of(Path(certificate), "CERTIFICATE"))
    screen = settings_of(ctx).screen
    screen.data(f"{found['subject']}  {found['usage']}")
    screen.data(f"  valid    {view.iso(found['not_before'])} to {view.iso(found['not_after'])}")
    screen.data(f"  serial   {found['serial']}")
    screen.record("certificate", **found)


@authority.command()
@relay.folder_option
@click.pass_context
def crl(ctx: click.Context, folder: str | None) -> None:
    """A revocation list as of now, as PEM."""
    der = relay.revocation_list(folder)
    screen = settings_of(ctx).screen
    screen.data(pem(der, "X509 CRL"))
    screen.record("crl", crl=base64.b64encode(der).decode())


def device_id(folder: str | None, device: str) -> str:
    """A device's whole id, from itself or from `user/device`."""
    if device.startswith("cloister://"):
        return device
    user, slash, name = device.partition("/")
    if not (user and slash and name) or "/" in name:
        raise UsageError("usage", f"{device}: say user/device, for example alice/main")
    return f"cloister://{relay.realm_of(folder)}/u/{user}/d/{name}"


def der_of(path: Path, label: str) -> bytes:
    """The DER bytes of a PEM or DER file."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE)
    except OSError as error:
        raise UsageError("usage", f"{path}: {error.strerror}") from error
    found = _PEM.search(data)
    if found is None:
        return data
    if found[1].decode() != label:
        raise PeerError("bad_cert", f"{path} holds no {label}")
    return base64.b64decode(b"".join(found[2].split()))


def pem(der: bytes, label: str) -> str:
    """PEM, without a newline at the end."""
    body = "\n".join(textwrap.wrap(base64.b64encode(der).decode(), 64))
    return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----"


def _show(ctx: click.Context, rows: list[dict[str, Any]]) -> None:
    screen = settings_of(ctx).screen
    for row in rows:
        state = f"revoked {view.iso(row['revoked'])}" if row["revoked"] else "stands"
        screen.data(f"{row['subject']}  {row['usage']:<8} {view.iso(row['issued'])}  {state}  {row['serial']}")
        screen.record("certificate", **row)
