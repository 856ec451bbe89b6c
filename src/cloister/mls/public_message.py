"""PublicMessage: signed, not encrypted; a member's bears a membership tag (RFC 9420 section 6.2).

Invariants: application data never goes this way (MLS-V012).
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from cloister.codec.tls import Reader, Writer
from cloister.errors import UsageError
from cloister.mls.checks import refuse
from cloister.mls.ciphersuite import CipherSuite
from cloister.mls.framing import (
    APPLICATION,
    MEMBER,
    PUBLIC_MESSAGE,
    AuthenticatedContent,
    FramedContent,
    read_auth,
    to_be_signed,
)
from cloister.mls.group_context import GroupContext
from cloister.mls.key_schedule import MembershipKey


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicMessage:
    """One authenticated content as it travels; the tag is empty unless the sender is a member."""

    content: AuthenticatedContent
    membership_tag: bytes = b""

    @classmethod
    def read(cls, reader: Reader) -> PublicMessage:
        """Read one."""
        framed = FramedContent.read(reader)
        signature, tag = read_auth(reader, framed.content_type)
        content = AuthenticatedContent(
            wire_format=PUBLIC_MESSAGE, content=framed, signature=signature, confirmation_tag=tag
        )
        membership_tag = reader.opaque() if framed.sender.kind == MEMBER else b""
        return cls(content=content, membership_tag=membership_tag)

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.raw(self.content.content.encoded).raw(self.content.auth())
        if self.content.content.sender.kind == MEMBER:
            writer.opaque(self.membership_tag)


def _tag(suite: CipherSuite, key: MembershipKey, content: AuthenticatedContent, context: GroupContext) -> bytes:
    signed = to_be_signed(content.wire_format, content.content, context)
    return suite.mac(key, signed + content.auth())


def protect(
    suite: CipherSuite, key: MembershipKey, content: AuthenticatedContent, context: GroupContext
) -> PublicMessage:
    """The public message of a member's content."""
    if content.content.content_type == APPLICATION:
        raise UsageError("usage", "application data must be encrypted")
    return PublicMessage(content=content, membership_tag=_tag(suite, key, content, context))


def check_content_type(message: PublicMessage) -> None:
    """MLS-V012: application data comes in a PrivateMessage only."""
    if message.content.content.content_type == APPLICATION:
        refuse("MLS-V012")


def check_membership_tag(suite: CipherSuite, key: MembershipKey, message: PublicMessage, context: GroupContext) -> None:
    """MLS-V014: the membership tag verifies."""
    if not hmac.compare_digest(message.membership_tag, _tag(suite, key, message.content, context)):
        refuse("MLS-V014")
