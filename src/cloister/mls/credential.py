"""Credentials: who a member says it is (RFC 9420 section 5.3).

A basic credential is a bare identity, an X.509 credential a chain of DER certificates with the end entity
first. Both are opaque here: whether they are true is asked of the application's validator (`policy.Policy`),
which also compares an X.509 end entity's key with the leaf's `signature_key`.

Invariants: a credential of an unknown type is refused when it is read, since nobody here could judge it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cloister.codec.tls import Reader, Writer
from cloister.mls.checks import refuse

BASIC: Final = 1
X509: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """`identity` of a basic credential, or `certificates` (DER, end entity first) of an X.509 one."""

    credential_type: int
    identity: bytes = b""
    certificates: tuple[bytes, ...] = ()

    @classmethod
    def basic(cls, identity: bytes) -> Credential:
        """A bare identity, to be authenticated by other means."""
        return cls(credential_type=BASIC, identity=identity)

    @classmethod
    def x509(cls, certificates: tuple[bytes, ...]) -> Credential:
        """A chain of DER certificates, the end entity first."""
        return cls(credential_type=X509, certificates=certificates)

    @classmethod
    def read(cls, reader: Reader) -> Credential:
        """Read one credential."""
        kind = reader.u16()
        if kind == BASIC:
            return cls(credential_type=BASIC, identity=reader.opaque())
        if kind == X509:
            return cls(credential_type=X509, certificates=reader.vector(Reader.opaque))
        refuse("MLS-V043", f"credential type {kind:#06x} is not known here")

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.u16(self.credential_type)
        if self.credential_type == BASIC:
            writer.opaque(self.identity)
        else:
            inner = Writer()
            for certificate in self.certificates:
                inner.opaque(certificate)
            writer.opaque(inner.done())
