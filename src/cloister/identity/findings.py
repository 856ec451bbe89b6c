"""What judging a realm record has found of its certificates, kept so that a restart need not verify them again.

Source: docs/spec/identity.md ("Realm log"). A device that folds its replica at a start has verified each record
before; what it found is stored beside the record, bound to the log's hash at that place by whoever stores it.

Invariants
- Findings are the device's own: they come out of its encrypted store, never from a peer.
- They replace signatures and chains alone; every rule of the fold (names, keys, order, numbers) is applied anyway.
Left out: revocation lists, which are few and are verified again.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cloister.errors import UnavailableError
from cloister.identity.certificate import DEVICE_USAGES, VerifiedCertificate

_SERIAL = 20


class _Leaf(msgspec.Struct, array_like=True, frozen=True):
    spki: bytes
    serial: bytes
    not_before: int
    not_after: int


_decoder = msgspec.msgpack.Decoder(list[_Leaf])


def pack(leaves: Sequence[VerifiedCertificate]) -> bytes:
    """The findings of verified leaves, in the order of DEVICE_USAGES."""
    rows = [_Leaf(leaf.spki, leaf.serial.to_bytes(_SERIAL, "big"), leaf.not_before, leaf.not_after) for leaf in leaves]
    return msgspec.msgpack.encode(rows)


def unpack(found: bytes, leaves: Sequence[bytes], subject: str) -> list[VerifiedCertificate]:
    """The verified leaves again; UnavailableError("damaged") for findings of other leaves."""
    try:
        rows = _decoder.decode(found)
        return [
            VerifiedCertificate(
                der=der,
                subject=subject,
                usage=usage,
                spki=row.spki,
                serial=int.from_bytes(row.serial, "big"),
                not_before=row.not_before,
                not_after=row.not_after,
            )
            for der, usage, row in zip(leaves, DEVICE_USAGES[: len(leaves)], rows, strict=True)
        ]
    except (msgspec.MsgspecError, ValueError) as error:
        raise UnavailableError("damaged", "what was found of a certificate") from error
