"""The demo of suite `code`: two guests, a whole code and an id alone (document 004).

Source: docs/demo.md ("Suites"). The first session is opened with a whole code and ended by the joiner; the second
with the id alone, so that both screens show a string, which is the same; what follows is the report of every demo.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, ClassVar, Final

from cloister.apps.cli.demo.conductor import Conductor
from cloister.apps.cli.demo.processes import Member
from cloister.errors import CloisterError, UnavailableError, UsageError

ROLES: Final = ("creator", "joiner")
"""A guest has no name, only its role."""
_PORT: Final = re.compile(r"^port = (\d+)$", re.MULTILINE)


class CodeDemo(Conductor):
    """Two who have never met the relay, nor have accounts there."""

    proof: ClassVar[str] = "the key counts since both have proved it (D3, D4), and both people have compared the string"

    async def enrol(self) -> None:
        """Tell the guests where to meet."""
        if tuple(member.name for member in self.members) != ROLES:
            raise UsageError("usage", "a session has two guests: creator and joiner")
        found = _PORT.search((self.folder / "relay.toml").read_text())
        if found is None:
            raise UnavailableError("demo_failed", "the relay has no port")
        for member in self.members:
            await member.tell({"relay": f"127.0.0.1:{found.group(1)}", "members": [*{*ROLES} - {member.name}]})
        await self._all_reach(0, lambda event: event["what"] == "enrolled")

    async def agree(self) -> None:
        """A whole code; then an id alone, and the string."""
        creator, joiner = self.members
        code = await self._met(whole=True)
        for member in self.members:
            await self._stage(member, "ready")
        self.milestone(f"code {code[:6]}-....-.... made and typed: the relay was told the first half alone")
        await joiner.tell({"do": "finish"})
        for member in self.members:
            await self._stage(member, "ended")
            await member.tell({"do": "next"})
        self.milestone(f"{joiner.name} ended the session for both")
        code = await self._met(whole=False)
        shown = [await self._stage(member, "compare") for member in self.members]
        for member, stage in zip(self.members, shown, strict=True):
            self.milestone(f"id {code} alone: {member.name} sees {stage['digits']}  {', '.join(stage['pictures'])}")
        if shown[0]["digits"] != shown[1]["digits"]:
            raise CloisterError("wrong_code_or_mitm", "the strings differ")
        for member in self.members:
            await member.tell({"do": "same"})
        await self.all_ready()
        self.milestone(f"{creator.name} and {joiner.name} have both said that it is the same")

    async def _met(self, *, whole: bool) -> str:
        """A code is made and typed."""
        creator, joiner = self.members
        await creator.tell({"do": "session", "whole": whole})
        made = await self._told(creator, "no code came", lambda event: event["what"] == "code")
        code: str = made["code"]
        await joiner.tell({"do": "join", "code": code})
        return code

    async def _stage(self, member: Member, stage: str) -> dict[str, Any]:
        """Wait until a guest's session stands so."""
        late = f"{member.name} did not come to {stage}"
        return await self._told(member, late, lambda event: event["what"] == "stage" and event["stage"] == stage)

    async def _told(self, member: Member, late: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The event that a guest tells, once it does."""
        seen: list[dict[str, Any]] = []

        def reached(event: dict[str, Any]) -> bool:
            seen.append(event)
            return wanted(event)

        await self.until(member, reached, late)
        return seen[-1]
