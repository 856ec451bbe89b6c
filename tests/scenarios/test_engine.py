"""The client core against a real relay core: what people ask for, what the relay refuses, what hostile mail does."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from cloister.engine import outbox as outboxes
from cloister.engine import values
from cloister.engine.account import Account
from cloister.errors import CloisterError, PeerError
from cloister.identity.credential import device_id
from cloister.identity.enrolment import Application, enrolment_tag
from cloister.identity.invite import parse_invite
from cloister.identity.keys import DeviceKeys, UserKeys
from cloister.identity.mailbox import MailboxItem, seal_item
from cloister.testing import clock
from cloister.testing.realm import SmallRealm
from cloister.wire import frames
from support.world import World, live, small_realm


@pytest.fixture(scope="module")
def realm() -> SmallRealm:
    return small_realm()


async def refused(world: World, name: str, command: values.Command) -> str:
    with pytest.raises(CloisterError) as caught:
        await world.devices[name].execute(command)
    return caught.value.code


def test_what_cannot_be_done_is_refused_before_anything_changes(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        await world.online()
        before = world.devices["alice"].store.snapshot()
        make = values.CreateRoom
        cases: list[tuple[values.Command, str]] = [
            (make(title="x", suite="no-such-suite", members=[]), "usage"),
            (make(title=" ", suite="nonces", members=[]), "usage"),
            (make(title="x" * 129, suite="nonces", members=[]), "usage"),
            (make(title="x", suite="nonces", members=["mallory"]), "no_user"),
            (values.AddMembers(room="ab" * 16, users=["bob"]), "no_room"),
            (values.Send(room="no hex", text="x"), "no_room"),
            (values.History(since="no hex"), "usage"),
            (values.CreateInvite(uses=0, expires=clock.now() + 1000), "usage"),
            (values.CreateInvite(uses=1, expires=clock.now()), "usage"),
        ]
        for command, code in cases:
            assert await refused(world, "alice", command) == code
        after = world.devices["alice"].store.snapshot()
        for table in ("room", "outbox", "intent", "invite"):
            assert list(before.open().scan(table)) == list(after.open().scan(table)) == []

    live(story, realm)


def test_a_link_is_not_made_offline(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        await world.online()
        world.network.cut("alice")
        await world.until(lambda: not world.devices["alice"].engine.link.online)
        assert await refused(world, "alice", values.CreateInvite(uses=1, expires=clock.now() + 9999)) == "unreachable"
        status = await world.devices["alice"].execute(values.GetStatus())
        assert status.relay in ("offline", "connecting")

    live(story, realm)


def test_who_may_not_remove_is_refused_at_once_and_the_owner_may(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        room = await world.room("bob", "carol")
        assert await refused(world, "bob", values.RemoveMembers(room=room, users=["carol"])) == "not_allowed"
        assert await refused(world, "alice", values.RemoveMembers(room=room, users=["mallory"])) == "no_user"
        await world.devices["alice"].execute(values.RemoveMembers(room=room, users=["carol"]))
        await world.until(lambda: world.state("carol", room) == "removed")
        await world.until(lambda: world.info("bob", room).epoch == 2)  # type: ignore[union-attr]
        assert await refused(world, "carol", values.Send(room=room, text="still here?")) == "read_only"
        await world.devices["alice"].execute(values.Send(room=room, text="gone"))
        await world.until(lambda: "gone" in world.texts("bob"))

    world = live(story, realm)
    assert "gone" not in world.texts("carol")
    assert world.alarms("alice") == world.alarms("bob") == []


def test_messages_are_shown_once_in_one_order_and_can_be_read_again(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        room = await world.room("bob")
        for number in range(5):
            await world.devices["alice"].execute(values.Send(room=room, text=f"a{number}"))
            await world.devices["bob"].execute(values.Send(room=room, text=f"b{number}"))
        await world.until(lambda: all(len(world.texts(name)) == 10 for name in ("alice", "bob")))
        assert world.texts("alice") == world.texts("bob")
        bob = world.devices["bob"]
        told = await bob.execute(values.History(room=room))
        assert [message.text for message in told] == world.texts("bob")
        assert [message.seq for message in told] == sorted(message.seq for message in told)
        assert {message.own for message in told if message.sender == "bob"} == {True}
        newer = await bob.execute(values.History(since=told[6].id))
        assert newer == told[7:]
        assert await bob.execute(values.History(limit=2)) == told[-2:]
        bob.crash()
        bob.start()
        await world.until(lambda: bob.engine.link.online)
        assert await bob.execute(values.History(room=room)) == told
        sent = await world.devices["alice"].execute(values.Send(room=room, text="wait", wait=True))
        assert (sent.state, sent.seq) == (values.SendState.SENT, told[-1].seq + 1)
        status = await world.devices["alice"].execute(values.GetStatus())
        assert (status.relay, status.rooms, status.queued, status.realm_size) == ("online", 1, 0, 4)
        await world.until(lambda: len(world.texts("bob")) == 11)

    live(story, realm)


def test_a_new_key_among_the_same_members(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        room = await world.room("bob")
        first = world.info("alice", room)
        await world.devices["bob"].execute(values.RekeyRoom(room=room))
        await world.until(lambda: world.info("alice", room).epoch == 2)  # type: ignore[union-attr]
        await world.until(lambda: world.info("bob", room) == world.info("alice", room))
        second = world.info("alice", room)
        assert first is not None
        assert second is not None
        assert first.key_check != second.key_check

    live(story, realm)


def test_two_members_who_add_at_once_both_get_what_they_wanted(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        room = await world.room("bob")
        await asyncio.gather(
            world.devices["alice"].execute(values.AddMembers(room=room, users=["carol"])),
            world.devices["bob"].execute(values.AddMembers(room=room, users=["carol"])),
        )
        await world.until(lambda: world.state("carol", room) == "ready")
        await world.until(lambda: not list(world.devices["alice"].store.open().scan("intent")))
        await world.until(lambda: not list(world.devices["bob"].store.open().scan("intent")))
        members = {member.user for member in world.info("carol", room).members}  # type: ignore[union-attr]
        assert members == {"alice", "bob", "carol"}

    live(story, realm)


def test_a_revoked_device_is_put_out_by_whoever_sees_it_and_stops_by_itself(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        room = await world.room("bob", "carol")
        world.core.admission.revoke(realm.accounts["carol"].device, clock.now())
        world.stir()
        await world.until(lambda: world.info("alice", room).epoch == 2)  # type: ignore[union-attr]
        assert [member.user for member in world.info("alice", room).members] == ["alice", "bob"]  # type: ignore[union-attr]
        await world.until(lambda: world.devices["carol"].engine.link.last_error == "revoked")
        assert await refused(world, "alice", values.AddMembers(room=room, users=["carol"])) == "no_user"

    live(story, small_realm())


def newcomer(world: World, realm: SmallRealm, name: str, link: str, *, honest: bool) -> None:
    """Somebody enrols by a link; a relay that lets in whom it likes cannot make the tag."""
    invite = parse_invite(link)
    rng = random.Random(name).randbytes
    keys, _ = UserKeys.generate(rng)
    device = DeviceKeys.generate(rng, rsa=False)
    application = Application.make(keys, device, device_id(realm.name, name, "phone"), invite.token, clock.now())
    leaves = realm.authority.issue(application.requests, application.device_id, clock.now(), rng)
    record = application.record(leaves)
    if honest:
        tag = record.tag
    else:
        other = parse_invite(link).token
        wrong = type(other)(id=other.id, secret=bytes(32))
        manifest = application.manifest
        tag = enrolment_tag(
            wrong, realm.name, name, manifest.identity_key.raw, manifest.encoded, application.requests_hash
        )
    payload = type(record)(
        manifest=record.manifest,
        leaves=record.leaves,
        tag=tag,
        invite_id=record.invite_id,
        requests_hash=record.requests_hash,
    ).encode()
    world.core.directory.record(payload, clock.now())
    world.stir()


def test_who_came_by_my_link_is_known_and_who_was_smuggled_in_is_an_alarm() -> None:
    realm = small_realm()

    async def story(world: World) -> None:
        await world.online()
        link = await world.devices["alice"].execute(values.CreateInvite(uses=2, expires=clock.now() + 10_000))
        await asyncio.sleep(1)
        assert len(parse_invite(link).token.secret) == 32
        newcomer(world, realm, "dave", link, honest=True)
        newcomer(world, realm, "eve", link, honest=False)
        await world.until(lambda: len(world.of("alice", values.UserJoined)) >= 5)
        joined = {event.name: (event.how, event.alarm) for event in world.of("alice", values.UserJoined)}
        assert joined["dave"] == ("link", False)
        assert joined["eve"] == ("alarm", True)
        assert joined["bob"] == ("log", False)
        users = {user.name: user for user in await world.devices["alice"].execute(values.ListUsers())}
        assert (users["alice"].how, users["dave"].how, users["eve"].how) == ("own", "link", "alarm")
        await world.until(lambda: world.devices["bob"].engine.knows("eve"))
        other = {user.name: user for user in await world.devices["bob"].execute(values.ListUsers())}
        assert other["alice"].safety_number == users["bob"].safety_number
        assert other["dave"].how == "log"
        world.devices["alice"].crash()
        world.devices["alice"].start()
        again = {user.name: user.how for user in await world.devices["alice"].execute(values.ListUsers())}
        assert (again["dave"], again["eve"]) == ("link", "alarm")
        code = await refused(world, "alice", values.CreateRoom(title="x", suite="nonces", members=["dave"]))
        assert code == "not_ready"

    live(story, realm)


def item(realm: SmallRealm, to: str, kind: str, room: bytes | None, body: bytes, sender: str = "bob") -> bytes:
    account = realm.accounts[sender]
    recipient = realm.accounts[to]
    what = MailboxItem(sender=account.device, recipient=recipient.device, kind=kind, room=room, body=body)
    return seal_item(what, recipient.keys.mailbox.public, account.keys.device, random.Random(1).randbytes)


@pytest.mark.parametrize(
    ("kind", "room", "body", "code"),
    [
        ("nonces propose", bytes(16), b"garbage", "bad_encoding"),
        ("nonces nothing", bytes(16), b"\x80", "no_session"),
        ("unknown propose", bytes(16), b"\x80", "unsupported"),
        ("nonces propose", None, b"\x80", "unsupported"),
        ("relay proof", bytes(16), b"\x80", "misrouted"),
    ],
)
def test_poisonous_mail_is_named_and_blocks_nothing(
    realm: SmallRealm, kind: str, room: bytes | None, body: bytes, code: str
) -> None:
    async def story(world: World) -> None:
        await world.online()
        poison = [bytes(1024), item(realm, "alice", kind, room, body)]
        mails = [
            frames.Mail(device=realm.accounts["alice"].device, item_id=bytes([n]) * 16, body=body)
            for n, body in enumerate(poison)
        ]
        world.core._mailboxes.deliver(mails, clock.now())
        world.stir()
        await world.until(lambda: len(world.alarms("alice")) >= 2)
        assert world.devices["alice"].engine.rooms.rooms == {}
        made = await world.devices["bob"].execute(values.CreateRoom(title="x", suite="nonces", members=["alice"]))
        await world.until(lambda: world.state("alice", made.id) == "ready")

    world = live(story, realm)
    assert world.alarms("alice")[1] == code


def test_mail_of_another_suite_than_its_rooms_is_misrouted(realm: SmallRealm, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(world: World) -> None:
        room = await world.room("bob")
        rooms = world.devices["alice"].engine.rooms
        rooms.rooms[bytes.fromhex(room)].suite = "another"
        body = item(realm, "alice", "nonces here", bytes.fromhex(room), b"\x80")
        mail = frames.Mail(device=realm.accounts["alice"].device, item_id=bytes(16), body=body)
        world.core._mailboxes.deliver([mail], clock.now())
        world.stir()
        await world.until(lambda: world.alarms("alice"))

    assert live(story, realm).alarms("alice") == ["misrouted"]


def test_a_full_relay_keeps_messages_queued_and_takes_them_later(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        room = await world.room("bob")
        world.core.full = True
        sent = await world.devices["alice"].execute(values.Send(room=room, text="patience"))
        assert sent.state is values.SendState.QUEUED
        await asyncio.sleep(20)
        assert world.texts("bob") == []
        assert (await world.devices["alice"].execute(values.GetStatus())).queued == 1
        sent = await world.devices["alice"].execute(values.Send(room=room, text="more", wait=True, timeout=5000))
        assert sent.state is values.SendState.QUEUED
        world.core.full = False
        await world.until(lambda: world.texts("bob") == ["patience", "more"])

    live(story, realm)


def test_invitations_beyond_a_frame_follow_it(realm: SmallRealm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outboxes, "FRAME_ROOM", 5000)

    async def story(world: World) -> None:
        room = await world.room("bob", "carol")
        assert len(world.info("carol", room).members) == 3  # type: ignore[union-attr]

    live(story, realm)


def test_what_was_written_before_the_key_was_agreed_goes_out_then(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        await world.online()
        alice = world.devices["alice"]
        made = await alice.execute(values.CreateRoom(title="x", suite="nonces", members=["bob"]))
        await alice.execute(values.Send(room=made.id, text="early"))
        await world.until(lambda: world.texts("bob") == world.texts("alice") == ["early"])
        states = [event.sent.state for event in world.of("alice", values.SendChanged)]
        assert states == [values.SendState.SENT]
        whats = [event.what for event in world.of("alice", values.RoomChanged)]
        assert whats[-1].startswith("ready, epoch 1")
        assert any(what.startswith("agreeing 1 of 2") for what in whats)

    live(story, realm)


def test_frames_that_nothing_awaits_end_the_connection_and_change_nothing(realm: SmallRealm) -> None:
    async def story(world: World) -> None:
        room = await world.room("bob")
        alice = world.devices["alice"]
        head = alice.engine.rooms.rooms[bytes.fromhex(room)].log.head
        assert head is not None
        hostile: list[Any] = [
            b"garbage",
            frames.encode(frames.Ack(rid=9999, seq=1, ts_ms=1, head=head)),
            frames.encode(frames.Users(rid=9999, names=[], online=[])),
            frames.encode(frames.Welcome(bytes(16), 0, alice.engine.link.statements[0], head, 0)),
            frames.encode(frames.Challenge(bytes(32), 0, 1, "x", bytes(32), [], b"x")),
        ]
        for number, frame in enumerate(hostile):
            await world.until(lambda: alice.engine.link.online)
            before = dict(alice.store.snapshot().open().scan("room"))
            for peer in world.core._door.peers_of(realm.accounts["alice"].device):
                peer.connection.send(frame)
            await world.until(lambda count=number + 1: len(world.alarms("alice")) == count)  # type: ignore[misc]
            assert dict(alice.store.snapshot().open().scan("room")) == before
        await world.devices["bob"].execute(values.Send(room=room, text="hello"))
        await world.until(lambda: "hello" in world.texts("alice"))

    assert set(live(story, realm).alarms("alice")) == {"bad_encoding"}


def test_a_relay_with_another_identity_gets_nothing_but_a_hello(realm: SmallRealm) -> None:
    account = realm.accounts["alice"]
    other = Account(
        realm=account.realm,
        device=account.device,
        address=account.address,
        user_keys=account.user_keys,
        keys=account.keys,
        chain=account.chain,
        relay_pin=bytes(32),
        root_pin=account.root_pin,
    )

    async def story(world: World) -> None:
        device = world.devices["alice"]
        device.crash()
        device.account = other
        device.start()
        await world.until(lambda: "wrong_realm" in world.alarms("alice"))
        assert not device.engine.link.online

    live(story, realm)


def test_an_account_is_read_back_as_it_was_written(realm: SmallRealm) -> None:
    account = realm.accounts["bob"]
    again = Account.decode(account.encode())
    assert (again.encode(), again.user, again.address) == (account.encode(), "bob", account.address)
    for bad in (b"", account.encode()[:-1], account.encode().replace(b"account\x01", b"account\x02", 1)):
        with pytest.raises(PeerError):
            Account.decode(bad)
