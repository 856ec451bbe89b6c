"""Nothing of what people write, of what they are called and of what protects them stands in what the relay stored.

A room of every suite that has rooms, over the relay's own rules: made, written in, given a new key. Then the relay's
whole store is read, row by row. Names may stand where the relay needs them to deliver, and nowhere else (A.6: the log
shows no sender, a run log no roster).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from cloister.client.suites import SUITES
from cloister.engine import values
from cloister.testing.realm import SmallRealm
from support.world import World, live, small_realm

TEXT, TITLE = "canary of the mine 4711", "title of the mine 4712"
DELIVERY = {"_last_mail", "_mail", "_mail_keys", "_prekeys", "_invites", "_enrolments", "_staged", "_meta"}
"""Tables by device: whom to deliver to, whose keys to give out, whom to let in."""
REALM_LOG = bytes(16)


@pytest.fixture(scope="module")
def realm() -> SmallRealm:
    return small_realm()


def leaves(value: Any) -> Iterator[bytes]:
    """Every string and byte string in a value."""
    if isinstance(value, str):
        yield value.encode()
    elif isinstance(value, bytes | bytearray | memoryview):
        yield bytes(value)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(key)
            yield from leaves(inner)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from leaves(inner)
    elif isinstance(value, msgspec.Struct):
        yield from leaves(msgspec.structs.astuple(value))
    elif hasattr(value, "__dataclass_fields__"):
        for name in value.__dataclass_fields__:
            yield from leaves(getattr(value, name))


def tables(world: World) -> dict[str, list[bytes]]:
    """Table -> everything in it; the realm's own log apart."""
    store = world.relay.store
    found = {name: list(leaves(rows)) for name, rows in vars(store).items()}
    entries = vars(store)["_entries"]
    found["_entries"] = list(leaves([rows for log, rows in entries.items() if log != REALM_LOG]))
    return found


def secrets(world: World, room: str) -> list[bytes]:
    """What must not be there: keys of accounts, tokens and secrets of the room's epochs."""
    found: list[bytes] = []
    for device in world.devices.values():
        keys = device.account.keys
        found += [
            keys.device.private_bytes(),
            keys.mailbox.private_bytes(),
            device.account.user_keys.identity.private_bytes(),
        ]
        found += [key.private_bytes() for key in (keys.rsa_sign, keys.rsa_decrypt) if key is not None]
        held = device.engine.rooms.rooms.get(bytes.fromhex(room))
        if held is not None:
            found.append(held.session.export("cloister relay access", bytes.fromhex(room), 32))
            found.append(held.session.export("canary", b"", 32))
    return found


async def lived(world: World, suite: str) -> str:
    """A room's life; its id."""
    others = ["bob"] if SUITES[suite].caps.max_members == 2 else ["bob", "carol"]
    await world.online()
    alice = world.devices["alice"]
    made = await alice.execute(values.CreateRoom(title=TITLE, suite=suite, members=others))
    members = ["alice", *others]
    await world.until(lambda: all(world.state(name, made.id) == "ready" for name in members))
    for name in members:
        await world.devices[name].execute(values.Send(room=made.id, text=f"{TEXT} {name}"))
    await world.until(lambda: all(len(world.texts(name)) == len(members) for name in members))
    await alice.execute(values.RekeyRoom(room=made.id))
    await world.until(lambda: all(world.info(name, made.id).epoch > made.epoch + 1 for name in members))  # type: ignore[union-attr]
    return str(made.id)


@pytest.mark.parametrize("suite", sorted(suite for suite in SUITES if suite != "code"))
def test_the_relays_store_holds_no_text_no_key_and_no_name_but_where_it_delivers(suite: str, realm: SmallRealm) -> None:
    found: dict[str, list[bytes]] = {}
    keys: list[bytes] = []

    async def story(world: World) -> None:
        room = await lived(world, suite)
        keys.extend(secrets(world, room))
        found.update(tables(world))

    live(story, realm)
    assert len(keys) > 6
    assert len(found["_entries"]) > 20
    for table, held in found.items():
        for needle in (TEXT.encode(), TITLE.encode(), *keys):
            assert not [each for each in held if needle in each or needle.hex().encode() in each], (table, needle[:6])
        if table not in DELIVERY:
            for name in (b"alice", b"bob", b"carol"):
                assert not [each for each in held if name in each], (table, name)


def test_a_control_what_is_planted_is_found(realm: SmallRealm) -> None:
    found: dict[str, list[bytes]] = {}

    async def story(world: World) -> None:
        await lived(world, "mls")
        (log,) = [rows for log, rows in vars(world.relay.store)["_entries"].items() if log != REALM_LOG]
        log.append(log[-1]._replace(payload=TEXT.encode() + b" alice"))
        found.update(tables(world))

    live(story, realm)
    assert [each for each in found["_entries"] if TEXT.encode() in each and b"alice" in each]
