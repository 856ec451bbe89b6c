"""The whole path under faults: devices, relay and network in one process, everything drawn from one seed.

    python -m cloister.testing.simulation --seeds 0-999        # what `make sim` runs
    python -m cloister.testing.simulation --seeds 17           # one failing seed again

Source: docs/architecture.md ("The promise"). Three to six members agree on keys in a room (suite `nonces`, or another
by `--suite`), write, take one in, put one out, make a new key. Meanwhile connections break, arrive late and partition;
devices and the relay crash at random steps, before and after their transactions. Then everything is healed and must
come to rest.

What is checked
- 0 acknowledged entries lost, 0 shown twice, the same order for everybody, no gap (`history_checker`);
- every member holds the relay's log: same length, same hash; nothing waits any more;
- no (key, nonce) sealed two messages (`ledger`);
- nobody accuses anybody: no alarm is raised with an honest relay and honest members;
- no process died but by a planted crash.

Invariants: the same seed gives the same schedule, faults and verdict (RSA's own randomness does not steer anything).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Final

from cloister.client.suites import SUITES
from cloister.engine import values
from cloister.errors import CloisterError
from cloister.primitives.rsa import RsaDecryptKey, RsaSigningKey
from cloister.relay.store.interface import EntryRow
from cloister.testing import clock
from cloister.testing.history_checker import FOREVER, History, check
from cloister.testing.ledger import Ledger
from cloister.testing.member import Device
from cloister.testing.network import CALM, Network, Weather
from cloister.testing.realm import RsaPairs, SmallRealm
from cloister.testing.relay import Relay
from cloister.testing.store import Crashed

NAMES: Final = ("alice", "bob", "carol", "dave", "erin", "frank")
CHAOS: Final = 90.0
"""Virtual seconds in which faults happen."""
STEPS: Final = 5000
"""Steps of the loop among which crashes are strewn; a run of six members takes about twice as many."""
REST: Final = 2 * 3600.0
"""Virtual seconds in which everything must have come to rest after the last fault."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a seed decides: who takes part, what they do, what befalls them.

    `crashes` hit devices at steps of the loop, `planted` ones in their transactions; the relay crashes at any time.
    """

    members: int
    texts: int
    weather: Weather
    crashes: int
    planted: int
    relay_crashes: int
    cuts: int
    change: str

    @classmethod
    def of(cls, rng: random.Random) -> Plan:
        """Draw a plan."""
        members = rng.randint(3, 6)
        return cls(
            members=members,
            texts=rng.randint(2, 5),
            weather=Weather(latency=(0.001, rng.choice((0.02, 0.2, 1.0))), breaks=rng.choice((0, 0.005, 0.02))),
            crashes=rng.randint(0, 4),
            planted=rng.randint(0, 4),
            relay_crashes=rng.randint(0, 2),
            cuts=rng.randint(0, 2),
            change=rng.choice(("none", "add", "rekey", "remove") if members > 3 else ("none", "rekey")),
        )


CALM_PLAN: Final = Plan(3, 2, CALM, 0, 0, 0, 0, "none")
"""Three members, and nothing happens to them."""


@dataclass(slots=True)
class Outcome:
    """What came of a seed: `findings` is empty when every promise was kept."""

    seed: int
    plan: Plan
    suite: str = "nonces"
    findings: list[str] = field(default_factory=list)
    shown: int = 0
    acked: int = 0
    crashes: int = 0
    breaks: int = 0
    seals: int = 0
    virtual: float = 0.0

    def add(self, other: Outcome) -> None:
        """Count another seed's figures in."""
        for name in ("shown", "acked", "crashes", "breaks", "seals", "virtual"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def sums(self) -> str:
        """The figures, for a person."""
        return (
            f"{self.acked} acknowledged, {self.shown} shown, {self.seals} sealed, {self.crashes} crashes, "
            f"{self.breaks} breaks, {self.virtual / 3600:.1f} virtual hours"
        )

    @property
    def repeat(self) -> str:
        """The line that runs this seed again."""
        return f'make sim ARGS="--seeds {self.seed} --suite {self.suite}"'


class Simulation:
    """One seed. Tests may give a plan, and alter `relay.hook` or `rest` before `run`."""

    def __init__(self, seed: int, realm: SmallRealm, plan: Plan | None = None, suite: str = "nonces") -> None:
        self.suite = suite
        self.random = random.Random(f"simulation {seed}")  # noqa: S311 - a schedule, not a secret
        self.plan = plan or Plan.of(self.random)
        self.rest = REST
        self.outcome = Outcome(seed, self.plan, suite)
        self.history = History()
        self.alarms: list[tuple[str, values.Alarm]] = []
        self.rosters: dict[int, frozenset[str]] = {}
        self.texts: dict[str, str] = {}
        self.room = ""
        self.network = Network(seed, self.plan.weather)
        self.relay = Relay(self.network, realm, seed=seed)
        self.ledger = Ledger()
        self.devices: dict[str, Device] = {}
        for name in NAMES[: self.plan.members]:
            self.devices[name] = self._device(name, realm, seed)
        self._strikes = self._strike()

    def _device(self, name: str, realm: SmallRealm, seed: int) -> Device:
        suites = {self.suite: SUITES[self.suite]}  # half of a seed's time were key packages that nobody uses
        device = Device(name, realm.accounts[name], suites, self.network, seed=seed)
        device.on_event = lambda event: self._event(name, event)

        def crashed() -> None:
            self.ledger.dropped()
            device.crash()

        device.store.on_commit = lambda writes: self.ledger.committed()
        device.store.on_crash = crashed
        return device

    def run(self) -> Outcome:
        """Live through the seed and judge it."""
        try:
            with self.ledger:
                clock.run(self._live(), self.outcome.seed, forgive=(Crashed,))
        except Exception as error:  # any exception of the product is a finding
            self.outcome.findings.append(f"{type(error).__name__}: {error}")
        self._judge()
        return self.outcome

    # --- what is seen ---------------------------------------------------------------------------------------

    def _event(self, name: str, event: values.Event) -> None:
        match event:
            case values.MessageReceived():
                text = event.message.text
                self.history.shown(name, event.message.room, text, text, seq=event.message.seq)
            case values.SendChanged() if event.sent.state is values.SendState.SENT:
                known = self.texts.get(event.sent.id)
                if known is not None:
                    self.history.acked(name, event.sent.room, known, seq=event.sent.seq)
            case values.RoomChanged():
                members = frozenset(member.user for member in event.room.members)
                self.rosters.setdefault(event.room.epoch, members)
            case values.Alarm():
                self.alarms.append((name, event))
            case _:
                pass

    # --- what happens ---------------------------------------------------------------------------------------

    async def _live(self) -> None:
        clock.loop().on_step = self._step
        self.relay.start()
        for device in self.devices.values():
            device.start()
        await self._create()
        jobs = [self._talk(device) for device in self.devices.values()]
        jobs += [self._befall(fault) for fault in self._faults()]
        jobs.append(self._change())
        await asyncio.gather(*jobs)
        await self._heal()
        await self._settle()
        self.outcome.virtual = clock.loop().time()

    async def _create(self) -> None:
        """The first member makes the room, as soon as it knows the others."""
        names = list(self.devices)
        founders = names[:-1] if self.plan.change == "add" else names
        command = values.CreateRoom(title="simulation", suite=self.suite, members=founders)
        while not self.room:
            try:
                self.room = (await self.devices[names[0]].execute(command)).id
            except CloisterError:
                await asyncio.sleep(0.5)

    async def _talk(self, device: Device) -> None:
        """Write the planned texts at random times, as far as the device is in the room and alive."""
        for number in range(self.plan.texts):
            await asyncio.sleep(self.random.uniform(0, 2 * CHAOS / self.plan.texts))
            text = f"{device.name} {number}"
            if device.running and bytes.fromhex(self.room) in device.engine.rooms.rooms:
                self.history.sent(device.name, self.room, text, text)
                try:
                    sent = await device.execute(values.Send(room=self.room, text=text))
                except CloisterError:
                    continue
                self.texts[sent.id] = text

    def _faults(self) -> list[Callable[[], None]]:
        """What will befall whom, in the order of `_befall`'s times."""
        names, rng = list(self.devices), self.random
        return [
            *(
                self._plant_in(self.devices[rng.choice(names)], rng.randint(1, 30), after=rng.random() < 0.5)
                for _ in range(self.plan.planted)
            ),
            *(self._crash_of(self.relay) for _ in range(self.plan.relay_crashes)),
            *(self._cut_of(rng.choice(names)) for _ in range(self.plan.cuts)),
        ]

    def _strike(self) -> dict[int, Callable[[], None]]:
        """Crashes at steps of the loop: between any two callbacks of any task."""
        names, rng = list(self.devices), self.random
        return {
            rng.randint(1, STEPS): self._crash_of(self.devices[rng.choice(names)]) for _ in range(self.plan.crashes)
        }

    def _step(self, number: int) -> None:
        strike = self._strikes.pop(number, None)
        if strike is not None:
            strike()

    async def _befall(self, fault: Callable[[], None]) -> None:
        await asyncio.sleep(self.random.uniform(0, CHAOS))
        fault()

    def _again(self, start: Callable[[], None]) -> None:
        clock.loop().call_later(self.random.uniform(0.01, 15), start)

    def _crash_of(self, process: Device | Relay) -> Callable[[], None]:
        def crash() -> None:
            process.crash()
            self._again(lambda: None if process.running else process.start())

        return crash

    def _plant_in(self, device: Device, commits: int, *, after: bool) -> Callable[[], None]:
        def plant() -> None:
            device.store.crash_at = device.store.commits + commits
            device.store.crash_after_writes = after
            clock.loop().call_later(CHAOS, lambda: None if device.running else device.start())

        return plant

    def _cut_of(self, name: str) -> Callable[[], None]:
        def cut() -> None:
            self.network.cut(name)
            self._again(lambda: self.network.heal(name))

        return cut

    async def _change(self) -> None:
        """One change of membership, at some time."""
        names = list(self.devices)
        commands: dict[str, values.Command] = {
            "add": values.AddMembers(room=self.room, users=[names[-1]]),
            "rekey": values.RekeyRoom(room=self.room),
            "remove": values.RemoveMembers(room=self.room, users=[names[-1]]),
        }
        command = commands.get(self.plan.change)
        await asyncio.sleep(self.random.uniform(5, CHAOS))
        for _ in range(20 if command else 0):
            try:
                await self.devices[names[0]].execute(command)  # type: ignore[arg-type]
                return
            except CloisterError:
                await asyncio.sleep(2)

    async def _heal(self) -> None:
        """No more faults; whatever is down comes up."""
        self.network.weather = CALM
        self._strikes.clear()
        for name, device in self.devices.items():
            self.network.heal(name)
            device.store.crash_at = None
            if not device.running:
                device.start()
        if not self.relay.running:
            self.relay.start()

    async def _settle(self) -> None:
        """Wait until nobody waits for anything."""
        end = clock.loop().time() + self.rest
        while clock.loop().time() < end:
            await asyncio.sleep(5)
            if not self._waiting():
                return
        self.outcome.findings += [f"not at rest: {reason}" for reason in self._waiting()]

    def _waiting(self) -> list[str]:
        """Why a device is not at rest."""
        room, reasons = bytes.fromhex(self.room), []
        last = self.relay.store.last(room)
        for name, device in self.devices.items():
            if not device.running:
                reasons.append(f"{name} is down")
                continue
            engine = device.engine
            here = engine.rooms.rooms.get(room)
            state = "absent" if here is None else str(here.session.view.state)
            read = int.from_bytes(device.store.open().get("meta", b"mail position") or b"", "big")
            if read < self.relay.store.mailbox(device.account.device).last:
                reasons.append(f"{name} ({state}) has mail to read")
            if engine.outbox.rows and state != "removed":
                kinds = sorted({row.kind for row in engine.outbox.rows.values()})
                reasons.append(f"{name} ({state}) has {', '.join(kinds)} to send")
            if here is None or state == "removed":
                continue
            if last is None or here.log.chain.hash != last.hash or here.delivered != last.seq:
                reasons.append(f"{name} ({state}) has read {here.delivered} of {0 if last is None else last.seq}")
            elif state not in ("ready",):
                reasons.append(f"{name} is {state}, missing {len(here.session.view.missing)}")
        return reasons

    # --- what is judged -------------------------------------------------------------------------------------

    def _judge(self) -> None:
        outcome = self.outcome
        self._members()
        for finding in check(self.history):
            outcome.findings.append(f"{finding.kind}: {finding.client} {finding.message!r} {finding.detail}")
        outcome.findings += [f"nonce used twice: {reuse}" for reuse in self.ledger.reused]
        for name, alarm in self.alarms:
            outcome.findings.append(f"alarm of {name}: {alarm.code} {alarm.peer} {alarm.detail}")
        outcome.shown = sum(event.what == "shown" for event in self.history.events)
        outcome.acked = sum(event.what == "acked" for event in self.history.events)
        outcome.crashes = self.relay.crashes + sum(device.crashes for device in self.devices.values())
        outcome.breaks = self.network.breaks
        outcome.seals = self.ledger.seals

    def _rows(self) -> list[EntryRow]:
        room = bytes.fromhex(self.room)
        last = self.relay.store.last(room)
        return list(self.relay.store.entries(room, 0, 0 if last is None else last.seq))

    def _members(self) -> None:
        """Who must show what: the entries of the epochs in whose roster one stands."""
        starts = [row.seq for row in self._rows() if row.kind in ("create", "commit")]
        first = 0 if self.suite == "mls" else 1  # the epoch that a room's create begins
        for name in self.devices:
            for epoch in sorted(self.rosters):
                place = epoch - first
                if name in self.rosters[epoch] and 0 <= place < len(starts):
                    until = starts[place + 1] if place + 1 < len(starts) else FOREVER
                    self.history.member(name, self.room, starts[place], until)


def rsa_pairs(count: int) -> RsaPairs:
    """Fresh key pairs for `count` people, made once: half a second each."""
    pairs = [(RsaSigningKey.generate(), RsaDecryptKey.generate()) for _ in range(count)]
    return pairs.__getitem__


def realm_of(pairs: RsaPairs) -> SmallRealm:
    """The realm that all seeds share."""
    return SmallRealm(NAMES, random.Random("realm").randbytes, pairs)  # noqa: S311 - keys of a simulation


def simulate(seeds: Iterable[int], realm: SmallRealm, suite: str = "nonces") -> Iterator[Outcome]:
    """One outcome for each seed."""
    return (Simulation(seed, realm, suite=suite).run() for seed in seeds)


@cache
def _own_realm() -> SmallRealm:
    """The realm of this worker process: it makes the RSA keys that it needs, once."""
    return realm_of(rsa_pairs(len(NAMES)))


def _work(suite: str, seeds: Sequence[int]) -> list[Outcome]:
    """What a worker process does with some seeds."""
    return list(simulate(seeds, _own_realm(), suite))


def main(arguments: Sequence[str] | None = None) -> int:
    """`make sim`: run seeds on all processors, print progress, and a line to repeat each that failed."""
    parser = argparse.ArgumentParser(prog="make sim", description="the whole path under faults, seed by seed")
    parser.add_argument("--seeds", default="0-999", help="one seed, or the first and the last of many")
    parser.add_argument("--suite", default="nonces", choices=sorted(SUITES))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    first, _, last = options.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    size = max(1, min(25, len(seeds) // options.jobs))
    chunks = [seeds[at : at + size] for at in range(0, len(seeds), size)]
    begun, done, failed, total = time.monotonic(), 0, 0, Outcome(-1, CALM_PLAN)
    with ProcessPoolExecutor(options.jobs) as workers:
        for outcomes in workers.map(partial(_work, options.suite), chunks):
            done += len(outcomes)
            for outcome in outcomes:
                failed += bool(outcome.findings)
                total.add(outcome)
                _say(*(f"seed {outcome.seed}: {finding}" for finding in outcome.findings))
                if outcome.findings:
                    _say(f"  again with: {outcome.repeat}")
            _say(f"{done} of {len(seeds)} seeds, {failed} failed, {time.monotonic() - begun:.0f} s: {total.sums}")
    return 1 if failed else 0


def _say(*lines: str) -> None:
    for line in lines:
        print(line, flush=True)  # noqa: T201 - a command's output


if __name__ == "__main__":
    sys.exit(main())
