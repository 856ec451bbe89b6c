"""Rooms of suite `transport` on the whole path: real engines, relay rules and stores, in calm and under faults."""

from __future__ import annotations

from functools import cache

import pytest

from cloister.testing.network import CALM
from cloister.testing.realm import SmallRealm
from cloister.testing.simulation import Plan, Simulation, realm_of
from support.keypool import rsa_decrypt_key, rsa_signing_key


@cache
def realm() -> SmallRealm:
    return realm_of(lambda number: (rsa_signing_key(number), rsa_decrypt_key(number)))


def simulation(seed: int, plan: Plan | None = None, suite: str = "transport") -> Simulation:
    return Simulation(seed, realm(), plan, suite=suite)


@pytest.mark.parametrize("change", ["none", "add", "rekey", "remove"])
def test_members_agree_write_and_change_in_calm(change: str) -> None:
    outcome = simulation(1, Plan(4, 2, CALM, 0, 0, 0, 0, change)).run()
    assert outcome.findings == []
    assert outcome.acked >= 6


@pytest.mark.parametrize("suite", ["transport", "transport-strict"])
def test_nothing_is_lost_under_faults(suite: str) -> None:
    assert simulation(0, suite=suite).run().findings == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 130))
def test_nothing_is_lost_under_faults_many(seed: int) -> None:
    assert simulation(seed).run().findings == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200, 215))
def test_nothing_is_lost_under_faults_in_strict_rooms(seed: int) -> None:
    assert simulation(seed, suite="transport-strict").run().findings == []
