"""Issuing X.509: root, intermediate, leaves and revocation lists. `certificate` checks what is made here.

Source: RFC 5280; docs/spec/identity.md ("Certificates").

Invariants
- Names of subject and use come from a checked request or from the realm's name, nothing else.
- Everything begins five minutes early, so that a client whose clock is two minutes slow accepts it.
- Keys are P-256 `SigningKey`s of the caller; ECDSA nonces are the library's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloister.identity.certificate import (
    DAY_MS,
    LEAF_DAYS,
    CertificateRequest,
    date_of,
    key_usage,
    usage_bits,
)
from cloister.identity.credential import realm_name
from cloister.primitives.signature import SigningKey

AUTHORITY_DAYS: Final = 3652
CRL_DAYS: Final = 30
_BACKDATE_MS: Final = 300_000


def _ec_private(key: SigningKey) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(key.private_bytes(), "big"), ec.SECP256R1())


def _authority_name(realm: str, role: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, realm_name(realm)),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Cloister {role}"),
        ]
    )


def issue_root(realm: str, key: SigningKey, serial: int, now: int) -> bytes:
    """The self-signed root (DER) of a P-256 key; ten years."""
    return _issue_authority(realm, "root", key, key, serial, now, path_length=1)


def issue_intermediate(realm: str, key: SigningKey, root_key: SigningKey, serial: int, now: int) -> bytes:
    """The intermediate (DER) of a P-256 key, signed by the root; ten years, path length 0."""
    return _issue_authority(realm, "issuing", key, root_key, serial, now, path_length=0)


def _issue_authority(
    realm: str,
    role: str,
    key: SigningKey,
    root_key: SigningKey,
    serial: int,
    now: int,
    *,
    path_length: int,
) -> bytes:
    public = _ec_private(key).public_key()
    issuer_key = _ec_private(root_key)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_authority_name(realm, role))
        .issuer_name(_authority_name(realm, "root"))
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(date_of(now - _BACKDATE_MS))
        .not_valid_after(date_of(now + AUTHORITY_DAYS * DAY_MS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(usage_bits(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.DER)


def issue_leaf(request: CertificateRequest, intermediate: bytes, key: SigningKey, serial: int, now: int) -> bytes:
    """The leaf (DER) that answers `request`, signed by the intermediate's `key`; 90 days from `now` (ms)."""
    issuer = x509.load_der_x509_certificate(intermediate)
    issuer_key = _ec_private(key)
    public = x509.load_der_x509_csr(request.der).public_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.subject)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(date_of(now - _BACKDATE_MS))
        .not_valid_after(date_of(now + LEAF_DAYS * DAY_MS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(request.usage), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(request.subject)]), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.DER)


def issue_crl(intermediate: bytes, key: SigningKey, number: int, revoked: Sequence[tuple[int, int]], now: int) -> bytes:
    """A revocation list (DER) of (serial, time in ms), signed by the intermediate's `key`; 30 days."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(x509.load_der_x509_certificate(intermediate).subject)
        .last_update(date_of(now))
        .next_update(date_of(now + CRL_DAYS * DAY_MS))
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(_ec_private(key).public_key()), critical=False
        )
    )
    for serial, at in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(date_of(at)).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(_ec_private(key), hashes.SHA256()).public_bytes(serialization.Encoding.DER)
