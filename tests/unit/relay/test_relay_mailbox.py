"""Mailboxes: numbered, durable before they are shown, deleted on acknowledgement, bounded."""

from __future__ import annotations

import pytest

from cloister.wire import frames, limits, login
from cloister.wire.frames import Deposit, Done, Mail, MailAck, Mailed, MailOpen
from support.relays import Client, World, item


def eid(number: int) -> bytes:
    return number.to_bytes(16, "big")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def ann(world: World) -> Client:
    return world.client("ann")


@pytest.fixture
def bob(world: World) -> Client:
    client = world.client("bob")
    open_mail(client)
    return client


def open_mail(client: Client, after: int = 0) -> list[frames.Item]:
    client.say(MailOpen(rid=client.next(), after=after))
    done, *mailed = client.hear()
    assert isinstance(done, Done)
    return [each for frame in mailed if isinstance(frame, Mailed) for each in frame.items]


def leave(client: Client, name: str, number: int, body: bytes = b"sealed") -> None:
    client.ask(Deposit(rid=client.next(), mail=item(client.world.people[name], eid(number), body)), Done)


def heard(client: Client) -> list[tuple[int, bytes]]:
    frames_heard = client.hear()
    assert all(isinstance(frame, Mailed) for frame in frames_heard)
    return [(each.number, each.body) for frame in frames_heard if isinstance(frame, Mailed) for each in frame.items]


# --- refused ------------------------------------------------------------------------------------------------


def test_a_device_that_the_realm_does_not_know_has_no_mailbox(ann: Client) -> None:
    mail = Mail(device="cloister://home.example/u/nobody/d/phone", item_id=eid(1), body=b"x")
    assert ann.refused(Deposit(rid=ann.next(), mail=mail)) == "unknown_sender"


def test_a_revoked_device_gets_no_mail(world: World, ann: Client) -> None:
    world.core.admission.revoke(world.people["cy"].id, world.now)
    world.step()
    mail = item(world.people["cy"], eid(1))
    assert ann.refused(Deposit(rid=ann.next(), mail=mail)) == "revoked"


def test_an_item_id_stands_for_one_body(world: World, ann: Client, bob: Client) -> None:
    leave(ann, "bob", 1, b"one")
    assert ann.refused(Deposit(rid=ann.next(), mail=item(world.people["bob"], eid(1), b"two"))) == "conflict"
    two = (item(world.people["cy"], eid(2), b"a"), item(world.people["cy"], eid(2), b"b"))
    assert ann.refused(ann.a_commit(b"R" * 16, None, b"t" * 32, eid(1), items=two)) == "conflict"


def test_a_mailbox_holds_a_thousand_items(world: World, ann: Client) -> None:
    person = world.people["bob"]
    for start in range(0, limits.MAILBOX.value, 250):
        items = tuple(item(person, eid(number)) for number in range(start, start + 250))
        ann.ask(ann.a_commit(eid(10_000 + start), None, b"t" * 32, eid(1), items=items), frames.Ack)
    assert ann.refused(Deposit(rid=ann.next(), mail=item(person, eid(5000)))) == "quota"
    leave(ann, "cy", 1)
    bob = world.client("bob")
    assert len(open_mail(bob)) == limits.MAILBOX.value
    bob.ask(MailAck(rid=bob.next(), upto=1), Done)
    leave(ann, "bob", 5000)
    assert ann.refused(Deposit(rid=ann.next(), mail=item(person, eid(5001)))) == "quota"


def test_a_mailbox_holds_sixteen_mib(world: World, ann: Client) -> None:
    body = bytes(limits.MAIL_ITEM.value)
    for number in range(limits.MAILBOX_BYTES.value // len(body)):
        leave(ann, "bob", number, body)
    assert ann.refused(Deposit(rid=ann.next(), mail=item(world.people["bob"], eid(5000), b"x"))) == "quota"


def test_what_was_never_sent_cannot_be_acknowledged(ann: Client) -> None:
    assert ann.refused(MailAck(rid=ann.next(), upto=1)) == "gap"


# --- delivered ----------------------------------------------------------------------------------------------


def test_items_are_numbered_and_sent_once_they_stand(world: World, ann: Client, bob: Client) -> None:
    ann.say(Deposit(rid=ann.next(), mail=item(world.people["bob"], eid(1), b"one")))
    ann.say(Deposit(rid=ann.next(), mail=item(world.people["bob"], eid(2), b"two")))
    assert bob.hear() == []
    world.step()
    assert heard(bob) == [(1, b"one"), (2, b"two")]


def test_the_same_item_again_is_delivered_once(world: World, ann: Client, bob: Client) -> None:
    mail = item(world.people["bob"], eid(1), b"one")
    ann.say(Deposit(rid=ann.next(), mail=mail))
    ann.say(Deposit(rid=ann.next(), mail=mail))
    world.step()
    leave(ann, "bob", 1, b"one")
    assert heard(bob) == [(1, b"one")]
    bob.ask(MailAck(rid=bob.next(), upto=1), Done)
    leave(ann, "bob", 1, b"one")
    world.start()
    again = world.client("ann")
    leave(again, "bob", 1, b"one")
    assert open_mail(world.client("bob")) == []


def test_what_waits_is_sent_from_where_the_device_stopped(world: World, ann: Client) -> None:
    for number in range(5):
        leave(ann, "bob", number, bytes([number]))
    bob = world.client("bob")
    assert [each.number for each in open_mail(bob, after=3)] == [4, 5]
    assert [each.number for each in open_mail(world.client("bob"))] == [1, 2, 3, 4, 5]
    assert open_mail(world.client("bob"), after=5) == []


def test_a_place_that_the_mailbox_never_reached_is_refused(world: World, ann: Client, bob: Client) -> None:
    """Or a reader that once believed a number would hear nothing for ever."""
    leave(ann, "bob", 1)
    bob.hear()
    assert bob.refused(MailOpen(rid=bob.next(), after=2)) == "gap"
    assert open_mail(bob, after=1) == []


def test_acknowledged_items_are_gone_and_numbers_go_on(world: World, ann: Client, bob: Client) -> None:
    for number in range(3):
        leave(ann, "bob", number)
    bob.hear()
    bob.ask(MailAck(rid=bob.next(), upto=2), Done)
    bob.ask(MailAck(rid=bob.next(), upto=2), Done)
    assert world.store.mailbox(world.people["bob"].id)[1] == 1
    world.start()
    leave(world.client("ann"), "bob", 7)
    assert [each.number for each in open_mail(world.client("bob"))] == [3, 4]


def test_both_connections_of_a_device_get_its_mail(world: World, ann: Client, bob: Client) -> None:
    second = world.client("bob")
    open_mail(second)
    leave(ann, "bob", 1)
    assert len(heard(bob)) == len(heard(second)) == 1


def test_who_has_not_opened_the_mailbox_gets_nothing(world: World, ann: Client) -> None:
    bob = world.client("bob")
    leave(ann, "bob", 1)
    assert bob.hear() == []


def test_a_welcome_says_how_much_waits(world: World, ann: Client) -> None:
    leave(ann, "bob", 1)
    client = world.stranger()
    person = world.people["bob"]
    first = login.hello(person.id, world.rng)
    client.say(first)
    (second,) = client.hear()
    assert isinstance(second, frames.Challenge)
    client.say(login.login(first, second, person.device.device, [], client.wire.tls, world.now))
    (fourth,) = client.hear()
    assert isinstance(fourth, frames.Welcome)
    assert fourth.mail_count == 1


def test_a_slow_reader_gets_mail_as_it_reads(world: World, ann: Client, bob: Client) -> None:
    bob.wire.waiting = limits.SEND_BUFFER.value
    for number in range(40):
        leave(ann, "bob", number, bytes(8192))
    assert bob.hear() == []
    bob.wire.waiting = 0
    world.core.drained(bob.wire, world.now)
    assert [number for number, _ in heard(bob)] == list(range(1, 41))


def test_frames_of_mail_are_no_larger_than_a_push(world: World, ann: Client) -> None:
    for number in range(6):
        leave(ann, "bob", number, bytes(30_000))
    leave(ann, "bob", 7, bytes(limits.MAIL_ITEM.value))
    bob = world.client("bob")
    bob.say(MailOpen(rid=1, after=0))
    sizes = [len(data) for data in bob.wire.sent[1:]]
    assert len(sizes) == 4
    assert max(sizes[:3]) <= limits.PUSH.value + 1024


def test_mail_of_a_revoked_device_is_dropped(world: World, ann: Client, bob: Client) -> None:
    leave(ann, "bob", 1)
    world.core.admission.revoke(world.people["bob"].id, world.now)
    world.step()
    assert world.store.mailbox(world.people["bob"].id)[1] == 0
    assert bob.wire.closed == "revoked"


def test_the_count_holds_while_deposits_and_acks_cross(world: World, ann: Client, bob: Client) -> None:
    leave(ann, "bob", 1, b"12345")
    bob.hear()
    bob.say(MailAck(rid=bob.next(), upto=1))
    batch = world.core.take_batch()
    ann.say(Deposit(rid=ann.next(), mail=item(world.people["bob"], eid(2), b"123")))
    assert batch is not None
    world.store.apply(batch.writes)
    world.core.committed(batch, world.now)
    world.step()
    leave(ann, "bob", 3, b"1")
    assert tuple(world.store.mailbox(world.people["bob"].id)) == (3, 2, 4)
    assert [number for number, _ in heard_mail(bob)] == [2, 3]


def heard_mail(client: Client) -> list[tuple[int, bytes]]:
    return [(i.number, i.body) for frame in client.hear() if isinstance(frame, Mailed) for i in frame.items]
