"""What a review of the engine found: an insider's broken rule must never be laid on the relay, nor end a client."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace

import msgspec
import pytest

from cloister.engine import inbox as inboxes
from cloister.engine import values
from cloister.engine.logs import FollowedLog
from cloister.engine.unit import Unit
from cloister.errors import PeerError
from cloister.identity.mailbox import MailboxKey
from cloister.primitives.labelled import sign
from cloister.primitives.signature import SigningKey
from cloister.protocols.ratchet import SendChain
from cloister.testing import clock
from cloister.testing.realm import SmallRealm
from cloister.testing.store import MemoryStore
from cloister.wire import frames
from cloister.wire.log import Chain, ForkProof, certify_head_key, sign_head
from support.world import World, live, small_realm

NO_UNIT = SimpleNamespace(now=0)
"""Stands for the unit of an input that writes nothing."""


@pytest.fixture(scope="module")
def realm() -> SmallRealm:
    return small_realm()


async def say(world: World, name: str, room: str, text: str) -> None:
    await world.devices[name].execute(values.Send(room=room, text=text))


@pytest.mark.parametrize("code", ["gap", "replay"])
def test_a_member_that_breaks_its_numbers_is_not_the_relay_and_stops_nobody(realm: SmallRealm, code: str) -> None:
    """REC-03 and REC-04 bear codes that also name the relay: the room must go on."""

    async def story(world: World) -> None:
        room = await world.room("bob", "carol")
        await say(world, "bob", room, "first")
        await world.until(lambda: world.texts("alice") == ["first"] == world.texts("carol"))
        (chains,) = [world.devices["bob"].engine.rooms.rooms[bytes.fromhex(room)].session._stock[b"send"]]  # type: ignore[attr-defined]
        ((th, chain),) = chains.items()
        chains[th] = SendChain(chain.seq + 5000 if code == "gap" else 0, chain.key)
        await say(world, "bob", room, "broken")
        await world.until(lambda: world.alarms("alice") and world.alarms("carol"))
        await say(world, "carol", room, "second")
        await world.until(lambda: "second" in world.texts("alice"))
        await say(world, "alice", room, "third")
        await world.until(lambda: "third" in world.texts("carol"))

    world = live(story, realm)
    assert set(world.alarms("alice")) == {code}
    assert all(alarm.peer for alarm in world.of("alice", values.Alarm)), "no alarm names the relay"


@pytest.mark.parametrize("public", [bytes(32), (1).to_bytes(32, "little")])
def test_a_mailbox_key_of_small_order_is_named_and_ends_no_client(realm: SmallRealm, public: bytes) -> None:
    """A member may sign anything as its mailbox key; who writes to it must not fall over."""

    async def story(world: World) -> None:
        await world.online()
        account = realm.accounts["bob"]
        at = clock.now()
        signature = sign(account.keys.device, "mailbox key", account.device, public, at)
        statement = MailboxKey(device_id=account.device, public=public, ts=at, signature=signature)
        world.core.directory.keep_mail_key(account.device, statement.encode())
        world.stir()
        await asyncio.sleep(1)
        await world.devices["alice"].execute(values.CreateRoom(title="x", suite="nonces", members=["bob"]))
        await world.until(lambda: "zero_key" in world.alarms("alice"))
        made = await world.devices["alice"].execute(values.CreateRoom(title="y", suite="nonces", members=["carol"]))
        await world.until(lambda: world.state("alice", made.id) == "ready")

    live(story, small_realm())


def test_who_was_removed_and_added_again_reads_on(realm: SmallRealm) -> None:
    """The token of an agreed key opens the log for whoever enters, for the second time too."""

    async def story(world: World) -> None:
        room = await world.room("bob", "carol")
        await world.devices["alice"].execute(values.RemoveMembers(room=room, users=["bob"]))
        await world.until(lambda: world.state("bob", room) == "removed")
        await world.until(lambda: world.state("alice", room) == "ready")
        await world.devices["alice"].execute(values.AddMembers(room=room, users=["bob"]))
        await world.until(lambda: world.state("bob", room) == "ready")
        await say(world, "bob", room, "back")
        await world.until(lambda: "back" in world.texts("alice"))
        await say(world, "carol", room, "welcome")
        await world.until(lambda: "welcome" in world.texts("bob"))

    world = live(story, realm)
    assert world.alarms("alice") == []


def test_a_relay_that_alters_my_own_message_is_caught(realm: SmallRealm) -> None:
    """The entry bears my entry id and other bytes: what is shown as sent would not be what the others get."""

    def lie(_client: str, frame: frames.Answer) -> Sequence[frames.Frame]:
        return [frame]

    async def story(world: World) -> None:
        room = await world.room("bob")
        world.twist = lie
        post = world.core._rooms.post

        def altered(peer: object, frame: frames.Post, now: int) -> None:
            post(peer, msgspec.structs.replace(frame, payload=frame.payload[:-1] + bytes([frame.payload[-1] ^ 1])), now)  # type: ignore[arg-type]

        world.core._requests = {**world.core._requests, frames.Post: altered}  # type: ignore[dict-item]
        await say(world, "alice", room, "hello")
        await world.until(lambda: world.alarms("alice"))
        assert world.texts("alice") == []

    assert live(story, realm).alarms("alice") == ["bad_chain"]


def test_a_newcomer_compares_the_log_with_the_head_that_its_inviter_saw(realm: SmallRealm) -> None:
    """The relay has signed for the inviter what it does not show to the newcomer."""

    async def story(world: World) -> None:
        room = await world.room("bob")
        await say(world, "bob", room, "before")
        await world.until(lambda: world.texts("alice") == ["before"])
        heads = world.devices["alice"].engine.rooms.rooms[bytes.fromhex(room)].session._stock[b"head"]  # type: ignore[attr-defined]
        state = world.core._logs.state(bytes.fromhex(room))
        head = world.core._logs.sign(state, heads[b""].seq, bytes(32))
        heads[b""] = replace(heads[b""], hash=head.hash, signature=head.signature)
        await world.devices["alice"].execute(values.AddMembers(room=room, users=["carol"]))
        await world.until(lambda: world.alarms("carol"))

    assert live(story, realm).alarms("carol")[0] == "fork"


def test_more_mail_than_a_mailbox_holds_ends_the_connection(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        await world.online()
        inbox = world.devices["alice"].engine._inbox
        inbox._waiting = True
        items = [frames.Item(number=number, item_id=bytes(16), body=bytes(1024)) for number in range(1, 1002)]
        inbox.received(NO_UNIT, items[:1000])  # type: ignore[arg-type]
        with pytest.raises(PeerError) as caught:
            inbox.received(NO_UNIT, items[1000:])  # type: ignore[arg-type]
        assert caught.value.code == "quota"

    live(story, realm)


def test_an_invitation_that_this_profile_has_no_keys_for_blocks_nothing(realm: SmallRealm) -> None:
    """A device without RSA keys gets mail of suite `nonces`: the mail behind it is read."""

    async def story(world: World) -> None:
        await world.online()
        me = world.devices["carol"].engine._inbox.me
        object.__setattr__(me, "keys", replace(me.keys, rsa_sign=None, rsa_decrypt=None))
        await world.devices["alice"].execute(values.CreateRoom(title="x", suite="nonces", members=["carol"]))
        await world.until(lambda: "not_ready" in world.alarms("carol"))
        assert world.devices["carol"].engine._inbox.position == 1

    live(story, small_realm())


def test_a_proof_of_a_fork_bears_the_keys_that_signed_it_however_many_the_relay_has() -> None:
    """A relay that changed its head key at every login would else make proofs that nobody can read."""
    rng = random.Random(1).randbytes
    identity, log = SigningKey.generate("ed25519", rng), bytes([1]) * 16
    keys = [SigningKey.generate("ed25519", rng) for _ in range(17)]
    statements = [certify_head_key(identity, "r", key.public.raw, 0) for key in keys]
    ours, theirs = (sign_head(keys[3], "r", log, 0, 1, bytes([n]) * 32) for n in (1, 2))
    store = MemoryStore().open()
    unit = Unit(store, 0, rng, lambda: 0)
    unit.put("entry", log + (1).to_bytes(8, "big"), ours.hash)
    followed = FollowedLog(Chain("r", log, 0, 1, ours.hash), ours)
    proof = followed.prove_fork(unit, theirs, statements)
    assert proof is not None
    assert ForkProof.decode(proof.encode()).verify(identity.public) == 1


def renumbered(number: int) -> Callable[[str, frames.Answer], Sequence[frames.Frame]]:
    """A relay that gives alice's mail another number."""

    def twist(client: str, frame: frames.Answer) -> Sequence[frames.Frame]:
        if client == "alice" and isinstance(frame, frames.Mailed):
            return [frames.Mailed(items=[msgspec.structs.replace(item, number=number) for item in frame.items])]
        return [frame]

    return twist


@pytest.mark.parametrize("number", [2**63 - 1, inboxes.JUMP_MOST + 1])
def test_a_number_that_no_mailbox_can_have_reached_is_refused_and_silences_nothing(
    realm: SmallRealm, number: int
) -> None:
    async def story(world: World) -> None:
        await world.online()
        world.twist = renumbered(number)
        made = await world.devices["bob"].execute(values.CreateRoom(title="x", suite="nonces", members=["alice"]))
        await world.until(lambda: world.alarms("alice"))
        assert world.devices["alice"].engine._inbox.position == 0
        world.twist = lambda _client, frame: [frame]
        await world.until(lambda: world.state("alice", made.id) == "ready")

    assert set(live(story, realm).alarms("alice")) == {"gap"}


def test_a_number_that_was_believed_is_noticed_and_the_mail_is_read_from_its_beginning(realm: SmallRealm) -> None:
    """The relay was honest again after it had lied: its own mailbox never came so far."""

    async def story(world: World) -> None:
        await world.online()
        alice = world.devices["alice"]
        world.twist = renumbered(inboxes.JUMP_MOST)
        await world.devices["bob"].execute(values.CreateRoom(title="x", suite="nonces", members=["alice"]))
        await world.until(lambda: alice.engine._inbox.position == inboxes.JUMP_MOST)
        world.twist = lambda _client, frame: [frame]
        alice.crash()
        alice.start()
        made = await world.devices["carol"].execute(values.CreateRoom(title="y", suite="nonces", members=["alice"]))
        await world.until(lambda: world.state("alice", made.id) == "ready")

    assert "gap" in live(story, realm).alarms("alice")


def test_mail_that_was_given_before_is_the_relays_fault(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        await world.online()
        inbox = world.devices["alice"].engine._inbox
        inbox._waiting = True
        item = frames.Item(number=1, item_id=bytes(16), body=bytes(1024))
        inbox.received(NO_UNIT, [item])  # type: ignore[arg-type]
        with pytest.raises(PeerError) as caught:
            inbox.received(NO_UNIT, [item])  # type: ignore[arg-type]
        assert caught.value.code == "replay"

    live(story, realm)


def test_a_mailbox_key_that_was_given_up_is_not_taken_again(realm: SmallRealm) -> None:
    """The relay brings an old statement back, whose private key may be known by now."""

    async def story(world: World) -> None:
        await world.online()
        account, alice = realm.accounts["bob"], world.devices["alice"]
        old = MailboxKey.make(account.device, account.keys, clock.now() - 5000)
        new = MailboxKey.make(account.device, account.keys, clock.now())
        world.core.directory.keep_mail_key(account.device, new.encode())
        world.stir()
        await asyncio.sleep(1)
        made = await alice.execute(values.CreateRoom(title="x", suite="nonces", members=["bob"]))
        await world.until(lambda: world.state("alice", made.id) == "ready")
        world.core.directory.keep_mail_key(account.device, old.encode())
        world.stir()
        alice.crash()
        alice.start()
        await world.until(lambda: alice.engine.link.online)
        await alice.execute(values.CreateRoom(title="y", suite="nonces", members=["bob"]))
        await world.until(lambda: world.alarms("alice") == ["replay"])
        assert len(world.devices["bob"].engine.rooms.rooms) == 1
        world.core.directory.keep_mail_key(account.device, new.encode())
        world.stir()
        alice.crash()
        alice.start()
        await world.until(lambda: alice.engine.link.online)
        made = await alice.execute(values.CreateRoom(title="z", suite="nonces", members=["bob"]))
        await world.until(lambda: world.state("alice", made.id) == "ready")

    live(story, small_realm())
