"""Pre-shared keys and the secret they add to an epoch (RFC 9420 section 8.4).

External keys come from the application, resumption keys from a group's own past epochs.

Invariants: all members name the same keys in the same order, which the key schedule then proves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cloister.codec.tls import Reader, Writer, encode
from cloister.mls.checks import refuse
from cloister.mls.ciphersuite import CipherSuite

EXTERNAL: Final = 1
RESUMPTION: Final = 2

APPLICATION: Final = 1
REINIT: Final = 2
BRANCH: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PreSharedKeyId:
    """Names a key: `key_id` of an external one, or usage, group and epoch of a resumption key."""

    kind: int
    key_id: bytes = b""
    usage: int = 0
    group_id: bytes = b""
    epoch: int = 0
    nonce: bytes

    @classmethod
    def read(cls, reader: Reader) -> PreSharedKeyId:
        """Read one PreSharedKeyID."""
        kind = reader.u8()
        if kind == EXTERNAL:
            return cls(kind=kind, key_id=reader.opaque(), nonce=reader.opaque())
        if kind != RESUMPTION:
            refuse("MLS-V003", "a pre-shared key of an unknown type")
        usage, group_id, epoch = reader.u8(), reader.opaque(), reader.u64()
        if usage not in (APPLICATION, REINIT, BRANCH):
            refuse("MLS-V003", "a resumption key of an unknown usage")
        return cls(kind=kind, usage=usage, group_id=group_id, epoch=epoch, nonce=reader.opaque())

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.u8(self.kind)
        if self.kind == EXTERNAL:
            writer.opaque(self.key_id)
        else:
            writer.u8(self.usage).opaque(self.group_id).u64(self.epoch)
        writer.opaque(self.nonce)


def psk_secret(suite: CipherSuite, psks: tuple[tuple[PreSharedKeyId, bytes], ...]) -> bytes:
    """`psk_secret` over (id, key) in the order of the commit: `nh` bytes, all zero without keys."""
    secret = suite.zero
    count = len(psks).to_bytes(2, "big")
    for index, (key_id, key) in enumerate(psks):
        extracted = suite.extract(suite.zero, key)
        label = encode(key_id) + index.to_bytes(2, "big") + count
        part = suite.expand_with_label(extracted, b"derived psk", label, suite.nh)
        secret = suite.extract(part, secret)
    return secret
