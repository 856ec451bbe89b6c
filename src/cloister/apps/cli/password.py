"""`password`: another password for a profile.

Source: docs/cli.md, docs/spec/identity.md ("Vault"), document 002 (fix F3.5).

Invariants
- The old password is needed; it comes from where every password comes from (docs/cli.md, "Passwords").
- The new one is typed twice, or read from a private file; it is never an argument.
- The profile's keys stay as they are: what the password opens is put under the new one, in one step on the disk.
"""

from __future__ import annotations

import click

from cloister.apps.cli.frame import Command, settings_of
from cloister.apps.cli.prompt import ask_password, password_in
from cloister.apps.cli.prompt import password as given
from cloister.apps.cli.session import profile_name


@click.command(cls=Command)
@click.option("--new", "source", metavar="FILE", help="Read the new password from the first line of a private file.")
@click.pass_context
def password(ctx: click.Context, source: str | None) -> None:
    """Change the password of a profile.

    A process that has the profile open goes on; the next one asks for the new password. Backups of the profile's
    folder still open with the password that they were made under.
    """
    from cloister.client.entropy import rng
    from cloister.client.profile import Profile

    settings = settings_of(ctx)
    place = Profile.named(profile_name(settings))
    old = given(f"Password of profile {place.name}")
    place.unlock(old)
    new = ask_password("New password", new=True) if source is None else password_in(source)
    place.change_password(old, new, rng)
    settings.screen.record("password", profile=place.name)
    settings.screen.say(f"profile {place.name} has a new password", "good")
