"""The demo of suite `transport`: an invitation that waits, acknowledgements, numbers that outlive a restart.

Source: docs/demo.md ("Suites"), document 002: its inviter starts last because B and C "need to be waiting"; here the
last member is offline when it is invited. Its "sequence numbers ... are maintained in a database for all chat
participants": each member tells what its database has, closes it, opens it, and tells it again.
"""

from __future__ import annotations

from typing import Any

from cloister.apps.cli.demo.conductor import Conductor
from cloister.apps.cli.demo.processes import Member
from cloister.errors import UnavailableError

OWED = "acknowledgements"


class TransportDemo(Conductor):
    """The last member is away when the inviter makes the key."""

    proof = "the key counts since the inviter has sent it; every member has acknowledged that it holds it"

    async def agree(self) -> None:
        """All but one acknowledge; the invitation of the last waits in its mailbox."""
        *others, late = self.members
        await self.leave(late)
        await self.create()
        for member in others:
            await self.until_awaits(member, OWED, late)
        self.milestone(f"confirmed {len(others)}/{len(self.members)} while {late.name} is offline; the key is in use")
        await self.come_back(late)
        for member in self.members:
            await self.until_awaits(member, "")
        self.milestone(f"invitation delivered late to {late.name} who was offline")
        self.milestone(f"confirmed {len(self.members)}/{len(self.members)}")
        await self.all_ready()

    async def talk(self) -> None:
        """After the messages every member starts again, and its database says what it said before."""
        await super().talk()
        for member in self.members:
            await self._start_again(member)

    async def _start_again(self, member: Member) -> None:
        await self.settle(member)
        before = await self._numbers(member)
        await self.leave(member)
        await self.come_back(member)
        if await self._numbers(member) != before:
            raise UnavailableError("demo_failed", f"{member.name}'s sequence numbers changed by a restart")
        shown = ", ".join(f"{row['user']} {row['next']}" for row in before)
        self.milestone(f"sequence numbers in the database before and after restart: {member.name} has {shown}")

    async def _numbers(self, member: Member) -> list[dict[str, Any]]:
        """The next number of every member, as this one's database has it."""
        found: list[dict[str, Any]] = []

        def told(event: dict[str, Any]) -> bool:
            if event["what"] == "sequence":
                found.extend(event["rows"])
            return bool(event["what"] == "sequence")

        await member.tell({"do": "sequence"})
        await self.until(member, told, f"{member.name} did not tell its sequence numbers")
        return found
