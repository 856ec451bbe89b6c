"""Ed25519 at its edges: points of small order, commitments and scalars that are not in their one form.

Two libraries that both follow RFC 8032 need not agree about such signatures; a room, a realm and a log need one answer,
and one by which nobody can sign without a key. Ours is libsodium's (docs/spec/encoding.md): the equation without
cofactor, canonical scalars and points, no small order. The vectors are the twelve of novifinancial/ed25519-speccheck
(`cases.json`, commit 6551933 of 26 February 2021, Apache-2.0; "Taming the many EdDSAs", 2020); the forgeries are
calculated here.
"""

from __future__ import annotations

import hashlib
from typing import Final

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from cloister.errors import PeerError
from cloister.primitives.signature import SigningKey, VerifyKey

SPECCHECK: Final = (
    (
        "8c93255d71dcab10e8f379c26200f3c7bd5f09d9bc3068d3ef4edeb4853022b6",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"
        "0000000000000000000000000000000000000000000000000000000000000000",
    ),
    (
        "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43"
        "a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
    ),
    (
        "aebf3f2601a0c8c5d39cc7d8911642f740b78168218da8471772b35f9d35b9ab",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"
        "8c4bd45aecaca5b24fb97bc10ac27ac8751a7dfe1baff8b953ec9f5833ca260e",
    ),
    (
        "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "9046a64750444938de19f227bb80485e92b83fdb4b6506c160484c016cc1852f"
        "87909e14428a7a1d62e9f22f3d3ad7802db02eb2e688b6c52fcd6648a98bd009",
    ),
    (
        "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "160a1cb0dc9c0258cd0a7d23e94d8fa878bcb1925f2c64246b2dee1796bed512"
        "5ec6bc982a269b723e0668e540911a9a6a58921d6925e434ab10aa7940551a09",
    ),
    (
        "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "21122a84e0b5fca4052f5b1235c80a537878b38f3142356b2c2384ebad4668b7"
        "e40bc836dac0f71076f9abe3a53f9c03c1ceeeddb658d0030494ace586687405",
    ),
    (
        "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        "e96f66be976d82e60150baecff9906684aebb1ef181f67a7189ac78ea23b6c0e"
        "547f7690a0e2ddcd04d87dbc3490dc19b3b3052f7ff0538cb68afb369ba3a514",
    ),
    (
        "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        "8ce5b96c8f26d0ab6c47958c9e68b937104cd36e13c33566acd2fe8d38aa1942"
        "7e71f98a473474f2f13f06f97c20d58cc3f54b8bd0d272f42b695dd7e89a8c22",
    ),
    (
        "9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
        "03be9678ac102edcd92b0210bb34d7428d12ffc5df5f37e359941266a4e35f0f",
    ),
    (
        "9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
        "ca8c5b64cd208982aa38d4936621a4775aa233aa0505711d8fdcfdaa943d4908",
    ),
    (
        "e96b7021eb39c1a163b6da4e3093dcd3f21387da4cc4572be588fafae23c155b",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dc"
        "a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
    ),
    (
        "39a591f5321bbe07fd5a23dc2f39d025d74526615746727ceefd6e82ae65c06f",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dc"
        "a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
    ),
)
"""Message, public key, signature."""
WHOLE: Final = {3}
"""The one case without a small order, a large scalar or another form of a point."""

P: Final = 2**255 - 19
ORDER: Final = 2**252 + 27742317777372353535851937790883648493
D: Final = -121665 * pow(121666, -1, P) % P
BASE: Final = 4 * pow(5, -1, P) % P
"""The y of the base point; its x is even."""
Point = tuple[int, int]


def add(a: Point, b: Point) -> Point:
    """The sum on the curve -x^2 + y^2 = 1 + d x^2 y^2."""
    (x1, y1), (x2, y2) = a, b
    cross = D * x1 * x2 * y1 * y2
    return (
        (x1 * y2 + x2 * y1) * pow(1 + cross, -1, P) % P,
        (y1 * y2 + x1 * x2) * pow(1 - cross, -1, P) % P,
    )


def times(number: int, point: Point) -> Point:
    total = (0, 1)
    while number:
        if number & 1:
            total = add(total, point)
        point, number = add(point, point), number >> 1
    return total


def even(y: int) -> Point | None:
    """The point with this y whose x is even; None where there is none."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    if x * x % P != square:
        return None
    return (P - x if x & 1 else x, y)


def encoded(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def small_order() -> list[Point]:
    """The eight points of small order."""
    torsion = (times(ORDER, point) for point in map(even, range(2, P)) if point is not None)
    generator = next(point for point in torsion if times(4, point) != (0, 1))
    return [times(number, generator) for number in range(8)]


def every_form(point: Point) -> set[bytes]:
    """The canonical form and those that lenient decoders take for it."""
    x, y = point
    ys = [y, y + P] if y + P < 2**255 else [y]
    signs = (0, 1) if x == 0 else (x & 1,)
    return {(each | sign << 255).to_bytes(32, "little") for each in ys for sign in signs}


FORMS: Final = sorted(form for point in small_order() for form in every_form(point))


def refused(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether it is refused, with the code for a wrong signature."""
    try:
        VerifyKey("ed25519", public).verify(signature, message)
    except PeerError as error:
        return error.code == "bad_sig"
    return False


def lenient(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether OpenSSL takes it."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


@pytest.mark.parametrize("number", range(len(SPECCHECK)))
def test_of_the_twelve_cases_one_is_a_signature(number: int) -> None:
    message, public, signature = map(bytes.fromhex, SPECCHECK[number])
    assert refused(public, signature, message) is (number not in WHOLE)


def test_there_are_eight_points_of_small_order_and_fourteen_forms() -> None:
    assert len(set(small_order())) == 8
    assert all(times(8, point) == (0, 1) for point in small_order())
    assert len(FORMS) == len(set(FORMS)) == 14


@pytest.mark.parametrize("form", FORMS, ids=bytes.hex)
def test_a_key_of_small_order_is_a_key_to_which_nobody_can_forge(form: bytes) -> None:
    """To a lenient library r*B and r are its signature of every message whose hash is a multiple of its order."""
    base = even(BASE)
    assert base is not None
    nonce = 7
    commitment, scalar = encoded(times(nonce, base)), nonce.to_bytes(32, "little")
    taken = 0
    for number in range(40):
        message = b"order %d" % number
        assert refused(form, commitment + scalar, message)
        taken += lenient(form, commitment + scalar, message)
    if int.from_bytes(form, "little") & (2**255 - 1) < P:
        assert taken, "the forgery must be one"


@pytest.mark.parametrize("form", FORMS, ids=bytes.hex)
def test_a_commitment_of_small_order_is_refused(form: bytes) -> None:
    """Its owner alone can make one; whose copies are in two forms would be two signatures of one message."""
    seed = bytes(range(32))
    key = SigningKey("ed25519", seed)
    secret = int.from_bytes(hashlib.sha512(seed).digest()[:32], "little") & (2**254 - 8) | 2**254
    message = b"message"
    challenge = int.from_bytes(hashlib.sha512(form + key.public.raw + message).digest(), "little")
    signature = form + (challenge * secret % ORDER).to_bytes(32, "little")
    assert refused(key.public.raw, signature, message)
    identity = form == (1).to_bytes(32, "little")
    assert lenient(key.public.raw, signature, message) is identity


def test_a_scalar_has_one_form() -> None:
    key = SigningKey("ed25519", bytes(range(32)))
    signature = key.sign(b"message")
    scalar = int.from_bytes(signature[32:], "little")
    more = [scalar + times * ORDER for times in range(1, 16) if scalar + times * ORDER < 2**256]
    assert len(more) == 15
    for each in more:
        assert refused(key.public.raw, signature[:32] + each.to_bytes(32, "little"), b"message")
    assert not refused(key.public.raw, signature, b"message")


@pytest.mark.parametrize("size", [0, 1, 32, 63, 65, 96, 128])
def test_a_signature_of_another_length_is_none(size: int) -> None:
    """Also where signature and message together are the same bytes as before."""
    key = SigningKey("ed25519", bytes(range(32)))
    message = bytes(range(100))
    whole = key.sign(message) + message
    assert refused(key.public.raw, whole[:size], whole[size:])
    assert not refused(key.public.raw, whole[:64], whole[64:])
