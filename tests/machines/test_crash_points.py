"""A device crashes in each of its transactions, before the writes and after them: no promise is broken by any.

Three members, no other fault; the device is up again a second later. `make test` takes every thirteenth point, `make
system` all of them.
"""

from __future__ import annotations

import pytest

from cloister.testing import clock
from cloister.testing.network import CALM
from cloister.testing.realm import SmallRealm
from cloister.testing.simulation import Plan, Simulation, realm_of
from support.keypool import rsa_decrypt_key, rsa_signing_key

PLAN = Plan(3, 2, CALM, 0, 0, 0, 0, "rekey")
STRIDE = 13


@pytest.fixture(scope="module")
def realm() -> SmallRealm:
    return realm_of(lambda number: (rsa_signing_key(number), rsa_decrypt_key(number)))


def crash(realm: SmallRealm, name: str, point: int, *, after: bool) -> tuple[list[str], bool]:
    """The findings when `name` crashes in its transaction number `point`, and whether it came so far."""
    simulation = Simulation(1, realm, PLAN)
    device = simulation.devices[name]
    crashed = device.store.on_crash

    def again() -> None:
        crashed()
        clock.loop().call_later(1, device.start)

    device.store.crash_at, device.store.crash_after_writes, device.store.on_crash = point, after, again
    outcome = simulation.run()
    return outcome.findings, device.crashes > 0


def sweep(realm: SmallRealm, name: str, first: int, step: int) -> int:
    """Every `step`-th transaction from `first` on; how many there were."""
    point, tried = first, 0
    while True:
        for after in (False, True):
            findings, reached = crash(realm, name, point, after=after)
            assert not findings, f"{name}, {'after' if after else 'before'} transaction {point}: {findings}"
            if not reached:
                return tried
            tried += 1
        point += step


@pytest.mark.parametrize("name", ["alice", "bob"])
def test_a_crash_in_some_transactions_breaks_no_promise(name: str, realm: SmallRealm) -> None:
    assert sweep(realm, name, 3 if name == "alice" else 5, STRIDE) >= 4


@pytest.mark.system
@pytest.mark.parametrize("name", ["alice", "bob"])
def test_a_crash_in_any_transaction_breaks_no_promise(name: str, realm: SmallRealm) -> None:
    """`alice` makes the room and the new key, `bob` takes part."""
    assert sweep(realm, name, 1, 1) >= 60
