"""PrivateMessage: signed and encrypted, with the sender hidden as well (RFC 9420 section 6.3).

The content is sealed under the sender's next one-time key, its nonce masked by a fresh reuse guard; leaf,
generation and guard are sealed under a key that a sample of that ciphertext gives.

Invariants
- `unprotect` changes nothing: it gives the content and the `KeyUse` that the caller applies to the secret tree
  after the signature has verified.
- Padding is zero bytes up to a multiple of what the caller asks for.
"""

from __future__ import annotations

from dataclasses import dataclass

from cloister.codec.tls import Reader, Writer, opaque
from cloister.errors import PeerError
from cloister.mls.checks import refuse
from cloister.mls.ciphersuite import CipherSuite
from cloister.mls.framing import (
    APPLICATION,
    COMMIT,
    MEMBER,
    PRIVATE_MESSAGE,
    PROPOSAL,
    AuthenticatedContent,
    FramedContent,
    Sender,
    encode_content,
    read_auth,
    read_content,
)
from cloister.mls.key_schedule import SenderDataSecret
from cloister.mls.secret_tree import APPLICATION as APPLICATION_RATCHET
from cloister.mls.secret_tree import HANDSHAKE as HANDSHAKE_RATCHET
from cloister.mls.secret_tree import KeyUse, SecretTree
from cloister.primitives import Rng


@dataclass(frozen=True, slots=True)
class PrivateMessage:
    """One message as it travels."""

    group_id: bytes
    epoch: int
    content_type: int
    authenticated_data: bytes
    encrypted_sender_data: bytes
    ciphertext: bytes

    @classmethod
    def read(cls, reader: Reader) -> PrivateMessage:
        """Read one."""
        group_id, epoch, content_type = reader.opaque(), reader.u64(), reader.u8()
        if content_type not in (APPLICATION, PROPOSAL, COMMIT):
            refuse("MLS-V003", "an unknown type of content")
        return cls(group_id, epoch, content_type, reader.opaque(), reader.opaque(), reader.opaque())

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.raw(self.sender_data_aad()).opaque(self.authenticated_data)
        writer.opaque(self.encrypted_sender_data).opaque(self.ciphertext)

    def sender_data_aad(self) -> bytes:
        """SenderDataAAD."""
        return opaque(self.group_id) + self.epoch.to_bytes(8, "big") + self.content_type.to_bytes(1, "big")


def sender_data_key(suite: CipherSuite, secret: SenderDataSecret, ciphertext: bytes) -> tuple[bytes, bytes]:
    """Key and nonce for the sender data that go with a ciphertext."""
    return suite.key_and_nonce(secret, ciphertext[: suite.nh])


def _guarded(nonce: bytes, guard: bytes) -> bytes:
    masked = int.from_bytes(nonce[:4], "big") ^ int.from_bytes(guard, "big")
    return masked.to_bytes(4, "big") + nonce[4:]


def _ratchet_of(content_type: int) -> int:
    return APPLICATION_RATCHET if content_type == APPLICATION else HANDSHAKE_RATCHET


def protect(
    suite: CipherSuite,
    secret: SenderDataSecret,
    tree: SecretTree,
    content: AuthenticatedContent,
    rng: Rng,
    pad_to: int = 1,
) -> PrivateMessage:
    """Seal a member's content under its next key; the plaintext's size becomes a multiple of `pad_to` bytes."""
    framed = content.content
    content_type = framed.content_type
    leaf = framed.sender.index
    plain = encode_content(framed.content) + content.auth()
    plain += bytes(-len(plain) % pad_to)
    message_key = tree.next_key(leaf, _ratchet_of(content_type))
    guard = rng(4)
    head = opaque(framed.group_id) + framed.epoch.to_bytes(8, "big") + content_type.to_bytes(1, "big")
    aad = head + opaque(framed.authenticated_data)
    ciphertext = suite.aead(message_key.key).seal(_guarded(message_key.nonce, guard), plain, aad)
    key, nonce = sender_data_key(suite, secret, ciphertext)
    sender_data = leaf.to_bytes(4, "big") + message_key.generation.to_bytes(4, "big") + guard
    return PrivateMessage(
        framed.group_id,
        framed.epoch,
        content_type,
        framed.authenticated_data,
        suite.aead(key).seal(nonce, sender_data, head),
        ciphertext,
    )


def open_sender_data(suite: CipherSuite, secret: SenderDataSecret, message: PrivateMessage) -> tuple[int, int, bytes]:
    """(leaf index, generation, reuse guard); MLS-V021 when they do not open."""
    key, nonce = sender_data_key(suite, secret, message.ciphertext)
    try:
        data = suite.aead(key).open(nonce, message.encrypted_sender_data, message.sender_data_aad())
    except PeerError as error:
        refuse("MLS-V021", cause=error)
    if len(data) != 12:
        refuse("MLS-V001", "sender data of another size")
    return int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big"), data[8:]


def open_content(
    suite: CipherSuite, tree: SecretTree, message: PrivateMessage, sender_data: tuple[int, int, bytes]
) -> tuple[AuthenticatedContent, KeyUse]:
    """The content and the key it consumes; MLS-V021 when it does not open, MLS-V008 for other padding."""
    leaf, generation, guard = sender_data
    use = tree.find(leaf, _ratchet_of(message.content_type), generation)
    aad = message.sender_data_aad() + opaque(message.authenticated_data)
    try:
        plain = suite.aead(use.key).open(_guarded(use.nonce, guard), message.ciphertext, aad)
    except PeerError as error:
        refuse("MLS-V021", cause=error)
    reader = Reader(plain)
    content = read_content(reader, message.content_type)
    body = plain[: reader.position]
    signature, tag = read_auth(reader, message.content_type)
    check_padding(reader.rest())
    head = opaque(message.group_id) + message.epoch.to_bytes(8, "big")
    head += b"\x01" + leaf.to_bytes(4, "big") + opaque(message.authenticated_data)
    framed = FramedContent(
        group_id=message.group_id,
        epoch=message.epoch,
        sender=Sender(MEMBER, leaf),
        authenticated_data=message.authenticated_data,
        content=content,
        encoded=head + message.content_type.to_bytes(1, "big") + body,
    )
    authenticated = AuthenticatedContent(
        wire_format=PRIVATE_MESSAGE, content=framed, signature=signature, confirmation_tag=tag
    )
    return authenticated, use


def check_padding(padding: bytes) -> None:
    """MLS-V008: padding is all zero."""
    if padding.count(0) != len(padding):
        refuse("MLS-V008")
