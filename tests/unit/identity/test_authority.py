"""The embedded authority: issuing, renewing, revoking, and its state as bytes.

Checks: AUTH-01, AUTH-02, AUTH-03, AUTH-04, AUTH-05.
"""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519

from cloister.codec.cbor import decode, encode
from cloister.errors import PeerError, UsageError
from cloister.identity.authority import Authority
from cloister.identity.certificate import Usage, build_request, build_requests
from cloister.identity.credential import device_id, relay_id
from cloister.primitives.signature import SigningKey
from support import forge
from support.people import DAY, NOW, device_keys, seeded

REALM = "home.example"
PHONE = device_id(REALM, "alice", "phone")
KEYS = device_keys(seeded("alice"), rsa=0)
OTHER = device_keys(seeded("other"), rsa=1)
REQUESTS = build_requests(KEYS, PHONE)


def fresh() -> Authority:
    return Authority.create(REALM, NOW, seeded("authority"))


def test_an_authority_issues_three_leaves_for_three_requests() -> None:
    authority = fresh()
    leaves = authority.issue(REQUESTS, PHONE, NOW, seeded(1))
    trust = authority.authorities
    for leaf, usage in zip(leaves, (Usage.DEVICE, Usage.SIGN, Usage.ENCRYPT), strict=True):
        assert trust.verify(leaf, NOW, PHONE, usage).subject == PHONE
    assert [row.usage for row in authority.show(PHONE)] == [Usage.DEVICE, Usage.SIGN, Usage.ENCRYPT]
    assert authority.list() == authority.show(PHONE)
    assert len({row.serial for row in authority.list()}) == 3


def test_one_request_gives_one_leaf() -> None:
    authority = fresh()
    assert len(authority.issue(REQUESTS[:1], PHONE, NOW, seeded(1))) == 1


def test_the_relay_has_a_leaf_of_its_own() -> None:
    authority = fresh()
    key = SigningKey.generate("ed25519", seeded("relay"))
    leaf = authority.issue_relay(key, NOW, seeded(1))
    verified = authority.authorities.verify(leaf, NOW, relay_id(REALM), Usage.RELAY)
    assert verified.spki == key.public.spki()


@pytest.mark.parametrize("count", [0, 2])
def test_another_number_of_requests_is_refused(count: int) -> None:
    authority = fresh()
    with pytest.raises(PeerError) as caught:
        authority.issue(REQUESTS[:count], PHONE, NOW, seeded(1))
    assert caught.value.code == "bad_cert"
    assert authority.list() == ()


def test_requests_in_another_order_are_refused() -> None:
    authority = fresh()
    with pytest.raises(PeerError) as caught:
        authority.issue([REQUESTS[0], REQUESTS[2], REQUESTS[1]], PHONE, NOW, seeded(1))
    assert caught.value.code == "wrong_usage"
    assert authority.list() == ()


def test_a_request_that_names_another_device_is_refused() -> None:
    authority = fresh()
    foreign = build_request(OTHER.device, device_id(REALM, "bob", "phone"), Usage.DEVICE)
    with pytest.raises(PeerError) as caught:
        authority.issue([foreign], PHONE, NOW, seeded(1))
    assert caught.value.code == "wrong_name"
    assert authority.list() == ()


def test_other_keys_for_a_known_device_are_refused() -> None:
    authority = fresh()
    authority.issue(REQUESTS, PHONE, NOW, seeded(1))
    before = authority.encode()
    with pytest.raises(PeerError) as caught:
        authority.issue(build_requests(OTHER, PHONE), PHONE, NOW, seeded(2))
    assert caught.value.code == "conflict"
    assert authority.encode() == before
    assert authority.issue(REQUESTS, PHONE, NOW, seeded(2))


def test_a_revoked_device_gets_no_leaf_ever_again() -> None:
    authority = fresh()
    authority.issue(REQUESTS, PHONE, NOW, seeded(1))
    assert authority.revoke(PHONE, NOW + 5) == 3
    assert authority.revoke(PHONE, NOW + 9) == 0
    assert {row.revoked for row in authority.show(PHONE)} == {NOW + 5}
    for keys in (KEYS, OTHER):
        with pytest.raises(PeerError) as caught:
            authority.issue(build_requests(keys, PHONE), PHONE, NOW + 200 * DAY, seeded(2))
        assert caught.value.code == "revoked"


def test_revoking_an_unknown_device_is_a_usage_error() -> None:
    with pytest.raises(UsageError) as caught:
        fresh().revoke(PHONE, NOW)
    assert caught.value.code == "no_user"


def test_lists_are_numbered_and_name_what_was_revoked_lately() -> None:
    authority = fresh()
    authority.issue(REQUESTS, PHONE, NOW, seeded(1))
    first = authority.authorities.verify_crl(authority.crl(NOW))
    authority.revoke(PHONE, NOW)
    second = authority.authorities.verify_crl(authority.crl(NOW))
    later = authority.authorities.verify_crl(authority.crl(NOW + 92 * DAY))
    assert (first.number, second.number, later.number) == (1, 2, 3)
    assert first.serials == later.serials == frozenset()
    assert second.serials == {row.serial for row in authority.show(PHONE)}


def test_a_device_whose_leaves_have_ended_is_revoked_all_the_same() -> None:
    authority = fresh()
    authority.issue(REQUESTS, PHONE, NOW, seeded(1))
    authority.revoke(PHONE, NOW + 200 * DAY)
    assert len(authority.authorities.verify_crl(authority.crl(NOW + 200 * DAY)).serials) == 3


def test_renewed_leaves_are_forgotten_once_they_have_ended() -> None:
    authority = fresh()
    for month in range(0, 24, 2):
        authority.issue(REQUESTS[:1], PHONE, NOW + month * 30 * DAY, seeded(month))
    assert len(authority.list()) == 2


def test_the_state_reads_back() -> None:
    authority = fresh()
    authority.issue(REQUESTS, PHONE, NOW, seeded(1))
    authority.issue_relay(SigningKey.generate("ed25519", seeded("relay")), NOW, seeded(2))
    authority.revoke(PHONE, NOW)
    authority.crl(NOW)
    again = Authority.decode(authority.encode())
    assert again.encode() == authority.encode()
    assert again.list() == authority.list()
    assert again.authorities.verify_crl(again.crl(NOW)).number == 2
    assert repr(again) == "<Authority home.example>"


def test_a_damaged_state_is_refused() -> None:
    authority = fresh()
    authority.issue(REQUESTS[:1], PHONE, NOW, seeded(1))
    fresh_other = Authority.create(REALM, NOW, seeded("another"))
    items = decode(authority.encode())
    row = items[8][0]
    for value, code in [
        (["vault", *items[1:]], "bad_encoding"),
        ([items[0], 2, *items[2:]], "unsupported"),
        ([*items[:2], "Home", *items[3:]], "bad_name"),
        ([*items[:4], fresh_other.authorities.intermediate, *items[5:]], "wrong_authority"),
        ([*items[:5], bytes(32), *items[6:]], "bad_encoding"),
        ([*items[:8], [[*row[:2], "king", *row[3:]]]], "bad_encoding"),
        ([*items[:8], [[*row, 0]]], "bad_encoding"),
        ([*items, 0], "bad_encoding"),
    ]:
        with pytest.raises(PeerError) as caught:
            Authority.decode(encode(value))
        assert caught.value.code == code


def without_key_usage(authority: Authority) -> bytes:
    key = forge.p256(authority._intermediate_key)
    public = ed25519.Ed25519PublicKey.from_public_bytes(KEYS.device.public.raw)
    extensions = forge.leaf_extensions(public, key.public_key(), PHONE)
    issuer = x509.load_der_x509_certificate(authority.authorities.intermediate).subject
    return forge.certificate(key, issuer, public, NOW, extensions=[*extensions[:1], *extensions[2:]])


def test_a_leaf_is_verified_by_the_name_and_usage_that_it_bears() -> None:
    authority = fresh()
    leaves = authority.issue(REQUESTS, PHONE, NOW, seeded(1))
    assert [authority.verify(leaf, NOW).usage.value for leaf in leaves] == ["device", "sign", "encrypt"]
    relay = authority.issue_relay(SigningKey.generate("ed25519", seeded("relay")), NOW, seeded(2))
    assert authority.verify(relay, NOW).subject == relay_id(REALM)


def test_a_leaf_that_does_not_hold_is_refused_with_its_code() -> None:
    authority = fresh()
    leaf = authority.issue(REQUESTS[:1], PHONE, NOW, seeded(1))[0]
    foreign = Authority.create(REALM, NOW, seeded("x")).issue(REQUESTS[:1], PHONE, NOW, seeded(1))[0]
    for der, at, code in [
        (leaf, NOW + 91 * DAY, "expired"),
        (foreign, NOW, "wrong_authority"),
        (b"nothing", NOW, "bad_cert"),
        (authority.authorities.root, NOW, "bad_cert"),
        (without_key_usage(authority), NOW, "wrong_usage"),
    ]:
        with pytest.raises(PeerError) as caught:
            authority.verify(der, at)
        assert caught.value.code == code
    authority.revoke(PHONE, NOW)
    with pytest.raises(PeerError) as caught:
        authority.verify(leaf, NOW)
    assert caught.value.code == "revoked"
