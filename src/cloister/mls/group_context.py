"""The group context: what every member of an epoch agrees on (RFC 9420 section 8.1).

It goes into signatures, encryptions and the key schedule, so a member with another view shares no key.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from cloister.codec.tls import Reader, Writer
from cloister.mls.checks import refuse
from cloister.mls.ciphersuite import MLS10
from cloister.mls.extension import Extensions, read_extensions


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupContext:
    """One epoch's context; `encoded` is made once."""

    version: int = MLS10
    suite_id: int
    group_id: bytes
    epoch: int
    tree_hash: bytes
    confirmed_transcript_hash: bytes
    extensions: Extensions = ()
    encoded: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        writer = Writer().u16(self.version).u16(self.suite_id).opaque(self.group_id).u64(self.epoch)
        writer.opaque(self.tree_hash).opaque(self.confirmed_transcript_hash).vector(self.extensions)
        object.__setattr__(self, "encoded", writer.done())

    @classmethod
    def read(cls, reader: Reader) -> GroupContext:
        """Read one; MLS-V002 for another version."""
        version = reader.u16()
        if version != MLS10:
            refuse("MLS-V002", f"protocol version {version}")
        return cls(
            suite_id=reader.u16(),
            group_id=reader.opaque(),
            epoch=reader.u64(),
            tree_hash=reader.opaque(),
            confirmed_transcript_hash=reader.opaque(),
            extensions=read_extensions(reader),
        )

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.raw(self.encoded)

    def with_(self, **changes: object) -> GroupContext:
        """A copy with other values in some fields."""
        return replace(self, **changes)  # type: ignore[arg-type]
