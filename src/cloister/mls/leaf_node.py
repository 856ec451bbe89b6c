"""Leaf nodes: one member's keys, credential and capabilities, signed by that member (RFC 9420 section 7.2).

Invariants
- A leaf node is immutable and keeps the bytes it was read from: they are what is hashed and signed.
- Parsed keys are kept with it (`encryption_public`, `verify_key`), so that a key is parsed once.
- Nothing here judges a leaf but its signature; `validation` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Self

from cloister.codec.tls import Reader, Writer, opaque
from cloister.mls.checks import refuse
from cloister.mls.ciphersuite import MLS10, SUITES, CipherSuite
from cloister.mls.credential import BASIC, X509, Credential
from cloister.mls.extension import GREASE, Extensions, read_extensions
from cloister.primitives import Rng
from cloister.primitives.kem import PublicKey
from cloister.primitives.signature import SigningKey, VerifyKey

SOURCE_KEY_PACKAGE: Final = 1
SOURCE_UPDATE: Final = 2
SOURCE_COMMIT: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a client supports: versions, suites, and non-default extension, proposal and credential types."""

    versions: tuple[int, ...] = (MLS10,)
    cipher_suites: tuple[int, ...] = tuple(row for row in SUITES if not SUITES[row].experimental)
    extensions: tuple[int, ...] = ()
    proposals: tuple[int, ...] = ()
    credentials: tuple[int, ...] = (BASIC, X509)

    @classmethod
    def read(cls, reader: Reader) -> Capabilities:
        """Read one; equal bytes give the same object, since most members support the same."""
        start = reader.position
        for _ in range(5):
            reader.nested()
        data = reader.data[start : reader.position]
        return _parse_capabilities(data) if len(data) <= _USUAL else _parse_capabilities.__wrapped__(data)

    @classmethod
    def parse(cls, reader: Reader) -> Capabilities:
        """Read one, field by field."""
        versions, suites, extensions = reader.vector_u16(), reader.vector_u16(), reader.vector_u16()
        return cls(
            versions=versions,
            cipher_suites=suites,
            extensions=extensions,
            proposals=reader.vector_u16(),
            credentials=reader.vector_u16(),
        )

    def greased(self, rng: Rng) -> Capabilities:
        """The same with one random GREASE value in each list that takes them (section 13.5)."""
        values = [GREASE[each % len(GREASE)] for each in rng(4)]
        return Capabilities(
            versions=self.versions,
            cipher_suites=(*self.cipher_suites, values[0]),
            extensions=(*self.extensions, values[1]),
            proposals=(*self.proposals, values[2]),
            credentials=(*self.credentials, values[3]),
        )

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.vector_u16(self.versions).vector_u16(self.cipher_suites).vector_u16(self.extensions)
        writer.vector_u16(self.proposals).vector_u16(self.credentials)


_USUAL: Final = 512
"""Bytes of capabilities that are worth keeping; longer ones are read each time, so that nobody fills the memory."""


@lru_cache(maxsize=512)
def _parse_capabilities(data: bytes) -> Capabilities:
    return Capabilities.parse(Reader(data))


@dataclass(frozen=True, slots=True)
class Lifetime:
    """When a key package counts: seconds since the epoch, both ends included."""

    not_before: int
    not_after: int


class LeafNode:
    """One member's leaf. `encoded` is the whole structure, `content` all of it before the signature."""

    __slots__ = (
        "_encryption_public",
        "_verify_key",
        "capabilities",
        "content_size",
        "credential",
        "encoded",
        "encryption_key",
        "extensions",
        "lifetime",
        "parent_hash",
        "signature",
        "signature_key",
        "source",
    )

    _encryption_public: PublicKey | None
    _verify_key: VerifyKey | None
    encryption_key: bytes
    signature_key: bytes
    credential: Credential
    capabilities: Capabilities
    source: int
    lifetime: Lifetime | None
    parent_hash: bytes
    extensions: Extensions
    signature: bytes
    encoded: bytes
    content_size: int

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Read one leaf node."""
        start = reader.position
        leaf = cls()
        leaf._encryption_public = None
        leaf._verify_key = None
        leaf.encryption_key = reader.opaque()
        leaf.signature_key = reader.opaque()
        leaf.credential = Credential.read(reader)
        leaf.capabilities = Capabilities.read(reader)
        leaf.source = reader.u8()
        leaf.lifetime = None
        leaf.parent_hash = b""
        if leaf.source == SOURCE_KEY_PACKAGE:
            leaf.lifetime = Lifetime(reader.u64(), reader.u64())
        elif leaf.source == SOURCE_COMMIT:
            leaf.parent_hash = reader.opaque()
        elif leaf.source != SOURCE_UPDATE:
            refuse("MLS-V003", "a leaf node of an unknown source")
        leaf.extensions = read_extensions(reader)
        leaf.content_size = reader.position - start
        leaf.signature = reader.opaque()
        leaf.encoded = reader.data[start : reader.position]
        return leaf

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.raw(self.encoded)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LeafNode) and self.encoded == other.encoded

    def __hash__(self) -> int:
        return hash(self.encoded)

    def __repr__(self) -> str:
        return f"<LeafNode {self.credential!r}>"

    def encryption_public(self, suite: CipherSuite) -> PublicKey:
        """The parsed encryption key; PeerError("bad_encoding") when it is none of the suite's."""
        parsed = self._encryption_public
        if parsed is None:
            parsed = self._encryption_public = suite.hpke_public(self.encryption_key)
        return parsed

    def verify_key(self, suite: CipherSuite) -> VerifyKey:
        """The parsed signature key; PeerError("bad_encoding") when it is none of the suite's."""
        parsed = self._verify_key
        if parsed is None:
            parsed = self._verify_key = suite.signature_key(self.signature_key)
        return parsed

    def to_be_signed(self, group_id: bytes, leaf_index: int) -> bytes:
        """LeafNodeTBS; group and index count unless the leaf comes from a key package."""
        content = self.encoded[: self.content_size]
        if self.source == SOURCE_KEY_PACKAGE:
            return content
        return content + opaque(group_id) + leaf_index.to_bytes(4, "big")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafTemplate:
    """What a member puts into each of its leaves: its credential, capabilities and extensions."""

    credential: Credential
    capabilities: Capabilities = Capabilities()
    extensions: Extensions = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafPlace:
    """Where a leaf goes: the group and index (`update` and `commit`), and what comes of its source."""

    source: int
    group_id: bytes = b""
    leaf_index: int = 0
    parent_hash: bytes = b""
    lifetime: Lifetime | None = None


def make_leaf(
    suite: CipherSuite, key: SigningKey, template: LeafTemplate, encryption_key: bytes, place: LeafPlace
) -> LeafNode:
    """A signed leaf node."""
    writer = Writer().opaque(encryption_key).opaque(key.public.raw)
    template.credential.write(writer)
    template.capabilities.write(writer)
    writer.u8(place.source)
    if place.lifetime is not None:
        writer.u64(place.lifetime.not_before).u64(place.lifetime.not_after)
    elif place.source == SOURCE_COMMIT:
        writer.opaque(place.parent_hash)
    content = writer.vector(template.extensions).done()
    to_be_signed = content
    if place.source != SOURCE_KEY_PACKAGE:
        to_be_signed += opaque(place.group_id) + place.leaf_index.to_bytes(4, "big")
    signature = suite.sign_with_label(key, b"LeafNodeTBS", to_be_signed)
    return LeafNode.read(Reader(content + opaque(signature)))
