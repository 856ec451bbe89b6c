"""Enrolment: what is asked for, and what the newcomer and the inviter find in the realm."""

from __future__ import annotations

from cloister.identity.enrolment import (
    Application,
    check_enrolled,
    check_register,
    check_tag,
    enrolment_tag,
    requests_hash,
)
from cloister.identity.invite import Token
from support.people import Realm, seeded

L1, L2 = b"1" * 32, b"2" * 32
TOKEN = Token.generate(seeded("token"))


def test_a_register_message_is_accepted_and_read_back() -> None:
    realm = Realm()
    for name, rsa, token in (("alice", 0, TOKEN), ("bob", None, None)):
        person = realm.person(name, rsa=rsa, token=token)
        data = person.application.register(person.keys, L1, L2, realm.now)
        assert check_register(data, realm.name, L1, L2, realm.now) == person.application
        assert check_register(data, realm.name, L1, L2, realm.now + 120_000)
        assert check_register(data, realm.name, L1, L2, realm.now - 120_000)


def test_an_application_survives_a_restart() -> None:
    realm = Realm()
    alice = realm.person("alice", rsa=0, token=TOKEN)
    kept = Application.decode(alice.application.encode(), realm.name)
    assert kept == alice.application
    data = kept.register(alice.keys, L2, L1, realm.now)
    assert check_register(data, realm.name, L2, L1, realm.now).requests_hash == requests_hash(kept.requests)


def test_the_enrolled_client_finds_what_it_asked_for() -> None:
    realm = Realm()
    alice = realm.enrol("alice", rsa=0, token=TOKEN)
    record = check_enrolled(alice.application, realm.state)
    assert record.device_id == alice.application.device_id == alice.id
    realm.publish(alice, alice.manifest.successor(alice.keys, [alice.row], realm.now))
    assert check_enrolled(alice.application, realm.state)


def test_the_inviter_finds_its_tag() -> None:
    realm = Realm()
    alice = realm.enrol("alice", token=TOKEN)
    record = realm.state.user("alice").enrolled
    check_tag(TOKEN, realm.name, record)
    assert record.tag == enrolment_tag(
        TOKEN,
        realm.name,
        "alice",
        alice.keys.public,
        alice.manifest.encoded,
        requests_hash(alice.application.requests),
    )


def test_without_a_link_there_is_no_tag() -> None:
    record = Realm().person("alice").application.record((b"leaf",))
    assert (record.tag, record.invite_id) == (None, None)
