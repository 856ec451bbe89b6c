"""Extensions and the five that RFC 9420 defines (sections 5.3.3, 11.1, 12.1.8.1, 12.4.3, 13.4), and GREASE.

An extension list is a tuple of `Extension` in the order of the wire. What is unknown is kept as it is and
ignored, except in a GroupContext, where every extension must be supported by all members.

Invariants: a list holds no type twice (MLS-V004).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cloister.codec.tls import Reader, Writer, decode, encode
from cloister.errors import PeerError
from cloister.mls.checks import refuse
from cloister.mls.credential import Credential

APPLICATION_ID: Final = 0x0001
RATCHET_TREE: Final = 0x0002
REQUIRED_CAPABILITIES: Final = 0x0003
EXTERNAL_PUB: Final = 0x0004
EXTERNAL_SENDERS: Final = 0x0005
DEFAULT_EXTENSIONS: Final = frozenset(range(0x0001, 0x0006))
"""Types that everybody supports and nobody lists."""
LAST_RESORT: Final = 0xF0A0
"""Marks a key package of last resort; a private type, since the draft moved its own into a component."""
GREASE: Final = tuple(0x0A0A + 0x1010 * step for step in range(15))
"""Values that mean nothing, sent so that nobody learns to choke on unknown ones (section 13.5)."""


@dataclass(frozen=True, slots=True)
class Extension:
    """A type and its opaque data."""

    extension_type: int
    data: bytes

    @classmethod
    def read(cls, reader: Reader) -> Extension:
        """Read one extension."""
        return cls(reader.u16(), reader.opaque())

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.u16(self.extension_type).opaque(self.data)


Extensions = tuple[Extension, ...]


def read_extensions(reader: Reader) -> Extensions:
    """Read `Extension extensions<V>`."""
    extensions = reader.vector(Extension.read)
    if len(extensions) > 1 and len({each.extension_type for each in extensions}) < len(extensions):
        refuse("MLS-V004")
    return extensions


def find(extensions: Extensions, extension_type: int) -> bytes | None:
    """The data of the one extension of a type, or None."""
    for extension in extensions:
        if extension.extension_type == extension_type:
            return extension.data
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequiredCapabilities:
    """What every member must support: non-default extension, proposal and credential types."""

    extensions: tuple[int, ...] = ()
    proposals: tuple[int, ...] = ()
    credentials: tuple[int, ...] = ()

    @classmethod
    def read(cls, reader: Reader) -> RequiredCapabilities:
        """Read the extension's data."""
        extensions, proposals = reader.vector_u16(), reader.vector_u16()
        return cls(extensions=extensions, proposals=proposals, credentials=reader.vector_u16())

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.vector_u16(self.extensions).vector_u16(self.proposals).vector_u16(self.credentials)

    def extension(self) -> Extension:
        """As an extension of the GroupContext."""
        return Extension(REQUIRED_CAPABILITIES, encode(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalSender:
    """Somebody outside the group who may propose: a signature key and who holds it."""

    signature_key: bytes
    credential: Credential

    @classmethod
    def read(cls, reader: Reader) -> ExternalSender:
        """Read one external sender."""
        return cls(signature_key=reader.opaque(), credential=Credential.read(reader))

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        self.credential.write(writer.opaque(self.signature_key))


def external_senders_extension(senders: tuple[ExternalSender, ...]) -> Extension:
    """The GroupContext extension that admits these senders."""
    return Extension(EXTERNAL_SENDERS, Writer().vector(senders).done())


def required_capabilities(extensions: Extensions) -> RequiredCapabilities | None:
    """The group's required capabilities, where it has the extension."""
    data = find(extensions, REQUIRED_CAPABILITIES)
    return None if data is None else decode(RequiredCapabilities.read, data)


def external_senders(extensions: Extensions) -> tuple[ExternalSender, ...]:
    """The group's external senders; none without the extension."""
    data = find(extensions, EXTERNAL_SENDERS)
    return () if data is None else decode(lambda reader: reader.vector(ExternalSender.read), data)


def parse_group_extensions(extensions: Extensions) -> None:
    """MLS-V082: the GroupContext extensions that are defined here are well-formed."""
    try:
        required_capabilities(extensions)
        external_senders(extensions)
    except PeerError as error:
        refuse("MLS-V082", cause=error)
