"""What a device does by the calendar: a mailbox key that lives a week, certificates that are renewed in time."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from cloister.engine import upkeep, values
from cloister.engine.account import ROW, Account
from cloister.identity.mailbox import MailboxItem, MailboxKey, open_item, seal_item
from cloister.testing import clock
from cloister.testing.realm import SmallRealm
from cloister.wire import frames, limits
from support.world import World, live, small_realm

WEEK = 600
"""Seconds that stand for a week here, and for the time to the renewal: a relay in memory ticks each second."""


@pytest.fixture(autouse=True)
def _quick_calendar(monkeypatch: pytest.MonkeyPatch) -> None:
    assert upkeep.CHANGE_AFTER == 7 * limits.DAY
    assert limits.RENEWAL.value == 30 * limits.DAY
    monkeypatch.setattr(upkeep, "CHANGE_AFTER", WEEK * 1000)
    ahead = replace(limits.RENEWAL, value=89 * limits.DAY - WEEK * 1000)  # the realm was made a day ago
    monkeypatch.setattr(limits, "RENEWAL", ahead)


@pytest.fixture(scope="module")
def realm() -> SmallRealm:
    return small_realm()


def published(world: World, realm: SmallRealm, name: str) -> bytes:
    """The mailbox key that others seal to."""
    statement = world.core.directory._mail_key(realm.accounts[name].device)
    assert statement is not None
    return MailboxKey.decode(statement).public


def held(world: World, name: str) -> list[bytes]:
    return [key.public for key in world.devices[name].engine._upkeep.mailbox_keys()]


def test_the_mailbox_key_changes_each_week_and_the_one_before_it_still_opens(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        await world.online()
        alice = world.devices["alice"]
        keys = [published(world, realm, "alice")]
        for week in range(1, 4):
            await world.until(lambda: published(world, realm, "alice") != keys[-1], 2 * WEEK)
            keys.append(published(world, realm, "alice"))
            await asyncio.sleep(1)
            assert held(world, "alice") == keys[-1:-3:-1], f"week {week}"
            if week == 2:
                alice.crash()
                alice.start()
                await world.until(lambda: alice.engine.link.online)
        assert len(set(keys)) == 4
        stored = Account.decode(alice.store.open().get("meta", ROW) or b"")
        assert stored.keys.mailbox.public == keys[-1]
        made = await world.devices["bob"].execute(values.CreateRoom(title="x", suite="nonces", members=["alice"]))
        await world.until(lambda: world.state("alice", made.id) == "ready")

    world = live(story, realm, ("alice", "bob"))
    assert world.alarms("alice") == world.alarms("bob") == []


def test_what_was_sealed_to_the_last_key_opens_and_what_was_sealed_to_an_older_one_does_not(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        await world.online()
        account, sender = realm.accounts["alice"], realm.accounts["bob"]
        item = MailboxItem(sender=sender.device, recipient=account.device, kind="x", room=bytes(16), body=b"hello")
        rng = random.Random(1).randbytes
        first = seal_item(item, published(world, realm, "alice"), sender.keys.device, rng)
        keys = world.devices["alice"].engine._upkeep.mailbox_keys
        await world.until(lambda: len(keys()) == 2, 2 * WEEK)
        assert open_item(first, account.device, keys(), lambda _: sender.keys.device.public) == item
        second = keys()[0]
        await world.until(lambda: keys()[0].public != second.public, 2 * WEEK)
        with pytest.raises(Exception, match="mailbox item"):
            open_item(first, account.device, keys(), lambda _: sender.keys.device.public)

    live(story, realm, ("alice", "bob"))


def test_a_key_is_not_changed_while_mail_waits(realm: SmallRealm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RENEWAL", replace(limits.RENEWAL, value=0))  # no record comes that it could wait for

    async def story(world: World) -> None:
        await world.online()
        inbox = world.devices["alice"].engine._inbox
        inbox._waiting = True
        inbox._held.append(frames.Item(number=1, item_id=bytes(16), body=bytes(1024)))
        await asyncio.sleep(2 * WEEK)
        assert len(held(world, "alice")) == 1

    live(story, realm, ("alice",))


def test_a_statement_that_the_relay_did_not_take_is_published_again(realm: SmallRealm) -> None:
    """The new key is stored before it is published: a crash between the two loses no mail."""

    async def story(world: World) -> None:
        await world.online()
        alice, before = world.devices["alice"], published(world, realm, "alice")
        put = world.core._requests[frames.PutMailKey]  # type: ignore[attr-defined]
        world.core._requests = {**world.core._requests, frames.PutMailKey: lambda *_: None}  # type: ignore[attr-defined]
        await world.until(lambda: len(held(world, "alice")) == 2, 2 * WEEK)
        await asyncio.sleep(60)
        assert published(world, realm, "alice") == before
        world.core._requests = {**world.core._requests, frames.PutMailKey: put}  # type: ignore[attr-defined]
        alice.crash()
        alice.start()
        await world.until(lambda: published(world, realm, "alice") == held(world, "alice")[0])

    live(story, realm, ("alice",))


def test_certificates_are_renewed_at_sixty_of_ninety_days_and_used_from_then_on() -> None:
    realm = small_realm()

    async def story(world: World) -> None:
        await world.online()
        alice, account = world.devices["alice"], realm.accounts["alice"]
        first = world.core.directory.realm.device(account.device)
        await asyncio.sleep((first.not_after - limits.RENEWAL.value - clock.now()) / 1000 - 60)
        assert world.core.directory.realm.device(account.device) == first
        await asyncio.sleep(120)
        renewed = world.core.directory.realm.device(account.device)
        assert renewed.not_after >= first.not_after + limits.DAY
        assert renewed.spki_hashes == first.spki_hashes
        assert alice.engine.link.account.chain == renewed.certificates
        size = world.core.directory.realm.size
        alice.crash()
        alice.start()
        await world.until(lambda: alice.engine.link.online)
        assert alice.engine.link.account.chain == renewed.certificates
        await asyncio.sleep(WEEK)
        assert world.core.directory.realm.size == size, "asked for once"

    world = live(story, realm, ("alice",))
    assert world.alarms("alice") == []


def test_a_relay_that_does_not_renew_is_asked_again_the_next_day() -> None:
    realm = small_realm()
    asked: list[int] = []

    async def story(world: World) -> None:
        await world.online()
        ends = world.core.directory.realm.device(realm.accounts["alice"].device).not_after
        world.core._requests = {**world.core._requests, frames.Certify: lambda *_: asked.append(clock.now())}  # type: ignore[attr-defined]
        await asyncio.sleep((ends - limits.RENEWAL.value - clock.now()) / 1000 + WEEK)
        assert len(asked) == 1
        (again,) = world.devices["alice"].engine._upkeep.next_wake(None)
        assert asked[0] + limits.DAY - again < limits.SECOND
        world.devices["alice"].crash()
        world.devices["alice"].start()
        await world.until(lambda: len(asked) == 2)

    live(story, realm, ("alice",))


def test_a_device_that_does_not_count_asks_for_nothing() -> None:
    realm = small_realm()

    async def story(world: World) -> None:
        await world.online()
        upkeeping = world.devices["alice"].engine._upkeep
        world.core.admission.revoke(realm.accounts["alice"].device, clock.now())
        world.stir()
        await world.until(lambda: world.devices["alice"].engine.link.last_error == "revoked")
        assert upkeeping._ends() == 0
        assert upkeeping.next_wake(None) == []

    live(story, realm, ("alice",))
