"""Rooms of suite `shares` through engines and a relay: shares wait for who is offline, certificates on request.

Nobody is there to give a late member its share but the relay, which has kept it.
"""

from __future__ import annotations

import asyncio
import base64

import pytest

from cloister.engine import values
from cloister.errors import UsageError
from cloister.identity.certificate import Authorities, Usage
from cloister.testing import clock
from cloister.testing.realm import SmallRealm
from support.world import World, live, small_realm


@pytest.fixture(scope="module")
def realm() -> SmallRealm:
    return small_realm()


def waits(world: World, name: str, room: str, what: str, *missing: str) -> bool:
    """Whether all that a device waits for is this, from these users."""
    info = world.info(name, room)
    return (
        info is not None
        and info.awaits == what
        and sorted(device.split("/")[4] for device in info.missing) == sorted(missing)
    )


async def leave(world: World, *names: str) -> None:
    """Devices send what they have made, and are switched off."""
    for name in names:
        status = await world.devices[name].execute(values.GetStatus())
        while not status.caught_up:
            await asyncio.sleep(0.1)
            status = await world.devices[name].execute(values.GetStatus())
        world.devices[name].crash()


def come_back(world: World, *names: str) -> None:
    for name in names:
        world.devices[name].start()


def test_shares_wait_at_the_relay_for_a_member_that_is_offline(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        await world.online()
        await leave(world, "carol")
        alice = world.devices["alice"]
        made = await alice.execute(values.CreateRoom(title="ops", suite="shares", members=["bob", "carol"]))
        room = made.id
        await world.until(lambda: all(waits(world, name, room, "hellos", "carol") for name in ("alice", "bob")))
        await leave(world, "alice", "bob")
        come_back(world, "carol")  # hellos have waited for it
        await world.until(lambda: waits(world, "carol", room, "shares", "alice", "bob"))
        await leave(world, "carol")
        come_back(world, "alice", "bob")
        await world.until(lambda: all(waits(world, name, room, "confirms", "carol") for name in ("alice", "bob")))
        assert world.info("alice", room).confirmed == [  # type: ignore[union-attr]
            realm.accounts[name].device for name in ("alice", "bob")
        ]
        await leave(world, "alice", "bob")
        come_back(world, "carol")  # its shares have waited, too
        await world.until(lambda: waits(world, "carol", room, "commit"))
        come_back(world, "alice", "bob")
        await world.until(lambda: all(world.state(name, room) == "ready" for name in world.devices))
        await world.devices["carol"].execute(values.Send(room=room, text="late, and here", wait=True, timeout=0))
        await world.until(lambda: "late, and here" in world.texts("alice") and "late, and here" in world.texts("bob"))
        checks = {world.info(name, room).key_check for name in world.devices}  # type: ignore[union-attr]
        assert len(checks) == 1
        assert all(not world.alarms(name) for name in world.devices)

    live(story, realm)


def test_certificates_are_shown_as_they_were_verified(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        await world.online()
        alice = world.devices["alice"]
        with pytest.raises(UsageError) as error:
            await alice.execute(values.ListCertificates(user="nobody"))
        assert error.value.code == "no_user"
        found = await alice.execute(values.ListCertificates(user="bob"))
        assert [row.usage for row in found] == ["device", "sign", "encrypt"]
        state = alice.engine.realm
        authorities = Authorities(*reversed(state.authorities.chain))
        for row in found:
            der = base64.b64decode(row.der)
            verified = authorities.verify(der, clock.now(), realm.accounts["bob"].device, Usage(row.usage))
            assert (f"{verified.serial:x}", verified.not_before, verified.not_after) == (
                row.serial,
                row.not_before,
                row.not_after,
            )
            assert (row.state, row.device) == ("stands", realm.accounts["bob"].device)
            assert row.authority == authorities.root_hash.hex()
            assert 1 < row.place <= state.size
        world.core.admission.revoke(realm.accounts["bob"].device, clock.now())
        world.stir()
        size = state.size
        await world.until(lambda: alice.engine.realm.size > size)
        after = await alice.execute(values.ListCertificates(user="bob"))
        assert {(row.state, row.place) for row in after} == {("revoked", size + 1)}

    live(story, small_realm())
