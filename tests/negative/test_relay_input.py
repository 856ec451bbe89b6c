"""Bytes that no client of ours sends: the relay answers with a code or ends the connection, and stays as it was."""

from __future__ import annotations

import random

import msgspec
import pytest

from cloister.wire import frames, limits
from cloister.wire.frames import Bye, Refused
from support.relays import Client, World

ROOM, T0 = b"R" * 16, bytes([1]) * 32


@pytest.fixture(scope="module")
def world() -> World:
    made = World()
    made.client("ann").create(ROOM, T0)
    return made


def raw(client: Client, data: bytes) -> list[object]:
    client.world.core.frame(client.wire, data, client.world.now)
    heard: list[object] = list(client.hear())
    client.world.core.disconnect(client.wire, client.world.now)
    return heard


def test_seeded_garbage_ends_the_connection(world: World) -> None:
    rng = random.Random(7)
    for _ in range(300):
        data = rng.randbytes(rng.choice((1, 2, 5, 40, 300)))
        assert raw(world.client("bob"), data) == [Bye(code="bad_encoding")]
        assert raw(world.stranger(), data) == [Bye(code="bad_encoding")]
    assert world.core.take_batch() is None


def test_flipped_bytes_of_real_frames_are_refused_or_harmless(world: World) -> None:
    rng = random.Random(8)
    client = world.client("bob")
    client.present(ROOM, T0)
    whole = frames.encode(client.a_post(ROOM, T0, b"e" * 16, b"hello"))
    for _ in range(300):
        at = rng.randrange(len(whole))
        data = whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :]
        probe = world.client("bob")
        heard = raw(probe, data)
        assert all(isinstance(frame, Bye | Refused) for frame in heard)
        world.step()
    assert world.store.last(ROOM).seq == 1  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "value",
    [
        ["post"], ["post", 1], [], {}, None, 7, "post", {"type": "post"}, ["unknown", 1], [1, 2, 3], [["post"]],
        ["user_list", -1], ["user_list", 2**63], ["user_list", True], ["user_list", 1.0], ["user_list", "1"],
        ["user_list", None], ["get_pubkey", 1, ""], ["get_pubkey", 1, "x" * 65], ["get_pubkey", 1, b"bob"],
        ["present", 1, b"short", b"", 0], ["present", 1, bytes(17), b"", 0], ["present", 1, bytes(16), bytes(33), 0],
        ["forget", 1, "R" * 16], ["mailack", 1, [1]], ["getmailkeys", 1, ["x"] * 257], ["getmailkeys", 1, [""]],
        ["inviteput", 1, bytes(16), bytes(32), 0, 1], ["inviteput", 1, bytes(16), bytes(32), 1001, 1],
        ["post", 1, ROOM, "", bytes(32), bytes(16), b""], ["post", 1, ROOM, "k" * 17, bytes(32), bytes(16), b""],
        ["post", 1, ROOM, "k", bytes(32), bytes(16), bytes(limits.RECORD.value + 1)],
        ["append", 1, bytes(limits.RECORD_REALM.value + 1)],
        ["deposit", 1, ["mail", "d", bytes(16), bytes(limits.MAIL_ITEM.value + 1)]],
        ["deposit", 1, ["mail", "d" * 129, bytes(16), b""]],
        ["stage", 1, bytes(32), 0, 0, b"x"], ["stage", 1, bytes(32), limits.STAGE.value + 1, 0, b"x"],
        ["stage", 1, bytes(32), 1, 0, b""],
        ["commit", 1, ROOM, bytes(32), bytes(16), b"", bytes(32), None, [["mail", "d", bytes(16), b""]] * 257, False],
        ["commit", 1, ROOM, bytes(32), bytes(16), ["staged", bytes(32), 0], bytes(32), None, [], False],
        ["commit", 1, ROOM, bytes(32), bytes(16), b"", bytes(32), None, [], 0],
    ],
    ids=str,
)  # fmt: skip
def test_wrong_types_sizes_and_unknown_kinds_end_the_connection(world: World, value: object) -> None:
    assert raw(world.client("bob"), msgspec.msgpack.encode(value)) == [Bye(code="bad_encoding")]


def test_a_value_in_another_encoding_ends_the_connection(world: World) -> None:
    whole = frames.encode(frames.UserList(rid=1))
    assert whole.endswith(b"\x01")
    longer = whole[:-1] + b"\xcc\x01"
    assert raw(world.client("bob"), longer) == [Bye(code="bad_encoding")]


def test_a_frame_over_the_limit_ends_the_connection(world: World) -> None:
    assert raw(world.client("bob"), bytes(limits.FRAME.value + 1)) == [Bye(code="bad_encoding")]


def test_deep_nesting_is_refused_at_once(world: World) -> None:
    assert raw(world.client("bob"), b"\x91" * 100_000 + b"\x01") == [Bye(code="bad_encoding")]


def test_a_login_frame_at_its_limit_is_still_parsed(world: World) -> None:
    client = world.stranger()
    client.say(frames.Hello(device=None, nonce=bytes(32), versions=[1]))
    client.hear()
    size = limits.LOGIN_FRAME.value - len(frames.encode(frames.Enrol(rid=1, request=bytes(65_000)))) + 65_000
    data = frames.encode(frames.Enrol(rid=1, request=bytes(size)))
    assert len(data) == limits.LOGIN_FRAME.value
    refused, _ = raw(client, data)
    assert isinstance(refused, Refused)
    assert refused.code == "bad_encoding"
    over = world.stranger()
    over.say(frames.Hello(device=None, nonce=bytes(32), versions=[1]))
    over.hear()
    assert raw(over, data + b"\x00") == [Bye(code="bad_encoding")]
