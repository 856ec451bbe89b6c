"""Welcome: what a new member needs to enter an epoch (RFC 9420 section 12.4.3.1).

The GroupInfo is sealed once under a key of the new epoch; the joiner secret, and the path secret that the
member must learn, are encrypted to each new member's init key.

Invariants
- An entry is found by the key package's reference, never by trying all.
- The sealed GroupInfo is the context of every encryption, so entries cannot be moved between Welcomes.
"""

from __future__ import annotations

from dataclasses import dataclass

from cloister.codec.tls import Reader, Writer, decode, encode
from cloister.errors import PeerError
from cloister.mls.checks import refuse
from cloister.mls.ciphersuite import CipherSuite
from cloister.mls.commit import HpkeCiphertext
from cloister.mls.group_info import GroupInfo
from cloister.mls.key_package import KeyPackage, KeyPackageSecrets
from cloister.mls.key_schedule import JoinerSecret, PskSecret, welcome_key
from cloister.mls.psk import PreSharedKeyId
from cloister.primitives import Rng


@dataclass(frozen=True, slots=True)
class GroupSecrets:
    """What is encrypted to one new member; `path_secret` is None after a commit without a path."""

    joiner_secret: JoinerSecret
    path_secret: bytes | None
    psks: tuple[PreSharedKeyId, ...]

    @classmethod
    def read(cls, reader: Reader) -> GroupSecrets:
        """Read one."""
        joiner = JoinerSecret(reader.opaque())
        return cls(joiner, reader.optional(Reader.opaque), reader.vector(PreSharedKeyId.read))

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.opaque(self.joiner_secret)
        if self.path_secret is None:
            writer.u8(0)
        else:
            writer.u8(1).opaque(self.path_secret)
        writer.vector(self.psks)

    def __repr__(self) -> str:
        return "<GroupSecrets>"


@dataclass(frozen=True, slots=True)
class EncryptedGroupSecrets:
    """One new member's entry."""

    new_member: bytes
    sealed: HpkeCiphertext

    @classmethod
    def read(cls, reader: Reader) -> EncryptedGroupSecrets:
        """Read one."""
        return cls(reader.opaque(), HpkeCiphertext.read(reader))

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        self.sealed.write(writer.opaque(self.new_member))


@dataclass(frozen=True, slots=True)
class Welcome:
    """The entries of one or more new members and the sealed GroupInfo."""

    suite_id: int
    secrets: tuple[EncryptedGroupSecrets, ...]
    encrypted_group_info: bytes

    @classmethod
    def read(cls, reader: Reader) -> Welcome:
        """Read one."""
        return cls(reader.u16(), reader.vector(EncryptedGroupSecrets.read), reader.opaque())

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.u16(self.suite_id).vector(self.secrets).opaque(self.encrypted_group_info)

    def entry(self, reference: bytes) -> EncryptedGroupSecrets | None:
        """The entry of the key package with this reference."""
        return next((each for each in self.secrets if each.new_member == reference), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """Whom a Welcome is for, and the path secret that this one must learn."""

    package: KeyPackage
    path_secret: bytes | None

    def __repr__(self) -> str:
        return "<Newcomer>"


def seal_welcome(
    suite: CipherSuite,
    joiner: JoinerSecret,
    psk: PskSecret,
    psks: tuple[PreSharedKeyId, ...],
    info: GroupInfo,
    newcomers: tuple[Newcomer, ...],
    rng: Rng,
) -> Welcome:
    """One Welcome for all newcomers."""
    key, nonce = welcome_key(suite, joiner, psk)
    sealed_info = suite.aead(key).seal(nonce, encode(info), b"")
    context = suite.encrypt_context(b"Welcome", sealed_info)
    entries = []
    for each in newcomers:
        secrets = encode(GroupSecrets(joiner, each.path_secret, psks))
        sealed = suite.encrypt_with_label(suite.hpke_public(each.package.init_key), context, secrets, rng)
        entries.append(EncryptedGroupSecrets(each.package.reference(), HpkeCiphertext(*sealed)))
    return Welcome(suite.suite_id, tuple(entries), sealed_info)


def open_secrets(suite: CipherSuite, welcome: Welcome, own: KeyPackageSecrets) -> GroupSecrets:
    """Our entry: MLS-V110 for another suite, MLS-V108 without an entry, MLS-V109 when it does not open."""
    if welcome.suite_id != own.package.suite_id:
        refuse("MLS-V110")
    entry = welcome.entry(own.package.reference())
    if entry is None:
        refuse("MLS-V108")
    context = suite.encrypt_context(b"Welcome", welcome.encrypted_group_info)
    try:
        plain = suite.decrypt_with_label(own.init_key, context, entry.sealed.kem_output, entry.sealed.ciphertext)
    except PeerError as error:
        refuse("MLS-V109", cause=error)
    return decode(GroupSecrets.read, plain)


def open_info(suite: CipherSuite, welcome: Welcome, joiner: JoinerSecret, psk: PskSecret) -> GroupInfo:
    """The GroupInfo: MLS-V109 when it does not open, MLS-V110 when it is of another suite."""
    key, nonce = welcome_key(suite, joiner, psk)
    try:
        plain = suite.aead(key).open(nonce, welcome.encrypted_group_info, b"")
    except PeerError as error:
        refuse("MLS-V109", cause=error)
    info = decode(GroupInfo.read, plain)
    if info.context.suite_id != suite.suite_id:
        refuse("MLS-V110")
    return info
