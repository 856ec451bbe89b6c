"""The relay's TLS certificate: made by itself, signed by its own key, vouched for by the relay's identity key.

Source: docs/spec/login.md. Its name and its issuer prove nothing; what counts is that L2 of the login signs its
SHA-256 with the pinned identity key, so it may be made anew at any time. `datetime` stays in `certificate`.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloister.identity.certificate import DAY_MS, date_of
from cloister.primitives import Rng

DAYS: Final = 3652
"""How long the certificate says that it is valid; nobody judges it by that."""


def make_tls_identity(host: str, now: int, rng: Rng) -> tuple[bytes, bytes]:
    """(certificate, private key) as PEM for a server at `host` (name or IP address), from `now` (ms); P-256.

    The key comes from the library's own randomness.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cloister relay")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(rng(16), "big") >> 1 | 1)
        .not_valid_before(date_of(now - DAY_MS))
        .not_valid_after(date_of(now + DAYS * DAY_MS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_name(host)]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private


def certificate_der(pem: bytes) -> bytes:
    """The DER form of a PEM certificate: what a TLS client sees, and what is hashed."""
    return x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
