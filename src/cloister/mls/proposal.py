"""Proposals: the changes that a commit can make (RFC 9420 section 12.1), and references to them.

SelfRemove (draft-ietf-mls-extensions) has its encoding here and its rules in `self_remove`. A proposal of
an unknown type is refused when it is read: its body has no length, so nothing behind it could be read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final

from cloister.codec.tls import Reader, Writer, encode
from cloister.mls.checks import refuse
from cloister.mls.extension import Extensions, read_extensions
from cloister.mls.key_package import KeyPackage
from cloister.mls.leaf_node import LeafNode
from cloister.mls.psk import PreSharedKeyId

ADD: Final = 0x0001
UPDATE: Final = 0x0002
REMOVE: Final = 0x0003
PSK: Final = 0x0004
REINIT: Final = 0x0005
EXTERNAL_INIT: Final = 0x0006
GROUP_CONTEXT_EXTENSIONS: Final = 0x0007
SELF_REMOVE: Final = 0x000A

DEFAULT_PROPOSALS: Final = frozenset(range(0x0001, 0x0008))
"""Types that everybody supports and nobody lists."""
EXTERNAL_PROPOSALS: Final = frozenset((ADD, REMOVE, PSK, REINIT, GROUP_CONTEXT_EXTENSIONS))
"""Types that an external sender may propose."""
PATHLESS: Final = frozenset((ADD, PSK, REINIT))
"""Types that a commit may cover without a path."""


@dataclass(frozen=True, slots=True)
class Add:
    """Adds the owner of a key package."""

    proposal_type: ClassVar[int] = ADD
    key_package: KeyPackage

    @classmethod
    def read(cls, reader: Reader) -> Add:
        """Read the body."""
        return cls(KeyPackage.read(reader))

    def write(self, writer: Writer) -> None:
        """Append the body."""
        self.key_package.write(writer)


@dataclass(frozen=True, slots=True)
class Update:
    """Replaces the sender's leaf."""

    proposal_type: ClassVar[int] = UPDATE
    leaf_node: LeafNode

    @classmethod
    def read(cls, reader: Reader) -> Update:
        """Read the body."""
        return cls(LeafNode.read(reader))

    def write(self, writer: Writer) -> None:
        """Append the body."""
        self.leaf_node.write(writer)


@dataclass(frozen=True, slots=True)
class Remove:
    """Removes the member at a leaf index."""

    proposal_type: ClassVar[int] = REMOVE
    removed: int

    @classmethod
    def read(cls, reader: Reader) -> Remove:
        """Read the body."""
        return cls(reader.u32())

    def write(self, writer: Writer) -> None:
        """Append the body."""
        writer.u32(self.removed)


@dataclass(frozen=True, slots=True)
class PreSharedKey:
    """Adds a pre-shared key to the next epoch's secrets."""

    proposal_type: ClassVar[int] = PSK
    psk: PreSharedKeyId

    @classmethod
    def read(cls, reader: Reader) -> PreSharedKey:
        """Read the body."""
        return cls(PreSharedKeyId.read(reader))

    def write(self, writer: Writer) -> None:
        """Append the body."""
        self.psk.write(writer)


@dataclass(frozen=True, slots=True)
class ReInit:
    """Ends the group in favour of a new one with these parameters."""

    proposal_type: ClassVar[int] = REINIT
    group_id: bytes
    version: int
    suite_id: int
    extensions: Extensions

    @classmethod
    def read(cls, reader: Reader) -> ReInit:
        """Read the body."""
        return cls(reader.opaque(), reader.u16(), reader.u16(), read_extensions(reader))

    def write(self, writer: Writer) -> None:
        """Append the body."""
        writer.opaque(self.group_id).u16(self.version).u16(self.suite_id).vector(self.extensions)


@dataclass(frozen=True, slots=True)
class ExternalInit:
    """A joiner's encapsulation to the group's external key."""

    proposal_type: ClassVar[int] = EXTERNAL_INIT
    kem_output: bytes

    @classmethod
    def read(cls, reader: Reader) -> ExternalInit:
        """Read the body."""
        return cls(reader.opaque())

    def write(self, writer: Writer) -> None:
        """Append the body."""
        writer.opaque(self.kem_output)


@dataclass(frozen=True, slots=True)
class GroupContextExtensions:
    """Replaces all extensions of the group context."""

    proposal_type: ClassVar[int] = GROUP_CONTEXT_EXTENSIONS
    extensions: Extensions

    @classmethod
    def read(cls, reader: Reader) -> GroupContextExtensions:
        """Read the body."""
        return cls(read_extensions(reader))

    def write(self, writer: Writer) -> None:
        """Append the body."""
        writer.vector(self.extensions)


@dataclass(frozen=True, slots=True)
class SelfRemove:
    """Removes its sender; somebody else commits it."""

    proposal_type: ClassVar[int] = SELF_REMOVE

    @classmethod
    def read(cls, reader: Reader) -> SelfRemove:
        """Read the empty body."""
        return cls()

    def write(self, writer: Writer) -> None:
        """Append the empty body."""


Proposal = Add | Update | Remove | PreSharedKey | ReInit | ExternalInit | GroupContextExtensions | SelfRemove

_READERS: Final[dict[int, Callable[[Reader], Proposal]]] = {
    ADD: Add.read,
    UPDATE: Update.read,
    REMOVE: Remove.read,
    PSK: PreSharedKey.read,
    REINIT: ReInit.read,
    EXTERNAL_INIT: ExternalInit.read,
    GROUP_CONTEXT_EXTENSIONS: GroupContextExtensions.read,
    SELF_REMOVE: SelfRemove.read,
}


def read_proposal(reader: Reader) -> Proposal:
    """Read `Proposal`: its type and body."""
    kind = reader.u16()
    read = _READERS.get(kind)
    if read is None:
        refuse("MLS-V073", f"proposal type {kind:#06x} is not known here")
    return read(reader)


def write_proposal(writer: Writer, proposal: Proposal) -> None:
    """Append `Proposal`: its type and body."""
    proposal.write(writer.u16(proposal.proposal_type))


def encode_proposal(proposal: Proposal) -> bytes:
    """The encoding of `Proposal`."""
    return proposal.proposal_type.to_bytes(2, "big") + encode(proposal)


@dataclass(frozen=True, slots=True)
class Reference:
    """A proposal that was sent before, by the hash of the message that carried it."""

    reference: bytes


ProposalOrRef = Proposal | Reference


def read_proposal_or_ref(reader: Reader) -> ProposalOrRef:
    """Read `ProposalOrRef`."""
    kind = reader.u8()
    if kind == 1:
        return read_proposal(reader)
    if kind == 2:
        return Reference(reader.opaque())
    refuse("MLS-V003", "neither a proposal nor a reference")


def write_proposal_or_ref(writer: Writer, item: ProposalOrRef) -> None:
    """Append `ProposalOrRef`."""
    if isinstance(item, Reference):
        writer.u8(2).opaque(item.reference)
    else:
        write_proposal(writer.u8(1), item)
