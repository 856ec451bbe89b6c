"""Realm log records: they read back, and nothing else reads.

Checks: REALM-01, REALM-02, REALM-03.
"""

from __future__ import annotations

import pytest

from cloister.codec.cbor import decode, enc, encode
from cloister.errors import PeerError
from cloister.identity.records import (
    MAX_RECORD,
    Enrol,
    Genesis,
    NewCertificates,
    NewCrl,
    NewManifest,
    Record,
    decode_record,
)

PHONE = "cloister://home.example/u/alice/d/phone"
RECORDS: list[Record] = [
    Genesis(realm="home.example", mode="embedded", root=b"r", intermediate=b"i", relay_key=bytes(32)),
    Enrol(manifest=b"m", leaves=(b"1",), tag=None, invite_id=None, requests_hash=bytes(32)),
    Enrol(manifest=b"m", leaves=(b"1", b"2", b"3"), tag=bytes(32), invite_id=bytes(16), requests_hash=bytes(32)),
    NewManifest(manifest=b"m"),
    NewCertificates(device_id=PHONE, leaves=(b"1",)),
    NewCrl(crl=b"c"),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_reads_back(record: Record) -> None:
    assert decode_record(record.encode()) == record


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_with_a_surplus_or_missing_item_is_refused(record: Record) -> None:
    items = decode(record.encode())
    for value in ([*items, None], items[:-1]):
        with pytest.raises(PeerError) as caught:
            decode_record(encode(value))
        assert caught.value.code == "bad_encoding"


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_with_an_item_of_another_type_is_refused(record: Record) -> None:
    items = decode(record.encode())
    for at in range(len(items)):
        value = [*items[:at], True, *items[at + 1 :]]
        with pytest.raises(PeerError) as caught:
            decode_record(encode(value))
        assert caught.value.code == "bad_encoding"


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", "bad_encoding"),
        (enc(), "bad_encoding"),
        (enc("party", 1), "unsupported"),
        (enc("genesis", 2, "home.example", "embedded", b"r", b"i", bytes(32)), "unsupported"),
        (enc("genesis", 1, "Home", "embedded", b"r", b"i", bytes(32)), "bad_name"),
        (enc("genesis", 1, "home.example", "embedded", b"r" * 2049, b"i", bytes(32)), "bad_encoding"),
        (enc("genesis", 1, "home.example", "embedded", b"r", b"i", bytes(31)), "bad_encoding"),
        (enc("certificates", "alice", [b"1"]), "bad_name"),
        (enc("certificates", PHONE, []), "bad_encoding"),
        (enc("certificates", PHONE, [b"1", b"2"]), "bad_encoding"),
        (enc("certificates", PHONE, [b"1"] * 4), "bad_encoding"),
        (enc("certificates", PHONE, [b"1" * 2049]), "bad_encoding"),
        (enc("certificates", PHONE, ["1"]), "bad_encoding"),
        (enc("manifest", bytes(4097)), "bad_encoding"),
        (enc("enrol", b"m", [b"1"], bytes(31), None, bytes(32)), "bad_encoding"),
        (enc("enrol", b"m", [b"1"], None, bytes(15), bytes(32)), "bad_encoding"),
        (enc("crl", bytes(2**18 + 1)), "bad_encoding"),
        (bytes(MAX_RECORD + 1), "bad_encoding"),
    ],
)
def test_what_is_no_record_is_refused(payload: bytes, code: str) -> None:
    with pytest.raises(PeerError) as caught:
        decode_record(payload)
    assert caught.value.code == code
