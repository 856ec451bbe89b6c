"""Every vault that must not open.

Checks: VAULT-01, VAULT-02.
"""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from cloister.codec.cbor import decode, encode
from cloister.errors import PeerError, UsageError
from cloister.identity import vault
from cloister.identity.vault import CEILING_N, FLOOR_N, MAX_SIZE, open_vault, rewrap, seal
from support.people import seeded

RIGHT = "right"
BOX = seal(b"the keys", "right", seeded(1), n=FLOOR_N)


def refused(code: str, data: bytes, password: str = RIGHT) -> None:
    with pytest.raises(PeerError) as caught:
        open_vault(data, password)
    assert caught.value.code == code


def changed(at: int, value: Any) -> bytes:
    items = decode(BOX)
    return encode([*items[:at], value, *items[at + 1 :]])


def test_control_the_vault_opens() -> None:
    assert open_vault(BOX, "right") == b"the keys"
    assert open_vault(changed(0, "vault"), "right") == b"the keys"


@pytest.mark.parametrize("password", ["wrong", "", "Right", "right ", "wright"])
def test_a_wrong_password_is_refused(password: str) -> None:
    refused("wrong_password", BOX, password)


def test_altered_contents_are_the_same_error_as_a_wrong_password() -> None:
    _, _, salt, n, _, _, nonce, ct = decode(BOX)
    for at, value in [
        (2, bytes([salt[0] ^ 1]) + salt[1:]),
        (3, n * 2),
        (6, nonce[:-1] + bytes([nonce[-1] ^ 1])),
        (7, ct[:-1] + bytes([ct[-1] ^ 1])),
        (7, bytes([ct[0] ^ 0x80]) + ct[1:]),
        (7, ct[:-1]),
        (7, b""),
    ]:
        refused("wrong_password", changed(at, value))


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, "box"),
        (1, 2),
        (2, bytes(15)),
        (3, 2**14),
        (3, 2**21),
        (3, 2**60),
        (3, FLOOR_N + 1),
        (3, 0),
        (4, 9),
        (4, 2**30),
        (5, 2),
        (5, 0),
        (6, bytes(11)),
        (7, "text"),
    ],
)
def test_another_form_or_cost_is_refused_before_memory_is_taken(at: int, value: Any) -> None:
    data = changed(at, value)
    tracemalloc.start()
    refused("bad_vault", data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("data", [b"", b"\x80", BOX[:-1], BOX + b"\0", b"\xff" * 99, bytes(MAX_SIZE + 1)])
def test_bytes_that_are_no_vault_are_refused(data: bytes) -> None:
    refused("bad_vault", data)


@pytest.mark.parametrize("n", [2**14, 2**21, FLOOR_N + 1, 0, -FLOOR_N])
def test_no_vault_is_made_at_another_cost(n: int) -> None:
    with pytest.raises(UsageError) as caught:
        seal(b"the keys", "right", seeded(1), n=n)
    assert caught.value.code == "usage"


def test_no_vault_is_made_without_a_password() -> None:
    with pytest.raises(UsageError):
        seal(b"the keys", "", seeded(1), n=FLOOR_N)
    with pytest.raises(UsageError):
        rewrap(BOX, "right", "", seeded(1), n=FLOOR_N)


def test_rewrapping_needs_the_old_password() -> None:
    with pytest.raises(PeerError) as caught:
        rewrap(BOX, "wrong", "new", seeded(1), n=FLOOR_N)
    assert caught.value.code == "wrong_password"


def test_floor_and_ceiling_are_costs_that_scrypt_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def cheap(password: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
        asked.append((n, r, p))
        return bytes(32)

    monkeypatch.setattr(vault, "scrypt", cheap)
    for n in (FLOOR_N, 2**17, CEILING_N):
        assert open_vault(seal(b"x", "right", seeded(1), n=n), "right") == b"x"
    assert asked == [(n, 8, 1) for n in (FLOOR_N, FLOOR_N, 2**17, 2**17, CEILING_N, CEILING_N)]
