"""Frames: one encoding each, every field bounded, nothing else decodes."""

from __future__ import annotations

import dataclasses
import random

import msgspec
import pytest

from cloister.errors import PeerError, UnavailableError
from cloister.primitives.kdf import sha256
from cloister.primitives.labelled import hash_of, labelled
from cloister.primitives.signature import SigningKey
from cloister.wire import frames, limits, versions
from cloister.wire.frames import Entry, Frame, Head, HeadKey, Stub
from cloister.wire.log import entry_hash, sign_head

HEAD = Head(incarnation=0, seq=1, hash=bytes(32), signature=b"s")
STUB = Stub(
    seq=1, kind="commit", flags=0, epoch=1, token_hash=bytes(32), entry_id=bytes(16), payload_hash=bytes(32),
    attachments_hash=bytes(32), ts_ms=1,
)  # fmt: skip
ENTRY = Entry(seq=1, kind="create", flags=0, epoch=0, token_hash=bytes(32), entry_id=bytes(16), payload=b"x", ts_ms=1)
ANSWERS: list[Frame] = [
    frames.Page(rid=1, log=bytes(16), entries=[ENTRY, STUB], head=HEAD, more=False),
    frames.Pushed(log=bytes(16), entries=[ENTRY], head=HEAD),
    frames.Behind(log=bytes(16), seq=7),
    frames.Ack(rid=1, seq=1, ts_ms=1, head=HEAD),
    frames.Mailed(items=[frames.Item(number=1, item_id=bytes(16), body=b"x")]),
    frames.MailKeys(rid=1, statements=[b"x", None]),
    frames.Users(rid=1, names=["ann"], online=["ann"]),
    frames.Online(name="ann", online=True),
    frames.Pubkey(rid=1, username="ann", identity_key=bytes(32), log_index=1),
    frames.Done(rid=1),
    frames.Refused(rid=1, code="quota"),
    frames.Bye(code="closed"),
    frames.Enrolled(rid=1, reply=b"x"),
    frames.Welcome(
        connection_id=bytes(16), incarnation=0, head_key=HeadKey(key=bytes(32), not_before=0, signature=b"s"),
        realm_head=HEAD, mail_count=0,
    ),
]  # fmt: skip


def refused(decode: object, data: bytes) -> str:
    with pytest.raises(PeerError) as caught:
        decode(data)  # type: ignore[operator]
    return caught.value.code


@pytest.mark.parametrize("frame", ANSWERS, ids=lambda frame: type(frame).__name__)
def test_an_answer_decodes_to_itself_and_nothing_near_it_does(frame: Frame) -> None:
    data = frames.encode(frame)
    assert frames.decode_answer(data) == frame
    assert refused(frames.decode_answer, data + b"\x00") == "bad_encoding"
    assert refused(frames.decode_answer, data[:-1]) == "bad_encoding"
    assert refused(frames.decode_answer, bytes([data[0] + 1]) + data[1:] + b"\x01") == "bad_encoding"
    assert refused(frames.decode_request, data) == "bad_encoding"
    assert refused(frames.decode_before_login, data) == "bad_encoding"


@pytest.mark.parametrize("data", [b"", b"\xc0", b"\x90", b"\x91\x01", b"\x91\xa3bye", b"\xff", b"\xdf\xff\xff\xff\xff"])
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    for decode in (frames.decode_answer, frames.decode_request, frames.decode_before_login):
        assert refused(decode, data) == "bad_encoding"


def test_missing_fields_are_refused_unless_they_have_a_default_and_then_too() -> None:
    whole = msgspec.msgpack.decode(frames.encode(frames.Refused(rid=1, code="quota")))
    assert whole == ["refused", 1, "quota", "", 0]
    assert refused(frames.decode_answer, msgspec.msgpack.encode(whole[:3])) == "bad_encoding"


def test_text_that_is_not_utf8_is_refused() -> None:
    data = frames.encode(frames.Bye(code="abc")).replace(b"abc", b"\xff\xfe\xfd")
    assert refused(frames.decode_answer, data) == "bad_encoding"


def test_the_signed_form_is_the_deterministic_encoding_of_tag_and_fields() -> None:
    hello = frames.Hello(device=None, nonce=bytes(32), versions=[1])
    assert frames.signed_form(hello) == labelled("", "hello", None, bytes(32), [1])[len("cloister/1 ") + 1 :]
    assert frames.digest(hello) == sha256(frames.signed_form(hello))


def test_the_quick_hash_is_the_labelled_hash() -> None:
    rng = random.Random(5)
    realm, log = "home.example", rng.randbytes(16)
    for _ in range(300):
        number = [rng.randrange(2 ** rng.choice((3, 5, 8, 9, 16, 17, 32, 33, 63))) for _ in range(5)]
        stub = Stub(
            seq=number[0], kind=rng.choice(("commit", "é" * 8, "application", "€" * 16, "x" * 16)), flags=number[1],
            epoch=number[2], token_hash=rng.randbytes(32), entry_id=rng.randbytes(16), payload_hash=rng.randbytes(32),
            attachments_hash=rng.randbytes(32), ts_ms=number[3],
        )  # fmt: skip
        prev = rng.randbytes(32)
        assert entry_hash(realm, log, number[4], prev, stub) == hash_of(
            "log", realm, log, number[4], stub.seq, prev, stub.kind, stub.flags, stub.epoch, stub.token_hash,
            stub.entry_id, stub.payload_hash, stub.attachments_hash, stub.ts_ms,
        )  # fmt: skip


def test_the_quick_signature_is_the_labelled_one() -> None:
    key = SigningKey.generate("ed25519", random.Random(1).randbytes)
    for seq in (0, 23, 24, 255, 256, 65_535, 65_536, 2**32, 2**62):
        head = sign_head(key, "home.example", bytes(16), 3, seq, bytes(32))
        key.public.verify(head.signature, labelled("head", "home.example", bytes(16), 3, seq, bytes(32)))


# --- limits and versions ------------------------------------------------------------------------------------


def test_every_limit_is_a_row_with_a_reason() -> None:
    names = [limit.name for limit in limits.TABLE]
    assert len(set(names)) == len(names) > 30
    for limit in limits.TABLE:
        assert limit.value > 0
        assert all(getattr(limit, field.name) for field in dataclasses.fields(limit))


@pytest.mark.parametrize(
    ("make", "limit"),
    [
        (lambda size: frames.Append(rid=1, record=bytes(size)), limits.RECORD_REALM.value),
        (lambda size: frames.Deposit(rid=1, mail=frames.Mail("d", bytes(16), bytes(size))), limits.MAIL_ITEM.value),
        (lambda size: frames.Post(1, bytes(16), "k", bytes(32), bytes(16), bytes(size)), limits.RECORD.value),
        (lambda size: frames.GetMailKeys(rid=1, devices=["d" * size]), limits.DEVICE_ID.value),
        (lambda size: frames.GetMailKeys(rid=1, devices=["d"] * size), limits.COMMIT_ITEMS.value),
    ],
)
def test_a_field_is_read_at_its_limit_and_not_past_it(make: object, limit: int) -> None:
    assert frames.decode_request(frames.encode(make(limit)))  # type: ignore[operator]
    assert refused(frames.decode_request, frames.encode(make(limit + 1))) == "bad_encoding"  # type: ignore[operator]


def test_the_newest_common_version_is_chosen() -> None:
    assert versions.choose([1, 2, 99]) == 1
    with pytest.raises(UnavailableError, match="version"):
        versions.choose([2, 99])
