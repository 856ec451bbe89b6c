"""The secrets of a profile by name: all of them, and to nobody without the password."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cloister.client.inventory import secrets_of
from cloister.client.profile import Profile
from cloister.client.store import DeviceStore
from cloister.engine import rows
from cloister.engine.account import Account
from cloister.engine.rows import OwnPrekey, RoomRow
from cloister.engine.store import Put
from cloister.errors import CloisterError, UsageError
from cloister.mls import KeyPackageSecrets
from cloister.protocols.interface import RoomPolicy
from cloister.protocols.pair.items import EPOCH as SESSION
from cloister.protocols.pair.suite import Pair
from cloister.protocols.ratchet import RecvChain, SendChain
from cloister.protocols.rounds.epochs import EPOCH, RECV, SEND, Epoch
from cloister.testing.sessions import agreed
from support.mls_net import mls_room
from support.people import Person, Realm
from support.suite_net import ROOM as MLS_ROOM

ROOM = b"r" * 16
COST = 2**15


@pytest.fixture
def person() -> Person:
    return Realm("home").enrol("alice", rsa=0)


@pytest.fixture
def profile(tmp_path: Path, person: Person) -> Path:
    """A profile with keys, one room, and chains."""
    place = Profile.named(tmp_path / "alice")
    key = place.create("password", os.urandom, cost=COST)
    account = Account(
        realm="home", device=person.id, address="localhost:1", user_keys=person.keys, keys=person.device,
        chain=(b"leaf",), relay_pin=bytes(32), root_pin=bytes(32),
    )  # fmt: skip
    epoch = Epoch(
        number=1, th=b"t" * 32, roster=(person.id,), policy=RoomPolicy(title="garden", owners=("alice",)), log_size=1,
        exporter=b"E" * 32, token=b"T" * 32, key_check="1", began_at=1, began_by=1,
    )  # fmt: skip
    store = DeviceStore(place.database, key)
    store.apply(
        [
            Put("meta", b"account", account.encode()),
            Put("item", ROOM + EPOCH.key(b"t" * 32), EPOCH.encode(epoch)),
            Put("item", ROOM + SEND.key(b"x"), SEND.encode(SendChain(0, b"S" * 32))),
            Put("item", ROOM + RECV.key(b"x"), RECV.encode(RecvChain(0, b"R" * 32))),
            Put("item", ROOM + b"other", b"unread"),
        ]
    )
    store.close()
    return place.folder


def test_without_the_password_there_are_none(profile: Path) -> None:
    with pytest.raises(CloisterError) as caught:
        secrets_of(profile, "wrong")
    assert caught.value.code == "wrong_password"


def test_a_profile_in_use_is_left_alone(profile: Path) -> None:
    place = Profile.named(profile)
    lock = place.own()
    assert lock is not None
    with pytest.raises(UsageError) as caught:
        secrets_of(profile, "password")
    assert caught.value.code == "profile_in_use"
    place.disown(lock)


def test_every_secret_is_there(profile: Path, person: Person) -> None:
    found = secrets_of(profile, "password")
    named = {(name, value) for name, value in found if not name.startswith("RSA")}
    assert named >= {
        ("identity key", person.keys.identity.private_bytes()),
        ("device key", person.device.device.private_bytes()),
        ("mailbox key", person.device.mailbox.private_bytes()),
        ("room key", b"E" * 32),
        ("room token", b"T" * 32),
        ("chain key", b"S" * 32),
        ("chain key", b"R" * 32),
    }
    assert "database key" in {name for name, _ in found}
    assert all(len(value) >= 16 for _, value in found)
    for name, pair in (("RSA signing key", person.device.rsa_sign), ("RSA decryption key", person.device.rsa_decrypt)):
        assert pair is not None
        pieces = [value for found_name, value in found if found_name == name]
        assert len(pieces) > 10
        assert all(piece in pair.private_bytes() for piece in pieces)
        assert not any(piece in pair.spki for piece in pieces)


def test_the_secrets_of_a_room_of_mls_and_of_key_packages_are_there(profile: Path) -> None:
    """What the session stores is taken apart; nothing public is called a secret."""
    _, nodes = mls_room(3)
    nodes[1].say(b"one")
    nodes[1].net.settle()
    device, package = nodes[0], next(iter(nodes[0].own.values()))
    own = KeyPackageSecrets.decode(package.private)
    place = Profile.named(profile)
    store = DeviceStore(place.database, place.unlock("password"))
    row = {"public": package.public, "private": package.private, "expires": 1, "last_resort": False}
    store.apply(
        [
            *(Put("item", MLS_ROOM + key, value) for key, value in device.items.items()),
            Put("room", MLS_ROOM, rows.encode(RoomRow(suite="mls", token=device.token, delivered=1, alarms=[]))),
            Put("prekey", package.ref, rows.encode(OwnPrekey(suite="mls", **row))),
            Put("prekey", b"p" * 32, rows.encode(OwnPrekey(suite="pair", **{**row, "private": b"P" * 32}))),
        ]
    )
    store.close()
    found = secrets_of(profile, "password")
    state = device.mls.group._state.live
    secrets = state.epoch.secrets
    assert set(found) >= {
        ("exporter secret", secrets.exporter_secret),
        ("init secret", secrets.init_secret),
        ("room token", device.token),
        ("init key", own.init_key.raw),
        ("leaf key", own.leaf_key.raw),
        ("prekey", b"P" * 32),
        *(("key of a tree node", key.raw) for key in state.epoch.private_keys.values()),
        *(("secret of a message tree", value) for value in state.secrets.nodes.values()),
        *(("ratchet secret", secret) for _, secret in state.secrets.ratchets.values()),
    }
    values = [value for _, value in found]
    assert secrets.epoch_authenticator not in values
    assert all(len(value) >= 16 for value in values)
    public = b"".join([*(leaf.encoded for _, leaf in device.mls.group.members()), package.public])
    assert not [value for value in values if value in public]


def test_the_profile_is_free_again(profile: Path) -> None:
    secrets_of(profile, "password")
    lock = Profile.named(profile).own()
    assert lock is not None
    Profile.named(profile).disown(lock)


def test_a_profile_that_never_enrolled_has_its_database_key(tmp_path: Path) -> None:
    place = Profile.named(tmp_path / "new")
    place.create("password", os.urandom, cost=COST)
    assert [name for name, _ in secrets_of(place.folder, "password")] == ["database key"]


def test_the_secrets_of_a_room_of_two_are_there(profile: Path) -> None:
    _, (node, _peer) = agreed(Pair(), 2)
    place = Profile.named(profile)
    store = DeviceStore(place.database, place.unlock("password"))
    row = RoomRow(suite="pair", token=node.token, delivered=1, alarms=[])
    store.apply(
        [Put("room", MLS_ROOM, rows.encode(row)), *(Put("item", MLS_ROOM + k, v) for k, v in node.items.items())]
    )
    store.close()
    found = set(secrets_of(profile, "password"))
    standing = SESSION.decode(node.items[b"epoch"])
    assert found >= {("room key", standing.exporter), ("room token", node.token)}
    assert ("chain key", SEND.decode(node.items[b"send"]).key) in found
    assert ("chain key", RECV.decode(node.items[b"recv"]).key) in found
