"""Mailbox items: what one device leaves for another at the relay, sealed and signed.

Source: docs/spec/identity.md ("Mailbox"), delivery of the design section 1.4; RFC 9180 base mode with
DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-128-GCM.

    MailboxKey  = [ device id, public(32), ts, Sign_device("mailbox key", device id, public, ts) ]
    item        = encapsulation(32) || HPKE( u32 size || inner || zeros ), info = labelled("mailbox", recipient)
    inner       = [ sender, recipient, kind, room(16)|null, body, Sign_sender("mailbox item", all before) ]

Invariants
- An item's size is one of seven buckets, 1 KiB to 64 KiB; the relay sees recipient and bucket only.
- `open_item` checks in order: it opens, its form, it is for me (misrouted), the sender's key counts (the
  caller's lookup), the sender signed it (bad_sig). Whoever opens an item cannot pass it on as meant for another.
- The mailbox key is not an MLS init key; it changes weekly, after the mailbox is drained.
Left out: replay (each kind has its own rule), quotas, who may write to whom.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError, UsageError
from cloister.identity.credential import MAX_DEVICE_ID
from cloister.identity.keys import DeviceKeys
from cloister.primitives import Rng
from cloister.primitives.dh import DhKey
from cloister.primitives.hpke import AES_128_GCM, HKDF_SHA256, Hpke
from cloister.primitives.kem import X25519
from cloister.primitives.labelled import labelled, sign, verify
from cloister.primitives.signature import SigningKey, VerifyKey

BUCKETS: Final = tuple(1024 << shift for shift in range(7))
"""The sizes of items, in bytes."""
MAX_ITEM: Final = BUCKETS[-1]
KEY_DAYS: Final = 7
"""Age at which a mailbox key is changed."""

_HPKE: Final = Hpke(X25519, HKDF_SHA256, AES_128_GCM)
_ENCAPSULATION: Final = 32
_FRAME: Final = _ENCAPSULATION + 16 + 4
"""Bytes of an item that are not inner or padding: encapsulation, tag, size."""
_PROBE: Final = bytes(31) + b"\x40"
"""Any private key shows a point of small order: the shared secret is zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxKey:
    """A device's signed statement of its current mailbox key (32 bytes); `ts` in ms."""

    device_id: str
    public: bytes
    ts: int
    signature: bytes

    @classmethod
    def make(cls, device_id: str, keys: DeviceKeys, now: int) -> MailboxKey:
        """The statement of `keys.mailbox`, signed by the device."""
        public = keys.mailbox.public
        signature = sign(keys.device, "mailbox key", device_id, public, now)
        return cls(device_id=device_id, public=public, ts=now, signature=signature)

    def encode(self) -> bytes:
        """The statement's bytes."""
        return enc(self.device_id, self.public, self.ts, self.signature)

    @classmethod
    def decode(cls, data: bytes) -> MailboxKey:
        """Read a statement; PeerError("bad_encoding"). `check` is still to be called."""
        fields = Fields.decode(data, "mailbox key")
        statement = cls(
            device_id=fields.text("device id", MAX_DEVICE_ID),
            public=fields.octets("public", 32),
            ts=fields.uint("ts"),
            signature=fields.octets("signature", 64),
        )
        fields.end()
        return statement

    def check(self, device_id: str, key: VerifyKey) -> None:
        """PeerError misrouted, bad_sig or zero_key unless `key` signed it for this device and it can be sealed to."""
        if self.device_id != device_id:  # MAIL-01
            raise PeerError("misrouted", "another device's mailbox key")
        verify(key, self.signature, "mailbox key", self.device_id, self.public, self.ts)  # MAIL-02
        DhKey(_PROBE).exchange(self.public)  # MAIL-07: whoever seals to a point of small order would fall over it


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxItem:
    """What was in an item whose signature has been checked. `room` has 16 bytes where it is there."""

    sender: str
    recipient: str
    kind: str
    room: bytes | None
    body: bytes = field(repr=False)


def seal_item(item: MailboxItem, mailbox_key: bytes, signer: SigningKey, rng: Rng) -> bytes:
    """The item's bytes for the relay, sealed to the recipient's `mailbox_key` (32 bytes), at most 64 KiB.

    UsageError when the body is too large: more than about 65,000 bytes.
    """
    content = (item.sender, item.recipient, item.kind, item.room, item.body)
    inner = enc(*content, sign(signer, "mailbox item", *content))
    size = next((bucket for bucket in BUCKETS if len(inner) + _FRAME <= bucket), None)
    if size is None:
        raise UsageError("usage", "a mailbox item has at most 64 KiB")
    padded = len(inner).to_bytes(4, "big") + inner + bytes(size - _FRAME - len(inner))
    encapsulation, sealed = _HPKE.seal(X25519.public_key(mailbox_key), _HPKE.info(_info(item.recipient)), padded, rng)
    return encapsulation + sealed


def open_item(
    data: bytes, me: str, mailbox_keys: Sequence[DhKey], sender_key: Callable[[str], VerifyKey]
) -> MailboxItem:
    """Open an item with one of my current keys, newest first.

    `sender_key` gives the device key that counts for a sender, or raises (`RealmState.device(id).key`).
    PeerError: bad_encoding, bad_tag, zero_key, misrouted, bad_sig, and what `sender_key` raises.
    """
    inner = _unpad(_decrypt(data, me, mailbox_keys))
    fields = Fields.decode(inner, "mailbox item")
    item = MailboxItem(
        sender=fields.text("sender", MAX_DEVICE_ID),
        recipient=fields.text("recipient", MAX_DEVICE_ID),
        kind=fields.text("kind", 32),
        room=fields.octets_or_none("room", 16),
        body=fields.octets("body", most=MAX_ITEM),
    )
    signature = fields.octets("signature", 64)
    fields.end()
    if item.recipient != me:  # MAIL-05
        raise PeerError("misrouted", "an item for another device")
    content = (item.sender, item.recipient, item.kind, item.room, item.body)
    verify(sender_key(item.sender), signature, "mailbox item", *content)  # MAIL-06
    return item


def _info(recipient: str) -> bytes:
    return labelled("mailbox", recipient)


def _decrypt(data: bytes, me: str, mailbox_keys: Sequence[DhKey]) -> bytes:
    if len(data) not in BUCKETS:  # MAIL-03
        raise PeerError("bad_encoding", "a mailbox item has a bucket's size")
    info = _HPKE.info(_info(me))
    for key in mailbox_keys:
        private = X25519.private_key(key.private_bytes())
        try:
            return _HPKE.open(private, info, data[:_ENCAPSULATION], data[_ENCAPSULATION:])
        except PeerError as error:
            if error.code != "bad_tag":
                raise
    raise PeerError("bad_tag", "a mailbox item")


def _unpad(padded: bytes) -> bytes:
    size = int.from_bytes(padded[:4], "big")
    inner, padding = padded[4 : 4 + size], padded[4 + size :]
    if len(inner) != size or padding.strip(b"\0"):  # MAIL-04
        raise PeerError("bad_encoding", "a mailbox item's padding")
    return inner
