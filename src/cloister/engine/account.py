"""Who this device is and whom it trusts: what enrolment left behind.

Invariants: private keys leave only through `encode`, whose bytes go into the encrypted store. The pins are the SPKI
hashes of the relay's identity key and of the authority's root, as the invite link named them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError
from cloister.identity.credential import parse_device_id
from cloister.identity.keys import DeviceKeys, UserKeys

ROW: Final = b"account"
"""Where the store keeps it, in its table `meta`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A device's identity in one realm. `chain` are its certificates, Ed25519 leaf first; `address` is HOST:PORT."""

    realm: str
    device: str
    address: str
    user_keys: UserKeys = field(repr=False)
    keys: DeviceKeys = field(repr=False)
    chain: tuple[bytes, ...]
    relay_pin: bytes
    root_pin: bytes

    @property
    def user(self) -> str:
        """The user's name."""
        return parse_device_id(self.device)[1]

    def encode(self) -> bytes:
        """Secret bytes, for the encrypted store."""
        return enc(
            "account",
            1,
            self.realm,
            self.device,
            self.address,
            self.user_keys.encode(),
            self.keys.encode(),
            list(self.chain),
            self.relay_pin,
            self.root_pin,
        )

    @classmethod
    def decode(cls, data: bytes) -> Account:
        """Read what `encode` gave; PeerError("bad_encoding") otherwise."""
        fields = Fields.decode(data, "account")
        fields.kind("account")
        if fields.uint("version") != 1:
            raise PeerError("unsupported", "an account of a later version")
        realm, device, address = fields.text("realm"), fields.text("device"), fields.text("address")
        user_keys = UserKeys.decode(fields.octets("user keys"))
        keys = DeviceKeys.decode(fields.octets("device keys"))
        chain = Fields(fields.array("chain", 4), "chain")
        certificates = []
        while not chain.done:
            certificates.append(chain.octets("certificate"))
        relay_pin, root_pin = fields.octets("relay pin", 32), fields.octets("root pin", 32)
        fields.end()
        return cls(
            realm=realm,
            device=device,
            address=address,
            user_keys=user_keys,
            keys=keys,
            chain=tuple(certificates),
            relay_pin=relay_pin,
            root_pin=root_pin,
        )
