"""Message framing: content, its sender and its signature (RFC 9420 sections 6 and 6.1).

`FramedContent` is what is said, `AuthenticatedContent` adds the signature and, for a commit, the confirmation
tag. `public_message` and `private_message` protect it; `message` is the outer envelope.

Invariants
- A framed content that was read keeps its bytes: they are what was signed and what is hashed.
- A signature covers the wire format, so that a public message cannot be passed off as a private one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cloister.codec.tls import Reader, Writer
from cloister.mls.checks import refuse
from cloister.mls.ciphersuite import CipherSuite
from cloister.mls.commit import Commit
from cloister.mls.group_context import GroupContext
from cloister.mls.proposal import Proposal, encode_proposal, read_proposal
from cloister.primitives.signature import SigningKey, VerifyKey

PUBLIC_MESSAGE: Final = 1
PRIVATE_MESSAGE: Final = 2
WELCOME: Final = 3
GROUP_INFO: Final = 4
KEY_PACKAGE: Final = 5

APPLICATION: Final = 1
PROPOSAL: Final = 2
COMMIT: Final = 3

MEMBER: Final = 1
EXTERNAL: Final = 2
NEW_MEMBER_PROPOSAL: Final = 3
NEW_MEMBER_COMMIT: Final = 4


@dataclass(frozen=True, slots=True)
class Sender:
    """Who speaks: a member's leaf index, an external sender's index, or a new member (index 0)."""

    kind: int
    index: int = 0

    @classmethod
    def read(cls, reader: Reader) -> Sender:
        """Read one."""
        kind = reader.u8()
        if kind in (MEMBER, EXTERNAL):
            return cls(kind, reader.u32())
        if kind not in (NEW_MEMBER_PROPOSAL, NEW_MEMBER_COMMIT):
            refuse("MLS-V003", "an unknown type of sender")
        return cls(kind)

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.u8(self.kind)
        if self.kind in (MEMBER, EXTERNAL):
            writer.u32(self.index)


Content = bytes | Proposal | Commit


def read_content(reader: Reader, content_type: int) -> Content:
    """Read application data, a proposal or a commit."""
    if content_type == APPLICATION:
        return reader.opaque()
    if content_type == PROPOSAL:
        return read_proposal(reader)
    if content_type != COMMIT:
        refuse("MLS-V003", "an unknown type of content")
    return Commit.read(reader)


def content_type_of(content: Content) -> int:
    """The type that belongs to a content."""
    if isinstance(content, bytes):
        return APPLICATION
    return COMMIT if isinstance(content, Commit) else PROPOSAL


def encode_content(content: Content) -> bytes:
    """The encoding of application data, a proposal or a commit."""
    if isinstance(content, bytes):
        return Writer().opaque(content).done()
    if isinstance(content, Commit):
        writer = Writer()
        content.write(writer)
        return writer.done()
    return encode_proposal(content)


@dataclass(frozen=True, slots=True, kw_only=True)
class FramedContent:
    """One message's content with its group, epoch, sender and authenticated data."""

    group_id: bytes
    epoch: int
    sender: Sender
    authenticated_data: bytes = b""
    content: Content
    encoded: bytes = field(default=b"", repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.encoded:
            body = encode_content(self.content)
            object.__setattr__(self, "encoded", self.header() + body)

    @property
    def content_type(self) -> int:
        """APPLICATION, PROPOSAL or COMMIT."""
        return content_type_of(self.content)

    def header(self) -> bytes:
        """Everything before the content itself."""
        writer = Writer().opaque(self.group_id).u64(self.epoch)
        self.sender.write(writer)
        return writer.opaque(self.authenticated_data).u8(self.content_type).done()

    @classmethod
    def read(cls, reader: Reader) -> FramedContent:
        """Read one and keep its bytes."""
        start = reader.position
        group_id, epoch, sender, data = reader.opaque(), reader.u64(), Sender.read(reader), reader.opaque()
        content = read_content(reader, reader.u8())
        return cls(
            group_id=group_id,
            epoch=epoch,
            sender=sender,
            authenticated_data=data,
            content=content,
            encoded=reader.data[start : reader.position],
        )


def to_be_signed(wire_format: int, content: FramedContent, context: GroupContext | None) -> bytes:
    """FramedContentTBS; the context counts for members and joining committers only."""
    head = b"\x00\x01" + wire_format.to_bytes(2, "big") + content.encoded
    if content.sender.kind in (MEMBER, NEW_MEMBER_COMMIT) and context is not None:
        return head + context.encoded
    return head


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticatedContent:
    """A framed content with its signature and, for a commit, its confirmation tag."""

    wire_format: int
    content: FramedContent
    signature: bytes
    confirmation_tag: bytes = b""

    @classmethod
    def sign(
        cls, suite: CipherSuite, key: SigningKey, wire_format: int, content: FramedContent, context: GroupContext
    ) -> AuthenticatedContent:
        """Sign a content; a commit's confirmation tag follows later (`with_tag`)."""
        signed = to_be_signed(wire_format, content, context)
        signature = suite.sign_with_label(key, b"FramedContentTBS", signed)
        return cls(wire_format=wire_format, content=content, signature=signature)

    def with_tag(self, confirmation_tag: bytes) -> AuthenticatedContent:
        """The same with a confirmation tag."""
        return AuthenticatedContent(
            wire_format=self.wire_format,
            content=self.content,
            signature=self.signature,
            confirmation_tag=confirmation_tag,
        )

    @classmethod
    def read(cls, reader: Reader) -> AuthenticatedContent:
        """Read one with its wire format in front."""
        wire_format = reader.u16()
        content = FramedContent.read(reader)
        signature, tag = read_auth(reader, content.content_type)
        return cls(wire_format=wire_format, content=content, signature=signature, confirmation_tag=tag)

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.u16(self.wire_format).raw(self.content.encoded).raw(self.auth())

    def auth(self) -> bytes:
        """FramedContentAuthData."""
        writer = Writer().opaque(self.signature)
        if self.content.content_type == COMMIT:
            writer.opaque(self.confirmation_tag)
        return writer.done()

    def verify(self, suite: CipherSuite, key: VerifyKey, context: GroupContext) -> None:
        """PeerError("bad_sig") unless `key` signed this content in this context."""
        signed = to_be_signed(self.wire_format, self.content, context)
        suite.verify_with_label(key, b"FramedContentTBS", signed, self.signature)

    def proposal_ref(self, suite: CipherSuite) -> bytes:
        """How a commit refers to the proposal in here."""
        writer = Writer()
        self.write(writer)
        return suite.ref_hash(b"MLS 1.0 Proposal Reference", writer.done())


def read_auth(reader: Reader, content_type: int) -> tuple[bytes, bytes]:
    """Read FramedContentAuthData: signature, and confirmation tag (empty unless a commit's)."""
    signature = reader.opaque()
    return signature, reader.opaque() if content_type == COMMIT else b""
