"""The whole path under faults, seed by seed: a few seeds in `make test`, a hundred and more in `make system`.

A failing seed is printed with the line that runs it again. The faults that are planted below show that the simulation
bites: with a bug in the store, the outbox or the seal it finds what it must.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from cloister.engine.outbox import Outbox
from cloister.engine.store import Write
from cloister.protocols.ratchet import SendChain
from cloister.relay.core import Batch
from cloister.testing import relay as relays
from cloister.testing.network import Weather
from cloister.testing.realm import SmallRealm
from cloister.testing.simulation import CALM_PLAN, Outcome, Plan, Simulation, realm_of
from cloister.testing.store import MemoryStore
from support.keypool import rsa_decrypt_key, rsa_signing_key

FEW = 8
MANY = 120
BUDGET = 300
"""Seconds for the seeds of `make system`."""


@pytest.fixture(scope="module")
def realm() -> SmallRealm:
    return realm_of(lambda number: (rsa_signing_key(number), rsa_decrypt_key(number)))


def told(outcome: Outcome) -> str:
    return "\n".join([f"again with: {outcome.repeat}", *outcome.findings])


@pytest.mark.parametrize(
    ("suite", "seed"), [*(("nonces", seed) for seed in range(FEW)), *(("mls", seed) for seed in range(FEW // 2))]
)
def test_every_promise_holds_under_faults(suite: str, seed: int, realm: SmallRealm) -> None:
    outcome = Simulation(seed, realm, suite=suite).run()
    assert not outcome.findings, told(outcome)
    assert outcome.shown > 0


@pytest.mark.system
@pytest.mark.parametrize(("suite", "many"), [("nonces", MANY), ("mls", MANY // 3)])
def test_every_promise_holds_under_faults_for_many_seeds(suite: str, many: int, realm: SmallRealm) -> None:
    begun, failed, crashes, breaks = time.monotonic(), [], 0, 0
    for seed in range(1000, 1000 + many):
        outcome = Simulation(seed, realm, suite=suite).run()
        crashes, breaks = crashes + outcome.crashes, breaks + outcome.breaks
        if outcome.findings:
            failed.append(told(outcome))
    assert not failed, "\n".join(failed)
    assert time.monotonic() - begun < BUDGET
    assert crashes > many
    assert breaks > many


def test_the_same_seed_gives_the_same_run(realm: SmallRealm) -> None:
    one, two = (Simulation(3, realm).run() for _ in range(2))
    assert (one.shown, one.crashes, one.breaks, one.seals, one.virtual) == (
        two.shown,
        two.crashes,
        two.breaks,
        two.seals,
        two.virtual,
    )


def test_without_faults_everything_is_acknowledged_and_shown_by_all(realm: SmallRealm) -> None:
    outcome = Simulation(0, realm, CALM_PLAN).run()
    assert not outcome.findings, told(outcome)
    assert (outcome.acked, outcome.shown) == (6, 18)
    assert outcome.crashes == outcome.breaks == 0


# --- controls: a planted bug is found -----------------------------------------------------------------------

STORM = Plan(4, 5, Weather(latency=(0.001, 0.2), breaks=0.01), 4, 4, 2, 1, "none")


def found(realm: SmallRealm, seeds: range = range(20)) -> set[str]:
    """The kinds of findings of the first seed that has one."""
    for seed in seeds:
        simulation = Simulation(seed, realm, STORM)
        simulation.rest = 60
        outcome = simulation.run()
        if outcome.findings:
            return {finding.partition(":")[0] for finding in outcome.findings}
    return set()


def test_a_relay_that_acknowledges_before_it_has_stored_is_found(
    realm: SmallRealm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows reach the disk a batch later than their acks: a crash loses them."""
    late: dict[int, list[Write]] = {}

    async def store(self: relays._Process, batch: Batch) -> None:
        rows = late.setdefault(id(self), [])
        self._relay.store.apply(rows)  # type: ignore[arg-type]
        rows[:] = batch.writes  # type: ignore[assignment]
        shadow = self._relay.store.snapshot()
        shadow.apply(batch.writes)
        self._core._store = shadow  # what is not on the disk is served all the same
        self._core._logs._store = shadow
        self._core.committed(batch, relays.clock.now())

    monkeypatch.setattr(relays._Process, "_store", store)
    assert found(realm) & {"lost", "not at rest", "alarm of alice", "alarm of bob", "alarm of carol", "alarm of dave"}


def test_a_device_whose_store_forgets_its_ratchets_is_found(realm: SmallRealm, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that does not hold the sending chain's step: after a crash its key is used again."""
    write = MemoryStore.write

    def forgetful(self: MemoryStore, writes: list[Write]) -> None:
        write(self, [each for each in writes if not (each.table == "item" and b"send" in each.key)])

    monkeypatch.setattr(MemoryStore, "write", forgetful)
    assert found(realm)


def test_a_chain_that_does_not_step_is_found(realm: SmallRealm, monkeypatch: pytest.MonkeyPatch) -> None:
    step: Callable[[SendChain], object] = SendChain.step

    def stuck(self: SendChain) -> object:
        keys, _ = step(self)  # type: ignore[misc]
        return keys, self

    monkeypatch.setattr(SendChain, "step", stuck)
    assert "nonce used twice" in found(realm)


def test_an_outbox_that_forgets_what_it_has_sent_is_found(realm: SmallRealm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sealing the same text again under a new id after every reconnect shows it twice."""
    disconnected = Outbox.disconnected

    def forgetful(self: Outbox) -> None:
        for row in self.rows.values():
            if row.kind == "text" and row.frame and not row.acked:
                self._own.pop(row.log + row.entry_id, None)
                row.frame, row.entry_id, row.token_hash = b"", b"", b""
        disconnected(self)

    monkeypatch.setattr(Outbox, "disconnected", forgetful)
    assert found(realm, range(60))
