"""Enrolment, invites and the operator's acts at the relay."""

from __future__ import annotations

import pytest

from cloister.codec.cbor import Fields
from cloister.errors import CloisterError, PeerError
from cloister.identity.authority import Authority
from cloister.identity.certificate import DEVICE_USAGES
from cloister.identity.enrolment import check_enrolled
from cloister.identity.invite import Token, stored_proof
from cloister.identity.realm import RealmState
from cloister.relay.core.enrol import AUTHORITY
from cloister.relay.store.interface import InviteRow
from cloister.wire import frames, limits, login
from cloister.wire.frames import REALM_LOG, Bye, Challenge, Done, Enrol, Enrolled, InvitePut, Refused, Welcome
from support.people import Person
from support.relays import TLS, Client, World


@pytest.fixture
def world() -> World:
    return World(names=("ann",))


def apply(world: World, person: Person, address: str = "192.0.2.1") -> tuple[Client, list[frames.Frame]]:
    """Send an enrolment on a new connection; the connection and everything heard."""
    client = world.stranger(address)
    first = login.hello(None, world.rng)
    client.say(first)
    (second,) = client.hear()
    assert isinstance(second, Challenge)
    request = person.application.register(person.keys, frames.digest(first), frames.digest(second), world.now)
    client.say(Enrol(rid=7, request=request))
    world.step()
    return client, client.hear()


def code(heard: list[frames.Frame]) -> str:
    assert isinstance(heard[0], Refused)
    assert isinstance(heard[-1], Bye)
    return heard[0].code


def realm_of(world: World) -> RealmState:
    return RealmState.fold((row.payload or b"", row.ts_ms) for row in world.store.entries(REALM_LOG, 0, 999))


# --- refused ------------------------------------------------------------------------------------------------


def test_enrolment_needs_an_invite(world: World) -> None:
    _, heard = apply(world, world.realm.person("dan"))
    assert code(heard) == "used_invite"


def test_an_unknown_invite_is_refused(world: World) -> None:
    _, heard = apply(world, world.realm.person("dan", token=Token.generate(world.rng)))
    assert code(heard) == "used_invite"


def test_a_wrong_secret_is_refused_and_spends_nothing(world: World) -> None:
    token = world.invite()
    wrong = Token(id=token.id, secret=bytes(32))
    assert code(apply(world, world.realm.person("dan", token=wrong))[1]) == "used_invite"
    assert isinstance(apply(world, world.realm.person("dan", token=token))[1][0], Enrolled)


def test_an_invite_ends_with_its_time(world: World) -> None:
    token = world.invite(life=1000)
    world.now += 1001
    world.realm.now = world.now
    assert code(apply(world, world.realm.person("dan", token=token))[1]) == "used_invite"


def test_an_invite_ends_with_its_uses(world: World) -> None:
    token = world.invite(uses=2)
    for name in ("dan", "eve"):
        assert isinstance(apply(world, world.realm.person(name, token=token))[1][0], Enrolled)
    assert code(apply(world, world.realm.person("fay", token=token))[1]) == "used_invite"


def test_a_name_that_is_taken_is_refused_and_spends_nothing(world: World) -> None:
    token = world.invite()
    assert code(apply(world, world.realm.person("ann", token=token))[1]) == "identity_changed"
    assert isinstance(apply(world, world.realm.person("dan", token=token))[1][0], Enrolled)


def test_who_is_enrolled_cannot_enrol_again(world: World) -> None:
    token = world.invite(uses=2)
    dan = world.realm.person("dan", token=token)
    apply(world, dan)
    other = world.invite()
    again = type(dan.application).make(dan.keys, dan.device, dan.id, other, world.now)
    dan.application = again
    assert code(apply(world, dan)[1]) == "conflict"


def test_a_request_for_another_connection_is_refused(world: World) -> None:
    token = world.invite()
    dan = world.realm.person("dan", token=token)
    client = world.stranger()
    client.say(login.hello(None, world.rng))
    client.hear()
    client.say(Enrol(rid=1, request=dan.application.register(dan.keys, bytes(32), bytes(32), world.now)))
    assert code(client.hear()) == "bad_sig"


def test_a_refused_enrolment_leaves_the_authority_as_it_was(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    token = world.invite()
    before = world.core.admission.authority.encode()

    def refuse(*_: object) -> None:
        raise PeerError("bad_manifest")

    with monkeypatch.context() as patch:
        patch.setattr(world.core.directory, "record", refuse)
        assert code(apply(world, world.realm.person("dan", token=token))[1]) == "bad_manifest"
    assert world.core.admission.authority.encode() == before
    assert isinstance(apply(world, world.realm.person("dan", token=token))[1][0], Enrolled)


def test_an_address_enrols_thirty_a_minute(world: World) -> None:
    dan = world.realm.person("dan", token=Token.generate(world.rng))
    for _ in range(limits.ENROL_RATE.value):
        client, heard = apply(world, dan)
        assert code(heard) == "used_invite"
        world.core.disconnect(client.wire, world.now)
    client, heard = apply(world, dan)
    assert code(heard) == "quota"
    assert code(apply(world, dan, "198.51.100.7")[1]) == "used_invite"


def test_a_second_enrolment_on_one_challenge_is_refused(world: World) -> None:
    token = world.invite()
    client, heard = apply(world, world.realm.person("dan", token=token))
    assert isinstance(heard[0], Enrolled)
    client.say(Enrol(rid=8, request=b""))
    assert code(client.hear()) == "not_allowed"


def test_a_full_disk_takes_nobody_in(world: World) -> None:
    token = world.invite()
    world.core.full = True
    assert code(apply(world, world.realm.person("dan", token=token))[1]) == "storage_full"


# --- taken in -----------------------------------------------------------------------------------------------


def test_who_is_taken_in_stands_in_the_realm_and_logs_in(world: World) -> None:
    token = world.invite()
    dan = world.realm.person("dan", token=token)
    client, heard = apply(world, dan)
    (enrolled,) = heard
    assert isinstance(enrolled, Enrolled)
    fields = Fields.decode(enrolled.reply, "enrolled")
    fields.kind("enrolled")
    assert fields.uint("log size") == 3
    leaves = fields.array("leaves")
    assert tuple(leaves) == check_enrolled(dan.application, realm_of(world)).certificates
    first = login.hello(dan.id, world.rng)
    client.say(first)
    (second,) = client.hear()
    assert isinstance(second, Challenge)
    client.say(login.login(first, second, dan.device.device, [], TLS, world.now))
    assert isinstance(client.hear()[0], Welcome)
    statements = client.ask(frames.GetMailKeys(rid=1, devices=[dan.id, "cloister://x"]), frames.MailKeys)
    assert statements.statements == [dan.application.mailbox.encode(), None]


def test_the_same_bytes_get_the_same_answer_again(world: World) -> None:
    token = world.invite()
    dan = world.realm.person("dan", token=token)
    (first,) = apply(world, dan)[1]
    (again,) = apply(world, dan)[1]
    world.start()
    (later,) = apply(world, dan)[1]
    assert first == again == later
    assert realm_of(world).size == 3


def test_the_same_bytes_in_one_batch_are_one_enrolment(world: World) -> None:
    token = world.invite()
    dan = world.realm.person("dan", token=token)
    clients = []
    for _ in range(2):
        client = world.stranger()
        first = login.hello(None, world.rng)
        client.say(first)
        (second,) = client.hear()
        request = dan.application.register(dan.keys, frames.digest(first), frames.digest(second), world.now)
        client.say(Enrol(rid=7, request=request))
        clients.append(client)
    assert [client.hear() for client in clients] == [[], []]
    world.step()
    assert clients[0].hear() == clients[1].hear()
    assert realm_of(world).size == 3


def test_the_authoritys_state_is_stored_with_the_record(world: World) -> None:
    apply(world, world.realm.person("dan", token=world.invite()))
    state = world.store.meta(AUTHORITY)
    assert state is not None
    subjects = {row.subject for row in Authority.decode(state).list()}
    assert "cloister://home.example/u/dan/d/phone" in subjects


# --- invites ------------------------------------------------------------------------------------------------


def put(client: Client, token: Token, uses: int = 1, life: int = 1000) -> InvitePut:
    return InvitePut(
        rid=client.next(), invite=token.id, secret_hash=stored_proof(token.relay_proof()), uses=uses,
        expires=client.world.now + life,
    )  # fmt: skip


def test_a_users_own_link_admits(world: World) -> None:
    ann, token = world.client("ann"), Token.generate(world.rng)
    frame = put(ann, token)
    ann.ask(frame, Done)
    ann.ask(frame, Done)
    assert isinstance(apply(world, world.realm.person("dan", token=token))[1][0], Enrolled)


def test_an_invite_id_is_taken_once(world: World) -> None:
    ann, token = world.client("ann"), Token.generate(world.rng)
    ann.ask(put(ann, token), Done)
    assert ann.refused(put(ann, token, uses=2)) == "conflict"


def test_an_invite_that_has_ended_is_refused(world: World) -> None:
    ann = world.client("ann")
    assert ann.refused(put(ann, Token.generate(world.rng), life=0)) == "used_invite"


def test_a_user_has_a_hundred_live_invites(world: World) -> None:
    ann = world.client("ann")
    for number in range(limits.INVITES.value):
        frame = put(ann, Token.generate(world.rng))
        if number % 2:
            ann.ask(frame, Done)
        else:
            ann.say(frame)
    assert ann.refused(put(ann, Token.generate(world.rng))) == "quota"
    world.now += 1001
    ann.ask(put(ann, Token.generate(world.rng)), Done)


def test_the_operators_invites_have_no_owner_and_no_number(world: World) -> None:
    for _ in range(limits.INVITES.value + 1):
        world.invite()


# --- the operator -------------------------------------------------------------------------------------------


def test_revocation_closes_the_connection_once_it_stands(world: World) -> None:
    ann = world.client("ann")
    ann.present(REALM_LOG)
    assert world.core.admission.revoke(world.people["ann"].id, world.now) == 1
    assert not ann.wire.closed
    world.step()
    assert [type(frame).__name__ for frame in ann.hear()] == ["Pushed", "Bye"]
    assert ann.wire.closed == "revoked"
    assert realm_of(world).find(world.people["ann"].id).revoked


def test_revoking_an_unknown_device_is_refused(world: World) -> None:
    with pytest.raises(CloisterError, match="no_user"):
        world.core.admission.revoke("cloister://home.example/u/no/d/one", world.now)


def test_issuing_renews_a_devices_certificates(world: World) -> None:
    world.now += 60 * limits.DAY
    ann = world.people["ann"]
    leaves = world.core.admission.issue(ann.application.requests, ann.id, world.now)
    world.step()
    assert len(leaves) == len(DEVICE_USAGES[:1])
    assert realm_of(world).device(ann.id).certificates == leaves


def test_issuing_for_keys_outside_the_manifest_is_refused(world: World) -> None:
    before = world.core.admission.authority.encode()
    dan = world.realm.person("dan")
    with pytest.raises(PeerError, match="unknown_sender"):
        world.core.admission.issue(dan.application.requests, dan.id, world.now)
    assert world.core.admission.authority.encode() == before


def test_revocation_lists_are_numbered(world: World) -> None:
    first = world.core.admission.crl(world.now)
    second = world.core.admission.crl(world.now)
    authorities = world.realm.authority.authorities
    assert authorities.verify_crl(second).number == authorities.verify_crl(first).number + 1


def test_an_invite_of_the_operator_is_a_row_without_a_name(world: World) -> None:
    token = world.invite()
    row = world.store.invite(token.id)
    assert row == InviteRow(token.id, stored_proof(token.relay_proof()), 1, world.now + 3_600_000, "")
