"""Key packages: what a client publishes so that others can add it while it is offline (RFC 9420 section 10).

`KeyPackage` is public; `KeyPackageSecrets` is the owner's half: the private init key, which opens the Welcome
and is then deleted, and the private key of the leaf.

Invariants
- A package is made for one use. One of last resort carries the extension LAST_RESORT; a group refuses
  nothing because of it, but its owner should replace such a leaf's keys at once.
- Lifetimes are in seconds; the default is 84 days with an hour before for clocks that are slow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from cloister.codec.tls import Reader, Writer, decode, opaque
from cloister.mls.ciphersuite import MLS10, CipherSuite, suite_of
from cloister.mls.extension import LAST_RESORT, Extension, Extensions, find, read_extensions
from cloister.mls.leaf_node import SOURCE_KEY_PACKAGE, LeafNode, LeafPlace, LeafTemplate, Lifetime, make_leaf
from cloister.primitives import Rng
from cloister.primitives.kem import PrivateKey
from cloister.primitives.signature import SigningKey

LIFETIME: Final = 84 * 24 * 3600
"""Seconds that a key package counts from now on."""
SLOW_CLOCK: Final = 3600
"""Seconds before now at which it begins to count."""


class KeyPackage:
    """One key package; `encoded` is the whole structure."""

    __slots__ = (
        "content_size",
        "encoded",
        "extensions",
        "init_key",
        "leaf_node",
        "signature",
        "suite_id",
        "version",
    )

    version: int
    suite_id: int
    init_key: bytes
    leaf_node: LeafNode
    extensions: Extensions
    signature: bytes
    encoded: bytes
    content_size: int

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Read one key package."""
        start = reader.position
        package = cls()
        package.version = reader.u16()
        package.suite_id = reader.u16()
        package.init_key = reader.opaque()
        package.leaf_node = LeafNode.read(reader)
        package.extensions = read_extensions(reader)
        package.content_size = reader.position - start
        package.signature = reader.opaque()
        package.encoded = reader.data[start : reader.position]
        return package

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.raw(self.encoded)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyPackage) and self.encoded == other.encoded

    def __hash__(self) -> int:
        return hash(self.encoded)

    def to_be_signed(self) -> bytes:
        """KeyPackageTBS."""
        return self.encoded[: self.content_size]

    def reference(self) -> bytes:
        """KeyPackageRef: how a Welcome names this package."""
        return suite_of(self.suite_id).ref_hash(b"MLS 1.0 KeyPackage Reference", self.encoded)

    @property
    def last_resort(self) -> bool:
        """Whether its owner marked it as one of last resort, to be used more than once."""
        return find(self.extensions, LAST_RESORT) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPackageSecrets:
    """A key package with its private keys; store it encrypted and delete it when it has been used."""

    package: KeyPackage
    init_key: PrivateKey
    leaf_key: PrivateKey

    def __repr__(self) -> str:
        return "<KeyPackageSecrets>"

    def encode(self) -> bytes:
        """For an encrypted store."""
        return opaque(self.package.encoded) + opaque(self.init_key.raw) + opaque(self.leaf_key.raw)

    @classmethod
    def decode(cls, data: bytes) -> KeyPackageSecrets:
        """Read what `encode` gave."""
        package_bytes, init_key, leaf_key = decode(
            lambda reader: (reader.opaque(), reader.opaque(), reader.opaque()), data
        )
        package = decode(KeyPackage.read, package_bytes)
        suite = suite_of(package.suite_id)
        return cls(package=package, init_key=suite.hpke_private(init_key), leaf_key=suite.hpke_private(leaf_key))


def make_key_package(
    suite: CipherSuite,
    key: SigningKey,
    template: LeafTemplate,
    lifetime: Lifetime,
    rng: Rng,
    extensions: Extensions = (),
) -> KeyPackageSecrets:
    """A fresh signed key package; its extensions must be listed in the template's capabilities."""
    init_key = suite.derive_key_pair(rng(max(suite.nh, 66)))
    leaf_key = suite.derive_key_pair(rng(max(suite.nh, 66)))
    place = LeafPlace(source=SOURCE_KEY_PACKAGE, lifetime=lifetime)
    leaf = make_leaf(suite, key, template, leaf_key.public, place)
    writer = Writer().u16(MLS10).u16(suite.suite_id).opaque(init_key.public)
    leaf.write(writer)
    content = writer.vector(extensions).done()
    signature = suite.sign_with_label(key, b"KeyPackageTBS", content)
    package = KeyPackage.read(Reader(content + opaque(signature)))
    return KeyPackageSecrets(package=package, init_key=init_key, leaf_key=leaf_key)


def last_resort_extension() -> Extension:
    """Marks a key package as one of last resort."""
    return Extension(LAST_RESORT, b"")


def lifetime_from(now: int, seconds: int = LIFETIME) -> Lifetime:
    """The lifetime of a package made at `now` (milliseconds since the epoch)."""
    return Lifetime(max(0, now // 1000 - SLOW_CLOCK), now // 1000 + seconds)
