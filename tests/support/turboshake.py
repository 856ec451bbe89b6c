"""TurboSHAKE (RFC 9861) in plain Python, slow: for vectors whose KDF hashlib does not have."""

from __future__ import annotations

MASK = 2**64 - 1


def _round_constants() -> list[int]:
    constants, state = [], 1
    for _ in range(24):
        value = 0
        for power in range(7):
            if state & 1:
                value |= 1 << (2**power - 1)
            state = (state << 1) ^ (0x171 if state & 0x80 else 0)
        constants.append(value)
    return constants


CONSTANTS = _round_constants()[12:]


def _rotate(value: int, by: int) -> int:
    by %= 64
    return ((value << by) | (value >> (64 - by))) & MASK if by else value


def _permute(lanes: list[list[int]]) -> list[list[int]]:
    for constant in CONSTANTS:
        columns = [row[0] ^ row[1] ^ row[2] ^ row[3] ^ row[4] for row in lanes]
        mixed = [columns[(x - 1) % 5] ^ _rotate(columns[(x + 1) % 5], 1) for x in range(5)]
        lanes = [[lanes[x][y] ^ mixed[x] for y in range(5)] for x in range(5)]
        x, y, current = 1, 0, lanes[1][0]
        for step in range(24):
            x, y = y, (2 * x + 3 * y) % 5
            current, lanes[x][y] = lanes[x][y], _rotate(current, (step + 1) * (step + 2) // 2)
        lanes = [
            [lanes[x][y] ^ (~lanes[(x + 1) % 5][y] & lanes[(x + 2) % 5][y] & MASK) for y in range(5)] for x in range(5)
        ]
        lanes[0][0] ^= constant
    return lanes


def turboshake(message: bytes, length: int, strength: int, domain: int = 0x1F) -> bytes:
    """`length` bytes; `strength` is 128 or 256."""
    rate = 200 - strength // 4
    padded = bytearray(message + bytes((domain,)))
    padded += bytes(-len(padded) % rate)
    padded[-1] ^= 0x80
    lanes = [[0] * 5 for _ in range(5)]
    for start in range(0, len(padded), rate):
        block = padded[start : start + rate]
        for lane in range(rate // 8):
            lanes[lane % 5][lane // 5] ^= int.from_bytes(block[8 * lane : 8 * lane + 8], "little")
        lanes = _permute(lanes)
    out = b""
    while len(out) < length:
        out += b"".join(lanes[lane % 5][lane // 5].to_bytes(8, "little") for lane in range(rate // 8))
        lanes = _permute(lanes)
    return out[:length]
