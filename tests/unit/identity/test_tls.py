"""The relay's TLS certificate: made by itself, known by its hash."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography import x509

from cloister.identity.tls import certificate_der, make_tls_identity
from support.people import NOW, seeded


@pytest.mark.parametrize("host", ["relay.example", "localhost", "127.0.0.1", "::1"])
def test_a_certificate_names_its_host_and_fits_its_key(host: str, tmp_path: Path) -> None:
    certificate, key = make_tls_identity(host, NOW, seeded(host))
    parsed = x509.load_der_x509_certificate(certificate_der(certificate))
    names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == [host]
    parsed.verify_directly_issued_by(parsed)
    (tmp_path / "cert.pem").write_bytes(certificate)
    (tmp_path / "key.pem").write_bytes(key)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")


def test_every_certificate_has_a_key_of_its_own() -> None:
    one, other = (make_tls_identity("relay.example", NOW, seeded(1)) for _ in range(2))
    assert one[1] != other[1]
    assert certificate_der(one[0]) != certificate_der(other[0])
