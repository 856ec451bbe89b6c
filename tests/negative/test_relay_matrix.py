"""Every request x {no login, another room's token, malformed}: denied as the table says.

The rows come from the relay's own dispatch table: a new request without a row here fails.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cloister.identity.records import NewCertificates
from cloister.primitives.kdf import sha256
from cloister.relay.core.relay import COSTS, STORING
from cloister.relay.core.state import LOGGED_IN, State
from cloister.wire import frames
from cloister.wire.frames import Bye, Frame, Refused
from support.relays import Client, World, item

ROOM, OTHER, RUN = b"R" * 16, b"O" * 16, b"U" * 16
T0, T1 = bytes([1]) * 32, bytes([2]) * 32
E = b"e" * 16


def renewal(world: World) -> bytes:
    """A record that only the relay itself may append."""
    person = world.people["bob"]
    return NewCertificates(device_id=person.id, leaves=world.realm.certify(person)).encode()


SAMPLES: dict[type[Frame], Callable[[Client], Frame]] = {
    frames.Present: lambda c: frames.Present(rid=1, log=ROOM, token=T1, after=0),
    frames.Forget: lambda c: frames.Forget(rid=1, log=ROOM),
    frames.Post: lambda c: c.a_post(ROOM, T1, E),
    frames.Commit: lambda c: c.a_commit(ROOM, T1, T0, E),
    frames.GetGroupInfo: lambda c: frames.GetGroupInfo(rid=1, log=ROOM, token=T1, offset=0),
    frames.OpenRun: lambda c: frames.OpenRun(
        rid=1, run=RUN, room=ROOM, token_hash=sha256(T1), deadline=c.world.now + 9, items=[]
    ),
    frames.Stage: lambda c: frames.Stage(rid=1, hash=sha256(b"x"), size=1, offset=0, data=b"x"),
    frames.Deposit: lambda c: frames.Deposit(rid=1, mail=item(c.world.people["bob"], E)),
    frames.MailOpen: lambda c: frames.MailOpen(rid=1, after=0),
    frames.MailAck: lambda c: frames.MailAck(rid=1, upto=0),
    frames.PutMailKey: lambda c: frames.PutMailKey(rid=1, statement=c.world.people["bob"].application.mailbox.encode()),
    frames.Certify: lambda c: frames.Certify(rid=1, requests=[]),
    frames.GetMailKeys: lambda c: frames.GetMailKeys(rid=1, devices=[c.world.people["bob"].id]),
    frames.PrekeysPut: lambda c: frames.PrekeysPut(rid=1, suite="mls", packages=[]),
    frames.PrekeysClaim: lambda c: frames.PrekeysClaim(rid=1, suite="mls", devices=[c.world.people["bob"].id]),
    frames.Append: lambda c: frames.Append(rid=1, record=renewal(c.world)),
    frames.InvitePut: lambda c: frames.InvitePut(
        rid=1, invite=E, secret_hash=bytes(32), uses=1, expires=c.world.now + 9
    ),
    frames.UserList: lambda c: frames.UserList(rid=1),
    frames.Presence: lambda c: frames.Presence(rid=1, visible=False),
    frames.GetPubkey: lambda c: frames.GetPubkey(rid=1, username="bob"),
    frames.CreateSession: lambda c: frames.CreateSession(rid=1, purpose="chat", mode="code"),
    frames.JoinSession: lambda c: frames.JoinSession(rid=1, session="A3F2B1"),
    frames.Pass: lambda c: frames.Pass(rid=1, session="A3F2B1", body=b"x"),
    frames.Release: lambda c: frames.Release(rid=1, session="A3F2B1"),
}
"""One well-formed request of each kind, by who holds another room's token (T1) and not this one's (T0)."""

WITH_ANOTHER_ROOMS_TOKEN: dict[type[Frame], str] = {
    frames.Present: "not_allowed",
    frames.Post: "not_allowed",
    frames.Commit: "not_allowed",
    frames.GetGroupInfo: "not_allowed",
    frames.OpenRun: "not_allowed",
    frames.PutMailKey: "misrouted",
    frames.Certify: "quota",
    frames.Append: "not_allowed",
    frames.JoinSession: "no_session",
    frames.Pass: "no_session",
    frames.Release: "no_session",
}
"""Refused with a code; every other request is about the caller's own things, or public in the realm."""

STRANGERS = (frames.Hello, frames.Login, frames.GuestLogin, frames.Enrol)


@pytest.fixture
def world() -> World:
    made = World()
    ann = made.client("ann")
    ann.create(ROOM, T0)
    ann.create(OTHER, T1)
    return made


def ready_kinds() -> set[type[Frame]]:
    return set(World(names=()).core.handlers[State.READY])


def test_the_table_of_samples_has_every_route() -> None:
    assert set(SAMPLES) == ready_kinds()
    assert set(COSTS) | set(STORING) <= ready_kinds() | {frames.Enrol}


def test_the_dispatch_table_has_every_request_of_the_protocol() -> None:
    assert ready_kinds() == set(frames.Request.__args__)
    core = World(names=()).core
    before = {kind for state, handlers in core.handlers.items() if state not in LOGGED_IN for kind in handlers}
    assert before == set(frames.BeforeLogin.__args__)


@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("challenged", [False, True])
def test_without_login_every_request_ends_the_connection(world: World, kind: type[Frame], challenged: bool) -> None:
    client = world.stranger()
    if challenged:
        client.say(frames.Hello(device=world.people["ann"].id, nonce=bytes(32), versions=[1]))
        client.hear()
    client.say(SAMPLES[kind](client))
    assert client.hear() == [Bye(code="bad_encoding")]
    assert client.wire.closed
    assert world.core.take_batch() is None


@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.__name__)
def test_after_revocation_every_request_is_lost(world: World, kind: type[Frame]) -> None:
    client = world.client("cy")
    world.core.admission.revoke(world.people["cy"].id, world.now)
    world.step()
    client.hear()
    client.say(SAMPLES[kind](client))
    assert client.hear() == []
    assert world.core.take_batch() is None


@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.__name__)
def test_with_another_rooms_token(world: World, kind: type[Frame]) -> None:
    client = world.client("cy")
    client.present(OTHER, T1)
    before = world.store.last(ROOM)
    client.say(SAMPLES[kind](client))
    world.step()
    answers = [frame for frame in client.hear() if hasattr(frame, "rid")]
    codes = [frame.code for frame in answers if isinstance(frame, Refused)]
    expected = WITH_ANOTHER_ROOMS_TOKEN.get(kind)
    assert codes == ([] if expected is None else [expected])
    assert len(answers) == 1
    assert world.store.last(ROOM) == before


@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.__name__)
def test_malformed_requests_end_the_connection(world: World, kind: type[Frame]) -> None:
    probe = world.client("cy")
    whole = frames.encode(SAMPLES[kind](probe))
    fields = len(type(SAMPLES[kind](probe)).__struct_fields__)
    surplus = bytes([whole[0] + 1]) + whole[1:] + b"\x01" if whole[0] < 0x9F else whole + b"\x01"
    short = bytes([0x90 + fields]) + whole[1:-1]
    for data in (surplus, whole + b"\x00", whole[:-1], short, whole[:1] + b"\xa3xyz" + whole[5:]):
        client = world.client("bob")
        world.core.frame(client.wire, data, world.now)
        assert client.hear() == [Bye(code="bad_encoding")], data
        assert client.wire.closed == "bad_encoding"
        world.core.disconnect(client.wire, world.now)
    assert world.core.take_batch() is None


@pytest.mark.parametrize("kind", STRANGERS, ids=lambda kind: kind.__name__)
def test_login_frames_after_the_login_end_the_connection(world: World, kind: type[Frame]) -> None:
    samples: dict[type[Frame], Frame] = {
        frames.Hello: frames.Hello(device=None, nonce=bytes(32), versions=[1]),
        frames.Login: frames.Login(chain=[], ts_ms=0, signature=b"x"),
        frames.GuestLogin: frames.GuestLogin(key=bytes(32), ts_ms=0, signature=b"x"),
        frames.Enrol: frames.Enrol(rid=1, request=b"x"),
    }
    client = world.client("ann")
    client.say(samples[kind])
    assert client.hear() == [Bye(code="bad_encoding")]
