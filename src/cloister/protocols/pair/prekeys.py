"""Prekeys of suite `pair` (E4.1): one-time keys at the relay, so that a session begins while its other side is away.

Source: docs/spec/classic/pair.md ("Prekeys").

    prekey = ["prekey", [device id, identity key, device key], kem, not before, not after, public, signature]

A prekey stands in the place of E_B; the requester's E_A answers it. Its reference is the SHA-256 of the package and
stands in the request, so th and both signatures cover it. It is used once: the private half goes with the first request
that names it, and the relay gives a package to one claimer. There is none of last resort.

Left out: where private halves lie until then (`engine.prekeys`), the relay's limits (`relay.core.prekeys`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError
from cloister.identity.realm import DeviceRecord
from cloister.primitives.kdf import sha256
from cloister.primitives.labelled import Signer, sign, verify
from cloister.protocols.checks import check, named
from cloister.protocols.pair.steps import E_MOST, SIGNATURE, Identity, Request, check_identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Prekey:
    """A one-time key that waits at the relay (E4.1): `owner`'s statement, signed by its device key."""

    owner: Identity
    kem: str
    not_before: int
    not_after: int
    public: bytes
    signature: bytes = b""

    def body(self) -> list[object]:
        """What is signed."""
        return [self.owner.items(), self.kem, self.not_before, self.not_after, self.public]

    def encode(self) -> bytes:
        """The package as it is published; its SHA-256 is its reference."""
        return enc("prekey", *self.body(), self.signature)

    @classmethod
    def decode(cls, data: bytes) -> Prekey:
        """What `encode` gave; PeerError("bad_encoding")."""
        fields = Fields.decode(data, "prekey")
        fields.kind("prekey")
        prekey = cls(
            owner=Identity.read(fields.fields("owner")),
            kem=fields.text("kem", 32),
            not_before=fields.uint("not before", 63),
            not_after=fields.uint("not after", 63),
            public=fields.octets("public", most=E_MOST),
            signature=fields.octets("signature", SIGNATURE),
        )
        fields.end()
        return prekey

    def signed(self, key: Signer) -> Prekey:
        """The statement with its signature."""
        return replace(self, signature=sign(key, "pair prekey", *self.body()))


@check("PAI-15")
def check_prekey(prekey: Prekey, record: DeviceRecord, declared: tuple[bytes, int, int], now: int) -> None:
    """PeerError unless the claimed prekey is the device's own, signed, as declared and alive.

    identity_changed, bad_sig, conflict, expired.
    """
    with named("PAI-15"):
        check_identity(record, prekey.owner)
        verify(record.key, prekey.signature, "pair prekey", *prekey.body())
    if (sha256(prekey.encode()), prekey.not_before, prekey.not_after) != declared:
        raise PeerError("conflict", "the prekey is not the one that was declared", check="PAI-15")
    if not prekey.not_before <= now <= prekey.not_after:
        raise PeerError("expired", "a prekey past its time", check="PAI-15")


@check("PAI-23")
def check_prekey_kem(prekey: Prekey, kem: str) -> None:
    """PeerError("not_allowed") for a prekey of another key encapsulation than this device consents to."""
    if prekey.kem != kem:
        raise PeerError("not_allowed", "a prekey of another key encapsulation", check="PAI-23")


@check("PAI-24")
def check_prekey_used(request: Request, at_hand: bool) -> None:
    """PeerError("no_session") when a request is made with a prekey that is not here, or without its confirm."""
    if ((request.prekey is not None), (request.confirm is not None)) != (at_hand, at_hand):
        raise PeerError("no_session", "a request for a prekey that is not here", check="PAI-24")
