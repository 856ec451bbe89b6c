"""The data directory: modes, links, whole files, and what the configuration may say."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from cloister.errors import CloisterError, UnavailableError, UsageError
from cloister.identity.invite import Invite, parse_invite
from cloister.relay import app, files
from cloister.relay.files import Config, Directory


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory.create(tmp_path / "relay")


def refused(code: str, call: object, *arguments: object) -> None:
    with pytest.raises(CloisterError) as caught:
        call(*arguments)  # type: ignore[operator]
    assert caught.value.code == code


# --- refused ------------------------------------------------------------------------------------------------


def test_a_directory_that_others_can_open_is_refused(directory: Directory) -> None:
    directory.path.chmod(0o750)
    refused("loose_files", Directory.open, directory.path)


def test_a_file_that_others_can_read_is_refused(directory: Directory) -> None:
    directory.write("identity.key", bytes(32))
    (directory.path / "identity.key").chmod(0o640)
    refused("loose_files", directory.read, "identity.key")


def test_a_database_that_others_can_read_is_refused(directory: Directory) -> None:
    directory.database.chmod(0o644)
    with pytest.raises(UsageError, match="loose_files"):
        _ = directory.database


def test_a_symbolic_link_is_refused(directory: Directory, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(bytes(32))
    (directory.path / "identity.key").symlink_to(tmp_path / "other")
    refused("usage", directory.read, "identity.key")
    (tmp_path / "link").symlink_to(directory.path)
    refused("usage", Directory.open, tmp_path / "link")


def test_a_missing_directory_and_a_missing_file_say_so(directory: Directory, tmp_path: Path) -> None:
    refused("usage", Directory.open, tmp_path / "nowhere")
    refused("usage", directory.read, "identity.key")


def test_a_directory_with_something_in_it_is_not_taken(directory: Directory, tmp_path: Path) -> None:
    directory.write("file", b"x")
    refused("exists", Directory.create, directory.path)
    (tmp_path / "file").write_bytes(b"")
    refused("disk", Directory.create, tmp_path / "file")


def test_what_cannot_be_written_is_a_disk_error(directory: Directory, tmp_path: Path) -> None:
    refused("disk", Directory(tmp_path / "nowhere").write, "file", b"x")


def test_keys_have_thirty_two_bytes(directory: Directory) -> None:
    directory.write("head.key", bytes(31))
    refused("damaged", directory.key, "head.key")
    directory.write("head.key", bytes(33))
    refused("usage", directory.key, "head.key")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("realm = ", "usage"),
        ('realm = "home.example"\nhost = "h"\nport = 70000', "usage"),
        ('realm = "home.example"\nhost = "h"\nport = true', "usage"),
        ('realm = "home.example"\nhost = "h"\nport = "7443"', "usage"),
        ('realm = "home.example"\nhost = "h h"', "usage"),
        ('realm = "home.example"\nhost = ""', "usage"),
        ('realm = "home.example"\nhost = "h_h"', "usage"),
        ('realm = "home.example"\nhost = "h."', "usage"),
        ('realm = "home.example"\nhost = "1::2::3"', "usage"),
        ('realm = "home.example"\nhost = "fe80::1%eth0"', "usage"),
        ('realm = "home.example"\nhost = "h:1"', "usage"),
        ('realm = "home.example"\nhost = 7', "usage"),
        ('realm = "home.example"\nhost = "h"\nlisten = "a b"', "usage"),
        ('realm = "Home Example"\nhost = "h"', "bad_name"),
        ('realm = "home.example"\nhost = "h"\ncolour = "red"', "usage"),
        ("", "bad_name"),
    ],
)
def test_a_configuration_that_cannot_stand_is_refused(text: str, code: str) -> None:
    refused(code, Config.parse, text)


# --- kept ---------------------------------------------------------------------------------------------------


def test_a_configuration_reads_as_it_was_written() -> None:
    config = Config(realm="home.example", host="relay.example", port=7443, listen="127.0.0.1")
    assert Config.parse(config.text()) == config


@pytest.mark.parametrize("host", ["h", "relay.example", "192.0.2.1", "::1", "2001:DB8::1", "::ffff:192.0.2.1"])
def test_every_host_that_may_stand_can_be_in_a_link(host: str) -> None:
    config = Config(realm="home.example", host=host).checked()
    link = Invite(
        host=config.link_host, port=1, realm="home.example", relay_hash=bytes(32), root_hash=bytes(32), token=None
    )
    assert parse_invite(str(link)) == link


def test_files_are_whole_or_old(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    directory.write("file", b"old")

    def broken(_descriptor: int) -> None:
        raise OSError(5, "input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(UnavailableError, match="disk"):
            directory.write("file", b"new")
    assert directory.read("file") == b"old"
    directory.write("file", b"new")
    assert directory.read("file") == b"new"


def test_a_lock_is_held_once(directory: Directory) -> None:
    first = directory.lock()
    assert first is not None
    assert directory.lock() is None
    os.close(first)
    again = directory.lock()
    assert again is not None
    os.close(again)


def test_every_file_of_a_new_relay_is_the_operators_alone(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        made = app.init_relay(tmp_path / "relay", "home.example", "127.0.0.1", 0)
    finally:
        os.umask(old)
    assert len(made.relay_hash) == len(made.root_hash) == 32
    opened = app.open_relay(tmp_path / "relay")
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "relay").iterdir()}
    opened.close()
    assert set(found.values()) == {0o600}
    assert {"relay.toml", "identity.key", "head.key", "relay.crt", "tls.pem", "relay.db", "lock"} <= set(found)
    assert stat.S_IMODE((tmp_path / "relay").stat().st_mode) == 0o700


def test_chains_read_as_they_were_written() -> None:
    assert files.decode_chain(files.encode_chain((b"one", b"two"))) == (b"one", b"two")
