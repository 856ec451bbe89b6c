"""What a room asks of its MLS group beyond RFC 9420: who the leaves are, and who may change what.

Source: docs/spec/mls-rooms.md. A leaf's credential is the X.509 certificate of a device; its signature key is the
device key of the realm's log. The room's policy is an extension of the GroupContext, so all members hold the same.

    authenticated data = enc(entry_id, kind, signed head or null, log size; 0 for a message)

Invariants
- Every leaf is judged at the realm log size that the commit names, never at a later one: the verdict is the same for
  all members, for ever. The size never falls.
- After a commit nobody is a member who is revoked or out of its user's manifest at that size; an expired certificate
  lets a member stay, not enter.
- Each change needs its right under the policy of the epoch that it ends. A device that does not count may be removed by
  anybody, and a device may take itself out (SelfRemove).
- Checks only raise; nothing here changes a group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cloister.codec.cbor import Fields, enc
from cloister.errors import PeerError
from cloister.identity.certificate import subject_of
from cloister.identity.credential import parse_device_id
from cloister.identity.realm import DeviceRecord
from cloister.mls import (
    Add,
    Capabilities,
    Credential,
    Extension,
    GroupContextExtensions,
    Identity,
    LeafNode,
    LeafTemplate,
    Policy,
    Remove,
    RequiredCapabilities,
    SelfRemove,
    StagedCommit,
    last_resort_extension,
    suite_of,
)
from cloister.protocols import policy as policies
from cloister.protocols.checks import check
from cloister.protocols.context import check_reach
from cloister.protocols.forms import ID, head_items, read_head
from cloister.protocols.interface import DeviceId, Directory, Me, RoomPolicy, SignedHead
from cloister.protocols.policy import Right

CIPHER_SUITE: Final = suite_of(1)
"""MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519."""
ROOM_POLICY: Final = 0xF0C1
"""GroupContext extension (private use): the wire form of the room's policy."""
MEMBERS: Final = 1_000
"""Most devices of a room."""
PACKAGE_LIFE: Final = 84 * 24 * 3600
"""Seconds that a key package counts; the relay allows 90 days."""
_GONE: Final = frozenset({"revoked", "not_in_manifest", "unknown_sender"})

_CAPABILITIES: Final = Capabilities(
    cipher_suites=(CIPHER_SUITE.suite_id,),
    extensions=(ROOM_POLICY, last_resort_extension().extension_type),
    proposals=(SelfRemove.proposal_type,),
)
_X509: Final = Credential.x509(()).credential_type
_REQUIRED: Final = RequiredCapabilities(
    extensions=(ROOM_POLICY,), proposals=(SelfRemove.proposal_type,), credentials=(_X509,)
)


# --- leaves ------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _subject(certificate: bytes) -> DeviceId:
    name = subject_of(certificate)
    parse_device_id(name)
    return name


@check("GRP-01")
def check_credential(credential: Credential) -> DeviceId:
    """The device that a credential names: one certificate with one device id; PeerError bad_cert or bad_name."""
    if credential.credential_type != _X509 or len(credential.certificates) != 1:
        raise PeerError("bad_cert", "a leaf bears the certificate of its device", check="GRP-01")
    return _subject(credential.certificates[0])


def device_of(leaf: LeafNode) -> DeviceId:
    """The device at a leaf."""
    return check_credential(leaf.credential)


def user_of(device: DeviceId) -> str:
    """The device's user."""
    return parse_device_id(device)[1]


def record_of(directory: Directory, device: DeviceId, size: int) -> DeviceRecord:
    """The device at a log size, an expired one as it was; PeerError when it does not count there otherwise."""
    try:
        return directory.device(device, size)
    except PeerError as error:
        if error.code != "expired":
            raise
    low, high = 1, size  # the newest size at which the certificate had not ended
    while low < high:
        middle = (low + high) // 2
        if _expired(directory, device, middle + 1):
            high = middle
        else:
            low = middle + 1
    return directory.device(device, low)


def _expired(directory: Directory, device: DeviceId, size: int) -> bool:
    try:
        directory.device(device, size)
    except PeerError as error:
        return error.code == "expired"
    return False


@check("GRP-12")
def check_logged(certificate: bytes, record: DeviceRecord, directory: Directory) -> None:
    """PeerError("bad_cert") unless the realm log has had this certificate of the device, now or before a renewal."""
    found: DeviceRecord | None = record
    while found is not None and certificate not in found.certificates:
        found = _before(directory, found)
    if found is None:
        raise PeerError("bad_cert", "a certificate that the realm log does not have", check="GRP-12")


def _before(directory: Directory, record: DeviceRecord) -> DeviceRecord | None:
    """What the log said of a device before it said this; None where that is nothing, or another key."""
    try:
        earlier = directory.device(record.device_id, record.since - 1)
    except PeerError:
        return None
    return earlier if earlier.key.raw == record.key.raw else None


def gone(directory: Directory, device: DeviceId, size: int) -> bool:
    """Whether the realm does not count the device any more at this size (an expired one it does)."""
    try:
        directory.device(device, size)
    except PeerError as error:
        return error.code in _GONE
    return False


def mls_policy(directory: Directory, size: int) -> Policy:
    """What the MLS engine asks of us, with leaves judged at this size of the realm's log.

    No past epoch is kept: the log closes an epoch with its commit, so nothing comes late.
    """

    def validate(credential: Credential, key: bytes, now: int) -> bool:
        try:
            record = record_of(directory, check_credential(credential), size)
            check_logged(credential.certificates[0], record, directory)
        except PeerError:
            return False
        return record.key.raw == key

    def successor(old: Credential, new: Credential) -> bool:
        try:
            return check_credential(old) == check_credential(new)
        except PeerError:
            return False

    return Policy(validate=validate, successor=successor, kept_epochs=0, pad_to=64)


def identity_of(me: Me, certificate: bytes) -> Identity:
    """This device as a member: its device key and certificate."""
    template = LeafTemplate(credential=Credential.x509((certificate,)), capabilities=_CAPABILITIES)
    return Identity(key=me.keys.device, template=template)


def own_certificate(me: Me) -> bytes:
    """This device's newest certificate; PeerError when it does not count, not_ready when it has none."""
    directory = me.directory()
    record = directory.device(me.device, directory.size)
    if not record.certificates:
        raise PeerError("not_ready", "this realm certifies nobody, and rooms of this suite need certificates")
    return record.certificates[0]


# --- the group's context -----------------------------------------------------------------------------------


def extensions_of(policy: RoomPolicy) -> tuple[Extension, ...]:
    """The extensions of a room's GroupContext: what members must support, and the policy."""
    return (_REQUIRED.extension(), Extension(ROOM_POLICY, enc(*policies.items(policy))))


@check("GRP-02")
def check_extensions(extensions: Sequence[Extension]) -> RoomPolicy:
    """The room's policy; PeerError("wrong_context") for a GroupContext that holds anything else than a room's."""
    found = [each.data for each in extensions if each.extension_type == ROOM_POLICY]
    if len(found) != 1:
        raise PeerError("wrong_context", "a group without a room's policy", check="GRP-02")
    policy = policies.read(Fields.decode(found[0], "room policy"))
    if extensions_of(policy) != tuple(extensions):
        raise PeerError("wrong_context", "a GroupContext that is not a room's", check="GRP-02")
    return policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    """The authenticated data of a message: the entry that carries it, what its sender had read, the realm log's size.

    `log_size` is 0 for what is no commit.
    """

    entry_id: bytes
    kind: str
    head: SignedHead | None
    log_size: int = 0

    def encode(self) -> bytes:
        """The bytes that are authenticated."""
        return enc(self.entry_id, self.kind, head_items(self.head), self.log_size)

    @classmethod
    def decode(cls, data: bytes) -> Outer:
        """PeerError("bad_encoding") for anything else."""
        fields = Fields.decode(data, "authenticated data")
        outer = cls(
            entry_id=fields.octets("entry", ID),
            kind=fields.text("kind", 16),
            head=read_head(fields, "head"),
            log_size=fields.uint("log size"),
        )
        fields.end()
        return outer


@check("GRP-03")
def check_outer(data: bytes, entry_id: bytes, kind: str) -> Outer:
    """The authenticated data of an entry's message; PeerError("misrouted") when it was made for another entry."""
    outer = Outer.decode(data)
    if (outer.entry_id, outer.kind) != (entry_id, kind):
        raise PeerError("misrouted", "the entry is not the one that was sealed", check="GRP-03")
    return outer


# --- commits -----------------------------------------------------------------------------------------------


@check("GRP-04")
def check_log_size(size: int, parent: int, directory: Directory) -> None:
    """PeerError("stale_epoch") for a size below the parent's (or none); Behind when the directory does not reach it."""
    if size < max(1, parent):
        raise PeerError("stale_epoch", "the commit judges by an older realm log", check="GRP-04")
    check_reach(directory, size)


@check("GRP-05")
def check_members(members: Sequence[DeviceId], directory: Directory, size: int) -> None:
    """PeerError("roster") when a device is in twice, or without counting in the realm at this size; "quota"."""
    if len(members) > MEMBERS:
        raise PeerError("quota", f"a room has at most {MEMBERS} devices", check="GRP-05")
    if len(set(members)) < len(members):
        raise PeerError("roster", "a device has two leaves", check="GRP-05")
    for device in members:
        if gone(directory, device, size):
            raise PeerError("roster", f"{device} does not count in the realm", check="GRP-05")


@check("GRP-06")
def check_proposals(staged: StagedCommit) -> None:
    """PeerError("not_allowed") for a commit that is not a member's, or does what no room needs."""
    allowed = (Add, Remove, GroupContextExtensions)
    for sent in staged.proposals:
        by_reference = isinstance(sent.proposal, SelfRemove) and sent.reference
        if not by_reference and (sent.reference or not isinstance(sent.proposal, allowed)):
            raise PeerError("not_allowed", "a kind of proposal that rooms do not use", check="GRP-06")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a commit changes: devices in, devices out by somebody's right, a new policy or None."""

    by: DeviceId
    added: tuple[DeviceId, ...] = ()
    removed: tuple[DeviceId, ...] = ()
    left: tuple[DeviceId, ...] = ()
    policy: RoomPolicy | None = None


@check("GRP-07")
def check_rights(wanted: Wanted, policy: RoomPolicy, directory: Directory, size: int) -> None:
    """PeerError("not_allowed") unless the policy lets the committer's user do all of it."""
    user = user_of(wanted.by)
    rights = [Right.ADD] if wanted.added else []
    by_right = [
        device for device in wanted.removed if not gone(directory, device, size) and not directory.stale(device, size)
    ]
    rights += [Right.REMOVE] if by_right else []
    rights += [Right.SET_POLICY] if wanted.policy is not None else []
    if not (rights or wanted.removed or wanted.left):
        rights = [Right.REKEY]
    for right in rights:
        if not policies.permits(policy, user, right):
            raise PeerError("not_allowed", f"{right.value} is not for everybody here", check="GRP-07")


@check("GRP-08")
def check_newcomers(devices: Sequence[DeviceId], directory: Directory, size: int) -> None:
    """PeerError of the directory unless each device counts, its certificate not expired."""
    for device in devices:
        directory.device(device, size)


def wanted_by(staged: StagedCommit, devices: Mapping[int, DeviceId]) -> Wanted:
    """What a staged commit changes; `devices` are the members of the epoch that it ends, by leaf."""
    leavers = {sent.sender.index for sent in staged.proposals if isinstance(sent.proposal, SelfRemove)}
    return Wanted(
        by=devices[staged.committer],
        added=tuple(device_of(leaf) for _, leaf in staged.added),
        removed=tuple(devices[index] for index, _ in staged.removed if index not in leavers),
        left=tuple(sorted(devices[index] for index in leavers)),
        policy=None if staged.extensions is None else check_extensions(staged.extensions),
    )


def judge(
    staged: StagedCommit, devices: Mapping[int, DeviceId], policy: RoomPolicy, directory: Directory, size: int
) -> Wanted:
    """Every rule of the room for a commit, which the MLS engine has accepted; what it changes."""
    check_proposals(staged)
    wanted = wanted_by(staged, devices)
    check_rights(wanted, policy, directory, size)
    check_newcomers((wanted.by, *wanted.added), directory, size)
    out = {*wanted.removed, *wanted.left}
    check_members([*(device for device in devices.values() if device not in out), *wanted.added], directory, size)
    return wanted


@check("GRP-09")
def check_next_token(token_hash: bytes | None, expected: bytes) -> None:
    """PeerError("wrong_context") unless the entry opens the log to the token of the epoch that its commit makes."""
    if token_hash != expected:
        raise PeerError("wrong_context", "the next token is not the commit's", check="GRP-09")


@check("GRP-10")
def check_inviter(sender: DeviceId, me: DeviceId, members: Sequence[DeviceId]) -> None:
    """PeerError("not_inviter") unless another member of the group sent the invitation."""
    if sender == me or sender not in members:
        raise PeerError("not_inviter", "who invites is no member", check="GRP-10")
