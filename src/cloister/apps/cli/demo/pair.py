"""The demo of suite `pair`: user list, request and acceptance, messages, broadcast, comparison, the end.

Source: docs/demo.md ("Suites"), document 003. The first two members chat; the third is there for the user list and the
broadcast. What the report says of a room is said of the chat of the two, before it is ended.
"""

from __future__ import annotations

import secrets
from typing import Any

from cloister.apps.cli.demo.conductor import Conductor, told_of
from cloister.apps.cli.demo.processes import Member
from cloister.apps.cli.demo.report import Told


class PairDemo(Conductor):
    """The first asks the second; then the first speaks to everybody."""

    proof = "the key counts since both have proven that they hold it: request, response, confirm"

    def company(self, name: str) -> list[str]:
        """The other one of the chat."""
        first, second, *_ = self._plan.members
        return [second if name == first else first]

    async def agree(self) -> None:
        """Everybody is seen by who wants to see; the second is asked and says yes."""
        first, second, *_ = self.members
        for member in self.members:
            await self.settle(member)
            await member.tell({"do": "visible"})
        listed = await self._event(first, {"do": "users", "online": len(self.members)}, "users")
        self.milestone(f"user list: {', '.join(listed['names'])}; online: {', '.join(listed['online'])}")
        await self._event(second, {"do": "ask me"}, "asked")
        await self.create()
        answered = await self._event(second, {"do": "accept"}, "accepted")
        self.milestone(f"chat request by {answered['user']}, accepted by {second.name}")
        for member in (first, second):
            await self.until(member, lambda event: event["what"] == "ready", f"{member.name} has no key in time")

    async def talk(self) -> None:
        """The two say what they have to say."""
        first, second, *_ = self.members
        for member, other in ((first, second), (second, first)):
            for text in self._texts[member.name]:
                await member.tell({"do": "send", "text": text})
                await self._read_by(other, text)

    async def ask(self) -> list[Told]:
        """What the two saw of their chat; then the broadcast and the end, which make milestones."""
        pair = self.members[:2]
        for member in pair:
            await self.settle(member)
        told = [told_of(member, await self._event(member, {"do": "tell"}, "told")) for member in pair]
        await self._broadcast()
        await self._terminate()
        return told

    async def _broadcast(self) -> None:
        """A copy to everybody, compared by its readers."""
        author, *readers = self.members
        text = f"{author.name} says to all {secrets.token_hex(6)}"
        self._texts[author.name] = (*self._texts[author.name], text)
        sent = await self._event(author, {"do": "broadcast", "text": text}, "broadcast")
        for reader in readers:
            await self._read_by(reader, text)
        marks = ", ".join(f"{name} ({mark})" for name, mark in sent["copies"])
        self.milestone(f"broadcast by {author.name} to {marks}: check value {sent['check']}")
        if len(readers) < 2:
            return
        one, other = readers[:2]
        await one.tell({"do": "compare", "with": other.name, "id": sent["id"]})
        for reader, peer in ((one, other), (other, one)):
            await self.until(
                reader,
                lambda event, peer=peer: (
                    event["what"] == "compared" and event["reader"] == peer.name and event["equal"]
                ),  # type: ignore[misc]
                f"{reader.name} has not compared its copy in time",
            )
        self.milestone(f"{one.name} and {other.name} compared their copies: the same")

    async def _same(self, reader: Member, peer: Member) -> None:
        await self.until(
            reader,
            lambda event: event["what"] == "compared" and event["reader"] == peer.name and event["equal"],
            f"{reader.name} has not compared its copy in time",
        )

    async def _terminate(self) -> None:
        """The second ends the chat."""
        first, second, *_ = self.members
        await second.tell({"do": "terminate"})
        for member in (first, second):
            await self.until(member, lambda event: event["what"] == "over", f"{member.name} did not see the end")
        self.milestone(f"chat terminated by {second.name}; both have erased its keys")

    async def _read_by(self, member: Member, text: str) -> None:
        await self.until(
            member,
            lambda event: event["what"] == "received" and event["text"] == text,
            f"a message did not reach {member.name} in time",
        )

    async def _event(self, member: Member, step: dict[str, Any], what: str) -> dict[str, Any]:
        """Have a member do something; the event that answers it."""
        await member.tell(step)
        found: list[dict[str, Any]] = []

        def answers(event: dict[str, Any]) -> bool:
            if event["what"] == what:
                found.append(event)
            return bool(found)

        await self.until(member, answers, f"{member.name} did not answer in time")
        return found[0]
