"""Rooms of suite `mls` on the whole path: real engines, relay rules and stores, in calm and under faults."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import cache

import msgspec
import pytest

from cloister.engine import values
from cloister.engine.prekeys import Prekeys
from cloister.engine.rows import OwnPrekey
from cloister.engine.unit import Unit
from cloister.protocols.interface import PreKey
from cloister.relay.core.stage import Staging
from cloister.relay.core.state import Peer
from cloister.testing import clock
from cloister.testing.network import CALM
from cloister.testing.realm import SmallRealm
from cloister.testing.simulation import CALM_PLAN, Plan, Simulation, realm_of
from cloister.wire import frames, limits
from support.keypool import rsa_decrypt_key, rsa_signing_key


@cache
def realm() -> SmallRealm:
    return realm_of(lambda number: (rsa_signing_key(number), rsa_decrypt_key(number)))


def simulation(seed: int, plan: Plan | None = None) -> Simulation:
    return Simulation(seed, realm(), plan, suite="mls")


@pytest.mark.parametrize("change", ["none", "add", "rekey", "remove"])
def test_members_agree_write_and_change_in_calm(change: str) -> None:
    outcome = simulation(1, Plan(4, 2, CALM, 0, 0, 0, 0, change)).run()
    assert outcome.findings == []
    assert outcome.acked >= 6


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_lost_under_faults(seed: int) -> None:
    assert simulation(seed).run().findings == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 140))
def test_nothing_is_lost_under_faults_many(seed: int) -> None:
    assert simulation(seed).run().findings == []


own_prekey = msgspec.msgpack.Decoder(OwnPrekey).decode


class Restarts(Simulation):
    """Three devices: messages, an add, a removal, restarts between all of them."""

    seen: dict[str, list[str]]

    async def _live(self) -> None:
        self.relay.start()
        for device in self.devices.values():
            device.start()
        await self._create()
        await self._settle()
        alice = self.devices["alice"]
        await self._say("alice", "one")
        await self._restart()
        await alice.execute(values.AddMembers(room=self.room, users=["carol"]))
        await asyncio.sleep(30)
        await self._restart()
        await self._say("carol", "two")
        await self._say("bob", "three")
        await alice.execute(values.RemoveMembers(room=self.room, users=["bob"]))
        await asyncio.sleep(30)
        await self._restart()
        await self._say("carol", "four")
        await asyncio.sleep(30)
        self.seen = {
            name: [message.text for message in await device.execute(values.History(room=self.room, since="", limit=99))]
            for name, device in self.devices.items()
            if bytes.fromhex(self.room) in device.engine.rooms.rooms
        }

    async def _say(self, name: str, text: str) -> None:
        sent = await self.devices[name].execute(values.Send(room=self.room, text=text))
        self.texts[sent.id] = text
        await asyncio.sleep(10)

    async def _restart(self) -> None:
        for device in self.devices.values():
            device.crash()
            await asyncio.sleep(1)
            device.start()
        await asyncio.sleep(30)


def test_a_device_that_is_added_and_one_that_is_removed_read_their_part_over_restarts() -> None:
    plan = Plan(3, 0, CALM, 0, 0, 0, 0, "add")
    run = Restarts(1, realm(), plan, suite="mls")
    with run.ledger:
        clock.run(run._live(), 1)
    assert run.seen == {
        "alice": ["one", "two", "three", "four"],
        "bob": ["one", "two", "three"],
        "carol": ["two", "three", "four"],
    }
    assert [alarm for _, alarm in run.alarms] == []


def test_each_device_publishes_packages_and_erases_the_private_half_of_one_that_was_used() -> None:
    run = simulation(2, CALM_PLAN)
    assert run.run().findings == []
    kept = {
        name: [row for _, value in device.store.open().scan("prekey") if (row := own_prekey(value)).suite == "mls"]
        for name, device in run.devices.items()
    }
    assert {name: len(rows) for name, rows in kept.items()} == {"alice": 101, "bob": 100, "carol": 100}


def test_an_invitation_for_a_package_that_is_gone_is_an_alarm_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others talk on; who lost its private halves says what it could not open."""
    own = Prekeys.own

    def lost(self: Prekeys, unit: Unit, ref: bytes) -> PreKey | None:
        return None if "/bob/" in self.me.device else own(self, unit, ref)

    monkeypatch.setattr(Prekeys, "own", lost)
    run = simulation(3, CALM_PLAN)
    run.rest = 60
    findings = run.run().findings
    assert [(name, alarm.code) for name, alarm in run.alarms] == [("bob", "no_session")]
    assert not [each for each in findings if each.startswith(("twice", "order", "nonce", "lost: alice", "lost: carol"))]


def test_a_commit_beyond_a_frame_goes_up_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is large in a commit is named by its hash: payload, tree, invitations; newcomers read the tree in parts."""
    parts: list[tuple[int, int]] = []
    stage = Staging.stage

    def counted(self: Staging, peer: Peer, frame: frames.Stage, now: int) -> None:
        parts.append((frame.offset, frame.size))
        stage(self, peer, frame, now)

    monkeypatch.setattr(Staging, "stage", counted)
    monkeypatch.setattr("cloister.engine.outbox.FRAME_ROOM", 1_000)
    monkeypatch.setattr("cloister.engine.outbox.PART", 500)
    monkeypatch.setattr(limits, "PART", replace(limits.PART, value=500))
    run = simulation(4, Plan(4, 1, CALM, 0, 0, 0, 0, "rekey"))
    assert run.run().findings == []
    commits = [len(row.payload or b"") for row in run._rows() if row.kind == "commit"]
    sizes = [size for offset, size in parts if offset == 0]
    assert (sizes[0], sizes[-1], len(sizes)) == (*commits, 4)
    assert {offset % 500 for offset, _ in parts} == {0}
    assert len(parts) > len(commits)
