"""Certificates that no honest authority issues: the builder of the library, every part exchangeable."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloister.primitives.signature import SigningKey

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def date(at_ms: int) -> datetime:
    """A certificate's date for milliseconds since the epoch."""
    return (EPOCH + timedelta(milliseconds=at_ms)).replace(microsecond=0)


def p256(key: SigningKey) -> ec.EllipticCurvePrivateKey:
    """The library's form of an authority's key."""
    return ec.derive_private_key(int.from_bytes(key.private_bytes(), "big"), ec.SECP256R1())


def usage(**bits: bool) -> x509.KeyUsage:
    """A keyUsage with the named bits."""
    names = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement "
        "key_cert_sign crl_sign encipher_only decipher_only"
    ).split()
    return x509.KeyUsage(**{name: bits.get(name, False) for name in names})


def uri(*uris: str) -> x509.SubjectAlternativeName:
    """A subjectAltName of URIs."""
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(text) for text in uris])


def common_name(text: str) -> x509.Name:
    """A name of one attribute."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(
    issuer_key: Any,
    issuer: x509.Name,
    public: Any,
    now: int,
    *,
    subject: x509.Name | None = None,
    days: float = 90,
    extensions: list[tuple[Any, bool]],
) -> bytes:
    """A certificate (DER) of exactly these parts, signed by `issuer_key`."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]) if subject is None else subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(date(now))
        .not_valid_after(date(now) + timedelta(days=days))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    algorithm = None if isinstance(issuer_key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(issuer_key, algorithm).public_bytes(Encoding.DER)


def leaf_extensions(public: Any, issuer_public: Any, name: str) -> list[tuple[Any, bool]]:
    """The extensions of a proper device leaf."""
    return [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (usage(digital_signature=True), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
        (uri(name), True),
        (x509.SubjectKeyIdentifier.from_public_key(public), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_public), False),
    ]


def authority_extensions(public: Any, issuer_public: Any, path_length: int | None) -> list[tuple[Any, bool]]:
    """The extensions of a proper root or intermediate."""
    return [
        (x509.BasicConstraints(ca=True, path_length=path_length), True),
        (usage(key_cert_sign=True, crl_sign=True), True),
        (x509.SubjectKeyIdentifier.from_public_key(public), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_public), False),
    ]
