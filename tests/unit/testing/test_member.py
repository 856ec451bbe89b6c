"""Devices and relay in memory, as the author of a bot uses them; what a crash takes and leaves."""

from __future__ import annotations

import asyncio
import random

import pytest

from cloister.client.suites import SUITES
from cloister.engine import inputs
from cloister.engine.unit import Unit
from cloister.engine.values import CreateRoom, Event, GetStatus, History, MessageReceived, Send
from cloister.errors import UnavailableError, UsageError
from cloister.testing import clock
from cloister.testing.member import Device, SpinningEngine, watch
from cloister.testing.network import Network
from cloister.testing.realm import SmallRealm
from cloister.testing.relay import Relay
from cloister.testing.store import Crashed
from support.keypool import rsa_decrypt_key, rsa_signing_key


@pytest.fixture(scope="module")
def realm() -> SmallRealm:
    pairs = [(rsa_signing_key(n), rsa_decrypt_key(n)) for n in range(2)]
    return SmallRealm(["alice", "bob"], random.Random("bots").randbytes, pairs.__getitem__)


def world(realm: SmallRealm) -> tuple[Relay, Device, Device]:
    network = Network(7)
    relay = Relay(network, realm, seed=7)
    relay.start()
    alice, bob = (Device(name, account, SUITES, network, seed=7) for name, account in realm.accounts.items())
    alice.start()
    bob.start()
    return relay, alice, bob


async def ready(*devices: Device) -> str:
    await asyncio.sleep(5)
    room = await devices[0].execute(CreateRoom(title="bots", suite="nonces", members=["bob"]))
    await asyncio.sleep(30)
    return str(room.id)


def test_a_bot_answers(realm: SmallRealm) -> None:
    async def main() -> list[str]:
        _, alice, bob = world(realm)
        answers: list[asyncio.Task[object]] = []

        def answer(event: Event) -> None:
            if isinstance(event, MessageReceived) and event.message.text == "ping":
                answers.append(asyncio.create_task(bob.execute(Send(room=event.message.room, text="pong"))))

        bob.on_event = answer
        room = await ready(alice, bob)
        await alice.execute(Send(room=room, text="ping"))
        await asyncio.sleep(10)
        return [message.text for message in await alice.execute(History(room=room))]

    assert clock.run(main()) == ["ping", "pong"]


def test_a_command_that_is_refused_says_so(realm: SmallRealm) -> None:
    async def main() -> None:
        _, alice, _ = world(realm)
        await asyncio.sleep(5)
        with pytest.raises(UsageError):
            await alice.execute(Send(room="00", text="nowhere"))

    clock.run(main())


def test_what_is_asked_of_an_ended_process_is_unavailable(realm: SmallRealm) -> None:
    async def main() -> None:
        relay, alice, _ = world(realm)
        alice.crash()
        assert not alice.running
        with pytest.raises(UnavailableError):
            await alice.execute(GetStatus())
        with pytest.raises(UnavailableError):
            _ = alice.engine
        relay.crash()
        assert not relay.running

    clock.run(main())


def test_a_crash_in_a_command_is_told_to_who_waits_and_leaves_what_was_committed(realm: SmallRealm) -> None:
    async def main() -> list[str]:
        _, alice, bob = world(realm)
        room = await ready(alice, bob)
        alice.store.crash_at, alice.store.crash_after_writes = alice.store.commits + 1, True
        with pytest.raises(UnavailableError):
            await alice.execute(Send(room=room, text="in the crash"))
        alice.start()
        await asyncio.sleep(30)
        return [message.text for message in await bob.execute(History(room=room))]

    assert clock.run(main(), forgive=(Crashed,)) == ["in the crash"]


def test_a_message_is_told_once_whatever_crashes(realm: SmallRealm) -> None:
    async def main() -> list[str]:
        _, alice, bob = world(realm)
        told: list[str] = []
        bob.on_event = lambda event: told.append(event.message.text) if isinstance(event, MessageReceived) else None
        room = await ready(alice, bob)
        for number in range(5):
            await alice.execute(Send(room=room, text=f"text {number}"))
            await asyncio.sleep(0.3)
            bob.crash()
            await asyncio.sleep(2)
            bob.start()
        await asyncio.sleep(60)
        return told

    assert clock.run(main()) == [f"text {number}" for number in range(5)]


def test_an_engine_that_wants_to_be_woken_without_end_is_found() -> None:
    class Idle:
        def handle(self, what: inputs.Input, now: int) -> Unit:
            return Unit(None, now, random.Random(1).randbytes, int)  # type: ignore[arg-type]

    engine = Idle()
    watch(engine, "idle")  # type: ignore[arg-type]
    for now in range(0, 100_000, 1000):
        engine.handle(inputs.Tick(), now)
    with pytest.raises(SpinningEngine):
        _ = [engine.handle(inputs.Tick(), now) for now in range(100_000, 101_000)]
