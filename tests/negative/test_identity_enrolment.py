"""Every enrolment that must be refused: by the relay, by the inviter, by the newcomer.

Checks: ENROL-01, ENROL-02, ENROL-03, ENROL-04, ENROL-05, ENROL-06, ENROL-07, ENROL-08, ENROL-09, ENROL-10,
ENROL-11.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cloister.codec.cbor import decode, enc, encode
from cloister.errors import PeerError
from cloister.identity.certificate import Usage, build_request, build_requests
from cloister.identity.credential import device_id
from cloister.identity.enrolment import (
    MAX_REGISTER,
    Application,
    check_enrolled,
    check_register,
    check_tag,
)
from cloister.identity.invite import Token
from cloister.identity.keys import UserKeys
from cloister.identity.mailbox import MailboxKey
from cloister.primitives.labelled import sign
from support.people import NOW, Person, Realm, seeded

L1, L2 = b"1" * 32, b"2" * 32
TOKEN = Token.generate(seeded("token"))
REALM = Realm()
ALICE = REALM.person("alice", rsa=0, token=TOKEN)
MALLORY = REALM.person("mallory", rsa=1, token=TOKEN)
GOOD = ALICE.application.register(ALICE.keys, L1, L2, NOW)


def refused(code: str, data: bytes, *, l1: bytes = L1, l2: bytes = L2, now: int = NOW) -> None:
    with pytest.raises(PeerError) as caught:
        check_register(data, REALM.name, l1, l2, now)
    assert caught.value.code == code


def resigned(at: int, value: Any, keys: UserKeys = ALICE.keys) -> bytes:
    """The good message with item `at` exchanged, signed anew by its owner."""
    items = decode(GOOD)[:-1]
    items[at] = value
    return enc(*items, sign(keys.identity, "pair register", L1, L2, *items))


def test_control_the_message_is_accepted_also_when_it_is_signed_by_hand() -> None:
    assert check_register(GOOD, REALM.name, L1, L2, NOW) == ALICE.application
    assert resigned(0, "register") == GOOD


# --- form and connection ----------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"\x80", GOOD[:-1], GOOD + b"\0", bytes(MAX_REGISTER + 1)])
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    refused("bad_encoding", data)


@pytest.mark.parametrize(
    ("at", "value", "code"),
    [
        (0, "enrol", "bad_encoding"),
        (1, "Alice", "bad_name"),
        (1, 7, "bad_encoding"),
        (2, b"", "bad_encoding"),
        (3, None, "bad_encoding"),
        (3, [], "bad_enrolment"),
        (3, [b"1", b"2"], "bad_enrolment"),
        (3, [1, 2, 3], "bad_encoding"),
        (4, [bytes(16), bytes(32)], "bad_encoding"),
        (4, [bytes(16), bytes(32), bytes(32), 0], "bad_encoding"),
        (4, b"", "bad_encoding"),
        (5, b"", "bad_encoding"),
        (6, -1, "bad_encoding"),
    ],
)
def test_a_part_of_another_form_is_refused(at: int, value: Any, code: str) -> None:
    refused(code, resigned(at, value))


def test_a_surplus_item_is_refused() -> None:
    refused("bad_encoding", encode([*decode(GOOD), 0]))


def test_a_message_recorded_on_another_connection_is_refused() -> None:
    refused("bad_sig", GOOD, l1=L2)
    refused("bad_sig", GOOD, l2=L1)
    refused("bad_sig", GOOD, l1=L2, l2=L1)


def test_a_clock_that_differs_by_more_than_two_minutes_is_refused() -> None:
    for now in (NOW + 120_001, NOW - 120_001):
        refused("clock_skew", GOOD, now=now)


def test_a_message_signed_by_another_identity_is_refused() -> None:
    refused("bad_sig", resigned(0, "register", MALLORY.keys))


def test_an_altered_message_is_refused() -> None:
    for at in range(0, len(GOOD), 5):
        spoiled = GOOD[:at] + bytes([GOOD[at] ^ 1]) + GOOD[at + 1 :]
        with pytest.raises(PeerError):
            check_register(spoiled, REALM.name, L1, L2, NOW)


def test_the_invite_part_cannot_be_taken_out_or_exchanged() -> None:
    items = decode(GOOD)
    for value in (None, [bytes(16), bytes(32), bytes(32)]):
        refused("bad_sig", encode([*items[:4], value, *items[5:]]))


# --- names ------------------------------------------------------------------------------------------------


def test_a_name_that_is_not_the_manifests_is_refused() -> None:
    refused("bad_enrolment", resigned(1, "mallory"))


def test_another_realms_enrolment_is_refused() -> None:
    other = Realm(name="other.example")
    stranger = other.person("alice")
    data = stranger.application.register(stranger.keys, L1, L2, NOW)
    assert check_register(data, other.name, L1, L2, NOW)
    refused("bad_manifest", data)


def test_a_manifest_that_is_not_the_first_is_refused() -> None:
    second = ALICE.manifest.successor(ALICE.keys, [ALICE.row], NOW)
    refused("bad_manifest", resigned(2, second.encoded))


# --- requests ---------------------------------------------------------------------------------------------


def test_a_request_for_anothers_keys_is_refused() -> None:
    requests = list(ALICE.application.requests)
    theirs = build_requests(MALLORY.device, ALICE.id)
    for at in range(3):
        refused("bad_enrolment", resigned(3, [*requests[:at], theirs[at], *requests[at + 1 :]]))


def test_a_swapped_request_is_refused() -> None:
    first, signing, decrypting = ALICE.application.requests
    refused("wrong_usage", resigned(3, [first, decrypting, signing]))
    refused("wrong_usage", resigned(3, [signing, first, decrypting]))
    refused("wrong_name", resigned(3, list(MALLORY.application.requests)))


def test_a_request_that_names_another_device_is_refused() -> None:
    tablet = device_id(REALM.name, "alice", "tablet")
    requests = list(ALICE.application.requests)
    requests[0] = build_request(ALICE.device.device, tablet, Usage.DEVICE)
    refused("wrong_name", resigned(3, requests))


def test_fewer_requests_than_keys_in_the_manifest_are_refused() -> None:
    refused("bad_enrolment", resigned(3, list(ALICE.application.requests[:1])))


def test_a_request_without_possession_of_its_key_is_refused() -> None:
    requests = list(ALICE.application.requests)
    own = MALLORY.device.device.public.raw
    requests[0] = build_request(MALLORY.device.device, ALICE.id, Usage.DEVICE).replace(
        own, ALICE.device.device.public.raw
    )
    refused("bad_cert", resigned(3, requests))


# --- mailbox key ------------------------------------------------------------------------------------------


def test_a_mailbox_key_of_another_device_is_refused() -> None:
    refused("misrouted", resigned(5, MALLORY.application.mailbox.encode()))


def test_a_mailbox_key_that_another_device_signed_is_refused() -> None:
    refused("bad_sig", resigned(5, MailboxKey.make(ALICE.id, MALLORY.device, NOW).encode()))


# --- the tag ----------------------------------------------------------------------------------------------


def tag_refused(token: Token, realm: str, person: Person, **changes: Any) -> None:
    record = replace(person.application.record((b"leaf",)), **changes)
    with pytest.raises(PeerError) as caught:
        check_tag(token, realm, record)
    assert caught.value.code == "bad_enrolment"


def test_control_the_tag_verifies() -> None:
    check_tag(TOKEN, REALM.name, ALICE.application.record((b"leaf",)))


def test_a_tag_made_without_the_links_secret_alarms() -> None:
    guess = Token(id=TOKEN.id, secret=bytes(32))
    forger = REALM.person("eve", token=guess)
    check_tag(guess, REALM.name, forger.application.record((b"leaf",)))
    tag_refused(TOKEN, REALM.name, forger)


def test_what_the_relay_knows_of_a_link_makes_no_tag() -> None:
    relay = Token(id=TOKEN.id, secret=TOKEN.relay_proof())
    tag_refused(TOKEN, REALM.name, REALM.person("eve", token=relay))


def test_a_tag_covers_identity_manifest_and_requests() -> None:
    tag_refused(TOKEN, REALM.name, ALICE, manifest=MALLORY.manifest.encoded)
    tag_refused(TOKEN, REALM.name, ALICE, requests_hash=bytes(32))
    tag_refused(TOKEN, REALM.name, ALICE, tag=bytes(32))


def test_a_missing_tag_and_another_links_tag_alarm() -> None:
    tag_refused(TOKEN, REALM.name, ALICE, tag=None)
    tag_refused(TOKEN, REALM.name, ALICE, invite_id=None)
    tag_refused(TOKEN, REALM.name, ALICE, invite_id=bytes(16))
    tag_refused(Token.generate(seeded("another")), REALM.name, ALICE)


# --- what the newcomer gets back --------------------------------------------------------------------------


def test_an_enrolment_of_something_else_is_noticed_by_the_newcomer() -> None:
    realm = Realm(seed="relay lies")
    alice = realm.person("alice", token=TOKEN)
    with pytest.raises(PeerError) as caught:
        check_enrolled(alice.application, realm.state)
    assert caught.value.code == "unknown_sender"
    leaves = realm.certify(alice)
    honest = alice.application.record(leaves)
    for changes in ({"tag": None}, {"invite_id": None}, {"requests_hash": bytes(32)}):
        state = realm.state.apply(replace(honest, **changes).encode(), realm.now)
        with pytest.raises(PeerError) as caught:
            check_enrolled(alice.application, state)
        assert caught.value.code == "bad_enrolment"
    assert check_enrolled(alice.application, realm.state.apply(honest.encode(), realm.now))


def test_another_person_under_my_name_is_noticed() -> None:
    realm = Realm(seed="impostor")
    alice, impostor = realm.person("alice"), realm.person("alice")
    realm.append(impostor.application.record(realm.certify(impostor)).encode())
    with pytest.raises(PeerError) as caught:
        check_enrolled(alice.application, realm.state)
    assert caught.value.code == "bad_enrolment"


def test_a_damaged_application_is_refused() -> None:
    items = decode(ALICE.application.encode())
    for value in ([*items, 0], items[:-1]):
        with pytest.raises(PeerError) as caught:
            Application.decode(encode(value), REALM.name)
        assert caught.value.code == "bad_encoding"


def test_a_device_without_rsa_keys_asks_for_one_certificate() -> None:
    plain = REALM.person("plain")
    data = plain.application.register(plain.keys, L1, L2, NOW)
    assert len(check_register(data, REALM.name, L1, L2, NOW).requests) == 1
