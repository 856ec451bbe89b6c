"""Manifests: form, signature, and what may follow what.

Checks: MAN-01, MAN-02, MAN-03, MAN-04, MAN-05, MAN-06, MAN-07, MAN-08, MAN-09, MAN-10, MAN-11.
"""

from __future__ import annotations

from typing import Any

import pytest

from cloister.codec.cbor import decode, enc, encode
from cloister.errors import PeerError, UsageError
from cloister.identity.credential import device_id
from cloister.identity.keys import RecoveryCode, UserKeys
from cloister.identity.manifest import MAX_SIZE, Manifest, Row
from cloister.primitives.labelled import sign
from support.people import NOW, device_keys, seeded

REALM = "home.example"
KEYS, CODE = UserKeys.generate(seeded("alice"))
OTHER, _ = UserKeys.generate(seeded("mallory"))
PHONE = Row.of(device_id(REALM, "alice", "phone"), device_keys(seeded("phone")).hashes())
TABLET = Row.of(device_id(REALM, "alice", "tablet"), device_keys(seeded("tablet"), rsa=0).hashes())
FIRST = Manifest.first(KEYS, "alice", PHONE, NOW)
NEXT_CODE = RecoveryCode.generate(seeded("next"))
NEXT = UserKeys(identity=CODE.next_identity(), next_key=NEXT_CODE.next_key())


def signed(keys: UserKeys, *body: Any) -> bytes:
    return enc(body, keys.public, sign(keys.identity, "manifest", *body))


def body(**changes: Any) -> list[Any]:
    parts: dict[str, Any] = {
        "user": "alice",
        "version": 1,
        "prev": bytes(32),
        "next": KEYS.next_key,
        "rows": [PHONE.items()],
        "ts": NOW,
    }
    return list((parts | changes).values())


def refused(code: str, data: bytes) -> None:
    with pytest.raises(PeerError) as caught:
        Manifest.decode(data, REALM)
    assert caught.value.code == code


def test_a_manifest_reads_back() -> None:
    second = FIRST.successor(KEYS, [TABLET, PHONE], NOW + 1)
    for manifest in (FIRST, second):
        assert Manifest.decode(manifest.encoded, REALM) == manifest
    assert second.rows == (PHONE, TABLET)
    assert second.row(TABLET.device_id) == TABLET
    assert FIRST.row(TABLET.device_id) is None
    assert FIRST.fingerprint == KEYS.fingerprint
    assert (len(PHONE.hashes), len(TABLET.hashes)) == (1, 3)
    FIRST.check_first()
    second.check_follows(FIRST)


def test_every_flipped_bit_is_refused() -> None:
    for bit in range(8 * len(FIRST.encoded)):
        spoiled = bytearray(FIRST.encoded)
        spoiled[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PeerError) as caught:
            Manifest.decode(bytes(spoiled), REALM)
        assert caught.value.code in {"bad_encoding", "bad_name", "bad_manifest", "bad_sig"}


def test_another_keys_signature_is_refused() -> None:
    assert Manifest.decode(signed(KEYS, *body()), REALM)
    content, _, signature = decode(FIRST.encoded)
    refused("bad_sig", enc(content, OTHER.public, signature))
    refused("bad_sig", enc(content, KEYS.public, sign(OTHER.identity, "manifest", *content)))
    refused("bad_sig", enc(content, KEYS.public, sign(KEYS.identity, "mailbox key", *content)))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"user": "Alice"}, "bad_name"),
        ({"user": "bob"}, "bad_manifest"),
        ({"user": 5}, "bad_encoding"),
        ({"version": 2**32}, "bad_encoding"),
        ({"prev": bytes(31)}, "bad_encoding"),
        ({"next": bytes(33)}, "bad_encoding"),
        ({"rows": 5}, "bad_encoding"),
        ({"rows": [["cloister://other.example/u/alice/d/phone", bytes(32), None, None]]}, "bad_manifest"),
        ({"rows": [["cloister://home.example/relay", bytes(32), None, None]]}, "bad_name"),
        ({"rows": [PHONE.items(), PHONE.items()]}, "bad_manifest"),
        ({"rows": [TABLET.items(), PHONE.items()]}, "bad_manifest"),
        ({"rows": [[*PHONE.items()[:2], bytes(32), None]]}, "bad_manifest"),
        ({"rows": [[*PHONE.items()[:2], bytes(32), bytes(32)]]}, "bad_manifest"),
        ({"rows": [PHONE.items()[:3]]}, "bad_encoding"),
        ({"rows": [[*PHONE.items(), None]]}, "bad_encoding"),
        ({"ts": -1}, "bad_encoding"),
        ({"more": 0}, "bad_encoding"),
    ],
)
def test_a_signed_manifest_of_another_form_is_refused(changes: dict[str, Any], code: str) -> None:
    refused(code, signed(KEYS, *body(**changes)))


def test_surplus_items_are_refused() -> None:
    refused("bad_encoding", encode([*decode(FIRST.encoded), 0]))


def test_a_manifest_has_at_most_4_kib() -> None:
    rows = []
    manifest = FIRST
    with pytest.raises(UsageError) as caught:  # noqa: PT012 - grows until it is refused
        for number in range(40):
            rows.append(Row.of(device_id(REALM, "alice", f"device-{number}"), TABLET_HASHES))
            manifest = FIRST.successor(KEYS, rows, NOW)
    assert caught.value.code == "usage"
    assert Manifest.decode(manifest.encoded, REALM).rows
    assert 10 <= len(manifest.rows) <= 40
    content = body(rows=sorted(row.items() for row in rows))
    assert len(signed(KEYS, *content)) > MAX_SIZE
    refused("bad_manifest", signed(KEYS, *content))


TABLET_HASHES = device_keys(seeded("tablet"), rsa=0).hashes()


@pytest.mark.parametrize("changes", [{"version": 0}, {"version": 2}, {"prev": b"1" * 32}, {"rows": []}])
def test_a_first_manifest_of_another_form_is_refused(changes: dict[str, Any]) -> None:
    manifest = Manifest.decode(signed(KEYS, *body(**changes)), REALM)
    with pytest.raises(PeerError) as caught:
        manifest.check_first()
    assert caught.value.code == "bad_manifest"


def follow_refused(code: str, manifest: Manifest, newest: Manifest = FIRST) -> None:
    with pytest.raises(PeerError) as caught:
        manifest.check_follows(newest)
    assert caught.value.code == code


def test_a_successor_continues_version_and_hash() -> None:
    good = body(version=2, prev=FIRST.hash)
    Manifest.decode(signed(KEYS, *good), REALM).check_follows(FIRST)
    for changes in ({"version": 1}, {"version": 3}, {"prev": bytes(32)}):
        spoiled = body(**({"version": 2, "prev": FIRST.hash} | changes))
        follow_refused("bad_manifest", Manifest.decode(signed(KEYS, *spoiled), REALM))
    follow_refused("bad_manifest", FIRST)


def test_a_successor_of_another_user_is_refused() -> None:
    row = Row.of(device_id(REALM, "bob", "phone"), PHONE_HASHES)
    bob = Manifest.decode(signed(KEYS, *body(user="bob", version=2, prev=FIRST.hash, rows=[row.items()])), REALM)
    follow_refused("bad_manifest", bob)


PHONE_HASHES = device_keys(seeded("phone")).hashes()


def test_another_key_may_not_follow() -> None:
    follow_refused("identity_changed", FIRST.successor(OTHER, [PHONE], NOW))


def test_the_identity_key_cannot_move_the_pin() -> None:
    thief = UserKeys(identity=KEYS.identity, next_key=OTHER.fingerprint)
    follow_refused("bad_manifest", FIRST.successor(thief, [PHONE], NOW))


def test_the_pinned_next_key_may_follow_and_pins_a_new_one() -> None:
    taken = FIRST.successor(NEXT, [TABLET], NOW)
    taken.check_follows(FIRST)
    assert taken.next_key == NEXT_CODE.next_key()
    taken.successor(NEXT, [PHONE], NOW).check_follows(taken)
    follow_refused("identity_changed", taken.successor(KEYS, [PHONE], NOW), taken)


def test_the_next_key_beats_whatever_the_old_key_signed_since() -> None:
    thief = FIRST
    earlier = []
    for _ in range(3):
        earlier.append((thief.version, thief.hash))
        thief = thief.successor(KEYS, [TABLET], NOW)
    owner = FIRST.successor(NEXT, [PHONE], NOW)
    owner.check_follows(thief, earlier)
    follow_refused("bad_manifest", owner, thief)
    unrelated = FIRST.successor(KEYS, [TABLET], NOW).successor(NEXT, [PHONE], NOW + 9)
    with pytest.raises(PeerError) as caught:
        unrelated.check_follows(thief, earlier[:1])
    assert caught.value.code == "bad_manifest"


def test_the_old_key_may_not_build_on_an_earlier_manifest() -> None:
    second = FIRST.successor(KEYS, [TABLET], NOW)
    with pytest.raises(PeerError) as caught:
        FIRST.successor(KEYS, [PHONE], NOW + 1).check_follows(second, [(1, FIRST.hash)])
    assert caught.value.code == "bad_manifest"
