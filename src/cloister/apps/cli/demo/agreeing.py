"""The demos of suites whose members agree on a key: `nonces`, `shares` and `mls`.

Source: docs/demo.md ("Suites"). In `shares` the last member is offline whenever the others give something: it finds
the others' hellos at the relay when it comes, and its shares when it comes again (document 001: the server "caches key
shares for clients who have not yet connected and delivers them upon connection").
"""

from __future__ import annotations

from cloister.apps.cli.demo.conductor import Conductor


class NoncesDemo(Conductor):
    """All are there while they agree."""

    proof = "the key counts since every member has answered and confirmed"


class SharesDemo(Conductor):
    """The last member is away while the others say hello, and again while they give their shares."""

    proof = "the key counts since every member has confirmed it"

    async def agree(self) -> None:
        """Hellos and shares wait at the relay for a member that is not connected."""
        *others, late = self.members
        await self.leave(late)
        await self.create()
        for member in others:
            await self.until_awaits(member, "hellos", late)
        await self.leave(*others)
        await self.come_back(late)
        await self.until_awaits(late, "shares", *others)
        self.milestone(f"hellos delivered late to {late.name} who was offline")
        await self.leave(late)
        await self.come_back(*others)
        for member in others:
            await self.until_awaits(member, "confirms", late)
        await self.leave(*others)  # nobody but the relay is there to give the late one its shares
        await self.come_back(late)
        await self.until_awaits(late, "commit")
        self.milestone(f"shares delivered late to {late.name} who was offline")
        await self.come_back(*others)
        await self.all_ready()


class MlsDemo(Conductor):
    """One commit takes all in."""

    proof = "the key counts since every member has verified the confirmation tag of the commit that began the epoch"

    async def agree(self) -> None:
        """The others' key packages lie at the relay when the room is made."""
        for member in self.members:
            await self.settle(member)
        await super().agree()
