"""Conducts the demo: starts the processes, leads the members through it, and makes the report.

Source: docs/demo.md, document 000 of the project's origin. Steps, each of which every member must reach before the
next begins (the stages of `STAGES`, used in errors: "bob was killed before it was agreed on the key"):

    enrolled            by an invite link, read from standard input
    agreed on the key   one member makes the room with all others
    told all messages   every member sends each of its texts, every member receives all
    asked               what it saw, with the verified head of the room's log

A suite's demo is a Conductor of its own (`acts`): it may let members leave and come back while they agree, and names
the milestones that belong to its suite.

Invariants
- Whatever happens the processes are ended, and the folder is removed unless it is to be kept.
- The relay's command is an argument: the tests put dishonest relays there and see them caught.
- `watch` is told of everything as it happens; it may look and end processes, the demo decides.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

from cloister.apps.cli.demo.processes import CLOISTER, Member, ending, error_of, output_of, running, tail
from cloister.apps.cli.demo.report import Report, Told
from cloister.apps.cli.demo.scan import Find, Needle, Scanner, names_in_log, names_outside_directory
from cloister.apps.cli.demo.stored import stored
from cloister.errors import CloisterError, UnavailableError

REALM: Final = "demo"
STAGES: Final = ("enrolled", "agreed on the key", "told all messages", "asked")
_HOST: Final = "127.0.0.1"
_POLL: Final = 0.05
_HEADS_TRIES: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """Something that happened in the demo. `who` is a member or `relay`, `what` a stage, milestone or message."""

    who: str
    what: str
    kind: str
    pid: int


def no_watch(_happening: Happening) -> None:
    """Looks away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done. `relay` is the command that runs a relay; `patience` in seconds for each stage."""

    folder: Path
    members: tuple[str, ...]
    suite: str = "nonces"
    title: str = field(default_factory=lambda: f"garden-{secrets.token_hex(4)}")
    texts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    passwords: dict[str, str] = field(default_factory=dict, repr=False)
    """What the person has chosen for the members' profiles; empty: random ones, with little work against guessing."""
    relay: Sequence[str] = CLOISTER
    patience: float = 60.0

    def texts_of(self, name: str) -> tuple[str, ...]:
        """What this member says; texts that occur nowhere by chance."""
        return self.texts[name] if name in self.texts else (f"{name} says hello {secrets.token_hex(6)}",)


async def perform(plan: Plan, watch: Callable[[Happening], None] = no_watch) -> Report:
    """The whole demo; a CloisterError names what failed."""
    from cloister.apps.cli.demo.acts import conductor_of

    clock = Phases()
    async with AsyncExitStack() as stack:
        conductor = conductor_of(plan.suite)(plan, watch)
        await conductor.start_members(stack)
        await stack.enter_async_context(conductor.relay())
        clock.ended("start")
        await conductor.enrol()
        clock.ended("enrol")
        await conductor.agree()
        clock.ended("agree")
        await conductor.talk()
        told = await conductor.ask()
        clock.ended("talk")
        needles = await conductor.needles()
        found = conductor.search(needles)
        relay_rows = stored(conductor.database)
    again = conductor.search(needles)  # the relay has ended: its write-ahead log is folded into the database now
    clock.ended("search")
    return Report(
        suite=plan.suite,
        milestones=tuple([*conductor.milestones, *conductor.confirmed(told)]),
        title=plan.title,
        members=tuple(told),
        relay_pid=conductor.relay_pid,
        stored=relay_rows,
        found=tuple(dict.fromkeys([*found, *again])),
        searched=len(needles),
        phases=clock.phases,
    )


class Phases:
    """Where the time goes: the seconds of each phase, in order."""

    def __init__(self) -> None:
        self.phases: dict[str, float] = {}
        self._began = time.monotonic()

    def ended(self, name: str) -> None:
        """A phase is over, the next begins."""
        now = time.monotonic()
        self.phases[name], self._began = now - self._began, now


class Conductor:
    """The state of one demo, and what it does in every suite; `proof` says what makes a key count in this one."""

    proof: ClassVar[str] = ""

    def __init__(self, plan: Plan, watch: Callable[[Happening], None]) -> None:
        self._plan = plan
        self._watch = watch
        self._relay: asyncio.subprocess.Process | None = None
        self._link = ""
        self.members: list[Member] = []
        self.milestones: list[str] = []
        self._queues: dict[str, asyncio.Queue[dict[str, Any]]] = {}
        self._texts = {name: plan.texts_of(name) for name in plan.members}
        self._passwords = plan.passwords or {name: secrets.token_urlsafe(12) for name in plan.members}

    @property
    def folder(self) -> Path:
        """The relay's folder."""
        return self._plan.folder / "relay"

    @property
    def database(self) -> Path:
        """The relay's database."""
        return self.folder / "relay.db"

    @property
    def relay_pid(self) -> int:
        """The relay's process id."""
        return self._relay.pid if self._relay else 0

    # --- the relay ---

    @asynccontextmanager
    async def relay(self) -> AsyncIterator[None]:
        """A relay that runs and has made a link for the members, while the context lasts."""
        log = self._plan.folder / "relay.log"
        place = ["--folder", str(self.folder)]
        port = str(_free_port())
        await output_of([*CLOISTER, "relay", "init", *place, "--realm", REALM, "--domain", _HOST, "--port", port], log)
        async with running([*self._plan.relay, "relay", "run", *place], log) as process:
            self._relay = process
            await self._relay_answers(process, place, log)
            self._happened("relay", f"running on port {port}", "stage", process.pid)
            uses = str(len(self._plan.members))
            made = await output_of([*CLOISTER, "relay", "invite", "create", *place, "--uses", uses, "--json"], log)
            self._link = json.loads(made)["link"]
            yield

    async def _relay_answers(self, process: asyncio.subprocess.Process, place: list[str], log: Path) -> None:
        """Wait until the relay can be asked for its status."""
        socket_there = self.folder / "admin.sock"
        async with self._patience("the relay does not answer"):
            while not socket_there.exists():
                if process.returncode is not None:
                    raise UnavailableError("demo_failed", f"the relay {ending(process.returncode)}; {tail(log)}")
                await asyncio.sleep(_POLL)

    # --- the members ---

    async def start_members(self, stack: AsyncExitStack) -> None:
        """Start the members' processes, which make themselves ready while the relay is made."""
        for name in self._plan.members:
            member = await stack.enter_async_context(Member.started(name, self._plan.folder / f"{name}.log"))
            self.members.append(member)
            self._queues[name] = asyncio.Queue()
            task = asyncio.create_task(self._read(member))
            stack.callback(task.cancel)
            self._happened(name, "started", "stage", member.pid)

    async def enrol(self) -> None:
        """Tell the members who they are, and see them enrolled."""
        for member in self.members:
            spec = {
                "home": str(self._plan.folder),
                "link": self._link,
                "user": member.name,
                "password": self._passwords[member.name],
                "members": self.company(member.name),
                "title": self._plan.title,
                "guessable": bool(self._plan.passwords),
            }
            await member.tell(spec)
        await self._all_reach(0, lambda event: event["what"] == "enrolled")

    def company(self, name: str) -> list[str]:
        """With whom this member shares its room."""
        return [other for other in self._plan.members if other != name]

    async def _read(self, member: Member) -> None:
        """Put what a member tells where the stages wait for it; an end too early is put there as well."""
        queue = self._queues[member.name]
        async for event in member.events():
            self._announce(member, event)
            queue.put_nowait(event)
        queue.put_nowait({"what": "ended"})

    def _announce(self, member: Member, event: dict[str, Any]) -> None:
        match event["what"]:
            case "milestone":
                self._happened(member.name, event["line"], "milestone", member.pid)
            case "received":
                self._happened(member.name, f"read {event['sender']}: {event['text']}", "message", member.pid)
            case "alarm":
                self._happened(member.name, f"alarm {event['code']}", "alarm", member.pid)
            case _:
                pass

    async def _all_reach(self, stage: int, reached: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """Wait until each member has told the event that ends this stage; those events."""
        name = STAGES[stage]
        for member in self.members:
            member.stage = name
        async with self._patience(f"not everybody was {name} in time"):
            async with asyncio.TaskGroup() as tasks:
                waiting = [tasks.create_task(self._reach(member, reached)) for member in self.members]
        for member in self.members:
            self._happened(member.name, name, "stage", member.pid)
        return [task.result() for task in waiting]

    async def _reach(self, member: Member, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        while True:
            event = await self._queues[member.name].get()
            if event["what"] == "ended":
                raise await member.died()
            if event["what"] in ("failed", "alarm"):
                raise error_of(event, f"{member.name} ({member.stage})")
            if reached(event):
                return event

    @asynccontextmanager
    async def _patience(self, what: str) -> AsyncIterator[None]:
        """At most `patience` seconds; errors of tasks come out as they are."""
        try:
            async with asyncio.timeout(self._plan.patience):
                yield
        except TimeoutError:
            raise UnavailableError("timeout", what) from None
        except BaseExceptionGroup as several:
            first = several.subgroup(CloisterError)
            raise (first or several).exceptions[0] from None

    # --- the stages ---

    async def agree(self) -> None:
        """The first member makes the room; all agree on its key."""
        await self.create()
        await self.all_ready()

    async def create(self) -> None:
        """The first member makes the room."""
        await self.members[0].tell({"do": "create", "suite": self._plan.suite})

    async def all_ready(self) -> None:
        """Wait until every member holds the key."""
        await self._all_reach(1, lambda event: event["what"] == "ready")

    async def leave(self, *members: Member) -> None:
        """Let members close their profiles, once all that they have made is sent."""
        for member in members:
            await member.tell({"do": "leave"})
            await self.until(member, lambda event: event["what"] == "left", f"{member.name} did not leave")
            self._happened(member.name, "offline", "milestone", member.pid)

    async def come_back(self, *members: Member) -> None:
        """Let members open their profiles again."""
        for member in members:
            await member.tell({"do": "return"})
            self._happened(member.name, "online again", "milestone", member.pid)

    async def settle(self, member: Member) -> None:
        """Wait until the member has sent and read everything."""
        await member.tell({"do": "settle"})
        await self.until(member, lambda event: event["what"] == "settled", f"{member.name} did not settle")

    async def until(self, member: Member, reached: Callable[[dict[str, Any]], bool], late: str) -> None:
        """Wait until the member has told such an event; `late` is the error when it does not in time."""
        async with self._patience(late):
            await self._reach(member, reached)

    async def until_awaits(self, member: Member, what: str, *missing: Member) -> None:
        """Wait until all that the member waits for is this, from these."""
        names = sorted(other.name for other in missing)
        late = f"{member.name} did not come to wait for {what} in time"
        await self.until(
            member,
            lambda event: event["what"] == "waiting" and (event["awaits"], event["missing"]) == (what, names),
            late,
        )

    def milestone(self, text: str) -> None:
        """Something that belongs to this suite has been shown."""
        self.milestones.append(text)
        self._happened("relay", text, "milestone", self.relay_pid)

    def confirmed(self, told: Sequence[Told]) -> list[str]:
        """What makes the key count, and who confirmed it, as each member saw it."""
        seen = [f"{one.name}: confirmed by {', '.join(one.confirmed)}" for one in told if one.confirmed]
        return [self.proof, *seen]

    async def talk(self) -> None:
        """Every member says all its texts and receives all of the others."""
        for member in self.members:
            for text in self._texts[member.name]:
                await member.tell({"do": "send", "text": text})
        left = {
            member.name: sum(len(texts) for name, texts in self._texts.items() if name != member.name)
            for member in self.members
        }

        async def wait(member: Member) -> None:
            while left[member.name]:
                await self._reach(member, lambda event: event["what"] == "received")
                left[member.name] -= 1

        for member in self.members:
            member.stage = STAGES[2]
        async with self._patience("not all messages arrived in time"):
            async with asyncio.TaskGroup() as tasks:
                for member in self.members:
                    tasks.create_task(wait(member))

    async def ask(self) -> list[Told]:
        """What each member saw, asked until all have verified the same head and their own messages have come back."""
        total = sum(len(texts) for texts in self._texts.values())
        told: list[Told] = []
        for _ in range(_HEADS_TRIES):
            for member in self.members:
                await member.tell({"do": "tell"})
            answers = await self._all_reach(3, lambda event: event["what"] == "told")
            told = [told_of(member, answer) for member, answer in zip(self.members, answers, strict=True)]
            if len({(one.entries, one.head) for one in told}) == 1 and all(len(one.order) == total for one in told):
                break
            await asyncio.sleep(_POLL)
        return told

    # --- the search ---

    async def needles(self) -> list[Needle]:
        """Everything that must not stand at the relay; ends the members."""
        needles = [Needle(name="the room's title", value=self._plan.title.encode(), is_text=True)]
        for name, texts in self._texts.items():
            needles += [Needle(name=f"a message of {name}", value=text.encode(), is_text=True) for text in texts]
            needles.append(Needle(name=f"{name}'s password", value=self._passwords[name].encode()))
        for member in self.members:
            needles += await member.secrets()
        return needles

    def search(self, needles: Sequence[Needle]) -> list[Find]:
        """Look for the needles in all that the relay wrote, and for names outside its directory."""
        scanner = Scanner(needles)
        log = self._plan.folder / "relay.log"
        return [
            *scanner.in_folder(self.folder),
            *scanner.in_file(log, log.name),
            *names_in_log(log, self._plan.members),
            *names_outside_directory(self.database, self._plan.members),
        ]

    def _happened(self, who: str, what: str, kind: str, pid: int) -> None:
        self._watch(Happening(who=who, what=what, kind=kind, pid=pid))


def told_of(member: Member, event: dict[str, Any]) -> Told:
    """What a member told at the end."""
    return Told(
        name=member.name,
        pid=member.pid,
        sent=tuple(event["sent"]),
        received=tuple((sender, text) for sender, text in event["received"]),
        order=tuple(event["order"]),
        key_check=event["key_check"],
        epoch=event["epoch"],
        entries=event["entries"],
        head=event["head"],
        alarms=tuple(event["alarms"]),
        confirmed=tuple(event["confirmed"]),
    )


def _free_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port
