"""The fold of the realm log: what it answers, at which size.

Checks: REALM-18, REALM-19, REALM-20, REALM-21, REALM-22.
"""

from __future__ import annotations

import time

import pytest

from cloister.codec.cbor import enc
from cloister.errors import PeerError
from cloister.identity.credential import device_id
from cloister.identity.keys import UserKeys
from cloister.identity.manifest import Row
from cloister.identity.realm import RealmState
from cloister.identity.records import NewCertificates
from cloister.primitives.kdf import sha256
from support.people import DAY, NOW, Person, Realm, device_keys, seeded


def code_of(state: RealmState, person: Person | str, size: int | None = None) -> str:
    identity = person if isinstance(person, str) else person.id
    with pytest.raises(PeerError) as caught:
        state.device(identity, size)
    return caught.value.code


def test_an_enrolled_device_is_known_with_its_keys() -> None:
    realm = Realm()
    alice, bob = realm.enrol("alice", rsa=0), realm.enrol("bob")
    record = realm.device(alice)
    assert (record.user, record.device_id, record.since) == ("alice", alice.id, 2)
    assert record.key == alice.device.device.public
    assert alice.device.rsa_sign is not None
    assert alice.device.rsa_decrypt is not None
    assert record.rsa_verify is not None
    assert record.rsa_encrypt is not None
    record.rsa_verify.verify(alice.device.rsa_sign.sign(b"m"), b"m")
    sealed = record.rsa_encrypt.encrypt(b"k", b"label")
    assert alice.device.rsa_decrypt.decrypt(sealed, b"label") == b"k"
    assert (realm.device(bob).rsa_verify, realm.device(bob).rsa_encrypt) == (None, None)
    assert realm.state.users() == ("alice", "bob")
    assert realm.state.size == 3


def test_a_roster_row_hashes_all_certificates_and_the_manifest() -> None:
    realm = Realm()
    alice = realm.enrol("alice", rsa=0)
    record = realm.device(alice)
    assert realm.state.roster_row(alice.id) == (
        alice.id,
        sha256(enc(*record.certificates)),
        sha256(alice.manifest.encoded),
    )
    assert len(record.certificates) == 3


def test_folding_again_gives_the_same_answers() -> None:
    realm = Realm()
    alice, bob = realm.enrol("alice"), realm.enrol("bob", rsa=0)
    realm.now += 61 * DAY
    realm.renew(alice)
    realm.revoke(bob)
    again = RealmState.fold(realm.records)
    for size in range(1, realm.state.size + 1):
        assert again.users(size) == realm.state.users(size)
        assert again.time(size) == realm.state.time(size)
        for name in again.users(size):
            assert again.user(name, size).manifest_hash == realm.state.user(name, size).manifest_hash
        for person in (alice, bob):
            if person.name in again.users(size):
                mine, theirs = again.find(person.id, size), realm.state.find(person.id, size)
                assert (mine.since, mine.revoked, mine.certificates) == (
                    theirs.since,
                    theirs.revoked,
                    theirs.certificates,
                )


def test_answers_at_an_earlier_size_never_change() -> None:
    realm = Realm()
    alice = realm.enrol("alice", rsa=0)
    before = [realm.state.device(alice.id, 2), realm.state.roster_row(alice.id, 2), realm.state.users(2)]
    bob = realm.enrol("bob")
    realm.now += 61 * DAY
    realm.renew(alice)
    realm.publish(alice, alice.manifest.successor(alice.keys, [alice.row], realm.now))
    realm.revoke(alice)
    state = realm.state
    assert [state.device(alice.id, 2), state.roster_row(alice.id, 2), state.users(2)] == before
    assert code_of(state, alice) == "revoked"
    assert code_of(state, bob, 2) == "unknown_sender"


def test_a_renewed_device_lives_on() -> None:
    realm = Realm()
    alice = realm.enrol("alice")
    bob = realm.enrol("bob")
    realm.now += 61 * DAY
    realm.renew(alice)
    realm.now += 60 * DAY
    realm.enrol("carol")
    assert realm.device(alice).since == 4
    assert code_of(realm.state, bob) == "expired"
    assert realm.state.device(bob.id, 4)
    assert realm.state.find(bob.id).user == "bob"


def test_the_time_of_a_size_is_that_of_its_last_record() -> None:
    realm = Realm()
    alice = realm.enrol("alice")
    realm.now += 200 * DAY
    realm.enrol("bob")
    assert code_of(realm.state, alice) == "expired"
    realm.now = NOW + 5
    carol = realm.person("carol")
    leaves = realm.certify(carol)
    realm.append(carol.application.record(leaves).encode())
    assert realm.device(alice)


def test_a_second_device_counts_once_it_is_certified() -> None:
    realm = Realm()
    alice = realm.enrol("alice", rsa=0)
    keys = device_keys(seeded("tablet"))
    tablet = device_id(realm.name, "alice", "tablet")
    realm.publish(alice, alice.manifest.successor(alice.keys, [alice.row, Row.of(tablet, keys.hashes())], realm.now))
    assert code_of(realm.state, tablet) == "unknown_sender"
    assert realm.state.user("alice").devices == (alice.id, tablet)
    second = Person(**{**_fields(alice), "id": tablet, "device": keys})
    realm.renew(second)
    assert realm.state.device(tablet).key == keys.device.public
    assert realm.state.device(tablet).manifest_hash == realm.device(alice).manifest_hash


def _fields(person: Person) -> dict[str, object]:
    return {name: getattr(person, name) for name in Person.__slots__}


def test_a_device_taken_from_the_manifest_is_out_until_it_is_listed_again() -> None:
    realm = Realm()
    alice = realm.enrol("alice")
    other = Row.of(device_id(realm.name, "alice", "other"), device_keys(seeded("other")).hashes())
    realm.publish(alice, alice.manifest.successor(alice.keys, [other], realm.now))
    assert code_of(realm.state, alice) == "not_in_manifest"
    assert not realm.state.find(alice.id).in_manifest
    realm.publish(alice, alice.manifest.successor(alice.keys, [other], realm.now))
    assert code_of(realm.state, alice) == "not_in_manifest"
    realm.publish(alice, alice.manifest.successor(alice.keys, [alice.row], realm.now))
    assert realm.device(alice).manifest_hash == alice.manifest.hash


def test_a_device_with_other_keys_in_the_manifest_is_out() -> None:
    realm = Realm()
    alice = realm.enrol("alice")
    swapped = Row.of(alice.id, device_keys(seeded("other")).hashes())
    realm.publish(alice, alice.manifest.successor(alice.keys, [swapped], realm.now))
    assert code_of(realm.state, alice) == "not_in_manifest"


def test_the_pinned_next_key_takes_over_from_a_thief() -> None:
    realm = Realm()
    alice = realm.enrol("alice")
    enrolled = alice.manifest
    new_code = UserKeys.generate(seeded("new code"))[1]
    owner = UserKeys(identity=alice.code.next_identity(), next_key=new_code.next_key())
    thief = Row.of(device_id(realm.name, "alice", "thief"), device_keys(seeded("thief")).hashes())
    for _ in range(19):
        realm.publish(alice, alice.manifest.successor(alice.keys, [alice.row, thief], realm.now))
    realm.publish(alice, enrolled.successor(owner, [alice.row], realm.now))
    user = realm.state.user("alice")
    assert user.identity_key == owner.identity.public
    assert user.devices == (alice.id,)
    assert user.earlier == ()
    assert realm.device(alice)
    for newest in (alice.manifest, enrolled):
        with pytest.raises(PeerError) as caught:
            realm.publish(alice, newest.successor(alice.keys, [thief], realm.now))
        assert caught.value.code == "identity_changed"
    realm.now += DAY
    realm.publish(alice, alice.manifest.successor(owner, [alice.row], realm.now))


def test_the_pins_of_a_link_are_checked() -> None:
    realm = Realm()
    relay = sha256(realm.relay_key.public.spki())
    root = realm.authority.authorities.root_hash
    realm.state.check_pins(relay, root)
    for pins in ((root, relay), (bytes(32), root), (relay, bytes(32))):
        with pytest.raises(PeerError) as caught:
            realm.state.check_pins(*pins)
        assert caught.value.code == "wrong_realm"


def test_a_size_beyond_the_log_is_a_gap() -> None:
    realm = Realm()
    alice = realm.enrol("alice")
    for size in (0, -1, 3):
        for ask in (
            lambda at: realm.state.device(alice.id, at),
            lambda at: realm.state.user("alice", at),
            realm.state.users,
            realm.state.time,
        ):
            with pytest.raises(PeerError) as caught:
                ask(size)
            assert caught.value.code == "gap"


def test_nobody_is_known_before_enrolment() -> None:
    realm = Realm()
    alice = realm.enrol("alice")
    assert code_of(realm.state, alice, 1) == "unknown_sender"
    assert code_of(realm.state, "nonsense") == "unknown_sender"
    for name, size in (("alice", 1), ("bob", 2)):
        with pytest.raises(PeerError) as caught:
            realm.state.user(name, size)
        assert caught.value.code == "unknown_sender"


def test_a_revoked_certificate_stays_revoked_while_its_device_gets_none() -> None:
    realm = Realm()
    alice = realm.enrol("alice")
    leaves = realm.device(alice).certificates
    realm.revoke(alice)
    assert realm.state.find(alice.id).revoked
    with pytest.raises(PeerError) as caught:
        realm.append(NewCertificates(device_id=alice.id, leaves=leaves).encode())
    assert caught.value.code == "revoked"


def test_a_list_that_hits_nobody_changes_nobody() -> None:
    realm = Realm()
    alice, bob = realm.enrol("alice"), realm.enrol("bob")
    realm.revoke(bob)
    since = realm.state.find(bob.id).since
    realm.enrol("carol")
    realm.revoke(bob)
    assert realm.state.find(bob.id).since == since
    assert realm.device(alice).since == 2


@pytest.mark.slow
def test_a_realm_of_a_thousand_users_folds_in_seconds() -> None:
    realm = Realm()
    for number in range(1000):
        realm.enrol(f"user-{number}")
    begin = time.process_time()
    state = RealmState.fold(realm.records)
    assert time.process_time() - begin < 5
    assert len(state.users()) == 1000
