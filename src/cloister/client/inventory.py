"""The secrets of a profile by name: what an audit looks for where it must never be.

Source: docs/demo.md. `cloister demo` searches everything that its relay stored for these byte strings. Whoever calls
this has the password and the folder, and so has the secrets anyway; nothing else in the product reads them out.

Invariants: the profile must not be owned by another process; nothing is written; values are raw bytes, at least
16 of them, so that a find is no coincidence.
Left out: keys that were used once and are gone (nonces, message keys, the agreed key itself): no process holds them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from cloister.client.profile import Profile
from cloister.client.store import DeviceStore
from cloister.engine.account import ROW, Account
from cloister.engine.rows import OwnPrekey, RoomRow
from cloister.errors import UsageError
from cloister.mls import KeyPackageSecrets, stored_secrets
from cloister.protocols.mls.items import GROUP
from cloister.protocols.mls.room import NAME as MLS
from cloister.protocols.pair.items import EPOCH as SESSION
from cloister.protocols.pair.steps import NAME as PAIR
from cloister.protocols.rounds.epochs import EPOCH, RECV, SEND

_ROOM_ID: Final = 16
_GROUP: Final = GROUP.rstrip(b"/")
_room = msgspec.msgpack.Decoder(RoomRow)
_prekey = msgspec.msgpack.Decoder(OwnPrekey)
_PIECE: Final = 48
"""Bytes of one piece of an RSA key: its file's second half holds private numbers only."""


def secrets_of(profile: str | Path, password: str) -> list[tuple[str, bytes]]:
    """(name, value) of every private key, room key and the database key.

    CloisterError: no_profile, wrong_password, loose_files, profile_in_use.
    """
    place = Profile.named(profile)
    key = place.unlock(password)
    lock = place.own()
    if lock is None:
        raise UsageError("profile_in_use", place.name)
    store = DeviceStore(place.database, key)
    try:
        return [("database key", key), *_account(store), *_rooms(store), *_prekeys(store)]
    finally:
        store.close()
        place.disown(lock)


def _account(store: DeviceStore) -> Iterator[tuple[str, bytes]]:
    stored = store.get("meta", ROW)
    if stored is None:
        return
    account = Account.decode(stored)
    yield "identity key", account.user_keys.identity.private_bytes()
    yield "device key", account.keys.device.private_bytes()
    yield "mailbox key", account.keys.mailbox.private_bytes()
    for name, pair in (("RSA signing key", account.keys.rsa_sign), ("RSA decryption key", account.keys.rsa_decrypt)):
        if pair is not None:
            private = pair.private_bytes()
            for start in range(len(private) // 2, len(private) - _PIECE, _PIECE):
                yield name, private[start : start + _PIECE]


def _rooms(store: DeviceStore) -> Iterator[tuple[str, bytes]]:
    suites = {key: _room.decode(value).suite for key, value in store.scan("room")}
    for key, value in store.scan("item"):
        shelf = key[_ROOM_ID:].partition(b"/")[0]
        if shelf == SESSION.name and suites.get(key[:_ROOM_ID]) == PAIR:
            yield "room key", SESSION.decode(value).exporter
        elif shelf == EPOCH.name:
            epoch = EPOCH.decode(value)
            yield "room key", epoch.exporter
            yield "room token", epoch.token
        elif shelf == SEND.name:
            yield "chain key", SEND.decode(value).key
        elif shelf == RECV.name:
            yield "chain key", RECV.decode(value).key
        elif shelf == _GROUP:
            yield from stored_secrets({key[_ROOM_ID + len(GROUP) :]: value})
    for _, value in store.scan("room"):
        token = _room.decode(value).token
        if token is not None:
            yield "room token", token


def _prekeys(store: DeviceStore) -> Iterator[tuple[str, bytes]]:
    for _, value in store.scan("prekey"):
        row = _prekey.decode(value)
        if row.suite == MLS:
            package = KeyPackageSecrets.decode(row.private)
            yield "init key", package.init_key.raw
            yield "leaf key", package.leaf_key.raw
        else:
            yield "prekey", row.private
