"""Every certificate, chain, request and revocation list that must be refused, with the code that names it.

Each family begins with its control: the same thing unspoiled is accepted.

Checks: CERT-01, CERT-02, CERT-03, CERT-04, CERT-05, CERT-06, CERT-07, CERT-08, CERT-09, CERT-10, CERT-11,
CERT-12, CERT-13, CERT-14, CERT-15, CERT-16.
"""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from cloister.errors import PeerError
from cloister.identity.authority import Authority
from cloister.identity.certificate import (
    MAX_CERTIFICATE,
    MAX_CRL,
    Authorities,
    Usage,
    build_request,
    date_of,
    decode_chain,
    encode_chain,
    read_request,
    subject_of,
    verify_chain,
)
from cloister.identity.credential import device_id, relay_id
from cloister.identity.issuing import issue_intermediate, issue_root
from cloister.primitives.signature import SigningKey
from support import forge
from support.keypool import rsa_decrypt_key, rsa_signing_key
from support.people import DAY, NOW, Realm, device_keys, seeded

REALM = "home.example"
PHONE = device_id(REALM, "alice", "phone")
KEYS = device_keys(seeded("alice"))
RSA = device_keys(seeded("alice"), rsa=0)
RNG = seeded("certificates")
AUTHORITY = Authority.create(REALM, NOW, RNG)
TRUST = AUTHORITY.authorities
LEAF = AUTHORITY.issue([build_request(KEYS.device, PHONE, Usage.DEVICE)], PHONE, NOW, RNG)[0]
ISSUER_KEY = forge.p256(AUTHORITY._intermediate_key)
ISSUER = x509.load_der_x509_certificate(TRUST.intermediate).subject
PUBLIC = ed25519.Ed25519PublicKey.from_public_bytes(KEYS.device.public.raw)


def refused(code: str, leaf: bytes, *, at: int = NOW, name: str = PHONE, usage: Usage = Usage.DEVICE) -> None:
    with pytest.raises(PeerError) as caught:
        TRUST.verify(leaf, at, name, usage)
    assert caught.value.code == code


def forged(extensions: list[tuple[Any, bool]] | None = None, **parts: Any) -> bytes:
    if extensions is None:
        extensions = forge.leaf_extensions(PUBLIC, ISSUER_KEY.public_key(), PHONE)
    return forge.certificate(
        parts.pop("issuer_key", ISSUER_KEY),
        parts.pop("issuer", ISSUER),
        parts.pop("public", PUBLIC),
        NOW,
        extensions=extensions,
        **parts,
    )


def swapped(index: int, *replacement: tuple[Any, bool]) -> list[tuple[Any, bool]]:
    extensions = forge.leaf_extensions(PUBLIC, ISSUER_KEY.public_key(), PHONE)
    extensions[index : index + 1] = list(replacement)
    return extensions


# --- leaves -----------------------------------------------------------------------------------------------


def test_control_the_leaf_and_a_forged_twin_are_accepted() -> None:
    for leaf in (LEAF, forged()):
        verified = TRUST.verify(leaf, NOW, PHONE, Usage.DEVICE)
        assert (verified.subject, verified.usage, verified.der) == (PHONE, Usage.DEVICE, leaf)
        assert verified.spki == KEYS.device.public.spki()


def test_a_leaf_past_its_end_is_expired() -> None:
    end = TRUST.verify(LEAF, NOW, PHONE, Usage.DEVICE).not_after
    assert end == NOW // 1000 * 1000 + 90 * DAY
    assert TRUST.verify(LEAF, end, PHONE, Usage.DEVICE)
    refused("expired", LEAF, at=end + 1)


def test_a_leaf_before_its_begin_is_refused() -> None:
    begin = TRUST.verify(LEAF, NOW, PHONE, Usage.DEVICE).not_before
    assert TRUST.verify(LEAF, begin, PHONE, Usage.DEVICE)
    refused("bad_cert", LEAF, at=begin - 1)


def test_a_leaf_is_expired_when_its_authority_has_ended() -> None:
    root_key, key = SigningKey.generate("p256", RNG), SigningKey.generate("p256", RNG)
    root = issue_root(REALM, root_key, 5, NOW)
    issuer = x509.load_der_x509_certificate(root).subject
    public = forge.p256(key).public_key()
    short = forge.certificate(
        forge.p256(root_key),
        issuer,
        public,
        NOW,
        subject=ISSUER,
        days=10,
        extensions=forge.authority_extensions(public, forge.p256(root_key).public_key(), 0),
    )
    trust = Authorities(root, short)
    extensions = forge.leaf_extensions(PUBLIC, public, PHONE)
    leaf = forge.certificate(forge.p256(key), ISSUER, PUBLIC, NOW, extensions=extensions)
    assert trust.verify(leaf, NOW + 9 * DAY, PHONE, Usage.DEVICE)
    with pytest.raises(PeerError) as caught:
        trust.verify(leaf, NOW + 11 * DAY, PHONE, Usage.DEVICE)
    assert caught.value.code == "expired"


@pytest.mark.parametrize(
    "name",
    [
        device_id(REALM, "alice", "tablet"),
        device_id(REALM, "bob", "phone"),
        device_id("other.example", "alice", "phone"),
        relay_id(REALM),
        PHONE.upper(),
        PHONE + "/",
        "",
    ],
)
def test_a_leaf_with_another_name_is_refused(name: str) -> None:
    refused("wrong_name", LEAF, name=name)


@pytest.mark.parametrize("usage", [Usage.SIGN, Usage.ENCRYPT])
def test_an_ed25519_leaf_is_no_rsa_leaf(usage: Usage) -> None:
    refused("wrong_usage", LEAF, usage=usage)


def test_an_rsa_key_never_both_signs_and_decrypts() -> None:
    authority = Authority.create(REALM, NOW, RNG)
    trust = authority.authorities
    requests = [
        build_request(RSA.device, PHONE, Usage.DEVICE),
        build_request(rsa_signing_key(0), PHONE, Usage.SIGN),
        build_request(rsa_decrypt_key(0), PHONE, Usage.ENCRYPT),
    ]
    leaves = authority.issue(requests, PHONE, NOW, RNG)
    for leaf, usage in zip(leaves, (Usage.DEVICE, Usage.SIGN, Usage.ENCRYPT), strict=True):
        assert trust.verify(leaf, NOW, PHONE, usage).usage is usage
    for leaf, usage in zip(leaves, (Usage.ENCRYPT, Usage.ENCRYPT, Usage.SIGN), strict=True):
        with pytest.raises(PeerError) as caught:
            trust.verify(leaf, NOW, PHONE, usage)
        assert caught.value.code == "wrong_usage"


@pytest.mark.parametrize(
    "bits",
    [
        {"digital_signature": True, "key_encipherment": True},
        {"digital_signature": True, "key_cert_sign": True},
        {"key_agreement": True},
    ],
)
def test_a_leaf_with_other_key_usages_is_refused(bits: dict[str, bool]) -> None:
    refused("wrong_usage", forged(swapped(1, (forge.usage(**bits), True))))


def test_a_leaf_without_key_usage_is_refused() -> None:
    refused("wrong_usage", forged(swapped(1)))


@pytest.mark.parametrize("exponent_and_bits", [(65537, 2048), (3, 3072)])
def test_a_weak_rsa_leaf_is_refused(exponent_and_bits: tuple[int, int]) -> None:
    exponent, bits = exponent_and_bits
    public = rsa.RSAPublicNumbers(exponent, 2 ** (bits - 1) + 1).public_key()
    extensions = forge.leaf_extensions(public, ISSUER_KEY.public_key(), PHONE)
    refused("wrong_usage", forged(extensions, public=public), usage=Usage.SIGN)


def test_a_leaf_on_another_curve_is_refused() -> None:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    extensions = forge.leaf_extensions(public, ISSUER_KEY.public_key(), PHONE)
    refused("wrong_usage", forged(extensions, public=public))


@pytest.mark.parametrize(
    "names",
    [
        forge.uri(PHONE, device_id(REALM, "bob", "phone")),
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier(PHONE), x509.DNSName("home.example")]),
        x509.SubjectAlternativeName([x509.DNSName("home.example")]),
    ],
)
def test_a_leaf_with_other_kinds_of_names_is_refused(names: x509.SubjectAlternativeName) -> None:
    refused("bad_cert", forged(swapped(3, (names, True))))


def test_a_leaf_without_a_name_is_refused() -> None:
    refused("bad_cert", forged(swapped(3)))


def test_a_leaf_whose_name_is_garbled_is_refused() -> None:
    garbled = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), b"\x04\x01x")
    leaf = forged(swapped(3, (garbled, True)))
    refused("bad_cert", leaf)
    with pytest.raises(PeerError) as caught:
        subject_of(leaf)
    assert caught.value.code == "bad_cert"
    assert subject_of(LEAF) == PHONE


@pytest.mark.parametrize(
    "case",
    ["is an authority", "unknown critical extension", "no authority key id"],
)
def test_a_leaf_that_breaks_rfc_5280_is_refused(case: str) -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")
    extensions = {
        "is an authority": swapped(0, (x509.BasicConstraints(ca=True, path_length=None), True)),
        "unknown critical extension": swapped(4, (unknown, True)),
        "no authority key id": swapped(5),
    }[case]
    refused("wrong_authority", forged(extensions))


@pytest.mark.parametrize(
    "uses", [[], [ExtendedKeyUsageOID.SERVER_AUTH], [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]]
)
def test_a_leaf_for_other_uses_than_client_authentication_is_refused(uses: list[x509.ObjectIdentifier]) -> None:
    refused("wrong_usage", forged(swapped(2, *([(x509.ExtendedKeyUsage(uses), False)] if uses else []))))


def test_a_leaf_of_another_authority_of_the_same_name_is_refused() -> None:
    other = Authority.create(REALM, NOW, seeded("another"))
    leaf = other.issue([build_request(KEYS.device, PHONE, Usage.DEVICE)], PHONE, NOW, RNG)[0]
    assert other.authorities.verify(leaf, NOW, PHONE, Usage.DEVICE)
    refused("wrong_authority", leaf)


def test_a_leaf_that_a_leaf_signed_is_refused() -> None:
    key = ed25519.Ed25519PrivateKey.from_private_bytes(KEYS.device.private_bytes())
    extensions = forge.leaf_extensions(PUBLIC, key.public_key(), PHONE)
    refused("wrong_authority", forged(extensions, issuer_key=key, issuer=x509.Name([])))
    refused("wrong_authority", forged(extensions, issuer_key=key, issuer=ISSUER))


def test_a_leaf_that_the_root_signed_itself_is_the_authoritys_own_word() -> None:
    key = forge.p256(AUTHORITY._root_key)
    leaf = forged(
        forge.leaf_extensions(PUBLIC, key.public_key(), PHONE),
        issuer_key=key,
        issuer=x509.load_der_x509_certificate(TRUST.root).subject,
    )
    # the root's own signature is the authority's own word: a shorter path is no forgery
    assert TRUST.verify(leaf, NOW, PHONE, Usage.DEVICE)


def test_every_flipped_bit_of_a_leaf_is_refused() -> None:
    codes = set()
    for bit in range(8 * len(LEAF)):
        spoiled = bytearray(LEAF)
        spoiled[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PeerError) as caught:
            TRUST.verify(bytes(spoiled), NOW, PHONE, Usage.DEVICE)
        codes.add(caught.value.code)
    assert codes == {"bad_cert", "wrong_usage", "wrong_name", "expired", "wrong_authority"}


@pytest.mark.parametrize("leaf", [b"", b"\x30", LEAF[:-1], LEAF + b"\0", b"\x30\x80" + LEAF, LEAF * 5])
def test_bytes_that_are_no_certificate_are_refused(leaf: bytes) -> None:
    refused("bad_cert", leaf)


def test_a_certificate_of_over_2_kib_is_not_even_parsed() -> None:
    big = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), bytes(1700)), False)
    leaf = forged([*swapped(4, *forge.leaf_extensions(PUBLIC, ISSUER_KEY.public_key(), PHONE)[4:5]), big])
    assert len(leaf) > MAX_CERTIFICATE
    refused("bad_cert", leaf)


def test_a_revoked_serial_number_is_refused() -> None:
    serial = TRUST.verify(LEAF, NOW, PHONE, Usage.DEVICE, {1}).serial
    with pytest.raises(PeerError) as caught:
        TRUST.verify(LEAF, NOW, PHONE, Usage.DEVICE, {serial})
    assert caught.value.code == "revoked"


def test_a_time_outside_the_calendar_is_refused() -> None:
    refused("expired", LEAF, at=2**63)
    with pytest.raises(PeerError) as caught:
        date_of(2**63)
    assert caught.value.code == "bad_encoding"


def test_a_signature_with_a_second_spelling_is_refused() -> None:
    """A bit string may claim unused bits; where these are zero, the library takes the signature all the same."""
    leaf = next(leaf for leaf in (forged() for _ in range(99)) if leaf[-1] % 2 == 0)
    size = len(x509.load_der_x509_certificate(leaf).signature)
    assert leaf[-size - 1] == 0
    assert TRUST.verify(leaf, NOW, PHONE, Usage.DEVICE)
    refused("bad_cert", leaf[: -size - 1] + b"\1" + leaf[-size:])


# --- chains -----------------------------------------------------------------------------------------------


def test_control_a_chain_verifies_against_root_or_its_hash() -> None:
    chain = (LEAF, *TRUST.chain)
    for root in (TRUST.root, TRUST.root_hash):
        assert verify_chain(chain, root, NOW, PHONE, Usage.DEVICE).subject == PHONE
    assert verify_chain(chain[:2], TRUST.root, NOW, PHONE, Usage.DEVICE)
    assert decode_chain(encode_chain(chain)) == chain


@pytest.mark.parametrize("length", [0, 1, 2, 4])
def test_a_chain_of_another_length_is_refused(length: int) -> None:
    chain = (LEAF, *TRUST.chain, TRUST.root)[:length]
    with pytest.raises(PeerError) as caught:
        verify_chain(chain, TRUST.root_hash, NOW, PHONE, Usage.DEVICE)
    assert caught.value.code == "bad_cert"


def test_a_chain_to_another_root_is_refused() -> None:
    other = Realm(seed="other root")
    leaf = other.certify(other.person("alice"))
    chain = (*leaf, *other.authority.authorities.chain)
    for root in (TRUST.root, TRUST.root_hash):
        with pytest.raises(PeerError) as caught:
            verify_chain(chain, root, NOW, PHONE, Usage.DEVICE)
        assert caught.value.code == "wrong_authority"


def test_a_chain_with_revoked_serials_is_refused() -> None:
    serial = TRUST.verify(LEAF, NOW, PHONE, Usage.DEVICE).serial
    with pytest.raises(PeerError) as caught:
        verify_chain((LEAF, *TRUST.chain), TRUST.root, NOW, PHONE, Usage.DEVICE, revoked=[serial])
    assert caught.value.code == "revoked"


@pytest.mark.parametrize("data", [b"", b"\x82\x41\x01\x41\x02", b"\x84" + b"\x41\x01" * 4, b"\x83\x01\x02\x03"])
def test_an_encoded_chain_of_another_form_is_refused(data: bytes) -> None:
    with pytest.raises(PeerError) as caught:
        decode_chain(data)
    assert caught.value.code == "bad_encoding"


# --- authorities ------------------------------------------------------------------------------------------


def test_an_intermediate_of_another_root_is_refused() -> None:
    other = Authority.create(REALM, NOW, seeded("another")).authorities
    with pytest.raises(PeerError) as caught:
        Authorities(TRUST.root, other.intermediate)
    assert caught.value.code == "wrong_authority"


def test_a_root_that_is_not_self_signed_is_refused() -> None:
    with pytest.raises(PeerError) as caught:
        Authorities(TRUST.intermediate, TRUST.intermediate)
    assert caught.value.code == "wrong_authority"


def test_a_leaf_is_no_authority() -> None:
    with pytest.raises(PeerError) as caught:
        Authorities(TRUST.root, LEAF)
    assert caught.value.code == "wrong_authority"
    key = forge.p256(AUTHORITY._root_key)
    name = x509.load_der_x509_certificate(TRUST.root).subject
    extensions = forge.leaf_extensions(PUBLIC, key.public_key(), PHONE)
    rooted = forge.certificate(key, name, PUBLIC, NOW, extensions=extensions)
    with pytest.raises(PeerError) as caught:
        Authorities(TRUST.root, rooted)
    assert caught.value.code == "bad_cert"


def test_a_certificate_without_constraints_is_no_authority() -> None:
    key = forge.p256(AUTHORITY._root_key)
    root = x509.load_der_x509_certificate(TRUST.root).subject
    plain = forge.certificate(key, root, key.public_key(), NOW, subject=ISSUER, extensions=[])
    with pytest.raises(PeerError) as caught:
        Authorities(TRUST.root, plain)
    assert caught.value.code == "bad_cert"


def test_an_authority_on_another_curve_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    name = forge.common_name("root")
    root = forge.certificate(
        key,
        name,
        key.public_key(),
        NOW,
        subject=name,
        extensions=forge.authority_extensions(key.public_key(), key.public_key(), 1),
    )
    with pytest.raises(PeerError) as caught:
        Authorities(root, TRUST.intermediate)
    assert caught.value.code == "bad_cert"


def test_a_root_without_an_organisation_names_no_realm() -> None:
    key = SigningKey.generate("p256", RNG)
    name = forge.common_name("root")
    public = forge.p256(key).public_key()
    root = forge.certificate(
        forge.p256(key), name, public, NOW, subject=name, extensions=forge.authority_extensions(public, public, 1)
    )
    sub_public = forge.p256(AUTHORITY._intermediate_key).public_key()
    sub = forge.certificate(
        forge.p256(key),
        name,
        sub_public,
        NOW,
        subject=ISSUER,
        extensions=forge.authority_extensions(sub_public, public, 0),
    )
    assert Authorities(root, sub).realm == ""


def test_an_intermediate_that_may_not_sign_makes_no_leaf_good() -> None:
    root_key, key = SigningKey.generate("p256", RNG), SigningKey.generate("p256", RNG)
    root = issue_root(REALM, root_key, 7, NOW)
    public = forge.p256(key).public_key()
    extensions = forge.authority_extensions(public, forge.p256(root_key).public_key(), 0)
    extensions[1] = (forge.usage(crl_sign=True), True)
    subject = x509.load_der_x509_certificate(root).subject
    weak = forge.certificate(
        forge.p256(root_key), subject, public, NOW, subject=ISSUER, days=3000, extensions=extensions
    )
    leaf = forge.certificate(
        forge.p256(key), ISSUER, PUBLIC, NOW, extensions=forge.leaf_extensions(PUBLIC, public, PHONE)
    )
    good = issue_intermediate(REALM, key, root_key, 8, NOW)
    assert Authorities(root, good).verify(leaf, NOW, PHONE, Usage.DEVICE)
    with pytest.raises(PeerError) as caught:
        Authorities(root, weak).verify(leaf, NOW, PHONE, Usage.DEVICE)
    assert caught.value.code == "wrong_authority"


# --- requests ---------------------------------------------------------------------------------------------


def request(key: Any, extensions: list[tuple[Any, bool]], subject: x509.Name | None = None) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject or x509.Name([]))
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)


PROPER = [(forge.uri(PHONE), True), (forge.usage(digital_signature=True), True)]
PRIVATE = ed25519.Ed25519PrivateKey.from_private_bytes(KEYS.device.private_bytes())


def request_refused(code: str, der: bytes, usage: Usage = Usage.DEVICE) -> None:
    with pytest.raises(PeerError) as caught:
        read_request(der, usage)
    assert caught.value.code == code


def test_control_requests_are_accepted() -> None:
    read = read_request(request(PRIVATE, PROPER), Usage.DEVICE)
    assert (read.subject, read.spki) == (PHONE, KEYS.device.public.spki())
    for key, usage in ((rsa_signing_key(0), Usage.SIGN), (rsa_decrypt_key(0), Usage.ENCRYPT)):
        assert read_request(build_request(key, PHONE, usage), usage).spki == key.spki


def test_every_flipped_bit_of_a_request_is_refused() -> None:
    der = build_request(KEYS.device, PHONE, Usage.DEVICE)
    for bit in range(8 * len(der)):
        spoiled = bytearray(der)
        spoiled[bit // 8] ^= 1 << bit % 8
        request_refused("bad_cert", bytes(spoiled))


def test_a_request_with_anothers_key_inside_is_refused() -> None:
    der = build_request(KEYS.device, PHONE, Usage.DEVICE)
    other = device_keys(seeded("mallory")).device.public.raw
    request_refused("bad_cert", der.replace(KEYS.device.public.raw, other))


@pytest.mark.parametrize("der", [b"", b"\x30\x00", bytes(MAX_CERTIFICATE + 1)])
def test_bytes_that_are_no_request_are_refused(der: bytes) -> None:
    request_refused("bad_cert", der)


def test_a_request_of_another_form_is_refused() -> None:
    request_refused("bad_cert", request(PRIVATE, PROPER, forge.common_name("alice")))
    request_refused("bad_cert", request(PRIVATE, PROPER[1:]))
    constraints = (x509.BasicConstraints(ca=True, path_length=None), True)
    request_refused("bad_cert", request(PRIVATE, [*PROPER, constraints]))


def test_a_request_for_another_usage_is_refused() -> None:
    request_refused("wrong_usage", build_request(KEYS.device, PHONE, Usage.DEVICE), Usage.SIGN)
    request_refused("wrong_usage", build_request(rsa_signing_key(0), PHONE, Usage.SIGN), Usage.ENCRYPT)
    request_refused("wrong_usage", build_request(rsa_signing_key(0), PHONE, Usage.SIGN))
    request_refused("wrong_usage", request(ec.generate_private_key(ec.SECP256R1()), PROPER))


# --- revocation lists -------------------------------------------------------------------------------------


def test_control_a_list_is_accepted() -> None:
    crl = TRUST.verify_crl(AUTHORITY.crl(NOW))
    assert (crl.serials, crl.issued) == (frozenset(), NOW // 1000 * 1000)
    assert crl.number >= 1


def test_every_flipped_bit_of_a_list_is_refused() -> None:
    realm = Realm(seed="crl bits")
    realm.revoke(realm.enrol("bob"))
    der = realm.authority.crl(NOW)
    codes = set()
    for bit in range(8 * len(der)):
        spoiled = bytearray(der)
        spoiled[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PeerError) as caught:
            realm.authority.authorities.verify_crl(bytes(spoiled))
        codes.add(caught.value.code)
    assert codes == {"bad_cert", "wrong_authority"}


def test_a_list_of_another_authority_is_refused() -> None:
    other = Authority.create(REALM, NOW, seeded("another"))
    with pytest.raises(PeerError) as caught:
        TRUST.verify_crl(other.crl(NOW))
    assert caught.value.code == "wrong_authority"


@pytest.mark.parametrize("der", [b"", LEAF, bytes(MAX_CRL + 1)])
def test_bytes_that_are_no_list_are_refused(der: bytes) -> None:
    with pytest.raises(PeerError) as caught:
        TRUST.verify_crl(der)
    assert caught.value.code == "bad_cert"


def test_a_list_without_a_number_is_refused() -> None:
    builder = x509.CertificateRevocationListBuilder().issuer_name(ISSUER)
    builder = builder.last_update(forge.date(NOW)).next_update(forge.date(NOW + DAY))
    der = builder.sign(ISSUER_KEY, hashes.SHA256()).public_bytes(Encoding.DER)
    with pytest.raises(PeerError) as caught:
        TRUST.verify_crl(der)
    assert caught.value.code == "bad_cert"
