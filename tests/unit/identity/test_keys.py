"""Keys of users and devices, and the recovery code.

Checks: KEY-01, KEY-02.
"""

from __future__ import annotations

import pytest

from cloister.codec.cbor import decode, encode
from cloister.errors import PeerError
from cloister.identity.keys import (
    DeviceKeys,
    RecoveryCode,
    UserKeys,
    identity_fingerprint,
    key_hash,
)
from support.keypool import rsa_decrypt_key, rsa_signing_key
from support.people import device_keys, seeded


@pytest.mark.parametrize("keys", [device_keys(seeded(1)), device_keys(seeded(1), rsa=0)])
def test_device_keys_read_back(keys: DeviceKeys) -> None:
    again = DeviceKeys.decode(keys.encode())
    assert again.encode() == keys.encode()
    assert again.hashes() == keys.hashes()
    assert again.mailbox.public == keys.mailbox.public


def test_user_keys_read_back() -> None:
    keys, _ = UserKeys.generate(seeded(1))
    again = UserKeys.decode(keys.encode())
    assert (again.public, again.next_key) == (keys.public, keys.next_key)
    assert again.fingerprint == identity_fingerprint(keys.public) == keys.fingerprint


def test_fresh_device_keys_have_two_rsa_pairs_unless_told() -> None:
    with_rsa = DeviceKeys.generate(seeded(2))
    assert with_rsa.rsa_sign is not None
    assert with_rsa.rsa_decrypt is not None
    assert with_rsa.rsa_sign.spki != with_rsa.rsa_decrypt.spki
    assert None not in with_rsa.hashes()
    without = DeviceKeys.generate(seeded(2), rsa=False)
    assert without.hashes()[1:] == (None, None)
    assert without.device.public == with_rsa.device.public


@pytest.mark.parametrize("pair", [(0, None), (None, 0)])
def test_one_rsa_key_alone_is_refused(pair: tuple[int | None, int | None]) -> None:
    keys = device_keys(seeded(1))
    with pytest.raises(PeerError) as caught:
        DeviceKeys(
            device=keys.device,
            mailbox=keys.mailbox,
            rsa_sign=None if pair[0] is None else rsa_signing_key(0),
            rsa_decrypt=None if pair[1] is None else rsa_decrypt_key(0),
        )
    assert caught.value.code == "bad_encoding"


def test_damaged_device_keys_are_refused() -> None:
    items = decode(device_keys(seeded(1), rsa=0).encode())
    spoiled = [
        (["user keys", *items[1:]], "bad_encoding"),
        ([items[0], 2, *items[2:]], "unsupported"),
        ([*items[:2], items[2][:-1], *items[3:]], "bad_encoding"),
        ([*items[:4], b"no key", items[5]], "bad_encoding"),
        ([*items[:4], items[4], None], "bad_encoding"),
        ([*items, 0], "bad_encoding"),
        (items[:-1], "bad_encoding"),
    ]
    for value, code in spoiled:
        with pytest.raises(PeerError) as caught:
            DeviceKeys.decode(encode(value))
        assert caught.value.code == code


def test_damaged_user_keys_are_refused() -> None:
    items = decode(UserKeys.generate(seeded(1))[0].encode())
    for value, code in [
        ([items[0], 2, *items[2:]], "unsupported"),
        ([*items[:3], b"short"], "bad_encoding"),
        ([*items, 0], "bad_encoding"),
    ]:
        with pytest.raises(PeerError) as caught:
            UserKeys.decode(encode(value))
        assert caught.value.code == code


def test_no_private_key_shows_in_repr() -> None:
    user, code = UserKeys.generate(seeded(3))
    device = device_keys(seeded(3), rsa=0)
    shown = repr((user, device, code))
    secrets = [user.identity.private_bytes(), device.device.private_bytes(), device.mailbox.private_bytes()]
    for secret in [*secrets, code.reveal()]:
        assert secret.hex() not in shown
        assert repr(secret) not in shown
    assert "<RecoveryCode>" in shown


def test_the_recovery_code_gives_the_pinned_next_key() -> None:
    user, code = UserKeys.generate(seeded(4))
    again = RecoveryCode.from_words(" ".join(code.words()))
    assert again == code
    assert len(code.words()) == 12
    assert key_hash(again.next_identity().public.spki()) == user.next_key == again.next_key()
    assert again.next_identity().public != user.identity.public


def test_the_next_key_of_a_code_never_changes() -> None:
    code = RecoveryCode(bytes(range(16)))
    assert " ".join(code.words()) == ("babab bobaf mador bobaf jabum batal fabig fakok boram kabun hatar durut")
    assert code.next_key().hex() == "27d154c77cc6996e841003ffc4a34c62c35e547a14bb9a69e0fa1cd2e6cae003"


def test_mistyped_words_are_refused() -> None:
    with pytest.raises(PeerError) as caught:
        RecoveryCode.from_words("babab " * 11 + "nonsense")
    assert caught.value.code == "bad_recovery_code"
