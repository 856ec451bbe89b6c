"""Mailbox items and the statement of a mailbox key.

Checks: MAIL-01, MAIL-02, MAIL-03, MAIL-04, MAIL-05, MAIL-06, MAIL-07.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cloister.codec.cbor import decode, enc, encode
from cloister.errors import PeerError, UsageError
from cloister.identity.credential import device_id
from cloister.identity.mailbox import (
    BUCKETS,
    MAX_ITEM,
    MailboxItem,
    MailboxKey,
    open_item,
    seal_item,
)
from cloister.primitives.dh import DhKey
from cloister.primitives.hpke import AES_128_GCM, HKDF_SHA256, Hpke
from cloister.primitives.kem import X25519
from cloister.primitives.labelled import labelled, sign
from cloister.primitives.signature import VerifyKey
from support.people import NOW, device_keys, seeded

ALICE, BOB, EVE = (device_keys(seeded(name)) for name in ("alice", "bob", "eve"))
A, B, E = (device_id("home.example", name, "phone") for name in ("alice", "bob", "eve"))
KEYS = {A: ALICE.device.public, B: BOB.device.public, E: EVE.device.public}
ITEM = MailboxItem(sender=A, recipient=B, kind="invitation", room=bytes(16), body=b"come in")
RNG = seeded("mailbox")


def lookup(device: str) -> VerifyKey:
    if device not in KEYS:
        raise PeerError("unknown_sender")
    return KEYS[device]


def opened(data: bytes, me: str = B, keys: tuple[DhKey, ...] = (BOB.mailbox,)) -> MailboxItem:
    return open_item(data, me, keys, lookup)


def refused(code: str, data: bytes, me: str = B, keys: tuple[DhKey, ...] = (BOB.mailbox,)) -> None:
    with pytest.raises(PeerError) as caught:
        opened(data, me, keys)
    assert caught.value.code == code


def sealed_raw(plaintext: bytes, recipient: str = B) -> bytes:
    hpke = Hpke(X25519, HKDF_SHA256, AES_128_GCM)
    info = hpke.info(labelled("mailbox", recipient))
    return b"".join(hpke.seal(X25519.public_key(BOB.mailbox.public), info, plaintext, RNG))


def framed(inner: bytes, size: int | None = None, padding: bytes | None = None) -> bytes:
    filler = bytes(1024 - 52 - len(inner)) if padding is None else padding
    return sealed_raw((len(inner) if size is None else size).to_bytes(4, "big") + inner + filler)


def inner(*content: Any, signer: Any = ALICE) -> bytes:
    return enc(*content, sign(signer.device, "mailbox item", *content))


CONTENT = (A, B, "invitation", bytes(16), b"come in")


@pytest.mark.parametrize("item", [ITEM, replace(ITEM, room=None), replace(ITEM, body=b"")])
def test_an_item_opens(item: MailboxItem) -> None:
    assert opened(seal_item(item, BOB.mailbox.public, ALICE.device, RNG)) == item


def test_control_a_hand_made_item_opens() -> None:
    assert opened(framed(inner(*CONTENT))) == ITEM


@pytest.mark.parametrize("size", [0, 1, 700, 800, 900, 1000, 2000, 30_000, 65_000])
def test_an_items_size_is_a_bucket(size: int) -> None:
    item = replace(ITEM, body=bytes(size))
    data = seal_item(item, BOB.mailbox.public, ALICE.device, RNG)
    needed = len(inner(A, B, "invitation", bytes(16), item.body)) + 52
    assert len(data) == min(bucket for bucket in BUCKETS if bucket >= needed)
    assert opened(data) == item


def test_the_largest_item_fits_and_one_byte_more_does_not() -> None:
    overhead = len(inner(*CONTENT[:4], bytes(60_000))) - 60_000
    body = bytes(MAX_ITEM - 52 - overhead)
    data = seal_item(replace(ITEM, body=body), BOB.mailbox.public, ALICE.device, RNG)
    assert len(data) == MAX_ITEM
    assert opened(data).body == body
    with pytest.raises(UsageError) as caught:
        seal_item(replace(ITEM, body=body + b"x"), BOB.mailbox.public, ALICE.device, RNG)
    assert caught.value.code == "usage"


def test_an_item_for_the_previous_mailbox_key_still_opens() -> None:
    data = seal_item(ITEM, BOB.mailbox.public, ALICE.device, RNG)
    assert opened(data, keys=(EVE.mailbox, BOB.mailbox)) == ITEM
    refused("bad_tag", data, keys=(EVE.mailbox,))
    refused("bad_tag", data, keys=())


def test_every_flipped_byte_is_refused() -> None:
    data = seal_item(ITEM, BOB.mailbox.public, ALICE.device, RNG)
    for at in range(0, len(data), 3):
        spoiled = data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]
        refused("bad_tag", spoiled)


def test_an_encapsulation_of_small_order_is_refused() -> None:
    data = seal_item(ITEM, BOB.mailbox.public, ALICE.device, RNG)
    refused("zero_key", bytes(32) + data[32:])


@pytest.mark.parametrize("size", [0, 31, 1023, 1025, 3072, 2 * MAX_ITEM])
def test_an_item_of_another_size_is_refused(size: int) -> None:
    refused("bad_encoding", bytes(size))


def test_an_item_that_was_passed_on_is_misrouted() -> None:
    passed_on = inner(A, E, "invitation", bytes(16), b"come in")
    refused("misrouted", framed(passed_on))
    data = seal_item(replace(ITEM, recipient=E), BOB.mailbox.public, ALICE.device, RNG)
    refused("bad_tag", data)
    refused("bad_tag", seal_item(ITEM, BOB.mailbox.public, ALICE.device, RNG), me=E)


def test_an_item_signed_by_another_is_refused() -> None:
    refused("bad_sig", framed(inner(*CONTENT, signer=EVE)))
    refused("bad_sig", seal_item(ITEM, BOB.mailbox.public, EVE.device, RNG))
    refused("bad_sig", framed(enc(*CONTENT, sign(ALICE.device, "mailbox key", *CONTENT))))


@pytest.mark.parametrize("at", range(5))
def test_every_part_is_signed(at: int) -> None:
    other: list[Any] = [E, B, "welcome", None, b"go away"]
    changed = [*CONTENT[:at], other[at], *CONTENT[at + 1 :]]
    if at == 1:
        changed[1] = B
        assert opened(framed(enc(*changed, sign(ALICE.device, "mailbox item", *CONTENT)))) == ITEM
        return
    refused("bad_sig", framed(enc(*changed, sign(ALICE.device, "mailbox item", *CONTENT))))


def test_a_sender_that_does_not_count_is_refused() -> None:
    stranger = device_id("home.example", "mallory", "phone")
    refused("unknown_sender", framed(inner(stranger, *CONTENT[1:])))


def test_broken_padding_is_refused() -> None:
    whole = inner(*CONTENT)
    refused("bad_encoding", framed(whole, padding=bytes(1024 - 53 - len(whole)) + b"\1"))
    refused("bad_encoding", framed(whole, size=5000))
    refused("bad_encoding", framed(whole, size=len(whole) - 1))
    refused("bad_encoding", framed(whole, size=len(whole) + 1))


def test_an_item_of_another_form_is_refused() -> None:
    items = decode(inner(*CONTENT))
    for value in ([*items, 0], items[:-1], [*items[:2], "k" * 33, *items[3:]], [*items[:3], bytes(15), *items[4:]]):
        refused("bad_encoding", framed(encode(value)))


def test_a_malformed_mailbox_key_is_refused_at_sealing() -> None:
    with pytest.raises(PeerError) as caught:
        seal_item(ITEM, bytes(31), ALICE.device, RNG)
    assert caught.value.code == "bad_encoding"


# --- statements -------------------------------------------------------------------------------------------


def test_a_statement_reads_back_and_is_signed_by_its_device() -> None:
    statement = MailboxKey.make(B, BOB, NOW)
    assert MailboxKey.decode(statement.encode()) == statement
    assert statement.public == BOB.mailbox.public
    statement.check(B, BOB.device.public)


def test_a_statement_of_another_device_is_refused() -> None:
    statement = MailboxKey.make(B, BOB, NOW)
    with pytest.raises(PeerError) as caught:
        statement.check(A, BOB.device.public)
    assert caught.value.code == "misrouted"


@pytest.mark.parametrize("changes", [{"public": bytes(32)}, {"ts": NOW + 1}, {"device_id": A}])
def test_an_altered_statement_is_refused(changes: dict[str, Any]) -> None:
    statement = replace(MailboxKey.make(B, BOB, NOW), **changes)
    with pytest.raises(PeerError) as caught:
        statement.check(statement.device_id, BOB.device.public)
    assert caught.value.code == "bad_sig"


def test_a_statement_that_another_key_signed_is_refused() -> None:
    with pytest.raises(PeerError) as caught:
        MailboxKey.make(B, EVE, NOW).check(B, BOB.device.public)
    assert caught.value.code == "bad_sig"


def test_a_statement_of_another_form_is_refused() -> None:
    items = decode(MailboxKey.make(B, BOB, NOW).encode())
    for value in ([*items, 0], items[:-1], [items[0], bytes(31), *items[2:]], [*items[:2], -1, items[3]]):
        with pytest.raises(PeerError) as caught:
            MailboxKey.decode(encode(value))
        assert caught.value.code == "bad_encoding"


@pytest.mark.parametrize("public", [bytes(32), (1).to_bytes(32, "little")])
def test_a_mailbox_key_of_small_order_is_refused(public: bytes) -> None:  # MAIL-07
    statement = MailboxKey(device_id=A, public=public, ts=1, signature=sign(ALICE.device, "mailbox key", A, public, 1))
    with pytest.raises(PeerError) as caught:
        statement.check(A, ALICE.device.public)
    assert caught.value.code == "zero_key"
