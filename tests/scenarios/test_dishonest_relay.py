"""A relay that drops, repeats, reorders or forks one entry is named by every honest client; an honest one by nobody.

Four members talk through the real rules and a relay in memory that lies about one entry (`testing.evil_relay`).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from cloister.engine.rooms import RELAY_FAULTS
from cloister.engine.values import Alarm, Send
from cloister.errors import CloisterError, PeerError
from cloister.primitives.signature import SigningKey, VerifyKey
from cloister.testing import clock
from cloister.testing.evil_relay import EvilRelay, Lie
from cloister.testing.history_checker import check
from cloister.testing.network import CALM
from cloister.testing.realm import SmallRealm
from cloister.testing.simulation import Plan, Simulation, realm_of
from cloister.wire.log import ForkProof
from support.keypool import rsa_decrypt_key, rsa_signing_key

MEMBERS = ("alice", "bob", "carol", "dave")
PLAN = Plan(len(MEMBERS), 3, CALM, 0, 0, 0, 0, "none")
ALL = frozenset(MEMBERS)
AHEAD = 3
"""The lie is about the entry this far beyond the log's end."""


@pytest.fixture(scope="module")
def realm() -> SmallRealm:
    return realm_of(lambda number: (rsa_signing_key(number), rsa_decrypt_key(number)))


@dataclass
class Told:
    """What the members said of the relay, and whether it lied at all."""

    lies: int
    alarms: list[tuple[str, Alarm]]
    findings: list[str]

    def named(self) -> dict[str, set[str]]:
        """Member -> the codes with which it names the relay (an alarm about a member bears a peer)."""
        return {
            member: {alarm.code for name, alarm in self.alarms if name == member and not alarm.peer} & RELAY_FAULTS
            for member in MEMBERS
        }

    def accused(self) -> list[Alarm]:
        """Alarms about members."""
        return [alarm for _, alarm in self.alarms if alarm.peer]


class Scenario(Simulation):
    """Agree on a key, begin to lie, talk, listen."""

    def __init__(self, realm: SmallRealm, kind: str, victims: frozenset[str], seed: int = 1) -> None:
        super().__init__(seed, realm, PLAN)
        self.kind = kind
        self.victims = victims
        self.evil: EvilRelay | None = None

    async def _live(self) -> None:
        self.relay.hook = lambda client, frame: [frame] if self.evil is None else self.evil.frame(client, frame)
        self.relay.start()
        for device in self.devices.values():
            device.start()
        await self._create()
        await self._settle()
        room = bytes.fromhex(self.room)
        last = self.relay.store.last(room)
        assert last is not None
        lie = Lie(kind=self.kind, victims=self.victims, room=room, seq=last.seq + AHEAD)  # type: ignore[arg-type]
        self.evil = EvilRelay(self.relay, lie)
        await asyncio.gather(*(self._say(name) for name in MEMBERS))
        await asyncio.sleep(600)

    async def _say(self, name: str) -> None:
        for number in range(4):
            await asyncio.sleep(self.random.uniform(1, 8))
            text = f"{name} {number}"
            self.history.sent(name, self.room, text, text)
            try:
                sent = await self.devices[name].execute(Send(room=self.room, text=text))
            except CloisterError as error:
                assert error.code == "read_only"  # noqa: PT017 - the relay was caught: nothing is sent any more
                return
            self.texts[sent.id] = text

    def listen(self) -> Told:
        """Run it, and what came of it."""
        with self.ledger:
            clock.run(self._live(), self.outcome.seed)
        kept = [f"{finding.kind} {finding.message}" for finding in check(self.history)]
        return Told(self.evil.told if self.evil else 0, self.alarms, kept)


def test_an_honest_relay_is_named_by_nobody(realm: SmallRealm) -> None:
    """The control: the same talk, the same hook, a lie without victims."""
    told = Scenario(realm, "fork", frozenset()).listen()
    assert (told.lies, told.alarms, told.findings) == (0, [], [])


@pytest.mark.parametrize(
    ("kind", "codes"),
    [("drop", {"gap"}), ("repeat", {"replay", "gap"}), ("reorder", {"bad_chain", "gap"})],
)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_relay_that_alters_what_it_tells_is_named_by_everybody(
    kind: str, codes: set[str], seed: int, realm: SmallRealm
) -> None:
    told = Scenario(realm, kind, ALL, seed).listen()
    assert told.lies
    for member, named in told.named().items():
        assert named, f"{member} names nobody"
        assert named & codes
        assert named <= codes | {"withheld"}  # an ack whose entry is not read any more
    assert told.accused() == []


@pytest.mark.parametrize("kind", ["drop", "repeat", "reorder"])
def test_a_relay_that_lies_to_one_is_named_by_that_one_and_never_a_member(kind: str, realm: SmallRealm) -> None:
    told = Scenario(realm, kind, frozenset({"carol"})).listen()
    assert told.lies
    assert told.named()["carol"]
    assert told.accused() == []


@pytest.mark.parametrize("victims", [{"bob"}, {"bob", "dave"}, {"alice", "bob", "dave"}])
def test_a_relay_that_forks_is_named_by_everybody_with_a_proof(victims: set[str], realm: SmallRealm) -> None:
    told = Scenario(realm, "fork", frozenset(victims)).listen()
    assert told.lies
    assert all("fork" in named for named in told.named().values()), told.named()
    assert told.accused() == []
    identity = VerifyKey("ed25519", realm.relay_keys.identity.public.raw)
    stranger = SigningKey.generate("ed25519", lambda size: bytes(size)).public
    proven = {name: ForkProof.decode(bytes.fromhex(alarm.proof)) for name, alarm in told.alarms if alarm.proof}
    assert set(proven) == ALL
    for proof in proven.values():
        assert proof.verify(identity) > 0
        with pytest.raises(PeerError) as refused:
            proof.verify(stranger)
        assert refused.value.code == "bad_head"
