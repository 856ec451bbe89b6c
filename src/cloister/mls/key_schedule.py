"""The key schedule: from one epoch's init secret to the next epoch's secrets (RFC 9420 section 8).

Invariants
- Each kind of secret is a type of its own for the type checker, so that a mix-up does not type-check; at run
  time they are bytes, because they are used once per message. No container prints them.
- `joiner_secret`, `commit_secret` and `epoch_secret` live only inside the derivation (and, for a Welcome, in
  the hands of the committer); they are not part of an epoch's state. `init_secret` and
  `encryption_secret` leave it as soon as they are consumed.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, fields
from typing import Final, NewType

from cloister.codec.tls import Reader, Writer
from cloister.mls.ciphersuite import CipherSuite
from cloister.primitives import Rng
from cloister.primitives.kem import PrivateKey, PublicKey

InitSecret = NewType("InitSecret", bytes)
CommitSecret = NewType("CommitSecret", bytes)
JoinerSecret = NewType("JoinerSecret", bytes)
PskSecret = NewType("PskSecret", bytes)
SenderDataSecret = NewType("SenderDataSecret", bytes)
EncryptionSecret = NewType("EncryptionSecret", bytes)
ExporterSecret = NewType("ExporterSecret", bytes)
ExternalSecret = NewType("ExternalSecret", bytes)
ConfirmationKey = NewType("ConfirmationKey", bytes)
MembershipKey = NewType("MembershipKey", bytes)
ResumptionPsk = NewType("ResumptionPsk", bytes)

EXTERNAL_INIT_LABEL: Final = b"MLS 1.0 external init secret"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class EpochSecrets:
    """What an epoch keeps. `init_secret` is empty once the epoch has passed."""

    sender_data_secret: SenderDataSecret
    exporter_secret: ExporterSecret
    external_secret: ExternalSecret
    confirmation_key: ConfirmationKey
    membership_key: MembershipKey
    resumption_psk: ResumptionPsk
    epoch_authenticator: bytes
    init_secret: InitSecret

    def write(self, writer: Writer) -> None:
        """For an encrypted store."""
        for each in fields(self):
            writer.opaque(getattr(self, each.name))

    @classmethod
    def read(cls, reader: Reader) -> EpochSecrets:
        """Read what `write` gave."""
        return cls(**{each.name: reader.opaque() for each in fields(cls)})  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return "<EpochSecrets>"


def joiner_secret(suite: CipherSuite, init: InitSecret, commit: CommitSecret, group_context: bytes) -> JoinerSecret:
    """The secret that a Welcome hands to joiners."""
    extracted = suite.extract(init, commit)
    return JoinerSecret(suite.expand_with_label(extracted, b"joiner", group_context, suite.nh))


def _member_secret(suite: CipherSuite, joiner: JoinerSecret, psk: PskSecret) -> bytes:
    return suite.extract(joiner, psk)


def welcome_key(suite: CipherSuite, joiner: JoinerSecret, psk: PskSecret) -> tuple[bytes, bytes]:
    """Key and nonce under which a Welcome's GroupInfo is sealed."""
    return suite.key_and_nonce(welcome_secret(suite, joiner, psk), b"")


def welcome_secret(suite: CipherSuite, joiner: JoinerSecret, psk: PskSecret) -> bytes:
    """The secret of `welcome_key`."""
    return suite.derive_secret(_member_secret(suite, joiner, psk), b"welcome")


def derive_epoch(
    suite: CipherSuite, joiner: JoinerSecret, psk: PskSecret, group_context: bytes
) -> tuple[EpochSecrets, EncryptionSecret]:
    """All secrets of the epoch with this context."""
    member = _member_secret(suite, joiner, psk)
    return from_epoch_secret(suite, suite.expand_with_label(member, b"epoch", group_context, suite.nh))


def from_epoch_secret(suite: CipherSuite, epoch_secret: bytes) -> tuple[EpochSecrets, EncryptionSecret]:
    """All secrets that follow from an epoch secret (random for a new group)."""
    derive = suite.derive_secret
    secrets = EpochSecrets(
        sender_data_secret=SenderDataSecret(derive(epoch_secret, b"sender data")),
        exporter_secret=ExporterSecret(derive(epoch_secret, b"exporter")),
        external_secret=ExternalSecret(derive(epoch_secret, b"external")),
        confirmation_key=ConfirmationKey(derive(epoch_secret, b"confirm")),
        membership_key=MembershipKey(derive(epoch_secret, b"membership")),
        resumption_psk=ResumptionPsk(derive(epoch_secret, b"resumption")),
        epoch_authenticator=derive(epoch_secret, b"authentication"),
        init_secret=InitSecret(derive(epoch_secret, b"init")),
    )
    return secrets, EncryptionSecret(derive(epoch_secret, b"encryption"))


def export(suite: CipherSuite, secret: ExporterSecret, label: str, context: bytes, length: int) -> bytes:
    """MLS-Exporter of section 8.5: `length` bytes."""
    derived = suite.derive_secret(secret, label.encode())
    return suite.expand_with_label(derived, b"exported", suite.hash(context), length)


def external_key(suite: CipherSuite, secret: ExternalSecret) -> PrivateKey:
    """The key pair to which joiners encapsulate; its public half goes into a GroupInfo."""
    return suite.derive_key_pair(secret)


def external_init_sender(suite: CipherSuite, public: PublicKey, rng: Rng) -> tuple[bytes, InitSecret]:
    """A joiner's (KEM output, init secret)."""
    enc, context = suite.hpke.sender(public, suite.hpke.info(b""), rng)
    return enc, InitSecret(context.export(EXTERNAL_INIT_LABEL, suite.nh))


def external_init_receiver(suite: CipherSuite, private: PrivateKey, kem_output: bytes) -> InitSecret:
    """The members' init secret of the same; PeerError for what is no encapsulation."""
    context = suite.hpke.receiver(private, kem_output, suite.hpke.info(b""))
    return InitSecret(context.export(EXTERNAL_INIT_LABEL, suite.nh))


def confirmation_tag(suite: CipherSuite, key: ConfirmationKey, confirmed_hash: bytes) -> bytes:
    """The MAC over the confirmed transcript hash: `nh` bytes."""
    return suite.mac(key, confirmed_hash)


def tag_matches(suite: CipherSuite, key: ConfirmationKey, confirmed_hash: bytes, tag: bytes) -> bool:
    """Whether a confirmation tag is right, in constant time."""
    return hmac.compare_digest(tag, confirmation_tag(suite, key, confirmed_hash))
