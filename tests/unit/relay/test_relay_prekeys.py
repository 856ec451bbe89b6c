"""Key packages at the relay: claimed once, bounded, of devices that count, kept over a restart; in both stores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloister.errors import PeerError
from cloister.protocols.mls import rules
from cloister.relay.store.interface import DropPrekey, DropPrekeys, PrekeyRow, Purge, PutPrekey, Store
from cloister.relay.store.memory import MemoryStore
from cloister.relay.store.sqlite import SqliteStore
from cloister.wire import frames, limits
from cloister.wire.frames import Prekey, PrekeysClaim, PrekeysClaimed, PrekeysLow, PrekeysPut, PrekeysStored
from support.people import NOW
from support.relays import Client, World

DAY = limits.DAY


@pytest.fixture(params=["memory", "sqlite"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    store: Store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "relay.db", "OFF")
    yield World(store=store)
    store.close()


@pytest.fixture
def ann(world: World) -> Client:
    return world.client("ann")


@pytest.fixture
def bob(world: World) -> Client:
    return world.client("bob")


def package(number: int, *, last: bool = False, begin: int = NOW - 1000, life: int = 84 * DAY, size: int = 4) -> Prekey:
    body = number.to_bytes(size, "big")
    return Prekey(
        ref=number.to_bytes(32, "big"), not_before=begin, not_after=begin + life, last_resort=last, package=body
    )


def put(client: Client, *packages: Prekey) -> int:
    frame = PrekeysPut(rid=client.next(), suite="mls", packages=list(packages))
    return client.ask(frame, PrekeysStored).left


def claim(client: Client, *names: str, suite: str = "mls") -> list[Prekey | None]:
    devices = [client.world.people[name].id for name in names]
    return client.ask(PrekeysClaim(rid=client.next(), suite=suite, devices=devices), PrekeysClaimed).packages


def refused_put(client: Client, *packages: Prekey) -> str:
    return client.refused(PrekeysPut(rid=client.next(), suite="mls", packages=list(packages)))


# --- refused ------------------------------------------------------------------------------------------------


def test_a_hundred_one_time_packages_are_kept_and_one_of_last_resort(ann: Client) -> None:
    assert put(ann, *map(package, range(100)), package(500, last=True)) == 100
    assert refused_put(ann, package(200)) == "quota"
    assert refused_put(ann, package(501, last=True), package(502, last=True)) == "quota"
    assert put(ann) == 100


def test_a_package_lives_ninety_days_at_most_and_is_not_past_its_time(ann: Client) -> None:
    assert put(ann, package(1, life=limits.PREKEY_LIFE.value)) == 1
    assert refused_put(ann, package(2, life=limits.PREKEY_LIFE.value + 1)) == "bad_encoding"
    assert refused_put(ann, package(3, life=0)) == "bad_encoding"
    assert refused_put(ann, package(4, begin=NOW - 10 * DAY, life=DAY)) == "expired"
    assert refused_put(ann, package(5), package(5)) == "conflict"
    assert put(ann) == 1


def test_a_package_over_the_size_is_no_frame() -> None:
    most = limits.PREKEY.value
    frames.decode_request(frames.encode(PrekeysPut(rid=1, suite="mls", packages=[package(1, size=most)])))
    with pytest.raises(PeerError):
        frames.decode_request(frames.encode(PrekeysPut(rid=1, suite="mls", packages=[package(1, size=most + 1)])))


def test_a_claim_names_each_device_once_and_not_too_many(world: World, ann: Client) -> None:
    bob = world.people["bob"].id
    assert ann.refused(PrekeysClaim(rid=ann.next(), suite="mls", devices=[bob, bob])) == "conflict"
    many = [f"d{number}" for number in range(limits.PREKEY_CLAIM.value + 1)]
    encoded = frames.encode(PrekeysClaim(rid=1, suite="mls", devices=many))
    with pytest.raises(PeerError):
        frames.decode_request(encoded)


def test_a_whole_room_is_claimed_at_once_and_who_claims_more_waits(world: World, ann: Client) -> None:
    for _ in range(rules.MEMBERS // 50):
        devices = [f"d{number}" for number in range(50)]
        ann.ask(PrekeysClaim(rid=ann.next(), suite="mls", devices=devices), PrekeysClaimed)
    assert ann.refused(PrekeysClaim(rid=ann.next(), suite="mls", devices=["d1"])) == "quota"
    world.now += limits.CLAIM_RATE.value
    assert claim(ann, "bob") == [None]


# --- given --------------------------------------------------------------------------------------------------


def test_each_one_time_package_is_given_once_then_the_last_resort_again_and_again(ann: Client, bob: Client) -> None:
    put(ann, package(1), package(2), package(3, last=True))
    assert claim(bob, "ann") == [package(1)]
    assert claim(bob, "ann", "cy") == [package(2), None]
    assert claim(bob, "ann") == [package(3, last=True)]
    assert claim(bob, "ann") == [package(3, last=True)]
    assert claim(bob, "ann", suite="pair") == [None]


def test_two_claims_in_one_batch_get_two_packages(world: World, ann: Client, bob: Client) -> None:
    put(ann, package(1), package(2))
    cy = world.client("cy")
    devices = [world.people["ann"].id]
    for client in (bob, cy):
        client.say(PrekeysClaim(rid=client.next(), suite="mls", devices=devices))
    assert bob.hear() == []
    world.step()
    given = [frame.packages for client in (bob, cy) for frame in client.hear() if isinstance(frame, PrekeysClaimed)]
    assert given == [[package(1)], [package(2)]]


def test_a_claimed_package_stays_claimed_and_the_others_stay_there_over_a_restart(world: World, ann: Client) -> None:
    put(ann, package(1), package(2), package(3, last=True))
    assert claim(world.client("bob"), "ann") == [package(1)]
    world.start()
    cy = world.client("cy")
    assert claim(cy, "ann") == [package(2)]
    assert claim(cy, "ann") == [package(3, last=True)]


def test_a_package_that_is_not_on_the_disk_yet_is_given_after_it_is(world: World, ann: Client, bob: Client) -> None:
    ann.say(PrekeysPut(rid=ann.next(), suite="mls", packages=[package(1)]))
    bob.say(PrekeysClaim(rid=bob.next(), suite="mls", devices=[world.people["ann"].id]))
    assert bob.hear() == []
    world.step()
    (answer,) = bob.hear()
    assert isinstance(answer, PrekeysClaimed)
    assert answer.packages == [package(1)]


def test_a_new_last_resort_replaces_the_old_one_and_the_same_package_again_changes_nothing(
    ann: Client, bob: Client
) -> None:
    put(ann, package(1, last=True))
    put(ann, package(2, last=True))
    assert put(ann, package(2, last=True)) == 0
    assert claim(bob, "ann") == [package(2, last=True)]


def test_packages_past_their_time_are_not_given_and_are_forgotten(world: World, ann: Client, bob: Client) -> None:
    put(ann, package(1, life=DAY), package(2, last=True, life=DAY))
    world.now += 2 * DAY
    assert claim(bob, "ann") == [None]
    world.store.apply([Purge(world.now)])
    world.store.refresh()
    assert world.store.prekeys(world.people["ann"].id, "mls") == []


def test_the_owner_is_told_once_when_few_are_left(ann: Client, bob: Client) -> None:
    low = limits.PREKEYS_LOW.value
    put(ann, *map(package, range(low + 2)))
    claim(bob, "ann")
    assert ann.hear() == []
    claim(bob, "ann")
    assert ann.hear() == [PrekeysLow(suite="mls")]
    claim(bob, "ann")
    assert ann.hear() == []


def test_who_is_claimed_too_quickly_gives_the_last_resort(world: World, ann: Client, bob: Client) -> None:
    put(ann, *map(package, range(80)), package(500, last=True))
    given = [claim(bob, "ann")[0] for _ in range(61)]
    assert given[:60] == [package(number) for number in range(60)]
    assert given[60] == package(500, last=True)
    world.now += limits.CLAIMED_RATE.value
    assert claim(bob, "ann") == [package(60)]


def test_a_revoked_devices_packages_go(world: World, ann: Client, bob: Client) -> None:
    put(ann, package(1))
    world.core.admission.revoke(world.people["ann"].id, world.now)
    world.step()
    assert claim(bob, "ann") == [None]
    world.store.refresh()
    assert world.store.prekeys(world.people["ann"].id, "mls") == []


# --- stores -------------------------------------------------------------------------------------------------


def test_a_store_keeps_packages_in_order_without_handing_out_their_bytes_in_lists(world: World) -> None:
    store = world.store
    rows = [PrekeyRow("d", "mls", bytes([n]) * 32, 1, NOW + n, n == 2, b"body") for n in (3, 2, 1)]
    other = PrekeyRow("e", "mls", bytes(32), 1, NOW, False, b"x")
    store.apply([*map(PutPrekey, rows), PutPrekey(other)])
    store.refresh()
    assert store.prekeys("d", "mls") == [row._replace(package=b"") for row in rows]
    assert store.prekey("d", "mls", rows[1].ref) == rows[1]
    assert store.prekeys("d", "pair") == []
    store.apply([DropPrekey("d", "mls", rows[0].ref), DropPrekey("d", "mls", b"?" * 32)])
    store.refresh()
    assert [row.ref for row in store.prekeys("d", "mls")] == [rows[1].ref, rows[2].ref]
    store.apply([DropPrekeys("d")])
    store.refresh()
    assert store.prekeys("d", "mls") == []
    assert store.prekey("e", "mls", other.ref) == other
