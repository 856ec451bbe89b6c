"""What a run is about: its context `ctx`, and the certified keys of those who take part.

Source: docs/spec/suites.md ("Context"), fix K2.

    ctx = H("ctx", suite, version, variant, room, epoch, run_id, prev_th, proposer, deadline, log_size, roster, policy)
    roster = sorted [(device_id, SHA-256(enc(all certificates of the device)), SHA-256(manifest))]

Every signature, OAEP label and associated data of a run contains ctx, so nothing can be used in another room, run,
epoch or variant, and nobody is made to agree under another roster, deadline or policy than the others.

Invariants
- Certificates, manifests and revocations are judged at `log_size`, so the verdict is the same for all, for ever.
- A party names its members by their place in the sorted roster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cloister.codec.cbor import Fields
from cloister.errors import PeerError
from cloister.identity.realm import DeviceRecord
from cloister.primitives.labelled import hash_of
from cloister.primitives.rsa import RsaDecryptKey, RsaEncryptKey, RsaSigningKey, RsaVerifyKey
from cloister.protocols import policy as policies
from cloister.protocols.checks import check
from cloister.protocols.forms import HASH, ID, texts
from cloister.protocols.interface import Behind, DeviceId, Directory, Me, Need, NotReady, RoomPolicy, Roster, State

VERSION: Final = 1
MEMBERS_MOST: Final = 256
"""Longest roster that is read; a suite's own limit is lower."""


class Keyed:
    """A call's working set in a suite whose devices sign and decrypt by RSA."""

    __slots__ = ()
    me: Me

    def signing_key(self) -> RsaSigningKey:
        """The RSA key that signs; NotReady for a profile without."""
        key = self.me.keys.rsa_sign
        if key is None:
            raise NotReady(State.READ_ONLY)
        return key

    def decrypt_key(self) -> RsaDecryptKey:
        """The RSA key that decrypts; NotReady for a profile without."""
        key = self.me.keys.rsa_decrypt
        if key is None:
            raise NotReady(State.READ_ONLY)
        return key


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The fields that travel in a proposal; `log_size` is in records, `deadline` in ms."""

    suite: str
    variant: str
    room: bytes
    epoch: int
    run_id: bytes
    prev_th: bytes
    proposer: DeviceId
    deadline: int
    log_size: int
    roster: Roster
    policy: RoomPolicy

    def items(self) -> list[object]:
        """The array [suite, version, variant, room, ..., roster, policy]."""
        return [
            self.suite,
            VERSION,
            self.variant,
            self.room,
            self.epoch,
            self.run_id,
            self.prev_th,
            self.proposer,
            self.deadline,
            self.log_size,
            list(self.roster),
            policies.items(self.policy),
        ]

    @classmethod
    def read(cls, fields: Fields) -> Context:
        """What `items` gave; PeerError bad_encoding or unsupported."""
        suite = fields.text("suite", 16)
        if fields.uint("version", 16) != VERSION:
            raise PeerError("unsupported", "a context of a later version")
        context = cls(
            suite=suite,
            variant=fields.text("variant", 32),
            room=fields.octets("room", ID),
            epoch=fields.uint("epoch"),
            run_id=fields.octets("run", ID),
            prev_th=fields.octets("previous", HASH),
            proposer=fields.text("proposer", 128),
            deadline=fields.uint("deadline"),
            log_size=fields.uint("log size"),
            roster=texts(fields, "roster", MEMBERS_MOST),
            policy=policies.read(fields.fields("policy")),
        )
        fields.end()
        if list(context.roster) != sorted(set(context.roster)):
            raise PeerError("bad_encoding", "a roster is sorted and names nobody twice")
        return context


@dataclass(frozen=True, slots=True)
class Party:
    """A context with the records of its members; `ctx` is 32 bytes."""

    context: Context
    records: tuple[DeviceRecord, ...]
    ctx: bytes

    @property
    def roster(self) -> Roster:
        """The members, sorted."""
        return self.context.roster

    @property
    def size(self) -> int:
        """How many they are."""
        return len(self.records)

    def index(self, device: DeviceId) -> int:
        """The member's place; PeerError("unknown_sender") for a stranger."""
        try:
            return self.context.roster.index(device)
        except ValueError as error:
            raise PeerError("unknown_sender") from error

    def verify_key(self, index: int) -> RsaVerifyKey:
        """The certified key that checks a member's signatures."""
        key = self.records[index].rsa_verify
        if key is None:
            raise PeerError("not_ready", "the device has no RSA keys")
        return key

    def encrypt_key(self, index: int) -> RsaEncryptKey:
        """The certified key to which secrets for a member are encrypted."""
        key = self.records[index].rsa_encrypt
        if key is None:
            raise PeerError("not_ready", "the device has no RSA keys")
        return key


def check_reach(directory: Directory, log_size: int) -> None:
    """Behind unless the directory reaches `log_size`."""
    if directory.size < log_size:
        raise Behind(Need(what="realm", ids=(log_size.to_bytes(8, "big"),)))


@check("CTX-01")
def check_certified(record: DeviceRecord) -> None:
    """PeerError("not_ready") unless the device has both RSA keys, certified."""
    if record.rsa_verify is None or record.rsa_encrypt is None:
        raise PeerError("not_ready", "a device without RSA keys cannot take part", check="CTX-01")


def party_of(context: Context, directory: Directory) -> Party:
    """The context with its members' certified keys.

    PeerError unknown_sender, revoked, not_in_manifest, expired or not_ready where a device does not count; Behind when
    the directory does not reach `log_size`.
    """
    check_reach(directory, context.log_size)
    records = tuple(directory.device(device, context.log_size) for device in context.roster)
    for record in records:
        check_certified(record)
    rows = [[record.device_id, record.certificates_hash, record.manifest_hash] for record in records]
    ctx = hash_of(
        "ctx",
        context.suite,
        VERSION,
        context.variant,
        context.room,
        context.epoch,
        context.run_id,
        context.prev_th,
        context.proposer,
        context.deadline,
        context.log_size,
        rows,
        policies.digest(context.policy),
    )
    return Party(context, records, ctx)
