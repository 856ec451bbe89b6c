"""What an `mls` session stores beside its MLS group: the room, a change under way, invitations that came early.

Source: docs/spec/mls-rooms.md ("Items"); keys of the group's own items begin with `g/` (docs/spec/mls-state.md).

    room        what does not belong to one epoch
    want        the change this device is making: until its commit is back in the log, or another one is
    sent        ids of own entries that have not come back, the newest SENT_MOST
    held/REF    a Welcome that came while this device still is a member (it will be put out and has been asked in again)
    read-only   set by a driver that restores a backup; the next epoch drops it

Invariants: strict CBOR; a damaged item is UnavailableError("damaged"), for the store is ours, not a peer's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cloister.codec.cbor import Fields, enc
from cloister.errors import CloisterError, PeerError, UnavailableError
from cloister.protocols import policy as policies
from cloister.protocols.forms import HASH, ID, head_items, octet_strings, read_head, texts
from cloister.protocols.interface import Add, Change, DeviceId, Rekey, Remove, RoomPolicy, Roster, SetPolicy, SignedHead

GROUP: Final = b"g/"
ROOM: Final = b"room"
WANT: Final = b"want"
SENT: Final = b"sent"
HELD: Final = b"held/"

SENT_MOST: Final = 64
HELD_MOST: Final = 4
ADDS_MOST: Final = 256
"""Devices that one commit may take in."""
MEMBERS_MOST: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomItem:
    """What does not belong to one epoch.

    `log_size` is the realm log size of the newest commit, `certificate` this device's own, `awaited` whether the entry
    that made the epoch is still to be read in the log, `head` the newest head seen, `renew` whether this device entered
    by a key package of last resort and has not renewed its leaf yet, `out` whether it was put out; then `epoch` and
    `roster` say how the room was left.
    """

    room: bytes
    policy: RoomPolicy
    log_size: int
    certificate: bytes
    awaited: bool = True
    joined_at: SignedHead | None = None
    head: SignedHead | None = None
    renew: bool = False
    out: bool = False
    epoch: int = 0
    roster: Roster = ()

    def encode(self) -> bytes:
        """The stored form."""
        flags = [self.log_size, self.awaited, self.renew, self.out, self.epoch]
        heads = [head_items(self.joined_at), head_items(self.head)]
        return enc(self.room, policies.items(self.policy), flags, self.certificate, heads, list(self.roster))

    @classmethod
    def decode(cls, data: bytes) -> RoomItem:
        """What `encode` gave."""
        fields = Fields.decode(data, "room")
        room, policy = fields.octets("room", ID), policies.read(fields.fields("policy"))
        flags, certificate, heads = fields.fields("flags"), fields.octets("certificate"), fields.fields("heads")
        item = cls(
            room=room,
            policy=policy,
            log_size=flags.uint("log size"),
            awaited=flags.flag("awaited"),
            renew=flags.flag("renew"),
            out=flags.flag("out"),
            epoch=flags.uint("epoch"),
            certificate=certificate,
            joined_at=read_head(heads, "joined at"),
            head=read_head(heads, "head"),
            roster=texts(fields, "roster", MEMBERS_MOST),
        )
        fields.end()
        return item


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """A change that this device is making; `message` is its commit once that is made (empty: packages are awaited)."""

    adds: Roster = ()
    removes: Roster = ()
    policy: RoomPolicy | None = None
    entry_id: bytes = b""
    message: bytes = b""

    @property
    def changes(self) -> tuple[Change, ...]:
        """As a caller would ask for them."""
        found: list[Change] = [Add(device) for device in self.adds]
        found += [Remove(device) for device in self.removes]
        found += [SetPolicy(self.policy)] if self.policy is not None else []
        return tuple(found) or (Rekey(),)

    def encode(self) -> bytes:
        """The stored form."""
        policy = None if self.policy is None else enc(*policies.items(self.policy))
        return enc(list(self.adds), list(self.removes), policy, self.entry_id, self.message)

    @classmethod
    def decode(cls, data: bytes) -> Want:
        """What `encode` gave."""
        fields = Fields.decode(data, "want")
        adds, removes = texts(fields, "adds", MEMBERS_MOST), texts(fields, "removes", MEMBERS_MOST)
        policy = fields.octets_or_none("policy")
        want = cls(
            adds=adds,
            removes=removes,
            policy=None if policy is None else policies.read(Fields.decode(policy, "policy")),
            entry_id=fields.octets("entry", most=ID),
            message=fields.octets("message"),
        )
        fields.end()
        return want


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """The body of a mailbox item of kind `welcome`, and who sent it.

    `[log size, signed head or null, key package reference, Welcome]`: the size at which the commit judged the members,
    the newest head that the inviter had seen, whose private half opens the Welcome.
    """

    sender: DeviceId
    log_size: int
    head: SignedHead | None
    ref: bytes
    welcome: bytes

    def encode(self) -> bytes:
        """The body."""
        return enc(self.log_size, head_items(self.head), self.ref, self.welcome)

    @classmethod
    def decode(cls, body: bytes, sender: DeviceId | None) -> Invitation:
        """PeerError("bad_encoding") for anything else."""
        if sender is None:
            raise PeerError("unsupported", "an invitation comes by mailbox")
        fields = Fields.decode(body, "welcome")
        invitation = cls(
            sender=sender,
            log_size=fields.uint("log size"),
            head=read_head(fields, "head"),
            ref=fields.octets("reference", HASH),
            welcome=fields.octets("welcome"),
        )
        fields.end()
        return invitation

    def stored(self) -> bytes:
        """With the sender, for later."""
        return enc(self.sender, self.encode())

    @classmethod
    def restored(cls, data: bytes) -> Invitation:
        """What `stored` gave."""
        fields = Fields.decode(data, "held welcome")
        sender, body = fields.text("sender"), fields.octets("body")
        fields.end()
        return cls.decode(body, sender)


def encode_sent(sent: tuple[bytes, ...]) -> bytes:
    """The ids of own entries."""
    return enc(list(sent))


def decode_sent(data: bytes) -> tuple[bytes, ...]:
    """What `encode_sent` gave."""
    return octet_strings(Fields.decode(data, "sent"), "sent", SENT_MOST, ID)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A session's items, read."""

    room: RoomItem
    want: Want | None
    sent: tuple[bytes, ...]
    held: dict[bytes, Invitation]
    group: dict[bytes, bytes]

    @classmethod
    def of(cls, items: dict[bytes, bytes]) -> Loaded:
        """UnavailableError("damaged") for what `encode` did not give."""
        try:
            return cls(
                room=RoomItem.decode(items[ROOM]),
                want=Want.decode(items[WANT]) if WANT in items else None,
                sent=decode_sent(items[SENT]) if SENT in items else (),
                held={k[len(HELD) :]: Invitation.restored(v) for k, v in items.items() if k.startswith(HELD)},
                group={k[len(GROUP) :]: v for k, v in items.items() if k.startswith(GROUP)},
            )
        except (KeyError, CloisterError) as error:
            raise UnavailableError("damaged", "an item of a session") from error
