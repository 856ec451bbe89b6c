"""Commits and update paths (RFC 9420 sections 7.6 and 12.4).

A commit lists proposals, by value or by reference, and mostly carries a path: fresh keys for the committer's
leaf and the parents above it, each with the secret encrypted to those who may know it.
"""

from __future__ import annotations

from dataclasses import dataclass

from cloister.codec.tls import Reader, Writer, opaque
from cloister.mls.leaf_node import LeafNode
from cloister.mls.proposal import ProposalOrRef, read_proposal_or_ref, write_proposal_or_ref


@dataclass(frozen=True, slots=True)
class HpkeCiphertext:
    """An encapsulation and what was sealed under it."""

    kem_output: bytes
    ciphertext: bytes

    @classmethod
    def read(cls, reader: Reader) -> HpkeCiphertext:
        """Read one."""
        return cls(reader.opaque(), reader.opaque())

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.raw(opaque(self.kem_output)).raw(opaque(self.ciphertext))


@dataclass(frozen=True, slots=True)
class UpdatePathNode:
    """A parent's fresh public key, and its path secret for each key of the copath's resolution."""

    encryption_key: bytes
    ciphertexts: tuple[HpkeCiphertext, ...]

    @classmethod
    def read(cls, reader: Reader) -> UpdatePathNode:
        """Read one."""
        return cls(reader.opaque(), reader.vector(HpkeCiphertext.read))

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.opaque(self.encryption_key).vector(self.ciphertexts)


@dataclass(frozen=True, slots=True)
class UpdatePath:
    """The committer's new leaf and the nodes of its filtered direct path, lowest first."""

    leaf_node: LeafNode
    nodes: tuple[UpdatePathNode, ...]

    @classmethod
    def read(cls, reader: Reader) -> UpdatePath:
        """Read one."""
        return cls(LeafNode.read(reader), reader.vector(UpdatePathNode.read))

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        self.leaf_node.write(writer)
        writer.vector(self.nodes)


@dataclass(frozen=True, slots=True)
class Commit:
    """The proposals that a commit covers, and its path."""

    proposals: tuple[ProposalOrRef, ...]
    path: UpdatePath | None

    @classmethod
    def read(cls, reader: Reader) -> Commit:
        """Read one."""
        return cls(reader.vector(read_proposal_or_ref), reader.optional(UpdatePath.read))

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        inner = Writer()
        for item in self.proposals:
            write_proposal_or_ref(inner, item)
        writer.opaque(inner.done()).optional(self.path)
