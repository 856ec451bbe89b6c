"""Staged parts: in order, bounded, used once."""

from __future__ import annotations

import pytest

from cloister.primitives.kdf import sha256
from cloister.wire import frames, limits
from cloister.wire.frames import Ack, Done, Stage, Staged
from support.relays import Client, World

ROOM, T0, T1 = b"R" * 16, bytes([1]) * 32, bytes([2]) * 32
DATA = b"abcdefghij" * 100


def eid(number: int) -> bytes:
    return number.to_bytes(16, "big")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def ann(world: World) -> Client:
    return world.client("ann")


def part(client: Client, offset: int, size: int, data: bytes = DATA, digest: bytes | None = None) -> Stage:
    return Stage(
        rid=client.next(), hash=digest or sha256(data), size=len(data), offset=offset, data=data[offset : offset + size]
    )


def create(client: Client, staged: Staged, number: int = 1) -> frames.Commit:
    return client.a_commit(ROOM, None, T0, eid(number), payload=staged)


WHOLE = Staged(hash=sha256(DATA), size=len(DATA))


def test_a_hole_is_a_gap(ann: Client) -> None:
    assert ann.refused(part(ann, 500, 500)) == "gap"
    ann.ask(part(ann, 0, 400), Done)
    assert ann.refused(part(ann, 500, 500)) == "gap"
    assert ann.refused(part(ann, 300, 200)) == "gap"


def test_parts_of_one_hash_declare_one_size(ann: Client) -> None:
    ann.ask(part(ann, 0, 400), Done)
    other = Stage(rid=ann.next(), hash=sha256(DATA), size=999, offset=400, data=b"x")
    assert ann.refused(other) == "conflict"
    over = Stage(rid=ann.next(), hash=sha256(DATA), size=1000, offset=400, data=bytes(601))
    assert ann.refused(over) == "conflict"


def test_a_commit_that_names_missing_parts_is_not_ready(ann: Client) -> None:
    assert ann.refused(create(ann, WHOLE)) == "not_ready"
    ann.ask(part(ann, 0, 400), Done)
    assert ann.refused(create(ann, WHOLE)) == "not_ready"
    assert ann.refused(create(ann, Staged(hash=WHOLE.hash, size=400))) == "not_ready"


def test_parts_that_do_not_hash_to_their_name_are_dropped(world: World, ann: Client) -> None:
    false = b"\x01" * 32
    ann.ask(part(ann, 0, 1000, digest=false), Done)
    named = Staged(hash=false, size=1000)
    assert ann.refused(create(ann, named)) == "conflict"
    assert ann.refused(create(ann, named)) == "not_ready"
    assert world.store.staged(world.people["ann"].id) == []


def test_another_devices_parts_count_for_nothing(world: World, ann: Client) -> None:
    ann.ask(part(ann, 0, 1000), Done)
    bob = world.client("bob")
    assert bob.refused(create(bob, WHOLE)) == "not_ready"


def test_a_device_stages_sixteen_mib(world: World, ann: Client) -> None:
    def declare(number: int, size: int) -> Stage:
        return Stage(rid=ann.next(), hash=sha256(bytes([number])), size=size, offset=0, data=b"x")

    ann.ask(declare(1, limits.STAGE.value - 100), Done)
    assert ann.refused(declare(2, 101)) == "quota"
    ann.ask(declare(2, 100), Done)
    assert ann.refused(declare(3, 1)) == "quota"
    world.now += limits.STAGE_LIFE.value + 1
    ann.ask(declare(3, 1), Done)


def test_parts_wait_ten_minutes(world: World, ann: Client) -> None:
    ann.ask(part(ann, 0, 1000), Done)
    world.now += limits.STAGE_LIFE.value
    late = world.client("ann")
    late.ask(create(late, WHOLE), Ack)
    late.ask(part(late, 0, 1000), Done)
    world.now += limits.STAGE_LIFE.value + 1
    late = world.client("ann")
    assert late.refused(late.a_commit(b"S" * 16, None, T0, eid(9), payload=WHOLE)) == "not_ready"


def test_the_same_part_again_is_acknowledged_again(world: World, ann: Client) -> None:
    ann.ask(part(ann, 0, 400), Done)
    ann.ask(part(ann, 0, 400), Done)
    ann.ask(part(ann, 400, 600), Done)
    ann.ask(part(ann, 0, 1000), Done)
    assert world.store.parts(world.people["ann"].id, WHOLE.hash) == DATA


def test_parts_and_commit_may_be_in_one_batch(world: World, ann: Client) -> None:
    ann.say(part(ann, 0, 400))
    ann.say(part(ann, 400, 600))
    ann.say(create(ann, WHOLE))
    world.step()
    assert [type(frame) for frame in ann.hear()] == [Ack, Done, Done]
    ann.present(ROOM, T0)
    assert world.store.staged(world.people["ann"].id) == []


def test_parts_survive_a_restart(world: World, ann: Client) -> None:
    ann.ask(part(ann, 0, 400), Done)
    world.start()
    again = world.client("ann")
    again.ask(part(again, 400, 600), Done)
    again.ask(create(again, WHOLE), Ack)
    (entry,) = again.present(ROOM, T0).entries
    assert isinstance(entry, frames.Entry)
    assert entry.payload == DATA
