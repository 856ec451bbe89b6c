"""GroupInfo: an epoch's public state, signed by one member, for those who join (RFC 9420 section 12.4.3)."""

from __future__ import annotations

from dataclasses import dataclass

from cloister.codec.tls import Reader, Writer, opaque
from cloister.errors import PeerError
from cloister.mls.checks import refuse
from cloister.mls.ciphersuite import CipherSuite, suite_of
from cloister.mls.extension import EXTERNAL_PUB, RATCHET_TREE, Extension, Extensions, find, read_extensions
from cloister.mls.group_context import GroupContext
from cloister.mls.ratchet_tree import RatchetTree
from cloister.primitives.signature import SigningKey, VerifyKey


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupInfo:
    """One epoch's context and confirmation tag; `signer` is a leaf index."""

    context: GroupContext
    extensions: Extensions
    confirmation_tag: bytes
    signer: int
    signature: bytes = b""

    @classmethod
    def read(cls, reader: Reader) -> GroupInfo:
        """Read one."""
        context, extensions = GroupContext.read(reader), read_extensions(reader)
        return cls(
            context=context,
            extensions=extensions,
            confirmation_tag=reader.opaque(),
            signer=reader.u32(),
            signature=reader.opaque(),
        )

    def to_be_signed(self) -> bytes:
        """GroupInfoTBS."""
        writer = Writer().raw(self.context.encoded).vector(self.extensions)
        return writer.opaque(self.confirmation_tag).u32(self.signer).done()

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.raw(self.to_be_signed()).opaque(self.signature)

    def signed(self, suite: CipherSuite, key: SigningKey) -> GroupInfo:
        """The same with the signer's signature."""
        return GroupInfo(
            context=self.context,
            extensions=self.extensions,
            confirmation_tag=self.confirmation_tag,
            signer=self.signer,
            signature=suite.sign_with_label(key, b"GroupInfoTBS", self.to_be_signed()),
        )

    def tree(self, beside: bytes | None) -> RatchetTree:
        """The ratchet tree from the extension or from beside; MLS-V121 without either."""
        data = find(self.extensions, RATCHET_TREE) if beside is None else beside
        if data is None:
            refuse("MLS-V121")
        reader = Reader(data)
        tree = RatchetTree.read(suite_of(self.context.suite_id), reader)
        reader.finish()
        return tree

    def external_pub(self) -> bytes:
        """The public key that joiners encapsulate to; MLS-V120 without it."""
        data = find(self.extensions, EXTERNAL_PUB)
        if data is None:
            refuse("MLS-V120")
        reader = Reader(data)
        key = reader.opaque()
        reader.finish()
        return key


def tree_extension(tree: RatchetTree) -> Extension:
    """The ratchet tree as an extension of a GroupInfo."""
    return Extension(RATCHET_TREE, tree.encode())


def external_pub_extension(public: bytes) -> Extension:
    """The external key as an extension of a GroupInfo."""
    return Extension(EXTERNAL_PUB, opaque(public))


def check_signer(tree: RatchetTree, info: GroupInfo) -> VerifyKey:
    """MLS-V105: the signer is a member; its key."""
    leaf = tree.leaf(info.signer)
    if leaf is None:
        refuse("MLS-V105")
    return leaf.verify_key(tree.suite)


def check_info_signature(suite: CipherSuite, key: VerifyKey, info: GroupInfo) -> None:
    """MLS-V104: the signature is by `key`."""
    try:
        suite.verify_with_label(key, b"GroupInfoTBS", info.to_be_signed(), info.signature)
    except PeerError as error:
        refuse("MLS-V104", cause=error)
