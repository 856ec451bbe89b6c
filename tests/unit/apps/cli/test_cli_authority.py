"""`authority`: the realm's certificates, on the files of a relay that does not run."""

from __future__ import annotations

import base64
import json
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from cloister.apps.cli import authority
from cloister.apps.cli.main import run
from cloister.errors import PeerError, UsageError
from cloister.relay.files import decode_chain


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """A realm's folder, made by `authority init`."""
    assert run(["authority", "init", "--realm", "home", "--folder", str(tmp_path / "realm")]) == 0
    assert "home" in capsys.readouterr().out
    return str(tmp_path / "realm")


@pytest.fixture
def certificate(folder: str, tmp_path: Path) -> Path:
    """The relay's own certificate, as PEM."""
    leaf, _intermediate = decode_chain((Path(folder) / "relay.crt").read_bytes())
    path = tmp_path / "relay.pem"
    path.write_text(authority.pem(leaf, "CERTIFICATE"))
    return path


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["alice", "alice/", "/main", "a/b/c"])
def test_a_device_is_named_with_its_user(device: str, folder: str) -> None:
    assert run(["authority", "show", device, "--folder", folder]) == 2


def test_a_device_without_certificates_is_exit_code_6(folder: str) -> None:
    assert run(["authority", "show", "alice/main", "--folder", folder]) == 6
    assert run(["authority", "revoke", "alice/main", "--yes", "--folder", folder]) == 6


def test_shutting_out_without_a_terminal_needs_yes(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["authority", "revoke", "alice/main", "--folder", folder]) == 2
    assert "--yes" in capsys.readouterr().err


def test_a_certificate_that_was_altered_is_exit_code_10(folder: str, certificate: Path) -> None:
    der = bytearray(ssl.PEM_cert_to_DER_cert(certificate.read_text()))
    der[-1] ^= 1
    certificate.write_bytes(der)
    assert run(["authority", "verify", str(certificate), "--folder", folder]) == 10


def test_a_certificate_of_another_authority_is_exit_code_10(
    folder: str, certificate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = str(tmp_path / "other")
    assert run(["-q", "authority", "init", "--realm", "home", "--folder", other]) == 0
    assert run(["authority", "verify", str(certificate), "--folder", other]) == 10
    assert "code: wrong_authority" in capsys.readouterr().err


@pytest.mark.parametrize("data", [b"", b"nothing", b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----"])
def test_what_is_no_certificate_is_exit_code_10(data: bytes, folder: str, tmp_path: Path) -> None:
    (tmp_path / "odd").write_bytes(data)
    assert run(["authority", "verify", str(tmp_path / "odd"), "--folder", folder]) == 10


def test_a_file_that_is_not_there_is_usage(folder: str) -> None:
    assert run(["authority", "verify", "/nowhere", "--folder", folder]) == 2
    assert run(["authority", "issue", "alice/main", "/nowhere", "--folder", folder]) == 2


def test_a_request_that_is_none_is_refused(folder: str, tmp_path: Path) -> None:
    (tmp_path / "odd").write_bytes(b"nothing")
    assert run(["authority", "issue", "alice/main", str(tmp_path / "odd"), "--folder", folder]) == 10


# --- what works ---------------------------------------------------------------------------------------------


def test_a_certificate_of_the_realm_verifies(
    folder: str, certificate: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["authority", "verify", str(certificate), "--folder", folder]) == 0
    assert capsys.readouterr().out.startswith("cloister://home/relay  relay\n")
    assert run(["authority", "verify", str(certificate), "--folder", folder, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["subject"] == "cloister://home/relay"
    assert found["not_before"] < found["not_after"]


def test_what_was_issued_is_listed(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["authority", "list", "--folder", folder]) == 0
    assert capsys.readouterr().out.startswith("cloister://home/relay  relay ")
    assert run(["authority", "show", "cloister://home/relay", "--folder", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["revoked"] == 0


def test_a_revocation_list_is_pem_that_others_read(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["authority", "crl", "--folder", folder]) == 0
    first = x509.load_pem_x509_crl(capsys.readouterr().out.encode())
    assert run(["authority", "crl", "--folder", folder, "--json"]) == 0
    second = x509.load_der_x509_crl(base64.b64decode(json.loads(capsys.readouterr().out)["crl"]))
    numbers = [crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number for crl in (first, second)]
    assert numbers[1] == numbers[0] + 1


def test_devices_may_be_named_whole_or_by_their_user(folder: str) -> None:
    whole = "cloister://home/u/alice/d/main"
    assert authority.device_id(folder, "alice/main") == whole
    assert authority.device_id("/nowhere", whole) == whole
    with pytest.raises(UsageError):
        authority.device_id(folder, "alice")


def test_pem_and_der_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(authority.pem(bytes(100), "CERTIFICATE"))
    assert authority.der_of(path, "CERTIFICATE") == bytes(100)
    with pytest.raises(PeerError):
        authority.der_of(path, "CERTIFICATE REQUEST")
    path.write_bytes(bytes(100))
    assert authority.der_of(path, "CERTIFICATE") == bytes(100)
