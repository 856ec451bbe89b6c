"""Every exit code that a command can end with, reached by real commands in a real realm."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloister.apps.cli.authority import pem
from cloister.apps.cli.exits import Exit
from cloister.client.profile import Profile
from cloister.client.store import DeviceStore
from cloister.engine.account import Account
from cloister.identity.certificate import build_requests
from cloister.identity.keys import DeviceKeys
from support.cli_realm import CLOISTER, PASSWORD, CliRealm, cli_realm

pytestmark = pytest.mark.system

REACHED: set[int] = set()


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CliRealm]:
    with cli_realm(tmp_path_factory.mktemp("realm"), "alice", "bob") as made:
        yield made


def ends(done: subprocess.CompletedProcess[str], code: int, error: str = "") -> subprocess.CompletedProcess[str]:
    """The command ended so; what it said is in the one form."""
    assert done.returncode == code, done.stderr
    if error:
        assert done.stdout == ""
        assert f"code: {error} " in done.stderr, done.stderr
        assert "  hint: " in done.stderr
    assert "Traceback" not in done.stderr
    REACHED.add(code)
    return done


def invite(realm: CliRealm) -> str:
    return realm.run("admin", "-q", "relay", "invite", "create", "--folder", str(realm.relay)).stdout.strip()


def test_0_done(realm: CliRealm) -> None:
    ends(realm.run("alice", "users"), 0)


def test_1_failed_a_file_cannot_be_written(realm: CliRealm, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ends(realm.run("alice", "relay", "init", "--folder", str(tmp_path / "file" / "relay")), 1, "disk")


@pytest.mark.parametrize("arguments", [["send"], ["nothing"], ["room", "create", ""], ["send", "ops", ""]])
def test_2_usage(arguments: list[str], realm: CliRealm) -> None:
    ends(realm.run("alice", *arguments), 2, "usage")


def test_2_a_link_that_was_cut_off(realm: CliRealm) -> None:
    cut = invite(realm)[:-20]
    ends(realm.run("dave", "setup", "--invite", "-", "--user", "dave", text=cut), 2, "bad_invite")


def test_3_no_relay_there(realm: CliRealm) -> None:
    nowhere = invite(realm).replace(f":{realm.port}", ":1")
    ends(realm.run("dave", "setup", "--invite", "-", "--user", "dave", text=nowhere), 3, "unreachable")


def test_4_a_link_whose_relay_is_another(realm: CliRealm) -> None:
    link = invite(realm)
    head, _, rest = link.partition("#1.")
    other = f"{head}#1.{'A' * 42}E{rest[43:]}"
    done = realm.run("erin", "setup", "--invite", "-", "--user", "erin", text=other)
    ends(done, 4)
    assert "recovery" not in done.stdout


def test_5_a_wrong_password(realm: CliRealm, tmp_path: Path) -> None:
    secret = tmp_path / "wrong"
    secret.touch(0o600)
    secret.write_text("a wrong one")
    done = ends(realm.run("alice", "users", CLOISTER_PASSPHRASE_FILE=str(secret)), 5, "wrong_password")
    assert "a wrong one" not in done.stderr


def test_5_files_that_others_can_see(realm: CliRealm) -> None:
    folder = realm.folder / "home-bob" / "bob"
    folder.chmod(0o755)
    ends(realm.run("bob", "users"), 5, "loose_files")
    folder.chmod(0o700)


def test_6_not_there(realm: CliRealm) -> None:
    ends(realm.run("alice", "send", "nowhere", "x"), 6, "no_room")
    ends(realm.run("alice", "room", "create", "x", "--members", "mallory"), 6, "no_user")
    ends(realm.run("nobody", "users"), 6, "no_profile")


def test_8_the_key_is_not_agreed_in_time(realm: CliRealm) -> None:
    ends(realm.run("alice", "room", "create", "waiting", "--members", "bob", "--suite", "nonces"), 0)
    ends(realm.run("alice", "send", "waiting", "x", "--wait", "sent", "--timeout", "1"), 8, "not_stored")
    ends(realm.run("alice", "listen", "--timeout", "0.2"), 8, "time_over")


def test_9_a_link_that_was_used_up(realm: CliRealm) -> None:
    link = invite(realm)
    ends(realm.run("frank", "setup", "--invite", "-", "--user", "frank", text=link), 0)
    ends(realm.run("grace", "setup", "--invite", "-", "--user", "grace", text=link), 9, "used_invite")


def test_10_a_certificate_that_was_altered(realm: CliRealm, tmp_path: Path) -> None:
    (tmp_path / "odd").write_bytes(b"no certificate")
    done = realm.run("admin", "authority", "verify", str(tmp_path / "odd"), "--folder", str(realm.relay))
    ends(done, 10, "bad_cert")


def test_130_interrupted(realm: CliRealm) -> None:
    process = subprocess.Popen(
        [*CLOISTER, "listen"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=realm.environment("alice"), text=True
    )
    assert process.stderr is not None
    while "relay: online" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    _out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in err
    REACHED.add(130)


def test_without_a_terminal_a_missing_flag_is_named(realm: CliRealm) -> None:
    done = ends(realm.run("dave", "setup", text=""), 2, "usage")
    assert "--invite" in done.stderr


def test_a_revoked_device_learns_it_and_is_shut_out(realm: CliRealm) -> None:
    place = ["--folder", str(realm.relay)]
    done = ends(realm.run("admin", "authority", "revoke", "frank/main", "--yes", "--json", *place), 0)
    assert json.loads(done.stdout)["certificates"] == 3
    shown = realm.run("admin", "authority", "show", "frank/main", *place).stdout
    assert shown.count("revoked 20") == 3
    done = realm.run("frank", "doctor")
    assert done.returncode == 5, done.stdout
    assert "revoked" in done.stdout


def test_certificates_are_issued_for_keys_in_the_manifest(realm: CliRealm, tmp_path: Path) -> None:
    account = account_of(realm, "bob")
    files = []
    for number, request in enumerate(build_requests(account.keys, account.device)):
        files.append(str(tmp_path / f"{number}.csr"))
        Path(files[-1]).write_text(pem(request, "CERTIFICATE REQUEST"))
    place = ["--folder", str(realm.relay)]
    done = ends(realm.run("admin", "authority", "issue", "bob/main", *files, *place), 0)
    assert done.stdout.count("BEGIN CERTIFICATE") == 3
    (tmp_path / "leaf.pem").write_text(done.stdout)
    shown = ends(realm.run("admin", "authority", "verify", str(tmp_path / "leaf.pem"), *place), 0)
    assert "cloister://home/u/bob/d/main  device" in shown.stdout
    other = DeviceKeys.generate(os.urandom, rsa=False)
    (tmp_path / "other.csr").write_bytes(build_requests(other, account.device)[0])
    done = realm.run("admin", "authority", "issue", "bob/main", str(tmp_path / "other.csr"), *place)
    ends(done, 10, "conflict")


def account_of(realm: CliRealm, user: str) -> Account:
    """What a person's own store holds of the person."""
    place = Profile.named(realm.folder / f"home-{user}" / user)
    store = DeviceStore(place.database, place.unlock(PASSWORD))
    try:
        stored = store.get("meta", b"account")
        assert stored is not None
        return Account.decode(stored)
    finally:
        store.close()


def test_zz_without_a_relay_a_send_is_queued_and_waiting_for_it_is_3(realm: CliRealm) -> None:
    realm.stop_relay()
    done = ends(realm.run("alice", "send", "waiting", "later", "--json", "--timeout", "1"), 0)
    assert json.loads(done.stdout)["state"] == "queued"
    ends(realm.run("alice", "send", "waiting", "now", "--wait", "sent", "--timeout", "2"), 3, "unreachable")
    started = time.monotonic()
    assert realm.run("alice", "doctor").returncode == 3
    assert time.monotonic() - started < 30


def test_zzz_every_code_of_the_table_was_reached() -> None:
    assert {int(code) for code in Exit} == REACHED
