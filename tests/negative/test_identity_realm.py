"""Every realm log record that the fold must refuse, the code that names it, and the state left as it was.

Checks: REALM-04, REALM-05, REALM-06, REALM-07, REALM-08, REALM-09, REALM-10, REALM-11, REALM-12, REALM-13,
REALM-14, REALM-15, REALM-16, REALM-17.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from cloister.codec.cbor import enc
from cloister.errors import PeerError
from cloister.identity.authority import Authority
from cloister.identity.certificate import Usage, build_request, build_requests
from cloister.identity.credential import device_id
from cloister.identity.keys import UserKeys
from cloister.identity.manifest import Manifest, Row
from cloister.identity.realm import MANIFESTS_PER_DAY, RealmState
from cloister.identity.records import NewCertificates, NewCrl, NewManifest
from support.people import DAY, NOW, Person, Realm, device_keys, seeded


def refused(code: str, realm: Realm, payload: bytes, at: int | None = None) -> None:
    """The record is refused with `code`, and the state still gives every answer that it gave."""
    before = _answers(realm.state)
    with pytest.raises(PeerError) as caught:
        realm.state.apply(payload, realm.now if at is None else at)
    assert caught.value.code == code
    assert _answers(realm.state) == before


def _answers(state: RealmState) -> list[object]:
    users = [state.user(name) for name in state.users()]
    return [state.size, state.time(), users, [state.find(user.devices[0]).since for user in users]]


def enrolment(realm: Realm, person: Person, **changes: object) -> bytes:
    record = person.application.record(realm.certify(person))
    return replace(record, **changes).encode()  # type: ignore[arg-type]


# --- genesis ----------------------------------------------------------------------------------------------


def test_control_a_realm_begins() -> None:
    realm = Realm()
    assert RealmState.begin(realm.genesis().encode(), NOW).size == 1
    assert RealmState.fold(realm.records).realm == "home.example"


def begin_refused(code: str, payload: bytes) -> None:
    with pytest.raises(PeerError) as caught:
        RealmState.begin(payload, NOW)
    assert caught.value.code == code


def test_a_log_that_does_not_begin_with_genesis_is_refused() -> None:
    realm = Realm()
    begin_refused("bad_chain", enrolment(realm, realm.person("alice")))
    begin_refused("bad_encoding", b"")
    with pytest.raises(PeerError) as caught:
        RealmState.fold([])
    assert caught.value.code == "bad_chain"


def test_a_second_genesis_is_refused() -> None:
    realm = Realm()
    refused("bad_chain", realm, realm.genesis().encode())


def test_a_genesis_of_an_unknown_mode_is_refused() -> None:
    begin_refused("unsupported", replace(Realm().genesis(), mode="split").encode())


def test_a_genesis_with_another_realms_root_is_refused() -> None:
    begin_refused("wrong_realm", replace(Realm().genesis(), realm="other.example").encode())


def test_a_genesis_whose_authority_does_not_hold_is_refused() -> None:
    genesis = Realm().genesis()
    other = Authority.create("home.example", NOW, seeded("other")).authorities
    begin_refused("wrong_authority", replace(genesis, intermediate=other.intermediate).encode())
    begin_refused("bad_cert", replace(genesis, root=b"nothing").encode())


# --- any record -------------------------------------------------------------------------------------------


def test_bytes_that_are_no_record_are_refused() -> None:
    realm = Realm()
    realm.enrol("alice")
    refused("bad_encoding", realm, b"")
    refused("bad_encoding", realm, b"\xff" * 64)
    refused("unsupported", realm, enc("party", 1))


def test_a_flipped_bit_anywhere_before_the_requests_hash_of_an_enrolment_is_refused() -> None:
    realm = Realm()
    alice = realm.person("alice")
    payload = enrolment(realm, alice)
    tail = len(payload) - 34  # requests hash: only inviter and newcomer can judge it
    codes = set()
    for at in range(tail):
        spoiled = bytearray(payload)
        spoiled[at] ^= 1 << at % 8
        with pytest.raises(PeerError) as caught:
            realm.state.apply(bytes(spoiled), realm.now)
        codes.add(caught.value.code)
    assert {"bad_encoding", "bad_sig", "bad_cert", "wrong_authority"} <= codes


# --- enrolment --------------------------------------------------------------------------------------------


def test_a_name_belongs_to_its_first_key() -> None:
    realm = Realm()
    realm.enrol("alice")
    thief = realm.person("alice")
    request = build_request(thief.device.device, thief.id, Usage.DEVICE)
    leaves = Authority.decode(Realm().authority.encode()).issue([request], thief.id, NOW, realm.rng)
    refused("identity_changed", realm, thief.application.record(leaves).encode())


def test_a_user_enrols_once() -> None:
    realm = Realm()
    alice = realm.enrol("alice")
    refused("conflict", realm, enrolment(realm, alice))


def test_a_first_manifest_of_another_form_is_refused() -> None:
    realm = Realm()
    alice = realm.person("alice")
    second = alice.manifest.successor(alice.keys, [alice.row], realm.now)
    refused("bad_manifest", realm, enrolment(realm, alice, manifest=second.encoded))


def test_a_manifest_of_another_realm_is_refused() -> None:
    realm, other = Realm(), Realm(name="other.example")
    stranger = other.person("alice")
    refused("bad_manifest", realm, stranger.application.record(other.certify(stranger)).encode())


def test_certificates_for_other_keys_than_the_manifests_are_refused() -> None:
    realm = Realm()
    alice = realm.person("alice")
    request = build_request(device_keys(seeded("other")).device, alice.id, Usage.DEVICE)
    foreign = realm.authority.issue([request], alice.id, realm.now, realm.rng)
    refused("not_in_manifest", realm, enrolment_with(alice, foreign))


def enrolment_with(person: Person, leaves: tuple[bytes, ...]) -> bytes:
    return person.application.record(leaves).encode()


def test_fewer_or_more_certificates_than_keys_are_refused() -> None:
    realm = Realm()
    alice, bob = realm.person("alice", rsa=0), realm.person("bob")
    leaves = realm.certify(alice)
    refused("not_in_manifest", realm, enrolment_with(alice, leaves[:1]))
    refused("not_in_manifest", realm, enrolment_with(bob, leaves))
    realm.append(enrolment_with(alice, leaves))


def test_certificates_in_another_order_are_refused() -> None:
    realm = Realm()
    alice = realm.person("alice", rsa=0)
    first, sign, encrypt = realm.certify(alice)
    refused("wrong_usage", realm, enrolment_with(alice, (first, encrypt, sign)))


def test_certificates_of_another_authority_are_refused() -> None:
    realm, twin = Realm(), Realm(seed="twin")
    alice = realm.person("alice")
    refused("wrong_authority", realm, enrolment_with(alice, twin.certify(alice)))


def test_certificates_of_another_name_are_refused() -> None:
    realm = Realm()
    alice = realm.person("alice")
    other = device_id(realm.name, "alice", "tablet")
    requests = build_requests(alice.device, other)
    leaves = realm.authority.issue(requests, other, realm.now, realm.rng)
    refused("wrong_name", realm, enrolment_with(alice, leaves))


def test_certificates_are_judged_at_the_time_of_their_record() -> None:
    realm = Realm()
    alice = realm.person("alice")
    payload = enrolment(realm, alice)
    refused("expired", realm, payload, at=realm.now + 91 * DAY)
    refused("bad_cert", realm, payload, at=realm.now - DAY)
    realm.append(payload)


# --- manifests --------------------------------------------------------------------------------------------


def test_a_manifest_of_nobody_is_refused() -> None:
    realm = Realm()
    alice = realm.person("alice")
    refused("unknown_sender", realm, NewManifest(manifest=alice.manifest.encoded).encode())


def test_a_manifest_of_another_key_is_refused() -> None:
    realm = Realm()
    alice = realm.enrol("alice")
    mallory, _ = UserKeys.generate(seeded("mallory"))
    forged = alice.manifest.successor(mallory, [alice.row], realm.now)
    refused("identity_changed", realm, NewManifest(manifest=forged.encoded).encode())


def test_a_manifest_that_does_not_continue_is_refused() -> None:
    realm = Realm()
    alice = realm.enrol("alice")
    first = alice.manifest
    realm.publish(alice, first.successor(alice.keys, [alice.row], realm.now))
    for manifest in (first, alice.manifest, first.successor(alice.keys, [alice.row], realm.now + 1)):
        refused("bad_manifest", realm, NewManifest(manifest=manifest.encoded).encode())


def test_a_forged_signature_under_a_manifest_is_refused() -> None:
    realm = Realm()
    alice = realm.enrol("alice")
    successor = alice.manifest.successor(alice.keys, [alice.row], realm.now).encoded
    spoiled = successor[:-1] + bytes([successor[-1] ^ 1])
    refused("bad_sig", realm, NewManifest(manifest=spoiled).encode())


def test_the_twenty_first_manifest_of_a_day_is_refused() -> None:
    realm = Realm()
    alice = realm.enrol("alice")

    def successor() -> Manifest:
        return alice.manifest.successor(alice.keys, [alice.row], realm.now)

    for _ in range(MANIFESTS_PER_DAY - 1):
        realm.now += 1000
        realm.publish(alice, successor())
    refused("quota", realm, NewManifest(manifest=successor().encoded).encode())
    refused("quota", realm, NewManifest(manifest=successor().encoded).encode(), at=NOW + DAY - 1)
    realm.now = NOW + DAY
    realm.publish(alice, successor())


# --- certificates -----------------------------------------------------------------------------------------


def test_certificates_of_nobody_are_refused() -> None:
    realm = Realm()
    alice = realm.person("alice")
    record = NewCertificates(device_id=alice.id, leaves=realm.certify(alice))
    refused("unknown_sender", realm, record.encode())


def test_certificates_of_an_unlisted_device_are_refused() -> None:
    realm = Realm()
    alice = realm.enrol("alice")
    tablet, keys = device_id(realm.name, "alice", "tablet"), device_keys(seeded("tablet"))
    leaves = realm.authority.issue(build_requests(keys, tablet), tablet, realm.now, realm.rng)
    record = NewCertificates(device_id=tablet, leaves=leaves).encode()
    refused("not_in_manifest", realm, record)
    rows = [alice.row, Row.of(tablet, keys.hashes())]
    realm.publish(alice, alice.manifest.successor(alice.keys, rows, realm.now))
    realm.append(record)


def test_older_certificates_do_not_come_back() -> None:
    realm = Realm()
    alice = realm.enrol("alice")
    old = realm.device(alice).certificates
    realm.now += DAY
    realm.renew(alice)
    newest = realm.device(alice).certificates
    for leaves in (old, newest):
        refused("replay", realm, NewCertificates(device_id=alice.id, leaves=leaves).encode())


def test_new_keys_that_the_manifest_lists_replace_the_old_ones_at_once() -> None:
    realm = Realm()
    alice = realm.enrol("alice")
    fresh = replace(alice, device=device_keys(seeded("fresh")))
    realm.publish(alice, alice.manifest.successor(alice.keys, [fresh.row], realm.now))
    twin = Authority(
        realm.name, realm.authority.authorities, realm.authority._root_key, realm.authority._intermediate_key
    )
    leaves = twin.issue(build_requests(fresh.device, alice.id), alice.id, realm.now, realm.rng)
    realm.append(NewCertificates(device_id=alice.id, leaves=leaves).encode())
    assert realm.device(alice).key == fresh.device.device.public


def test_a_revoked_device_stays_out_under_any_certificate() -> None:
    realm = Realm()
    alice = realm.enrol("alice")
    before = Authority.decode(realm.authority.encode())
    realm.revoke(alice)
    leaves = before.issue(build_requests(alice.device, alice.id), alice.id, realm.now + DAY, realm.rng)
    record = NewCertificates(device_id=alice.id, leaves=leaves).encode()
    refused("revoked", realm, record, at=realm.now + DAY)


def test_a_certificate_revoked_before_its_record_is_refused() -> None:
    realm = Realm()
    alice = realm.person("alice")
    payload = enrolment(realm, alice)
    realm.authority.revoke(alice.id, realm.now)
    realm.append(NewCrl(crl=realm.authority.crl(realm.now)).encode())
    refused("revoked", realm, payload)


# --- revocation lists -------------------------------------------------------------------------------------


def test_a_list_of_another_authority_is_refused() -> None:
    realm, twin = Realm(), Realm(seed="twin")
    refused("wrong_authority", realm, NewCrl(crl=twin.authority.crl(NOW)).encode())
    refused("bad_cert", realm, NewCrl(crl=b"nothing").encode())


def test_an_older_list_is_refused() -> None:
    realm = Realm()
    first, second = realm.authority.crl(NOW), realm.authority.crl(NOW)
    realm.append(NewCrl(crl=second).encode())
    for crl in (first, second):
        refused("replay", realm, NewCrl(crl=crl).encode())


def test_in_a_realm_that_certifies_nobody_requests_must_fit_the_manifest() -> None:
    realm = Realm()
    state = RealmState.begin(replace(realm.genesis(), mode="none").encode(), NOW)
    dan, eve = realm.person("dan"), realm.person("eve")
    record = dan.application.record(dan.application.requests)
    cases = (
        (eve.application.requests, "wrong_name"),  # REALM-23
        (build_requests(eve.device, dan.id), "not_in_manifest"),  # REALM-24
    )
    for requests, code in cases:
        with pytest.raises(PeerError) as caught:
            state.apply(replace(record, leaves=tuple(requests)).encode(), NOW)
        assert caught.value.code == code
    assert state.apply(record.encode(), NOW).device(dan.id).key == dan.device.device.public
